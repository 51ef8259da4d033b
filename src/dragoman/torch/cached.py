"""The step-by-step decoder of PyTorch, over preallocated caches; and the same through calls of a module."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from jaxtyping import Bool, Int
from torch import Tensor, nn

from dragoman.api.outputs import Seq2SeqLMOutput
from dragoman.generation.decoder import Step
from dragoman.torch.net.cache import Cache, Memory
from dragoman.torch.net.text_decoder import TextDecoderNet


def is_changed(module: nn.Module, plain: Any) -> bool:
    """Return whether a call of a module does more than the `forward` of our class, `plain`.

    It does if it has hooks, a subclass has a `forward` of its own, or one was assigned to the module.
    """
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return any(hooks) or "forward" in module.__dict__ or type(module).forward is not plain


def per_row(array: Tensor | None, rows: int) -> Tensor | None:
    """Repeat what is there once per utterance for each of its beams."""
    if array is None or array.shape[0] == rows:
        return array
    return array.repeat_interleave(rows // array.shape[0], 0)


class CachedDecoder:
    """A decoder that attends to the memory of a batch of utterances; a `StepDecoder`, and a `RewindableDecoder`.

    The memory's keys and values are computed once per utterance and shared by its beams.

    Args:
        decoder: The model.
        states: Memory, `[batch, frames, width]`, as wide as the decoder; `None` for a plain language model.
        mask: True for valid frames, `[batch, frames]`.
        capacity: Maximum number of tokens.
        prompt_mask: True for valid tokens of the prompt, `[batch, tokens]`; `None` if all are.
        attentions: Return the attention weights of each step.
        hidden_states: Return the states of each step.
    """

    def __init__(
        self,
        decoder: TextDecoderNet,
        states: Tensor | None,
        mask: Tensor | None,
        capacity: int,
        prompt_mask: Bool[Tensor, "batch tokens"] | None = None,
        *,
        attentions: bool = False,
        hidden_states: bool = False,
    ) -> None:
        self._decoder = decoder
        self._memory: Memory | None = None if states is None else decoder.project_memory(states, mask)
        self._capacity = capacity
        self._prompt_mask = prompt_mask
        self._attentions = attentions
        self._hidden_states = hidden_states

    def start(self, prompt: Int[Tensor, "batch tokens"]) -> Step[Cache]:
        """Read the prompt."""
        rows = prompt.shape[0]
        if self._memory is None:
            cache = self._decoder.new_cache(rows, self._capacity)
        else:
            cache = self._decoder.begin(self._memory, rows, self._capacity)
        return self._run(prompt, replace(cache, text_mask=self._prompt_mask))

    def expand(self, state: Cache, copies: int) -> Cache:
        """Repeat each row; the memory is not copied."""
        return state.expanded(copies)

    def step(self, tokens: Int[Tensor, " rows"], state: Cache) -> Step[Cache]:
        """Read one more token of each row."""
        return self._run(tokens[:, None], state)

    def select(self, state: Cache, rows: Int[Tensor, " rows"]) -> Cache:
        """Let row `i` continue row `rows[i]`."""
        return state.selected(rows)

    def read(self, tokens: Int[Tensor, "rows n"], state: Cache) -> Step[Cache]:
        """Read several tokens of each row at once; the logits are those after each of them."""
        return self._run(tokens, state, everywhere=True)

    def rewind(self, state: Cache, tokens: int) -> Cache:
        """Drop the last `tokens` tokens."""
        return replace(state, length=state.length - tokens)

    def _run(self, tokens: Tensor, state: Cache, everywhere: bool = False) -> Step[Cache]:
        out, cache = self._decoder.decode(
            tokens, self._memory, state, all_states=self._hidden_states, weights=self._attentions
        )
        assert cache is not None
        return Step(
            logits=self._decoder.logits(out.states if everywhere else out.states[:, -1]),
            state=cache,
            decoder_attentions=out.self_weights,
            cross_attentions=out.cross_weights,
            decoder_hidden_states=out.all_states,
        )


class CalledDecoder(CachedDecoder):
    """A decoder, or a whole model, that is called as a module at each step, so that hooks and subclasses take effect.

    Args:
        decoder: The decoder, for its caches.
        call: Returns the output for new tokens and the cache before them.
        capacity: Maximum number of positions.
        prompt_mask: True for valid tokens of the prompt, `[batch, tokens]`; `None` if all are.
    """

    def __init__(
        self,
        decoder: TextDecoderNet,
        call: Callable[[Tensor, Cache], Any],
        capacity: int,
        prompt_mask: Bool[Tensor, "batch tokens"] | None,
    ) -> None:
        super().__init__(decoder, None, None, capacity, prompt_mask)
        self._call = call

    def _run(self, tokens: Tensor, state: Cache, everywhere: bool = False) -> Step[Cache]:
        output = self._call(tokens, state)
        whole = isinstance(output, Seq2SeqLMOutput)
        return Step(
            logits=output.logits if everywhere else output.logits[:, -1],
            state=output.past_key_values,
            decoder_attentions=output.decoder_attentions if whole else output.attentions,
            cross_attentions=output.cross_attentions,
            decoder_hidden_states=output.decoder_hidden_states if whole else output.hidden_states,
        )
