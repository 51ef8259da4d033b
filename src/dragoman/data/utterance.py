"""The item of a data set, and what was unusable beside the items."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from dragoman.errors import DataError

_LISTED = 5  # problems in the message of an error; `dragoman data check` lists them all


@dataclass(frozen=True, kw_only=True)
class Utterance:
    """A stretch of speech and its text.

    Attributes:
        id: Name of the item, unique in its data set.
        audio: Path of the audio file, or another address that `load_audio` reads.
        text: The transcript or translation, never empty.
        offset: Where the speech begins in the file, in seconds.
        duration: Its length in seconds; `None` if it lasts to the end of the file and its length is not known yet.
        speaker: Name of the speaker, if known.
        language: Language of the speech, if known.
        source: Where the item is written, for messages: `train.tsv:12`.
    """

    id: str
    audio: str
    text: str
    offset: float = 0.0
    duration: float | None = None
    speaker: str | None = None
    language: str | None = None
    source: str = ""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """An item that cannot be used.

    Attributes:
        kind: One or two words, the same for all problems of this kind: `missing audio`, `empty text`.
        source: Where the item is written: `train.tsv:12`.
        message: What is wrong, and what to do.
    """

    kind: str
    source: str
    message: str

    def __str__(self) -> str:
        return f"{self.source}: {self.message}" if self.source else self.message


@dataclass(kw_only=True)
class Manifest:
    """A data set as read.

    Attributes:
        path: What was read.
        kind: Its format: `jsonl`, `tsv`, `kaldi`, …
        utterances: The usable items.
        problems: The others.
    """

    path: str
    kind: str
    utterances: list[Utterance] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def add(self, item: Utterance | Problem) -> None:
        """Append an item to those of its sort."""
        if isinstance(item, Problem):
            self.problems.append(item)
        else:
            self.utterances.append(item)

    def __iter__(self) -> Iterator[Utterance]:
        return iter(self.utterances)

    def __len__(self) -> int:
        return len(self.utterances)


def check_share(path: str, problems: Sequence[Problem], total: int, max_bad: float) -> None:
    """Raise an error if too many items are unusable, or all are.

    Args:
        path: The data set, for the message.
        problems: One for each unusable item.
        total: Number of all items, usable or not.
        max_bad: Largest allowed share of unusable items, 0 to 1.

    Raises:
        DataError: With the first problems and their lines.
    """
    if total == 0:
        raise DataError(f"{path}: holds no items. Check that it is the right file.")
    if len(problems) <= max_bad * total and len(problems) < total:
        return
    first = " ".join(f"[{problem}]" for problem in problems[:_LISTED])
    more = f" and {len(problems) - _LISTED} more" if len(problems) > _LISTED else ""
    raise DataError(
        f"{path}: {len(problems)} of {total} items cannot be used, more than the limit of {max_bad:.1%} (`max_bad`). "
        f"{first}{more}. `dragoman data check` lists them all."
    )
