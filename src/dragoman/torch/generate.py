"""The search in PyTorch: one decoder step at a time over preallocated caches.

Not here: the search itself (`dragoman.generation`), which imports no framework.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from dragoman.api.outputs import EncoderOutput
from dragoman.generation.decoder import Step
from dragoman.generation.loop import generate
from dragoman.generation.result import GenerationResult
from dragoman.model.generate import Request
from dragoman.torch.net.cache import Cache, Memory
from dragoman.torch.net.joint import Joint
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


def search(model: Joint, request: Request, seed: int | Sequence[int]) -> tuple[GenerationResult, EncoderOutput]:
    """Encode the speech of a request and search.

    Args:
        model: The model; it should be in evaluation mode.
        request: The request.
        seed: For sampling; one for the batch or one per utterance.
    """
    settings, (inputs, lengths, encoded) = request.settings, request.speech
    records = settings.output_attentions, settings.output_hidden_states
    if encoded is None:
        encoded = model.encoder.encode(inputs, lengths, weights=records[0], all_states=records[1])
    decoder = _decoder_of(
        model,
        encoded,
        request,
        attentions=records[0],
        hidden_states=records[1] or settings.penalty_alpha is not None,
    )
    draft = None
    if request.draft is not None:
        assistant, (inputs, lengths, _) = request.draft
        draft = _decoder_of(assistant, assistant.encoder.encode(inputs, lengths), request)
    prompt = torch.from_numpy(request.prompt).to(encoded.last_hidden_state.device)
    found = generate(decoder, prompt, settings, seed=seed, draft=draft, **request.loop_options())
    return found, encoded


def _decoder_of(
    model: Joint, encoded: EncoderOutput, request: Request, *, attentions: bool = False, hidden_states: bool = False
) -> CachedDecoder:
    """Return the decoder of a model, which attends to encoder states."""
    memory, mask = model.memory_for(encoded), request.prompt_mask
    assert memory.states is not None
    return CachedDecoder(
        model.decoder,
        memory.states,
        memory.mask,
        request.plan.max_length,
        None if mask is None else torch.from_numpy(mask).to(memory.states.device),
        attentions=attentions,
        hidden_states=hidden_states,
    )
