"""What both backends' `generate` work out before the search, and what they say after it: options, prompt, warnings."""

import warnings
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from dragoman.api.checks import check_ids, check_rows, check_tokens
from dragoman.api.config import SpeechEncoderDecoderConfig
from dragoman.batch import to_numpy
from dragoman.errors import GenerationError
from dragoman.generation.forced import split_forced
from dragoman.generation.options import GenerationConfig
from dragoman.generation.plan import Plan
from dragoman.spec import SpecialIds

__all__ = ["prompt_mask_of", "prompt_of", "set_on", "settings_of", "warn_if_cut_off"]

# Of upstream's trainers, and of its ways to keep a cache, of which there is one here.
_IDLE = (
    "cache_implementation",
    "disable_compile",
    "labels",
    "synced_gpus",
    "use_model_defaults",
)


def settings_of(
    config: SpeechEncoderDecoderConfig,
    base: GenerationConfig,
    given: GenerationConfig | None,
    options: Mapping[str, Any],
) -> GenerationConfig:
    """Return the options of one call: its keywords, then `given`, then the model's `base`; ids as `config` has them.

    Raises:
        GenerationError: If an option is unknown or impossible.
    """
    base = GenerationConfig.of(base).replace(**set_on(config))
    options = _without_idle(options)
    settings = (base if given is None else GenerationConfig.of(given).over(base)).replace(**options)
    for name in SpecialIds.names():
        if getattr(settings, name) is None and name not in options:
            setattr(settings, name, config.special_id(name))
    return settings


def set_on(config: SpeechEncoderDecoderConfig) -> dict[str, Any]:
    """Return the options of `generate` that somebody set on the configuration, as was usual before release 5."""
    own = {field.name for field in fields(config)}
    return {
        field.name: vars(config)[field.name]
        for field in fields(GenerationConfig)
        if field.name in vars(config).keys() - own
    }


def _without_idle(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return keywords without those that upstream's code passes along and `generate` has no use for.

    Raises:
        GenerationError: If one of them asks for something that is not done.
    """
    if options.get("synced_gpus"):
        raise GenerationError(
            "`synced_gpus` is not done here: texts are generated where the whole model is. Gather its weights first."
        )
    return {name: value for name, value in options.items() if name not in _IDLE}


def prompt_of(
    settings: GenerationConfig, batch: int, given: Any, vocab_size: int
) -> tuple[np.ndarray[Any, np.dtype[np.int64]], dict[int, int]]:
    """Return what each text begins with: the start id, then ids that the options force, or what the caller gave.

    Args:
        settings: What `settings_of` returned.
        batch: Utterances.
        given: `decoder_input_ids`, `[batch, tokens]` of any framework, or `None`.
        vocab_size: How many tokens there are.

    Returns:
        The prompt, int `[batch, tokens]`, and the tokens that are forced behind it, by place.

    Raises:
        GenerationError: If no start id is set, or some rows of `given` begin with it and some do not.
        ConfigError: If ids are not whole numbers in the vocabulary, or there is not one row of them a clip.
    """
    start = settings.decoder_start_token_id
    if start is None:
        raise GenerationError(
            "`decoder_start_token_id` or `bos_token_id` has to be defined for encoder-decoder generation. Set it "
            "once, for instance: model.config.decoder_start_token_id = tokenizer.cls_token_id."
        )
    starts = [start] if isinstance(start, int) else list(start)
    check_ids("decoder_start_token_id", starts, vocab_size)
    if len(starts) > 1:
        check_rows(len(starts), batch)
    first = np.broadcast_to(np.asarray(starts, dtype=np.int64)[:, None], (batch, 1))
    if given is None:
        forced, later = split_forced(settings.forced_decoder_ids)
        rest = np.broadcast_to(np.asarray(forced, dtype=np.int64), (batch, len(forced)))
        return np.concatenate([first, rest], axis=1), later
    tokens = to_numpy(given)
    check_tokens("decoder_input_ids", tokens.shape, str(tokens.dtype))
    check_rows(len(tokens), batch)
    tokens = tokens.astype(np.int64)
    check_ids("decoder_input_ids", tokens.ravel().tolist(), vocab_size)
    real = tokens != settings.pad_token_id  # texts of several lengths may be padded on the left
    begun = (tokens[:, :1] == first) | (np.take_along_axis(tokens, real.argmax(1)[:, None], 1) == first)
    if begun.all():
        return tokens, {}
    if begun.any():
        raise GenerationError(
            "Some rows of `decoder_input_ids` begin with the start id and some do not; begin all of them the same way."
        )
    return np.concatenate([first, tokens], axis=1), {}


def prompt_mask_of(mask: Any, given: Any, prompt: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.bool_]] | None:
    """Return which tokens of the prompts count, for prompts of several lengths that are padded on the left.

    Args:
        mask: `decoder_attention_mask`, 1 where a token counts, of any framework, or `None`.
        given: `decoder_input_ids`, which it is about.
        prompt: What `prompt_of` made of them.

    Returns:
        Bool `[batch, tokens]` of the prompt, or `None` if all of them count.

    Raises:
        GenerationError: If it is about other tokens, or leaves out the last one, behind which a text goes on.
    """
    if mask is None or (counts := to_numpy(mask).astype(bool)).all():
        return None
    if given is None or counts.shape != tuple(given.shape):
        raise GenerationError(
            "`decoder_attention_mask` must have a number for each of the `decoder_input_ids`, which are "
            f"{'not given' if given is None else list(given.shape)}, but has the shape {list(counts.shape)}."
        )
    if not counts[:, -1].all():
        raise GenerationError(
            "`decoder_attention_mask` leaves out the last token of a prompt, behind which the text is to go on. Pad "
            'prompts on the left: tokenizer.padding_side = "left".'
        )
    started = np.ones((len(counts), prompt.shape[1] - counts.shape[1]), bool)  # where the start id was put before them
    return np.concatenate([started, counts], axis=1)


def warn_if_cut_off(settings: GenerationConfig, plan: Plan, ended: Any) -> None:
    """Warn if no length was asked for and texts did not end before the decoder was full; `ended` is bool `[rows]`."""
    left = int((~to_numpy(ended)).sum())
    if not settings.max_length and settings.max_new_tokens is None and left:
        warnings.warn(
            f"{left} of {len(ended)} texts were cut off after {plan.max_length} tokens, all that the decoder can hold. "
            "Cut the audio into shorter windows, or set `max_new_tokens` if that is meant.",
            UserWarning,
            stacklevel=4,
        )
