"""The options and the prompt of one call of `generate`, checked before the search, and warnings after it."""

import copy
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dragoman.api.checks import check_ids, check_rows, check_tokens
from dragoman.batch import to_numpy
from dragoman.errors import GenerationError
from dragoman.generation.options import GenerationConfig
from dragoman.generation.plan import Plan

# Passed by the trainers of `transformers`, or choose between its caches; without effect here.
_IGNORED = ("cache_implementation", "disable_compile", "labels", "synced_gpus", "use_model_defaults")
# Arguments of Whisper's own `generate` in `transformers`, where `None` is the default and leaves them as they are.
_KEPT_BY_NONE = ("is_multilingual", "language", "return_timestamps", "task")


def settings_of(base: GenerationConfig, given: GenerationConfig | None, options: Mapping[str, Any]) -> GenerationConfig:
    """Return the options of one call.

    Its keywords `options` come first, `None` included, then what is set in `given`, then the model's `base`. Without a
    start id, the beginning-of-sequence id is used.

    Raises:
        GenerationError: If an option is unknown or not allowed.
    """
    if options.get("synced_gpus"):
        raise GenerationError(
            "`synced_gpus` is not supported: `generate` needs all weights of the model. Gather them first."
        )
    options = {
        name: value
        for name, value in options.items()
        if name not in _IGNORED and not (name in _KEPT_BY_NONE and value is None)
    }
    if options.get("top_k", 0) is None:
        options["top_k"] = 0  # `None` in the call turns an option off; the default of this one is on
    settings = (copy.deepcopy(base) if given is None else GenerationConfig.of(given).over(base)).replace(**options)
    if settings.decoder_start_token_id is None:
        settings.decoder_start_token_id = settings.bos_token_id
    return settings


def prompt_of(
    settings: GenerationConfig,
    batch: int,
    given: Any,
    vocab_size: int,
    begin: Sequence[Sequence[int]] | None = None,
) -> tuple[np.ndarray[Any, np.dtype[np.int64]], list[tuple[int, int]]]:
    """Return the prompt: the start id, then the forced ids of the options or the ids given by the caller.

    Args:
        settings: The result of `settings_of`.
        batch: Number of utterances.
        given: `decoder_input_ids`, `[batch, tokens]` of any framework, or `None`.
        vocab_size: Size of the decoder's vocabulary.
        begin: For each utterance, the tokens after the start id, in place of `forced_decoder_ids`.

    Returns:
        The prompt, int `[batch, tokens]`, and the tokens forced after it, as (position, token).

    Raises:
        GenerationError: If no start id is set, or only some rows of `given` begin with it.
        ConfigError: If ids are not whole numbers in the vocabulary, or their number of rows is not `batch`.
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
    if settings.pad_token_id is not None:  # the decoder reads it after the end of a sequence
        check_ids("pad_token_id", [settings.pad_token_id], vocab_size)
    first = np.broadcast_to(np.asarray(starts, dtype=np.int64)[:, None], (batch, 1))
    if given is None and begin is not None:
        check_ids(
            "lang_to_id, task_to_id and no_timestamps_token_id", {one for row in begin for one in row}, vocab_size
        )
        return np.concatenate([first, np.asarray(begin, dtype=np.int64).reshape(batch, -1)], axis=1), []
    if given is None:
        forced_now, forced = _split_forced(settings.forced_decoder_ids or ())
        check_ids("forced_decoder_ids", [*forced_now, *(token for _, token in forced)], vocab_size)
        rest = np.broadcast_to(np.asarray(forced_now, dtype=np.int64), (batch, len(forced_now)))
        return np.concatenate([first, rest], axis=1), forced
    tokens = to_numpy(given)
    check_tokens("decoder_input_ids", tokens.shape, str(tokens.dtype))
    check_rows(len(tokens), batch)
    tokens = tokens.astype(np.int64)
    check_ids("decoder_input_ids", tokens.ravel().tolist(), vocab_size)
    real = tokens != settings.pad_token_id  # prompts of several lengths are padded on the left
    begun = (tokens[:, :1] == first) | (np.take_along_axis(tokens, real.argmax(1)[:, None], 1) == first)
    if begun.all():
        return tokens, []
    if begun.any():
        raise GenerationError(
            "Some rows of `decoder_input_ids` begin with the start id and some do not; begin all of them the same way."
        )
    return np.concatenate([first, tokens], axis=1), []


def _split_forced(forced: Sequence[Sequence[int | None]]) -> tuple[list[int], list[tuple[int, int]]]:
    """Split `forced_decoder_ids`, pairs of position and token, into a part of the prompt and later tokens.

    Position 1 follows the start token. A token that is `None` is free: a multilingual Whisper chooses the language.
    """
    given = {position: token for position, token in forced}  # noqa: C416 (types)
    tokens = {position: token for position, token in given.items() if position is not None and token is not None}
    begin: list[int] = []
    while len(begin) + 1 in tokens:
        begin.append(tokens[len(begin) + 1])
    return begin, [(position, token) for position, token in sorted(tokens.items()) if position > len(begin)]


def prompt_mask_of(mask: Any, given: Any, prompt: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.bool_]] | None:
    """Return the mask of the prompt, for prompts of several lengths that are padded on the left.

    Args:
        mask: `decoder_attention_mask`, 1 for real tokens, of any framework, or `None`.
        given: `decoder_input_ids`, of the same shape.
        prompt: The prompt that `prompt_of` made of them.

    Returns:
        Bool `[batch, tokens]`, or `None` if nothing is padding.

    Raises:
        GenerationError: If the shapes differ, or the last token of a prompt is masked.
    """
    if mask is None:
        return None
    values = to_numpy(mask)
    if not ((values == 0) | (values == 1)).all():
        raise GenerationError("`decoder_attention_mask` must hold only 0 and 1, but holds other numbers.")
    if (real := values.astype(bool)).all():
        return None
    if given is None or real.shape != tuple(given.shape):
        raise GenerationError(
            "`decoder_attention_mask` must have the shape of `decoder_input_ids`, which "
            f"{'are not given' if given is None else f'is {list(given.shape)}'}, but has {list(real.shape)}."
        )
    if not real[:, -1].all():
        raise GenerationError(
            "`decoder_attention_mask` masks the last token of a prompt, which the sequence must continue. Pad prompts "
            'on the left: tokenizer.padding_side = "left".'
        )
    added = np.ones((len(real), prompt.shape[1] - real.shape[1]), bool)  # the start id put before the prompt
    return np.concatenate([added, real], axis=1)


def warn_if_cut_off(settings: GenerationConfig, plan: Plan, ended: Any) -> None:
    """Warn if no maximum length was set and sequences filled the decoder; `ended` bool `[rows]`."""
    left = int((~to_numpy(ended)).sum())
    if not settings.max_length and settings.max_new_tokens is None and left:
        warnings.warn(
            f"{left} of {len(ended)} sequences were cut off after {plan.max_length} tokens, the most that the decoder "
            "can take. Split the audio into shorter windows, or set `max_new_tokens` if this is intended.",
            UserWarning,
            stacklevel=3,
        )
