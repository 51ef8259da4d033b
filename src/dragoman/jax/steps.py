"""The decoder one step at a time, for what a compiled search cannot do; the search runs in NumPy.

Axes: rows (utterances, or utterances x beams), batch (utterances), tokens, width, vocab.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Array

from dragoman.checkpoint.options import LoadOptions
from dragoman.generation.decoder import Step
from dragoman.generation.options import GenerationConfig
from dragoman.jax.backend import BACKEND
from dragoman.jax.net.block import StackOutput
from dragoman.jax.net.cache import Cache, Memory
from dragoman.jax.net.joint import Joint
from dragoman.jax.net.text_decoder import TextDecoderNet
from dragoman.jax.parts import TextDecoder
from dragoman.jax.pretrained import PretrainedModule
from dragoman.jax.programs import Programs
from dragoman.model.load import load_part


class _Rows:
    """What the two decoders have in common: rows that each read one token."""

    def expand(self, state: Cache, copies: int) -> Cache:
        """Repeat each row; the memory of speech is not copied."""
        return self.select(state, np.repeat(np.arange(state.rows), copies))

    def step(self, tokens: np.ndarray[Any, Any], state: Cache) -> Step[Cache]:
        """Read one more token of each row."""
        return self._run(tokens[:, None], state)

    def select(self, state: Cache, rows: np.ndarray[Any, Any]) -> Cache:
        """Let row `i` continue row `rows[i]`."""
        selected: Cache = _select(state, rows.astype(np.int32))
        return selected

    def _run(self, tokens: np.ndarray[Any, Any], state: Cache) -> Step[Cache]:
        raise NotImplementedError


class CachedDecoder(_Rows):
    """A decoder that attends to the memory of a batch of utterances; a `RewindableDecoder` over NumPy arrays.

    The memory's keys and values are computed once per utterance and shared by its beams.

    Args:
        model: The model.
        memory: Keys and values of the batch.
        capacity: Maximum number of tokens.
        settings: Whether attention weights and states are returned.
        params: Used instead of the model's own.
        prompt_mask: True for valid tokens of the prompt, `[batch, tokens]`; `None` if all are.
    """

    def __init__(
        self,
        model: PretrainedModule,
        memory: Memory,
        capacity: int,
        settings: GenerationConfig,
        params: Any,
        prompt_mask: np.ndarray[Any, Any] | None = None,
    ) -> None:
        self._model, self._capacity = model, capacity
        self._params = model.tree if params is None else params
        self._records = {
            "all_states": settings.output_hidden_states or bool(settings.penalty_alpha),
            "weights": settings.output_attentions,
        }
        self._memory, self._prompt_mask = memory, prompt_mask

    def start(self, prompt: np.ndarray[Any, Any]) -> Step[Cache]:
        """Read the prompt."""
        if self._memory.states is None:
            cache = self._model.module.decoder.new_cache(prompt.shape[0], self._capacity)
        else:
            begin = self._model.program(Joint.begin, ("capacity",))
            cache = begin(self._params, self._memory, capacity=self._capacity)
        mask = None if self._prompt_mask is None else jax.device_put(self._prompt_mask)
        return self._run(prompt, replace(cache, text_mask=mask))

    def read(self, tokens: np.ndarray[Any, Any], state: Cache) -> Step[Cache]:
        """Read several tokens of each row at once; the logits are those after each of them."""
        return self._run(tokens, state, _read)

    def rewind(self, state: Cache, tokens: int) -> Cache:
        """Drop the last `tokens` tokens."""
        return replace(state, length=jax.device_put(np.int32(int(state.length) - tokens)))

    def _run(self, tokens: np.ndarray[Any, Any], state: Cache, read: Any = None) -> Step[Cache]:
        out, logits = self._model.program(read or _step)(
            self._params, tokens.astype(np.int32), self._memory, state, **self._records
        )
        length = int(out.cache.length)

        def layers(found: tuple[Array, ...] | None, crop: int | None = None) -> Any:
            return None if found is None else tuple(np.asarray(x)[..., :crop] for x in found)

        return Step(
            logits=np.asarray(logits, dtype=np.float32),
            state=out.cache,
            decoder_attentions=layers(out.self_weights, length),
            cross_attentions=layers(out.cross_weights),
            decoder_hidden_states=layers(out.all_states),
        )


class LanguageModel(_Rows):
    """A text model alone, for shallow fusion; a `StepDecoder` over NumPy arrays.

    Args:
        decoder: The text model.
    """

    def __init__(self, decoder: TextDecoder) -> None:
        self.decoder = decoder
        self._programs = Programs(decoder)
        self._params = self._programs.params

    @classmethod
    def load(cls, name_or_path: str | Path) -> "LanguageModel":
        """Load a causal language model.

        Raises:
            ModelNotFoundError: If it is not found.
            ConfigError: If it is not a text model.
            CheckpointError: If its tensors do not fit.
        """
        return cls(load_part(BACKEND, TextDecoder, name_or_path, LoadOptions(), is_decoder=True)[0])

    def start(self, prompt: np.ndarray[Any, Any]) -> Step[Cache]:
        """Read the prompt."""
        capacity = min(_FIRST_CAPACITY, self.decoder.spec.num_positions)
        return self._run(prompt, self.decoder.new_cache(prompt.shape[0], capacity))

    def _run(self, tokens: np.ndarray[Any, Any], state: Cache) -> Step[Cache]:
        """Read tokens; the cache doubles when it is full, so that few programs are compiled."""
        fitted = self.decoder.fitted(state, tokens.shape[1])
        logits, cache = self._programs.of(_text_step)(self._params, tokens.astype(np.int32), fitted)
        return Step(logits=np.asarray(logits, dtype=np.float32), state=cache)


_FIRST_CAPACITY = 64  # tokens

_select = jax.jit(Cache.selected)


def _text_step(decoder: TextDecoderNet, tokens: Array, state: Cache) -> tuple[Array, Cache | None]:
    out, cache = decoder.decode(tokens, None, state)
    return decoder.logits(out.states[:, -1]), cache


def _step(joint: Joint, tokens: Array, memory: Memory, state: Cache, **records: Any) -> tuple[StackOutput, Array]:
    out, cache = joint.decoder.decode(tokens, memory, state, **records)
    return replace(out, cache=cache), joint.decoder.logits(out.states[:, -1])


def _read(joint: Joint, tokens: Array, memory: Memory, state: Cache, **records: Any) -> tuple[StackOutput, Array]:
    out, cache = joint.decoder.decode(tokens, memory, state, **records)
    return replace(out, cache=cache), joint.decoder.logits(out.states)
