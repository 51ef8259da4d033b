"""`shift_tokens_right`, which scripts import from `transformers`: decoder inputs from labels."""

from dragoman.errors import ConfigError
from dragoman.generation.arrays import Array, ops_of


def shift_tokens_right(
    input_ids: Array, pad_token_id: int | None = None, decoder_start_token_id: int | None = None
) -> Array:
    """Return the start token, then all but the last of each row, with padding in place of −100.

    Args:
        input_ids: Labels int `[batch, tokens]`, of NumPy, PyTorch or JAX; they stay as they are.
        pad_token_id: The padding.
        decoder_start_token_id: The start token.

    Returns:
        The decoder inputs, an array of the same kind and shape.

    Raises:
        ConfigError: If one of the two ids is `None`.
    """
    for name, value in {"pad_token_id": pad_token_id, "decoder_start_token_id": decoder_start_token_id}.items():
        if value is None:
            raise ConfigError(
                f"`{name}` must be a token id, but is None. Set it, for instance from model.config.{name}."
            )
    xp = ops_of(input_ids).xp
    start = xp.full_like(input_ids[:, :1], decoder_start_token_id)
    shifted = xp.concat([start, input_ids[:, :-1]], axis=1)
    return xp.where(shifted == -100, xp.full_like(shifted, pad_token_id), shifted)
