"""`dragoman transcribe`: its flags. What they set off is in `run.py`."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal

from typer import Argument, Context, Option

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
from dragoman.errors import ConfigError
from dragoman.transcriber.options import TranscribeOptions

__all__ = ["transcribe"]

DEFAULTS = TranscribeOptions()


def _numbers(name: str, text: str) -> tuple[float, ...]:
    """Read `0,0.2,0.4`."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"`{name}` must be a number or several, as in 0,0.2,0.4, but is {text!r}.") from None


def _number(name: str, text: str) -> float | None:
    """Read a number, or `none` for a guard that is off."""
    try:
        return None if text.lower() in ("none", "off") else float(text)
    except ValueError:
        raise ConfigError(f"`{name}` must be a number, or none to turn it off, but is {text!r}.") from None


def _options(flags: Mapping[str, Any], *, words_needed: bool) -> TranscribeOptions:
    """Return the options of transcription: flags that are called as these are, and the few that are not."""
    given = {field.name: flags[field.name] for field in fields(TranscribeOptions) if field.name in flags}
    thresholds = ("compression_ratio_threshold", "logprob_threshold", "no_speech_threshold")
    given |= {name: _number(name, flags[name]) for name in thresholds}
    given["temperature"] = _numbers("temperature", flags["temperature"])
    given["num_return_sequences"] = flags["nbest"]
    given["word_timestamps"] = flags["word_timestamps"] or words_needed
    return TranscribeOptions(**given)


def transcribe(
    context: Context,
    audio: Annotated[list[str], Argument(help="Files, folders (searched for audio), or - for standard input.")],
    model: Model = None,
    model_dir: ModelDir = None,
    revision: Revision = None,
    local_files_only: LocalFilesOnly = False,
    hf_token: HfToken = None,
    device: Device = "auto",
    backend: Annotated[
        Literal["torch", "jax"] | None,
        Option("--backend", help="torch or jax; by default torch where it is installed."),
    ] = None,
    threads: Threads = None,
    output_format: Annotated[
        str | None,
        Option("--output_format", "-f", help="Write txt, vtt, srt, tsv, json or all instead of printing."),
    ] = None,
    output_dir: Annotated[
        Path | None, Option("--output_dir", "-o", help="Folder of the files written; alone it writes all.")
    ] = None,
    max_line_width: Annotated[
        int | None, Option("--max_line_width", help="Most characters of a line of subtitles.")
    ] = None,
    max_line_count: Annotated[
        int | None, Option("--max_line_count", help="Most lines of a subtitle; the rest goes to the next one.")
    ] = None,
    max_words_per_line: Annotated[
        int | None, Option("--max_words_per_line", help="Most words of a line of subtitles.")
    ] = None,
    highlight_words: Annotated[
        bool, Option("--highlight_words", help="Underline each word of a subtitle while it is said.")
    ] = False,
    plot: Annotated[
        Path | None, Option("--plot", help="Folder for a picture of each window: sound, words, alignment.")
    ] = None,
    plot_format: Annotated[Literal["png", "svg"], Option("--plot_format", help="png or svg.")] = "png",
    skip_existing: Annotated[
        bool, Option("--skip_existing", help="Pass over recordings whose files are all there.")
    ] = False,
    language: Language = DEFAULTS.language,
    task: Task = DEFAULTS.task,
    target_language: TargetLanguage = DEFAULTS.target_language,
    beam_size: Annotated[int, Option("--beam_size", help="Beams of the search; 1 is greedy.")] = DEFAULTS.beam_size,
    length_penalty: Annotated[
        float | None,
        Option("--length_penalty", help="Above 0 favours long texts; by default the model's."),
    ] = DEFAULTS.length_penalty,
    repetition_penalty: Annotated[
        float | None,
        Option("--repetition_penalty", help="Above 1 discourages repetition; by default the model's."),
    ] = DEFAULTS.repetition_penalty,
    no_repeat_ngram_size: Annotated[
        int | None,
        Option("--no_repeat_ngram_size", help="No run of so many tokens twice; by default the model's."),
    ] = DEFAULTS.no_repeat_ngram_size,
    nbest: Annotated[
        int, Option("--nbest", help="Texts for each window; json has those after the best as alternatives.")
    ] = DEFAULTS.num_return_sequences,
    word_timestamps: Annotated[
        bool, Option("--word_timestamps", help="Find out when each word was said, and cut segments at sentences.")
    ] = DEFAULTS.word_timestamps,
    temperature: Annotated[
        str, Option("--temperature", help="0 searches; the others sample, in turn, what fails a guard below.")
    ] = ",".join(map("{:g}".format, DEFAULTS.temperatures)),
    best_of: Annotated[int, Option("--best_of", help="Texts sampled at a temperature above 0.")] = DEFAULTS.best_of,
    compression_ratio_threshold: Annotated[
        str,
        Option("--compression_ratio_threshold", help="Texts that zlib makes so many times smaller repeat themselves."),
    ] = str(DEFAULTS.compression_ratio_threshold),
    logprob_threshold: Annotated[
        str, Option("--logprob_threshold", help="Texts with a mean log-probability below are doubtful.")
    ] = str(DEFAULTS.logprob_threshold),
    no_speech_threshold: Annotated[
        str, Option("--no_speech_threshold", help="Doubtful texts less likely to be speech than this are dropped.")
    ] = str(DEFAULTS.no_speech_threshold),
    condition_on_previous_text: Annotated[
        bool, Option("--condition_on_previous_text", help="Go on from the words before, one window at a time.")
    ] = DEFAULTS.condition_on_previous_text,
    initial_prompt: Annotated[
        str | None, Option("--initial_prompt", help="Words to go on from: names, spelling, style.")
    ] = DEFAULTS.initial_prompt,
    hotwords: Hotwords = None,
    hotwords_weight: Annotated[
        float, Option("--hotwords_weight", help="What each token of a hot word gains.")
    ] = DEFAULTS.hotwords_weight,
    lm: Annotated[
        str | None, Option("--lm", help="Language model: an ARPA file, or a neural one with the model's tokenizer.")
    ] = None,
    lm_unit: Annotated[
        Literal["words", "tokens"] | None, Option("--lm_unit", help="What an ARPA file counts; found out without.")
    ] = DEFAULTS.lm_unit,
    lm_weight: Annotated[
        float, Option("--lm_weight", help="How much say the language model has.")
    ] = DEFAULTS.lm_weight,
    max_new_tokens: Annotated[
        int | None,
        Option("--max_new_tokens", help="Most tokens for a window; by default what fits, at most 448 or 50 a second."),
    ] = DEFAULTS.max_new_tokens,
    batch_size: Annotated[int, Option("--batch_size", help="Windows decoded at once.")] = DEFAULTS.batch_size,
    chunk_length_s: ChunkLengthS = DEFAULTS.chunk_length_s,
    stride_length_s: Annotated[
        float, Option("--stride_length_s", help="Seconds heard twice, on each side, where a cut goes through speech.")
    ] = DEFAULTS.stride_length_s,
    vad_filter: Annotated[
        bool, Option("--vad_filter/--no_vad_filter", help="Leave out what is not speech.")
    ] = DEFAULTS.vad_filter,
    vad_threshold: VadThreshold = DEFAULTS.vad_threshold,
    vad_min_speech_duration_ms: Annotated[
        int, Option("--vad_min_speech_duration_ms", help="Shorter sounds are not speech.")
    ] = DEFAULTS.vad_min_speech_duration_ms,
    vad_max_speech_duration_s: Annotated[
        float | None, Option("--vad_max_speech_duration_s", help="Longer stretches are cut; by default as windows.")
    ] = DEFAULTS.vad_max_speech_duration_s,
    vad_min_silence_duration_ms: Annotated[
        int, Option("--vad_min_silence_duration_ms", help="Shorter pauses part nothing.")
    ] = DEFAULTS.vad_min_silence_duration_ms,
    vad_speech_pad_ms: Annotated[
        int, Option("--vad_speech_pad_ms", help="Kept before and after speech.")
    ] = DEFAULTS.vad_speech_pad_ms,
    verbose: Verbose = False,
    json_logs: JsonLogs = False,
    debug: Debug = False,
) -> int:
    """Turn recordings of any length into text.

    The words go to standard output; with --output_format they go to files instead. Flags may be written with _ or -.
    """
    # Only now: `--help` and usage errors need neither audio nor numbers.
    from dragoman.cli.run import Output, run
    from dragoman.transcriber.subtitles import Layout
    from dragoman.transcriber.transcriber import Transcriber

    layout = Layout(
        max_line_width=max_line_width,
        max_line_count=max_line_count,
        max_words_per_line=max_words_per_line,
        highlight_words=highlight_words,
    )
    options = _options(context.params, words_needed=not layout.is_plain or plot is not None)
    output = Output(
        folder=output_dir or Path(),
        format="all" if output_format is None and output_dir else output_format,
        skip_existing=skip_existing,
        named=len(audio) > 1 or Path(audio[0]).is_dir(),
        bar=not json_logs,
        layout=layout,
        plots=plot,
        plot_format=plot_format,
    )

    def load() -> Transcriber:
        return Transcriber(
            model,
            model_dir=model_dir,
            revision=revision,
            local_files_only=local_files_only,
            token=hf_token,
            device=device,
            threads=threads,
            backend=backend,
        )

    return run(audio, load, options, output)
