"""The words that a sequence must contain (`force_words_ids`), and its progress in them.

A word is one list of tokens, or a choice of several such lists. A sequence is in one word at a time: a token that
begins a waiting word starts it; a token that does not continue it sends the word to the end of the queue.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

Tokens: TypeAlias = tuple[int, ...]


@dataclass(frozen=True)
class Progress:
    """The progress of one sequence.

    Attributes:
        done: Number of words that it contains.
        waiting: Indices of the words that are not begun, in the order in which they are tried.
        current: Index of the word that it is in, and the tokens of it so far.
    """

    done: int
    waiting: tuple[int, ...]
    current: tuple[int, Tokens] | None = None

    @property
    def complete(self) -> bool:
        """Whether the sequence contains every word."""
        return not self.waiting and self.current is None


@dataclass(frozen=True)
class Words:
    """The words, each a tuple of alternatives."""

    alternatives: tuple[tuple[Tokens, ...], ...]

    @property
    def tokens(self) -> list[int]:
        """Every token of every word, once."""
        return sorted({token for word in self.alternatives for tokens in word for token in tokens})

    def start(self) -> Progress:
        """Return the progress of an empty sequence."""
        return Progress(0, tuple(range(len(self.alternatives))))

    def read(self, progress: Progress, token: int) -> Progress:
        """Return the progress after one more token."""
        if progress.current is not None:
            place, begun = progress.current
            if token in self._after(place, begun):
                return self._in_word(progress.done, progress.waiting, place, (*begun, token))
            return Progress(progress.done, (*progress.waiting, place))
        for place in progress.waiting:
            if token in self._after(place, ()):
                waiting = tuple(other for other in progress.waiting if other != place)
                return self._in_word(progress.done, waiting, place, (token,))
        return progress

    def advancing(self, progress: Progress) -> list[int]:
        """Return the tokens that begin a waiting word or continue the current one, without repeats."""
        if progress.current is not None:
            return self._after(*progress.current)
        return list(dict.fromkeys(token for place in progress.waiting for token in self._after(place, ())))

    def rank(self, progress: Progress) -> int:
        """Return the progress as a number; hypotheses compete only with those of the same rank."""
        longest = max(len(tokens) for word in self.alternatives for tokens in word)
        rank = progress.done * longest
        if progress.current is not None:
            place, begun = progress.current
            rank += longest - max(map(len, self.alternatives[place])) + len(begun)
        return rank

    def _in_word(self, done: int, waiting: tuple[int, ...], place: int, begun: Tokens) -> Progress:
        if self._after(place, begun):
            return Progress(done, waiting, (place, begun))
        return Progress(done + 1, waiting)

    def _after(self, place: int, begun: Tokens) -> list[int]:
        """Return the tokens that may follow `begun`; none if the word is complete."""
        possible = (tokens for tokens in self.alternatives[place] if tokens[: len(begun)] == begun)
        return list(dict.fromkeys(tokens[len(begun)] for tokens in possible if len(tokens) > len(begun)))


def words_of(force_words_ids: Sequence[Sequence[Any]]) -> Words:
    """Read the option `force_words_ids`: a list of words, each a list of ids or a list of such lists to choose from."""
    return Words(
        tuple(
            tuple(tuple(tokens) for tokens in (word if isinstance(word[0], Sequence) else [word]))
            for word in force_words_ids
        )
    )
