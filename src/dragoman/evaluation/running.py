"""Systems run on a data set: every item is transcribed alone, as a user's recording would be."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dragoman.audio import SAMPLING_RATE
from dragoman.data.audio import load_audio
from dragoman.data.utterance import Problem, Utterance, check_share
from dragoman.errors import AudioError, MissingDependencyError
from dragoman.evaluation.metrics import check_scoring
from dragoman.evaluation.scoring import Evaluation, score
from dragoman.transcriber.transcriber import Transcriber

_HOW = ("metrics", "normalizer", "bleu_tokenizer")


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a system wrote.

    Attributes:
        utterances: The items that could be read, with their true durations.
        hypotheses: One for each.
        problems: The other items.
        rtfx: Seconds of audio per second of computation, without reading files.
    """

    utterances: list[Utterance]
    hypotheses: list[str]
    problems: list[Problem]
    rtfx: float


def transcribe_all(
    transcriber: Transcriber,
    utterances: Sequence[Utterance],
    *,
    advance: Callable[[int], object] = lambda done: None,
    **options: Any,
) -> Run:
    """Transcribe the items of a data set; one whose audio cannot be read is left out, and named.

    Args:
        transcriber: The system.
        utterances: The items.
        advance: Called with the number of items done.
        **options: Those of `Transcriber.transcribe`. An item is a window of its own if it fits the model.
    """
    kept: list[Utterance] = []
    hypotheses: list[str] = []
    problems: list[Problem] = []
    audio_seconds = spent = 0.0
    for done, utterance in enumerate(utterances, 1):
        try:
            samples = load_audio(utterance, SAMPLING_RATE)
        except (AudioError, MissingDependencyError) as error:
            message = str(error).removeprefix(f"{utterance.source}: ")
            problems.append(Problem(kind="broken audio", source=utterance.source, message=message))
        else:
            begin = time.perf_counter()
            text = transcriber.transcribe(samples, sampling_rate=SAMPLING_RATE, **options).text
            spent += time.perf_counter() - begin
            audio_seconds += len(samples) / SAMPLING_RATE
            kept.append(replace(utterance, duration=len(samples) / SAMPLING_RATE))
            hypotheses.append(text)
        advance(done)
    return Run(utterances=kept, hypotheses=hypotheses, problems=problems, rtfx=audio_seconds / spent if spent else 0.0)


def evaluate(
    model: Any,
    utterances: Sequence[Utterance],
    against: Any = None,
    *,
    max_bad: float = 0.05,
    advance: Callable[[int], object] = lambda done: None,
    decoding: dict[str, Any] | None = None,
    **scoring: Any,
) -> Evaluation:
    """Transcribe a data set and score the transcripts.

    Args:
        model: A `Transcriber`, or what one is made of: a folder or hub id.
        utterances: The items, as from `read_manifest`.
        against: Another one to compare with, on the same items.
        max_bad: Largest share of unusable items, those in `problems` of `scoring` included.
        advance: Called with the number of items done, of each system.
        decoding: Options of `Transcriber.transcribe`: `beam_size`, `language`, …
        **scoring: Arguments of `score`: `metrics`, `normalizer`, `units`, …

    Raises:
        DataError: If too many items cannot be read.
        ConfigError: If an option is invalid.
    """
    decoding = decoding or {}
    check_scoring(**{name: value for name, value in scoring.items() if name in _HOW})  # before hours of decoding
    first = _system(model)
    run = transcribe_all(first, utterances, advance=advance, **decoding)
    problems = [*scoring.pop("problems", ()), *run.problems]
    total = len(run.utterances) + len(problems)
    check_share(str(scoring.get("data") or "the data"), problems, total, max_bad)
    others: list[str] | None = None
    if against is not None:
        other = _system(against)
        others = transcribe_all(other, run.utterances, advance=advance, **decoding).hypotheses
        scoring.setdefault("against_name", _name(against, other))
    scoring["problems"] = tuple(problems)
    scoring.setdefault("name", _name(model, first))
    return score(run.utterances, run.hypotheses, others, rtfx=run.rtfx, options=decoding, **scoring)


def _system(model: Any) -> Transcriber:
    return model if isinstance(model, Transcriber) else Transcriber(model)


def _name(model: Any, transcriber: Transcriber) -> str:
    return str(transcriber.model.config.name_or_path or "a model") if isinstance(model, Transcriber) else str(model)
