"""The search in PyTorch: one decoder step at a time over preallocated caches.

Not here: the search itself (`dragoman.generation`), which imports no framework.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from dragoman.api.outputs import EncoderOutput, Seq2SeqLMOutput
from dragoman.generation.decoder import Step
from dragoman.generation.loop import generate
from dragoman.generation.request import Request, Speech
from dragoman.generation.result import GenerationResult
from dragoman.torch.calls import run_encoder
from dragoman.torch.net.cache import Cache, Memory
from dragoman.torch.net.text_decoder import TextDecoderNet


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


def search(model: Any, request: Request, seed: int | Sequence[int]) -> tuple[GenerationResult, EncoderOutput]:
    """Encode the speech of a request and search.

    Args:
        model: The model; it should be in evaluation mode.
        request: The request.
        seed: For sampling; one for the batch or one per utterance.
    """
    settings, speech = request.settings, request.speech
    records: dict[str, Any] = {"weights": settings.output_attentions, "all_states": settings.output_hidden_states}
    encoded = speech[2]
    if encoded is None:
        inputs, lengths, _ = speech
        encoded = run_encoder(model.encoder, inputs, lengths, **records)
    records["all_states"] |= settings.penalty_alpha is not None
    decoder = _decoder_of(model, encoded, request, speech, **records)
    draft = None
    if request.draft is not None:
        assistant, other = request.draft
        draft = _decoder_of(assistant, run_encoder(assistant.encoder, *other[:2]), request, other)
    prompt = torch.from_numpy(request.prompt).to(encoded.last_hidden_state.device)
    found = generate(decoder, prompt, settings, seed=seed, draft=draft, **request.loop_options())
    return found, encoded


def _decoder_of(
    model: Any,
    encoded: EncoderOutput,
    request: Request,
    speech: Speech,
    *,
    weights: bool = False,
    all_states: bool = False,
) -> CachedDecoder:
    """Return the decoder of a model, which attends to encoder states."""
    mask, capacity = request.prompt_mask, request.plan.max_length
    device = encoded.last_hidden_state.device
    prompt_mask = None if mask is None else torch.from_numpy(mask).to(device)
    call = model.step_call(encoded, speech, all_states=all_states, weights=weights)
    if call is not None:
        capacity += model.bridge.length(encoded.last_hidden_state.shape[1])
        return CalledDecoder(model.decoder, call, capacity, prompt_mask)
    memory = model.memory_for(encoded)
    assert memory.states is not None
    return CachedDecoder(
        model.decoder,
        memory.states,
        memory.mask,
        capacity,
        prompt_mask,
        attentions=weights,
        hidden_states=all_states,
    )
