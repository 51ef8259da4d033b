"""What a caller passes in, as the model wants it, or an error that says what came.

Numbers of arrays are looked at unless they are traced, where there are none; NumPy looks, so that nothing is compiled.
"""

from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Int

from dragoman.api.checks import IGNORED, check_embeds, check_ids, check_rows, check_tokens
from dragoman.errors import ConfigError, DragomanError
from dragoman.jax.net.cache import Cache
from dragoman.spec import TextDecoderSpec

__all__ = ["checked_mask", "checked_tensor", "checked_texts", "checked_tokens"]


def _kind(array: Any) -> str:
    """Return the type of an array's numbers, such as "int32"."""
    return str(array.dtype)


def checked_tensor(name: str, value: Any, error: type[DragomanError] = ConfigError) -> Any:
    """Return what was given as `name`.

    Raises:
        ConfigError: If it is no array of JAX or NumPy; `error` chooses another class.
    """
    if not isinstance(value, jax.Array | np.ndarray):
        raise error(
            f'`{name}` must be an array, but is a {type(value).__name__}; pass return_tensors="np" to the tokenizer '
            "or the feature extractor."
        )
    return value


def checked_mask(name: str, value: Any) -> Bool[Any, "*axes"] | None:
    """Return a mask of any type as one of bools.

    Raises:
        ConfigError: If it is no array.
    """
    return None if value is None else checked_tensor(name, value).astype(bool)


def checked_tokens(
    name: str, value: Any, vocab_size: int, *, ignored: bool = False, look: bool = True
) -> Int[Any, "batch tokens"]:
    """Return tokens; any whole-number type will do.

    Args:
        name: What the caller calls them.
        value: The tokens.
        vocab_size: How many there are.
        ignored: Whether −100 is allowed among them.
        look: Compare them with the vocabulary also on an accelerator, where that means waiting for it.

    Raises:
        ConfigError: If they are no array of whole numbers, one row a text, or one is outside the vocabulary.
    """
    tokens = checked_tensor(name, value)
    check_tokens(name, tokens.shape, _kind(tokens))
    if isinstance(tokens, jax.core.Tracer):
        return tokens
    if look or isinstance(tokens, np.ndarray) or all(device.platform == "cpu" for device in tokens.devices()):
        numbers = np.asarray(tokens)
        numbers = numbers[numbers != IGNORED] if ignored else numbers
        if numbers.size:
            check_ids(name, (int(numbers.min()), int(numbers.max())), vocab_size, ignored=ignored)
    return tokens


def checked_texts(
    spec: TextDecoderSpec, tokens: Any, embeds: Any, cache: Any, prefix: str = ""
) -> tuple[Any | None, Any | None]:
    """Return what a decoder is to read: tokens, or embeddings in their place.

    On an accelerator tokens are compared with the vocabulary at the beginning of a text only, so that no step waits.

    Args:
        spec: The decoder's.
        tokens: The tokens.
        embeds: The embeddings.
        cache: What came before.
        prefix: "decoder_" where the caller's names have it.

    Raises:
        ConfigError: If not one of them is given, or what is given does not fit the decoder.
    """
    names = f"{prefix}input_ids", f"{prefix}inputs_embeds"
    if (tokens is None) == (embeds is None):
        raise ConfigError(f"A text decoder takes exactly one of `{names[0]}` and `{names[1]}`.")
    if cache is not None and not isinstance(cache, Cache):
        raise ConfigError(
            f"`past_key_values` must be what an earlier call of this model returned, but is a {type(cache).__name__}."
        )
    if embeds is None:
        tokens = checked_tokens(names[0], tokens, spec.vocab_size, look=cache is None)
    else:
        check_embeds(names[1], checked_tensor(names[1], embeds).shape, _kind(embeds), spec.token_width)
    if cache is not None:
        check_rows((tokens if embeds is None else embeds).shape[0], cache.rows, "rows of `past_key_values`")
    return tokens, embeds
