"""What a caller passes in, as the model wants it, or an error that says what came.

Numbers of tensors are looked at unless the model is being compiled, where there are none.
"""

from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from dragoman.api.checks import IGNORED, check_embeds, check_ids, check_rows, check_tokens
from dragoman.errors import ConfigError, DragomanError
from dragoman.spec import TextDecoderSpec
from dragoman.torch.net.cache import Cache

__all__ = ["checked_mask", "checked_tensor", "checked_texts", "checked_tokens"]


def _kind(tensor: Tensor) -> str:
    """Return the type of a tensor's numbers, such as "int64"."""
    return str(tensor.dtype).removeprefix("torch.")


def checked_tensor(name: str, value: Any, error: type[DragomanError] = ConfigError) -> Tensor:
    """Return what was given as `name`.

    Raises:
        ConfigError: If it is no tensor; `error` chooses another class.
    """
    if not isinstance(value, Tensor):
        raise error(
            f'`{name}` must be a tensor, but is a {type(value).__name__}; pass return_tensors="pt" to the tokenizer '
            "or the feature extractor."
        )
    return value


def checked_mask(name: str, value: Any) -> Bool[Tensor, "*axes"] | None:
    """Return a mask of any type as one of bools.

    Raises:
        ConfigError: If it is no tensor.
    """
    return None if value is None else checked_tensor(name, value).bool()


def checked_tokens(
    name: str, value: Any, vocab_size: int, *, ignored: bool = False, look: bool = True
) -> Int[Tensor, "batch tokens"]:
    """Return tokens of any whole-number type as PyTorch's tables and losses want them.

    Args:
        name: What the caller calls them.
        value: The tokens.
        vocab_size: How many there are.
        ignored: Whether −100 is allowed among them.
        look: Compare them with the vocabulary also on an accelerator, where that means waiting for it.

    Raises:
        ConfigError: If they are no tensor of whole numbers, one row a text, or one is outside the vocabulary.
    """
    tokens = checked_tensor(name, value)
    check_tokens(name, tokens.shape, _kind(tokens))
    tokens = tokens.long()
    looks = tokens.device.type == "cpu" or (look and not tokens.is_meta)
    if looks and tokens.numel() and not torch.compiler.is_compiling():
        extremes = torch.stack(torch.aminmax(tokens.masked_fill(tokens == IGNORED, 0) if ignored else tokens))
        check_ids(name, extremes.tolist(), vocab_size, ignored=ignored)
    return tokens


def checked_texts(
    spec: TextDecoderSpec, tokens: Any, embeds: Any, cache: Any, prefix: str = ""
) -> tuple[Tensor | None, Tensor | None]:
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
