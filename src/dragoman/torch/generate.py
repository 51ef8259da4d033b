"""The search in PyTorch: one decoder step at a time over preallocated caches.

Not here: the search itself (`dragoman.generation`), which imports no framework.
"""

from collections.abc import Sequence
from typing import Any

import torch

from dragoman.api.outputs import EncoderOutput
from dragoman.generation.loop import generate
from dragoman.generation.request import Request, Speech
from dragoman.generation.result import GenerationResult
from dragoman.torch.cached import CachedDecoder, CalledDecoder
from dragoman.torch.calls import run_encoder


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
    found = generate(decoder, prompt, settings, seed=seed, draft=draft, **request.loop_options(model, encoded))
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
        model.decoder, memory.states, memory.mask, capacity, prompt_mask, attentions=weights, hidden_states=all_states
    )
