"""`dragoman evaluate`: a model's scores on a data set, with intervals, alone or against another model."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from typer import Argument

from dragoman._lazy import require
from dragoman.cli.console import LOG
from dragoman.cli.flags import MessageFlags, ModelFlags
from dragoman.cli.generated import with_flags
from dragoman.cli.reading import DataFlags
from dragoman.errors import ConfigError
from dragoman.transcriber.fields import option
from dragoman.transcriber.options import TranscribeOptions

_scores = partial(option, group="Scores")
_NEEDS = "`dragoman evaluate`"
_DECODING = (
    "language", "task", "target_language", "beam_size", "length_penalty", "repetition_penalty", "no_repeat_ngram_size",
    "ctc_weight", "max_new_tokens", "batch_size", "temperature", "vad_filter",
)  # fmt: skip
_SOURCE = (
    "model_dir", "revision", "local_files_only", "hf_token", "backend", "device", "compute_type", "threads",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ScoreFlags:
    """What is scored, and where reports go."""

    against: str | None = _scores(None, "Another model to compare with, on the same items.")
    metrics: str = _scores("wer,cer,bleu,chrf,ter", "Which scores; the first orders the worst items.")
    normalizer: Literal["english", "basic", "none"] = _scores("basic", "What error rates do not count: see the page.")
    bleu_tokenizer: str = _scores("13a", "sacrebleu's tokenizer for BLEU: `13a`, `zh`, `ja-mecab`, `char`, …")
    units: Literal["item", "speaker"] = _scores("item", "What intervals resample.")
    resamples: int = _scores(1000, "Number of resampled corpora for intervals and tests.")
    seed: int = _scores(0, "Seed of the resampling.")
    max_bad: float = _scores(0.05, "Largest share of items that may be unusable, 0 to 1.")
    limit: int | None = _scores(None, "Evaluate only the first items.", unset="all")
    json: Path | None = _scores(None, "File for all results as JSON; `-` is standard output.")
    html: Path | None = _scores(None, "File for a report with plots and players.")
    html_language: Literal["en", "ar"] = _scores("en", "Language of the report.")
    clips: int = _scores(20, "Number of the worst items in the report.")

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"`--limit` must be at least 1, but is {self.limit}.")


@with_flags
def evaluate(
    model: Annotated[str, Argument(help="Model folder, hub id, or a name of whisper.")],
    manifest: Annotated[str, Argument(help="Data set: a manifest or a folder.")],
    *,
    scores: ScoreFlags,
    reading: DataFlags,
    source: Annotated[ModelFlags, _SOURCE],
    options: Annotated[TranscribeOptions, _DECODING],
    messages: MessageFlags,
) -> int:
    """Transcribe a data set and score the transcripts: error rates, BLEU, chrF, TER, with intervals.

    The exit code is 1 if items were left out because they cannot be used.
    """
    from dragoman.cli.progress import progress_bar  # only now: `--help` needs no NumPy

    how = {
        "metrics": [name.strip() for name in scores.metrics.split(",") if name.strip()],
        "normalizer": scores.normalizer,
        "bleu_tokenizer": scores.bleu_tokenizer,
    }
    require("dragoman.evaluation.metrics", _NEEDS).check_scoring(**how)  # before hours of decoding
    _check_folders(scores)
    scanned, unusable = reading.usable(manifest, scores.max_bad)
    utterances = scanned[: scores.limit]
    running = require("dragoman.evaluation.running", _NEEDS)
    systems = [_loaded(source, name) for name in (model, scores.against) if name is not None]
    with progress_bar(manifest, len(utterances) * len(systems), not messages.json_logs, unit="items") as bar:
        steps = iter(range(1, len(utterances) * len(systems) + 1))
        result = running.evaluate(
            systems[0],
            utterances,
            systems[1] if len(systems) > 1 else None,
            max_bad=scores.max_bad,
            advance=lambda done: bar.update(next(steps, done)),
            decoding={name: value for name, value in asdict(options).items() if name in _DECODING},
            **how,
            units=scores.units,
            resamples=scores.resamples,
            seed=scores.seed,
            name=model,
            **({} if scores.against is None else {"against_name": scores.against}),
            data=manifest,
            problems=unusable,
        )
    _write(result, scores)
    for problem in result.problems:
        LOG.warning("%s", problem)
    return 1 if result.problems else 0


def _check_folders(scores: ScoreFlags) -> None:
    """Raise an error if a report could not be written, before the work."""
    for flag, path in {"--json": scores.json, "--html": scores.html}.items():
        if path is not None and str(path) != "-" and not path.absolute().parent.is_dir():
            raise ConfigError(f"`{flag}` {path}: there is no folder {path.absolute().parent}. Make it first.")


def _loaded(source: ModelFlags, name: str) -> Any:
    return replace(source, model=name).load()


def _write(result: Any, scores: ScoreFlags) -> None:
    files = require("dragoman.files", _NEEDS)
    if str(scores.json) == "-":
        print(json.dumps(result.to_dict(), ensure_ascii=False, indent=1))  # noqa: T201
    else:
        for line in _lines(result):
            print(line)  # noqa: T201
        if scores.json is not None:
            content = json.dumps(result.to_dict(), ensure_ascii=False, indent=1) + "\n"
            files.write_bytes(scores.json, content.encode())
    if scores.html is not None:
        html = require("dragoman.evaluation.html", _NEEDS)
        report = html.html_report(result, language=scores.html_language, clips=scores.clips)
        files.write_bytes(scores.html, report.encode())


def _lines(result: Any) -> Iterator[str]:
    """Yield the table of scores."""
    names = require("dragoman.evaluation.labels", _NEEDS).NAMES
    yield f"{result.model} on {result.data}: {len(result.items)} items, {result.seconds:.1f} s, RTFx {result.rtfx:.1f}"
    yield f"intervals: 95 %, over {result.units}s; normaliser of error rates: {result.normalizer}"
    for figure in result.figures:
        yield f"  {names[figure.name]:<5} {figure!s:<26} {figure.signature}"
    if result.against is None:
        return
    yield f"against {result.against}"
    for figure, other in zip(result.comparisons, result.other_figures, strict=True):
        winner = {"first": f"{result.model} is better", "second": f"{result.against} is better"}
        told = winner.get(figure.better or "", "no significant difference")
        between = "" if figure.low is None else f" [{figure.low:+.2f}, {figure.high:+.2f}]"
        test = f"difference {figure.difference:+.2f}{between}, p = {figure.p_value:.4f}: {told}"
        yield f"  {names[other.name]:<5} {other!s:<26} {test}"
