"""`dragoman listen`: live transcription of a microphone, or of samples on standard input."""

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Argument, Option

from dragoman.cli.flags import (
    ChunkLengthS,
    Debug,
    Device,
    HfToken,
    Hotwords,
    JsonLogs,
    Language,
    LocalFilesOnly,
    Model,
    ModelDir,
    Revision,
    TargetLanguage,
    Task,
    Threads,
    VadThreshold,
    Verbose,
)
from dragoman.transcriber.options import TranscribeOptions

if TYPE_CHECKING:  # heavy, and `--help` needs none of it
    from dragoman.transcriber.live import LiveText

__all__ = ["listen"]

DEFAULTS = TranscribeOptions()


def listen(
    source: Annotated[
        str, Argument(help="mic for the microphone, or - for standard input: raw samples (16 bits, mono) or WAV.")
    ] = "mic",
    model: Model = None,
    model_dir: ModelDir = None,
    revision: Revision = None,
    local_files_only: LocalFilesOnly = False,
    hf_token: HfToken = None,
    backend: Annotated[str | None, Option("--backend", help="torch or jax; by default the one there is.")] = None,
    device: Device = "auto",
    threads: Threads = None,
    microphone: Annotated[
        str | None, Option("--microphone", help="Number or name of the microphone; by default the system's.")
    ] = None,
    sampling_rate: Annotated[int, Option("--sampling_rate", min=1, help="Of raw samples, in hertz.")] = 16_000,
    interval_s: Annotated[float, Option("--interval_s", help="Seconds of new speech before a partial text.")] = 1.0,
    output_format: Annotated[
        Literal["txt", "json"],
        Option("--output_format", "-f", help="txt: a line for each final text; json: an object a line, partial too."),
    ] = "txt",
    language: Language = DEFAULTS.language,
    task: Task = DEFAULTS.task,
    target_language: TargetLanguage = DEFAULTS.target_language,
    beam_size: Annotated[int, Option("--beam_size", help="Beams for final texts.")] = DEFAULTS.beam_size,
    hotwords: Hotwords = None,
    chunk_length_s: ChunkLengthS = DEFAULTS.chunk_length_s,
    vad_threshold: VadThreshold = DEFAULTS.vad_threshold,
    verbose: Verbose = False,
    json_logs: JsonLogs = False,
    debug: Debug = False,
) -> int:
    """Write what is said while it is said, until the input ends or Ctrl-C.

    Final texts go to standard output, a line each. On a terminal the line in progress is shown below them.
    """
    options = TranscribeOptions(
        language=language,
        task=task,
        target_language=target_language,
        beam_size=beam_size,
        hotwords=hotwords,
        chunk_length_s=chunk_length_s,
        vad_threshold=vad_threshold,
    )
    from dragoman.cli.sound import sound_from  # only now: `--help` needs neither audio nor numbers
    from dragoman.transcriber.transcriber import Transcriber

    chunks = sound_from(source, sampling_rate=sampling_rate, microphone=microphone)
    transcriber = Transcriber(
        model,
        model_dir=model_dir,
        revision=revision,
        local_files_only=local_files_only,
        token=hf_token,
        device=device,
        threads=threads,
        backend=backend,
    )
    texts = transcriber.stream(chunks, interval_s=interval_s, **asdict(options))
    if output_format == "json":
        _print_json(texts)
    else:
        _print_lines(texts)
    return 0


def _print_json(texts: "Iterator[LiveText]") -> None:
    for one in texts:
        line = {**asdict(one), "segments": [segment.to_dict() for segment in one.segments]}
        print(json.dumps(line, ensure_ascii=False), flush=True)  # noqa: T201


def _print_lines(texts: "Iterator[LiveText]") -> None:
    shown = sys.stdout.isatty()
    for one in texts:
        if one.is_final:
            print(f"\r\x1b[K{one.text}" if shown else one.text, flush=True)  # noqa: T201
        elif shown:
            print(f"\r\x1b[K{one.text} \x1b[2m{one.tentative}\x1b[0m", end="", flush=True)  # noqa: T201
