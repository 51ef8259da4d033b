"""Hot words: scores that make expected phrases more likely.

Every token that continues a phrase gets the phrase's boost at once, so that beams on their way to it survive; if a
hypothesis does not complete the phrase, the boosts it got are subtracted again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from dragoman.batch import to_numpy
from dragoman.errors import GenerationError
from dragoman.generation.arrays import Array
from dragoman.generation.decoder import Step
from dragoman.generation.scorers.row_states import repeat_rows, select_rows

Scores = np.ndarray[tuple[int], np.dtype[np.float32]]


@dataclass
class _Node:
    """A node of the prefix tree of phrases (an Aho-Corasick automaton); its path is the tokens that lead to it.

    Attributes:
        boost: Sum of the boosts along the path.
        is_phrase: Whether the path is a whole phrase.
        children: The nodes after one more token.
        suffix: The node of the longest proper suffix of the path that begins a phrase.
        inner_boost: Boosts of the phrases that are proper suffixes of the path.
    """

    boost: float = 0.0
    is_phrase: bool = False
    children: dict[int, "_Node"] = field(default_factory=dict)
    suffix: "_Node | None" = None
    inner_boost: float = 0.0


class _Match(NamedTuple):
    """The state of a hypothesis: its node, and the boosts it got for a phrase that is not complete yet."""

    node: _Node
    pending: float


class HotWords:
    """A `StepDecoder` for shallow fusion (`Scorer`) whose scores favour given phrases.

    Args:
        phrases: Token ids of each phrase -> boost per token, added to its log-probability (natural logarithm); 1 to 5
            is usual. Most tokenizers split a word differently at the start of a text and after a space: give both.
        vocab_size: Size of the decoder's vocabulary.

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

    expand = staticmethod(repeat_rows)
    select = staticmethod(select_rows)

    def start(self, prompt: Array) -> Step[tuple[_Match, ...]]:
        """Start after the prompt, which is not searched for phrases."""
        return self._step((_Match(self._root, 0.0),) * prompt.shape[0])

    def step(self, tokens: Array, state: tuple[_Match, ...]) -> Step[tuple[_Match, ...]]:
        """Read the next token of each row."""
        return self._step(tuple(self._read(one, t) for one, t in zip(state, to_numpy(tokens).tolist(), strict=True)))

    def _add(self, phrase: Sequence[int], boost: float) -> None:
        node = self._root
        for token in phrase:
            child = node.children.setdefault(token, _Node())
            child.boost = max(child.boost, node.boost + boost)
            node = child
        node.is_phrase = True

    def _link(self) -> None:
        """Set the suffix of every node, breadth first (Aho and Corasick 1975)."""
        level = [(self._root, token, child) for token, child in self._root.children.items()]
        while level:
            for parent, token, node in level:
                node.suffix = self._next(parent.suffix, token)
                node.inner_boost = node.suffix.inner_boost + (node.suffix.boost if node.suffix.is_phrase else 0.0)
            level = [(node, token, child) for _, _, node in level for token, child in node.children.items()]

    def _next(self, node: _Node | None, token: int) -> _Node:
        """Return the node after `token`: from `node` or, if there is none, from the longest suffix that has one."""
        while node is not None:
            if token in node.children:
                return node.children[token]
            node = node.suffix
        return self._root

    def _read(self, one: _Match, token: int) -> _Match:
        node = self._next(one.node, token)
        if node.is_phrase or node is self._root:
            return _Match(node, 0.0)
        continues = one.node.children.get(token) is node
        return _Match(node, one.pending + node.boost - one.node.boost if continues else node.boost)

    def _step(self, state: tuple[_Match, ...]) -> Step[tuple[_Match, ...]]:
        return Step(np.stack([self._scores(one) for one in state]), state)

    def _scores(self, one: _Match) -> Scores:
        """Return the score of each token; the children of the longest suffix that has them take precedence."""
        suffixes = [one.node]
        while suffixes[-1].suffix is not None:
            suffixes.append(suffixes[-1].suffix)
        scores: Scores = np.full(self._size, -one.pending, dtype=np.float32)
        for node in reversed(suffixes):
            for token, child in node.children.items():
                before = node.boost if node is one.node else one.pending
                scores[token] = child.boost - before + child.inner_boost
        return scores
