"""A text decoder that continues text alone, or for encoder states of the caller: `TextDecoder.generate`."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dragoman.errors import GenerationError
from dragoman.generation.inherited import options_on
from dragoman.generation.loop import generate
from dragoman.generation.options import GenerationConfig
from dragoman.generation.settings import settings_of
from dragoman.model.arguments import checked_memory
from dragoman.model.arrays import checked_mask, checked_tokens
from dragoman.torch.arrays import ARRAYS
from dragoman.torch.cached import CachedDecoder, CalledDecoder, is_changed, per_row
from dragoman.torch.net.cache import Cache

_DEFAULT_LENGTH = 20  # new tokens, as in `transformers`; a cache for all positions of a large model fits no memory


def continue_text(
    decoder: Any,
    plain: Any,
    tokens: Tensor | None,
    given: GenerationConfig | None,
    options: dict[str, Any],
    *,
    mask: Tensor | None,
    memory: tuple[Tensor | None, Tensor | None],
    seed: int | Sequence[int] | None,
    **caller: Any,
) -> Any:
    """Generate after a prompt; see `TextDecoder.generate`.

    Args:
        decoder: The decoder.
        plain: The `forward` of its class, to see whether a subclass or a hook changes it.
        tokens: The prompt; by default the start or the beginning-of-sequence id.
        given: Options.
        options: Options of the call.
        mask: 1 for valid tokens of the prompt.
        memory: Encoder states and their mask.
        seed: For sampling.
        **caller: Other arguments of `dragoman.generation.loop.generate`.
    """
    settings = settings_of(_own_options(decoder.config), given, options)
    if settings.max_new_tokens is None and settings.max_length is None:
        settings = settings.replace(max_new_tokens=_DEFAULT_LENGTH)
    states, frames = memory
    if tokens is None:
        start = settings.decoder_start_token_id
        if not isinstance(start, int):
            raise GenerationError("Pass `input_ids`: the configuration has no start or beginning-of-sequence id.")
        tokens = torch.full((1 if states is None else states.shape[0], 1), start, device=decoder.device)
    tokens = checked_tokens(ARRAYS, "input_ids", tokens, decoder.spec.vocab_size)
    if states is not None:
        states, frames = checked_memory(ARRAYS, decoder.spec, tokens.shape[0], states, frames)
    prompt_mask = checked_mask(ARRAYS, "attention_mask", mask)
    records = {"attentions": settings.output_attentions, "hidden_states": settings.output_hidden_states}
    capacity = decoder.spec.num_positions
    if settings.max_new_tokens is not None or settings.max_length is not None:
        wanted = settings.max_length or 0
        if settings.max_new_tokens is not None:
            wanted = tokens.shape[1] + settings.max_new_tokens
        capacity = min(capacity, wanted)
    steps = CachedDecoder(decoder, states, frames, capacity, prompt_mask, **records)
    if is_changed(decoder, plain):

        def call(new: Tensor, cache: Cache) -> Any:
            return decoder(
                input_ids=new,
                encoder_hidden_states=per_row(states, new.shape[0]),
                encoder_attention_mask=per_row(frames, new.shape[0]),
                past_key_values=cache,
                use_cache=True,
                return_dict=True,
            )

        steps = CalledDecoder(decoder, call, capacity, prompt_mask)
    drawn = int(torch.randint(2**31, ())) if seed is None else seed
    with torch.no_grad():
        found = generate(steps, tokens, settings, capacity=decoder.spec.num_positions, seed=drawn, **caller)
    sequences = torch.as_tensor(found.sequences).to(tokens.device)
    return found.to_output(None, None) if settings.return_dict_in_generate else sequences


def _own_options(config: Any) -> GenerationConfig:
    """Return the ids of a configuration, and the options of `generate` that it has."""
    names = ("bos_token_id", "decoder_start_token_id", "eos_token_id", "forced_bos_token_id", "forced_eos_token_id")
    ids = {name: getattr(config, name, None) for name in (*names, "pad_token_id")}
    own = {**options_on(config), **ids}
    return GenerationConfig(**{name: value for name, value in own.items() if value is not None})
