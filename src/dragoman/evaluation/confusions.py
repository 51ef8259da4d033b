"""Which words are mistaken for which, left out or added most often."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from dragoman.evaluation.metrics import align


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """A mistake and its frequency.

    Attributes:
        reference: The word of the reference; "" for a word that was added.
        hypothesis: The word in its place; "" for one that was left out.
        count: How often.
    """

    reference: str
    hypothesis: str
    count: int


def confusions(
    references: Sequence[str], hypotheses: Sequence[str], normalizer: str = "basic", most: int = 30
) -> list[Confusion]:
    """Return the most frequent mistakes by jiwer's alignment of words."""
    found: Counter[tuple[str, str]] = Counter()
    aligned = align(references, hypotheses, normalizer)
    for chunks, words, others in zip(aligned.alignments, aligned.references, aligned.hypotheses, strict=True):
        for chunk in chunks:
            if chunk.type == "equal":
                continue
            left = words[chunk.ref_start_idx : chunk.ref_end_idx]
            right = others[chunk.hyp_start_idx : chunk.hyp_end_idx]
            if chunk.type == "delete":
                found.update((word, "") for word in left)
            elif chunk.type == "insert":
                found.update(("", word) for word in right)
            else:
                found.update(zip(left, right, strict=True))
    best = sorted(found.items(), key=lambda one: (-one[1], one[0]))[:most]
    return [Confusion(reference=pair[0], hypothesis=pair[1], count=count) for pair, count in best]
