"""Hot words: phrases that the listener expects, made more likely while they are being said.

Every token that goes on with a phrase gains the phrase's boost at once, so that beams on their way to it survive; what
a hypothesis gained for a phrase that it then does not finish is taken back.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from dragoman.batch import to_numpy
from dragoman.errors import GenerationError
from dragoman.generation.arrays import Array
from dragoman.generation.decoder import Step

__all__ = ["HotWords"]

Scores = np.ndarray[tuple[int], np.dtype[np.float32]]


@dataclass
class _Node:
    """A place in the tree of phrases, reached by the tokens of its path.

    Attributes:
        gains: What the whole path gains, the last token included.
        whole: Whether the path is a phrase.
        children: The places after one more token.
        shorter: The place of the longest end of the path that begins a phrase itself.
        inside: What is gained here for good by phrases that end the path without being all of it.
    """

    gains: float = 0.0
    whole: bool = False
    children: dict[int, "_Node"] = field(default_factory=dict)
    shorter: "_Node | None" = None
    inside: float = 0.0


class Listening(NamedTuple):
    """Where a hypothesis is in the tree, and what it has gained for a phrase that is not finished."""

    node: _Node
    owed: float


class HotWords:
    """Scores that favour given phrases; a `StepDecoder` to be used as a `Scorer` in shallow fusion.

    Args:
        phrases: Token ids of each phrase -> boost for each of its tokens, in natural logarithms; 1 to 5 are usual. Mind
            that most tokenizers cut a word at the beginning of a text and after a blank differently: give both.
        vocab_size: The size of the decoder's output.

    Raises:
        GenerationError: If a phrase is empty or holds an id outside the vocabulary.
    """

    def __init__(self, phrases: Mapping[tuple[int, ...], float], *, vocab_size: int) -> None:
        self._root = _Node()
        self._size = vocab_size
        for phrase, boost in phrases.items():
            if not phrase or not all(0 <= token < vocab_size for token in phrase):
                raise GenerationError(
                    f"A hot word must be one or more token ids from 0 to {vocab_size - 1}, but one is {list(phrase)}."
                )
            self._add(phrase, boost)
        self._link()

    def start(self, prompt: Array) -> Step[tuple[Listening, ...]]:
        """Begin to listen after the prompt."""
        return self._step((Listening(self._root, 0.0),) * prompt.shape[0])

    def expand(self, state: tuple[Listening, ...], copies: int) -> tuple[Listening, ...]:
        """Repeat each row."""
        return tuple(one for one in state for _ in range(copies))

    def step(self, tokens: Array, state: tuple[Listening, ...]) -> Step[tuple[Listening, ...]]:
        """Read one more token of each row."""
        return self._step(tuple(self._read(one, t) for one, t in zip(state, to_numpy(tokens).tolist(), strict=True)))

    def select(self, state: tuple[Listening, ...], rows: Array) -> tuple[Listening, ...]:
        """Replace row i by row `rows[i]`."""
        return tuple(state[row] for row in to_numpy(rows).tolist())

    def _add(self, phrase: Sequence[int], boost: float) -> None:
        node = self._root
        for token in phrase:
            child = node.children.setdefault(token, _Node())
            child.gains = max(child.gains, node.gains + boost)
            node = child
        node.whole = True

    def _link(self) -> None:
        """Set `shorter` of every place, breadth first (Aho and Corasick 1975)."""
        level = [(self._root, token, child) for token, child in self._root.children.items()]
        while level:
            for parent, token, node in level:
                node.shorter = self._after(parent.shorter, token)
                node.inside = node.shorter.inside + (node.shorter.gains if node.shorter.whole else 0.0)
            level = [(node, token, child) for _, _, node in level for token, child in node.children.items()]

    def _after(self, node: _Node | None, token: int) -> _Node:
        """Return where `token` leads from `node` or, failing that, from the shorter paths."""
        while node is not None:
            if token in node.children:
                return node.children[token]
            node = node.shorter
        return self._root

    def _read(self, one: Listening, token: int) -> Listening:
        node = self._after(one.node, token)
        if node.whole or node is self._root:
            return Listening(node, 0.0)
        went_on = one.node.children.get(token) is node
        return Listening(node, one.owed + node.gains - one.node.gains if went_on else node.gains)

    def _step(self, state: tuple[Listening, ...]) -> Step[tuple[Listening, ...]]:
        return Step(np.stack([self._scores(one) for one in state]), state)

    def _scores(self, one: Listening) -> Scores:
        """Return what each token gains, from the shortest path to the longest, which has the last word."""
        path = [one.node]
        while path[-1].shorter is not None:
            path.append(path[-1].shorter)
        scores: Scores = np.full(self._size, -one.owed, dtype=np.float32)
        for node in reversed(path):
            for token, child in node.children.items():
                before = node.gains if node is one.node else one.owed
                scores[token] = child.gains - before + child.inside
        return scores
