"""`dragoman listen`: live transcription of a microphone, or of samples on standard input."""

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated, Any

from typer import Argument

from dragoman.cli.flags import LiveFlags, MessageFlags, ModelFlags
from dragoman.cli.generated import with_flags
from dragoman.transcriber.options import TranscribeOptions

_OPTIONS = (
    "language",
    "task",
    "target_language",
    "beam_size",
    "hotwords",
    "chunk_length_s",
    "vad_threshold",
)


@with_flags
def listen(
    source: Annotated[
        str, Argument(help="mic for the microphone, or - for standard input: raw samples (16-bit, mono) or WAV.")
    ] = "mic",
    *,
    model: ModelFlags,
    live: LiveFlags,
    options: Annotated[TranscribeOptions, _OPTIONS],
    messages: MessageFlags,
) -> int:
    """Transcribe live speech until the input ends or Ctrl-C.

    Final transcripts are printed to standard output, one per line. A terminal also shows the line in progress.
    """
    from dragoman.cli.sound import sound_from  # only now: `--help` needs neither audio nor NumPy

    chunks = sound_from(source, sampling_rate=live.sampling_rate, microphone=live.microphone)
    texts = model.load().stream(chunks, interval_s=live.interval_s, **asdict(options))
    if live.output_format == "json":
        _print_json(texts)
    else:
        _print_lines(texts)
    return 0


def _print_json(texts: Iterator[Any]) -> None:
    for one in texts:
        line = {**asdict(one), "segments": [segment.to_dict() for segment in one.segments]}
        print(json.dumps(line, ensure_ascii=False), flush=True)  # noqa: T201


def _print_lines(texts: Iterator[Any]) -> None:
    shown = sys.stdout.isatty()
    for one in texts:
        if one.is_final:
            print(f"\r\x1b[K{one.text}" if shown else one.text, flush=True)  # noqa: T201
        elif shown:
            print(f"\r\x1b[K{one.text} \x1b[2m{one.tentative}\x1b[0m", end="", flush=True)  # noqa: T201
