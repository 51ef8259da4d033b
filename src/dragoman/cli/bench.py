"""`dragoman bench`: how fast a model runs here, part by part."""

import json
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

from typer import Argument

from dragoman._version import __version__
from dragoman.cli.flags import MessageFlags, ModelFlags
from dragoman.cli.generated import with_flags
from dragoman.errors import ConfigError
from dragoman.transcriber.fields import option, too_small

_MODEL = (
    "model_dir", "revision", "local_files_only", "hf_token", "backend", "device", "compute_type", "threads",
    "copy_weights",
)  # fmt: skip

_bench = partial(option, group="Measurement")


@dataclass(frozen=True, kw_only=True)
class BenchFlags:
    """What is measured, and how often."""

    audio: Path | None = _bench(None, "Recording to transcribe.", unset="eight seconds of synthetic speech")
    beam_size: int = _bench(5, "Number of beams.", at_least=1)
    short_windows: bool = _bench(False, "Transcribe with `--short_windows`; the encoder is measured without.")
    repeats: int = _bench(5, "Measurements of each part; their median is shown.", at_least=1)
    json: bool = _bench(False, "Print JSON instead of a table.")

    def __post_init__(self) -> None:
        problems = list(too_small(self))
        if problems:
            raise ConfigError(" ".join(problems))


@with_flags
def bench(
    checkpoint: Annotated[
        str | None, Argument(help="Folder or hub id of a model, or a name of `whisper`; by default Whisper tiny.en.")
    ] = None,
    *,
    measurement: BenchFlags,
    model: Annotated[ModelFlags, _MODEL],
    messages: MessageFlags,
) -> int:
    """Measure how fast a model runs here: features, encoder, decoder steps, and a whole recording.

    Shares compare them with what this machine reaches in a matrix product and in reading memory.
    """
    # only now: `--help` needs no NumPy
    from dragoman.audio.reading.io import load_audio
    from dragoman.transcriber.speed import measure

    audio = load_audio(measurement.audio or (files("dragoman.testing") / "data" / "sample_en.flac").read_bytes())
    transcriber = replace(model, model=checkpoint).load()
    short = {"short_windows": True} if measurement.short_windows else {}
    found = measure(transcriber, audio, beams=measurement.beam_size, repeats=measurement.repeats, **short)
    machine = {
        "model": checkpoint or "Whisper tiny.en",
        "engine": transcriber.engine.runner.abilities(),
        "compute_type": model.compute_type,
        "threads": model.threads,
        "dragoman": __version__,
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {platform.system()} {platform.release()}",
        "beams": measurement.beam_size,
        "repeats": measurement.repeats,
    }
    if measurement.json:
        print(json.dumps({**machine, **asdict(found)}, indent=2))  # noqa: T201
        return 0
    for line in _table(machine, found):
        print(line)  # noqa: T201
    return 0


def _table(machine: dict[str, Any], found: Any) -> Iterator[str]:
    for name, value in machine.items():
        yield f"{name:14}{'all' if value is None else value}"
    yield ""
    rows = {
        "features": found.features,
        "encoder": found.encoder,
        "decoder, start": found.start,
        "greedy step": found.greedy_step,
        f"beam {machine['beams']} step": found.beam_step,
        f"transcript of {found.seconds:.1f} s": found.total,
    }
    for name, milliseconds in rows.items():
        yield f"{name:24}{milliseconds:>10.1f} ms"
    yield f"{'real-time factor':24}{found.real_time_factor:>10.1f} s of audio per second"
    if found.peak_memory is not None:
        yield f"{'peak memory':24}{found.peak_memory:>10.0f} MB"
    yield (
        f"limits: float32 matrix products {found.matrix_rate:.0f} GFLOP/s, of which the encoder reaches "
        f"{found.encoder_share:.0%}; memory {found.read_rate:.0f} GB/s on one thread, of which a greedy step reaches "
        f"{found.step_share:.0%}."
    )
