"""Words that a text must contain, and how far a text has come with them.

A word is one sequence of tokens, or a choice of several. A text works on one word at a time: a token that begins a
waiting word starts it; a token that does not go on with it sends the word to the end of the queue.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

__all__ = ["Progress", "Words", "words_of"]

Tokens: TypeAlias = tuple[int, ...]


@dataclass(frozen=True)
class Progress:
    """How far a text has come.

    Attributes:
        done: Words that it contains.
        waiting: Places of the words that are not begun, in the order in which they are tried.
        current: Place of the word that it is in, and the tokens of it so far.
    """

    done: int
    waiting: tuple[int, ...]
    current: tuple[int, Tokens] | None = None

    @property
    def complete(self) -> bool:
        """Whether the text contains every word."""
        return not self.waiting and self.current is None


@dataclass(frozen=True)
class Words:
    """The words: for each, its alternatives."""

    alternatives: tuple[tuple[Tokens, ...], ...]

    @property
    def tokens(self) -> list[int]:
        """Every token of every word, once."""
        return sorted({token for word in self.alternatives for tokens in word for token in tokens})

    def start(self) -> Progress:
        """Return the progress of a text that is still empty."""
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

    def helpful(self, progress: Progress) -> list[int]:
        """Return the tokens that would bring a text further, without repeats."""
        if progress.current is not None:
            return self._after(*progress.current)
        return list(dict.fromkeys(token for place in progress.waiting for token in self._after(place, ())))

    def rank(self, progress: Progress) -> int:
        """Return how far the text is, so that texts of one rank compete with each other only."""
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
        """Return the tokens that go on from `begun`; none where a word is complete."""
        going = (tokens for tokens in self.alternatives[place] if tokens[: len(begun)] == begun)
        return list(dict.fromkeys(tokens[len(begun)] for tokens in going if len(tokens) > len(begun)))


def words_of(force_words_ids: Sequence[Sequence[Any]]) -> Words:
    """Read the option `force_words_ids`: a list of words, each a list of ids or a list of such lists to choose from."""
    return Words(
        tuple(
            tuple(tuple(tokens) for tokens in (word if isinstance(word[0], Sequence) else [word]))
            for word in force_words_ids
        )
    )
