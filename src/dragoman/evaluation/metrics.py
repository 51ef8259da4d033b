"""Metrics as sums over items: word and character error rate by jiwer, BLEU, chrF and TER by sacrebleu.

A corpus's score is a function of the sum of its items' statistics (errors and words, matched n-grams and lengths). So a
resampled corpus, a group of items or one item is scored without comparing texts again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dragoman._lazy import require
from dragoman.errors import ConfigError, did_you_mean
from dragoman.evaluation.normalizers import NORMALIZERS

METRICS = ("wer", "cer", "bleu", "chrf", "ter")
_ERRORS = ("wer", "cer", "ter")
Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The statistics of one metric on one corpus.

    Attributes:
        name: One of `METRICS`.
        signature: How it was computed: library, version, normaliser or tokenizer.
        statistics: Of the items, `[items, numbers]`.
        score: From sums of statistics `[..., numbers]` to scores `[...]`. All scores are percentages.
    """

    name: str
    signature: str
    statistics: Array
    score: Callable[[Array], Array]

    @property
    def lower_is_better(self) -> bool:
        """Whether it counts errors."""
        return self.name in _ERRORS

    def value(self, items: Any = slice(None)) -> float:
        """Return the score of the corpus, or of some of its items."""
        return float(self.score(self.statistics[items].sum(axis=0)))

    def per_item(self) -> Array:
        """Return the score of each item alone."""
        return self.score(self.statistics)


def measure(
    name: str,
    references: Sequence[str],
    hypotheses: Sequence[str],
    *,
    normalizer: str = "basic",
    bleu_tokenizer: str = "13a",
) -> Measured:
    """Compare hypotheses with references.

    Args:
        name: `"wer"` or `"cer"`, on normalised texts; `"bleu"`, `"chrf"` or `"ter"`, on the texts as they are.
        references: One for each item.
        hypotheses: One for each item.
        normalizer: `"english"`, `"basic"` or `"none"`, for error rates.
        bleu_tokenizer: sacrebleu's `tokenize`: `"13a"`, `"zh"`, `"char"`, `"intl"`, …

    Raises:
        ConfigError: If a name is unknown, or the numbers of texts differ.
        MissingDependencyError: If jiwer or sacrebleu is not installed.
    """
    if len(references) != len(hypotheses):
        raise ConfigError(f"There are {len(references)} references, but {len(hypotheses)} hypotheses.")
    for given, known in ((name, METRICS), (normalizer, NORMALIZERS)):
        if given not in known:
            raise ConfigError(f"{given!r} is unknown: use {', '.join(known)}.{did_you_mean(given, known)}")
    if name in ("wer", "cer"):
        return _error_rate(name, references, hypotheses, normalizer)
    return _by_sacrebleu(name, references, hypotheses, bleu_tokenizer)


def check_scoring(metrics: Sequence[str] = METRICS, normalizer: str = "basic", bleu_tokenizer: str = "13a") -> None:
    """Raise the errors that `measure` would raise for these arguments."""
    if not metrics:
        raise ConfigError("There is nothing to score: give at least one metric.")
    for name in metrics:
        measure(name, [], [], normalizer=normalizer, bleu_tokenizer=bleu_tokenizer)


def _error_rate(name: str, references: Sequence[str], hypotheses: Sequence[str], normalizer: str) -> Measured:
    jiwer = require("jiwer", "Measuring error rates")
    aligned = align(references, hypotheses, normalizer, characters=name == "cer")
    rows = [_counts(chunks, len(words)) for chunks, words in zip(aligned.alignments, aligned.references, strict=True)]
    version = getattr(jiwer, "__version__", None) or _version("jiwer")
    return Measured(
        name=name,
        signature=f"jiwer:{version}|norm:{normalizer}",
        statistics=np.asarray(rows, np.float64).reshape(-1, 2),
        score=_errors_by_words,
    )


def align(references: Sequence[str], hypotheses: Sequence[str], normalizer: str, *, characters: bool = False) -> Any:
    """Return jiwer's alignment of the normalised texts."""
    jiwer = require("jiwer", "Measuring error rates")
    normalize = NORMALIZERS[normalizer]
    texts = [[normalize(text) for text in side] for side in (references, hypotheses)]
    return (jiwer.process_characters if characters else jiwer.process_words)(*texts) if texts[0] else _Nothing()


class _Nothing:
    """jiwer's result for no items, which it refuses."""

    references: tuple[Any, ...] = ()
    hypotheses: tuple[Any, ...] = ()
    alignments: tuple[Any, ...] = ()


def _counts(chunks: Sequence[Any], words: int) -> tuple[int, int]:
    """Return the errors of an item and the length of its reference."""
    errors = 0
    for chunk in chunks:
        if chunk.type == "insert":
            errors += chunk.hyp_end_idx - chunk.hyp_start_idx
        elif chunk.type != "equal":
            errors += chunk.ref_end_idx - chunk.ref_start_idx
    return errors, words


def _errors_by_words(sums: Array) -> Array:
    errors, words = sums[..., 0], sums[..., 1]
    return np.asarray(100 * errors / np.where(words == 0, 1, words))  # jiwer: insertions, where no reference has words


def _by_sacrebleu(name: str, references: Sequence[str], hypotheses: Sequence[str], tokenizer: str) -> Measured:
    library = require("sacrebleu.metrics", "Measuring BLEU, chrF or TER")
    try:
        metric = {
            "bleu": lambda: library.BLEU(tokenize=tokenizer, force=True),
            "chrf": library.CHRF,
            "ter": library.TER,
        }[name]()
    except (KeyError, ValueError, AssertionError, ImportError, RuntimeError, SystemExit) as error:
        raise ConfigError(f"`bleu_tokenizer` {tokenizer!r} cannot be used: {error}.") from error
    rows = metric._extract_corpus_statistics(list(hypotheses), [list(references)]) if references else []
    size = len(rows[0]) if rows else 2
    whole = np.asarray(rows, np.float64).reshape(-1, size)
    # TER's lengths of references may be halves only with several references: all statistics are whole numbers
    compute = metric._compute_score_from_stats

    def score(sums: Array) -> Array:
        if not rows:
            return np.zeros(sums.shape[:-1])
        flat = [compute([*map(_number, one)]).score for one in sums.reshape(-1, size).tolist()]
        return np.asarray(flat, np.float64).reshape(sums.shape[:-1])

    metric.num_refs = 1  # the signature needs it; sacrebleu sets it when it caches references
    signature = str(metric.get_signature())
    return Measured(name=name, signature=f"sacrebleu|{signature}", statistics=whole, score=score)


def _number(value: float) -> float:
    return int(value) if value == int(value) else value


def _version(package: str) -> str:
    from importlib.metadata import version

    return version(package)
