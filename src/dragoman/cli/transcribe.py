"""`dragoman transcribe`: recordings to transcripts. The work is done in `run`."""

from dataclasses import replace
from typing import Annotated

from typer import Argument

from dragoman.cli.flags import MessageFlags, ModelFlags, OutputFlags
from dragoman.cli.generated import with_flags
from dragoman.cli.whisper_flags import WhisperFlags
from dragoman.transcriber.layout import Layout
from dragoman.transcriber.options import TranscribeOptions


@with_flags
def transcribe(
    audio: Annotated[list[str], Argument(help="Files, folders (searched for audio files), or - for standard input.")],
    *,
    model: ModelFlags,
    output: OutputFlags,
    layout: Layout,
    options: TranscribeOptions,
    whisper: WhisperFlags,
    messages: MessageFlags,
) -> int:
    """Transcribe recordings of any length.

    Transcripts are printed to standard output; with --output_format they are written to files instead. Flags may be
    written with _ or -.
    """
    from dragoman.cli.run import Output, run  # only now: `--help` and usage errors need neither audio nor NumPy

    options = whisper.applied(options)
    if layout != Layout() or output.plot is not None:
        options = replace(options, word_timestamps=True)
    return run(audio, model.load, options, Output(output, layout, bar=not messages.json_logs, times=messages.verbose))
