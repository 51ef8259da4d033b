"""The options of the commands that are not options of a transcription: model, output, live audio, messages."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from dragoman import transcriber
from dragoman._interrupts import raise_again
from dragoman.audio import SAMPLING_RATE
from dragoman.errors import ConfigError
from dragoman.spec.compute_type import ComputeType
from dragoman.transcriber.fields import option

# Options by the heading that they are listed under.
_model, _output = partial(option, group="Model"), partial(option, group="Output")
_audio, _message = partial(option, group="Audio"), partial(option, group="Messages")


@dataclass(frozen=True, kw_only=True)
class ModelFlags:
    """Which model, from where, and what it runs on."""

    model: str | None = _model(
        None,
        "Model folder, hub id, or a name of `whisper`: `tiny`, `small.en`, `turbo`, `distil-large-v3`, …",
        unset="Whisper tiny.en, English only",
    )
    model_dir: Path | None = _model(None, "Where to keep models downloaded from the hub.", unset="the hub's cache")
    revision: str | None = _model(None, "Branch, tag or commit of the model on the hub.")
    local_files_only: bool = _model(False, "Use local files only; never contact the hub.")
    hf_token: str | None = _model(None, "Hugging Face token, for private and gated models.")
    backend: Literal["auto", "torch", "jax", "onnx"] = _model(
        "auto",
        "`torch`, `jax`, or `onnx` for a folder that `dragoman export` wrote; `auto` is the first that is installed.",
        short="--engine",
    )
    device: str = _model("auto", "`auto`, `cpu`, `cuda`, `cuda:1`, …")
    compute_type: ComputeType = _model(
        "default",
        "`default` is float32; `auto` is bfloat16 where the hardware is faster in it; `bfloat16`; `float16` on a GPU; "
        "`int8` or `int8_float32` on a CPU.",
    )
    threads: int | None = _model(None, "Number of CPU threads.", unset="all")
    copy_weights: bool = _model(
        False, "Copy the weights into memory, so that their file may be cut or overwritten meanwhile."
    )

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise ConfigError(f"`--threads` must be at least 1, but is {self.threads}.")

    def source(self) -> dict[str, Any]:
        """Return where to look for files, as arguments of `from_pretrained`."""
        return {
            "revision": self.revision,
            "cache_dir": self.model_dir,
            "token": self.hf_token,
            "local_files_only": self.local_files_only,
        }

    def load(self) -> Any:
        """Return the `Transcriber`."""
        loaded = transcriber.Transcriber(
            self.model,
            model_dir=self.model_dir,
            revision=self.revision,
            local_files_only=self.local_files_only,
            token=self.hf_token,
            device=self.device,
            threads=self.threads,
            backend=self.backend,
            copy_weights=self.copy_weights,
            compute_type=self.compute_type,
        )
        raise_again()
        return loaded


@dataclass(frozen=True, kw_only=True)
class OutputFlags:
    """Where transcripts and plots go."""

    output_format: str | None = _output(
        None,
        "Write files: `txt`, `vtt`, `srt`, `tsv`, `json`, several (`srt,json`) or `all`.",
        short="-f",
        unset="print the transcript",
    )
    output_dir: Path | None = _output(
        None,
        "Folder for the output files; without `output_format`, all formats are written. `-` writes one format (`txt` "
        "if none is named) to standard output.",
        short="-o",
        unset="the current folder",
    )
    skip_existing: bool = _output(False, "Skip recordings whose output files all exist.")
    plot: Path | None = _output(
        None, "Folder for a plot of each window: waveform, words, alignment; needs the extra `plots`."
    )
    plot_format: Literal["png", "svg"] = _output("png", "Format of the plots.")

    @property
    def format(self) -> str | None:
        """Format of the files; `None` prints transcripts instead."""
        if self.output_format is not None or self.output_dir is None:
            return self.output_format
        return "txt" if str(self.output_dir) == "-" else "all"

    @property
    def folder(self) -> Path:
        """Folder of the files."""
        return self.output_dir or Path()


@dataclass(frozen=True, kw_only=True)
class LiveFlags:
    """Where live audio comes from, and how transcripts are printed."""

    microphone: str | None = _audio(None, "Number or name of the microphone.", unset="the system's")
    sampling_rate: int = _audio(SAMPLING_RATE, "Sampling rate of raw samples, in Hz.")
    interval_s: float = _audio(1.0, "Seconds of new speech before the next partial transcript.")
    output_format: Literal["txt", "json"] = _output(
        "txt",
        "`txt` prints one line per final transcript; `json` one object per line, partial transcripts included.",
        short="-f",
    )

    def __post_init__(self) -> None:
        if self.sampling_rate < 1:
            raise ConfigError(f"`--sampling_rate` must be at least 1, but is {self.sampling_rate}.")


@dataclass(frozen=True, kw_only=True)
class InspectFlags:
    """What to inspect besides a checkpoint."""

    families: bool = option(False, "Print the supported encoders and decoders, as Markdown.", group="Tables")


@dataclass(frozen=True, kw_only=True)
class MessageFlags:
    """The messages on standard error; `dragoman.cli.main` looks at them before the parser does."""

    verbose: bool = _message(False, "Report progress on standard error.")
    json_logs: bool = _message(False, "Messages as JSON, one object per line.")
    debug: bool = _message(False, "Log everything, with tracebacks.")
