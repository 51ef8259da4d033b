"""Checks of model arguments by shapes, names of types and single numbers, for both backends.

Not here: audio (`dragoman.model.arguments`) and the options of `generate` (`dragoman.generation`).
"""

from collections.abc import Iterable, Sequence
from typing import Any

from dragoman.errors import ConfigError

IGNORED = -100  # the label of positions without a target

_REMEDY = "Use the decoder's own tokenizer, or model.resize_token_embeddings(len(tokenizer))."


def one_audio(inputs: Any, input_values: Any, input_features: Any) -> Any:
    """Return the audio, which has three names, or `None`.

    Raises:
        ConfigError: If it is given twice.
    """
    given = [x for x in (inputs, input_values, input_features) if x is not None]
    if len(given) > 1:
        raise ConfigError(
            "You cannot specify both input_values and input_features (or `inputs`) at the same time; pass one."
        )
    return given[0] if given else None


def check_rows(sequences: int, others: int, what: str = "clips") -> None:
    """Check that there is one token sequence per clip; more would be taken for beams.

    Raises:
        ConfigError: If there are more or fewer than `others`, which are called `what`.
    """
    if sequences != others:
        remedy = "Repeat the clips, or the output of the encoder, once for each of their sequences."
        raise ConfigError(
            f"There must be as many token sequences as {what}, but there are {sequences} and {others}."
            f"{f' {remedy}' if what == 'clips' else ''}"
        )


def check_tokens(name: str, shape: Sequence[int], kind: str) -> None:
    """Check shape and type of tokens.

    Args:
        name: Name of the argument.
        shape: Its shape.
        kind: Name of its type, such as "int64".

    Raises:
        ConfigError: If they are not integers, `[batch, tokens]`, or there are none.
    """
    if len(shape) != 2 or not kind.startswith(("int", "uint")):
        raise ConfigError(
            f"`{name}` must be integers of the shape [batch, tokens], but have the shape {list(shape)} and the "
            f"type {kind}."
        )
    if shape[1] < 1:
        raise ConfigError(f"`{name}` must hold at least one token per sequence, but has the shape {list(shape)}.")


def check_ids(name: str, ids: Iterable[int], vocab_size: int, *, ignored: bool = False) -> None:
    """Check that ids are in the vocabulary; of many, the lowest and the highest are enough.

    Args:
        name: Name of the argument.
        ids: The ids, without −100.
        vocab_size: Size of the vocabulary.
        ignored: Whether −100 is allowed too.

    Raises:
        ConfigError: If one is not.
    """
    for token in ids:
        if not 0 <= token < vocab_size:
            also = f", or {IGNORED} to be ignored" if ignored else ""
            raise ConfigError(f"`{name}` must be from 0 to {vocab_size - 1}{also}, but got {token}. {_REMEDY}")


def check_id(name: str, value: Any, vocab_size: int) -> None:
    """Check an id of the configuration that training uses.

    Raises:
        ConfigError: If it is not set, is a list with one id per row, or is outside the vocabulary.
    """
    what = name.removeprefix("decoder_").removesuffix("_token_id")
    if value is None:
        token = {"start": "cls", "pad": "pad"}[what]
        raise ConfigError(
            f"No {what} token is set. Make sure to set the {name} attribute of the model's configuration, for "
            f"instance: model.config.{name} = tokenizer.{token}_token_id."
        )
    if not isinstance(value, int):
        raise ConfigError(f"Training needs one `{name}` for all rows, but it is {value!r:.60}.")
    check_ids(name, [value], vocab_size)


def check_text_mask(shape: Sequence[int], rows: int) -> None:
    """Check the rows of a mask of tokens; its length depends on the cache.

    Raises:
        ConfigError: If it does not have a row per sequence.
    """
    if len(shape) != 2 or shape[0] != rows:
        raise ConfigError(
            f"The attention mask of the decoder must have a row for each of the {rows} sequences, but has the shape "
            f"{list(shape)}."
        )


def check_loss(labels: Sequence[int], tokens: Sequence[int], smoothing: float = 0.0) -> None:
    """Check the shape of labels against that of the decoder's tokens, and the label smoothing.

    Raises:
        ConfigError: If the shapes differ, or `smoothing` is not from 0 to 1.
    """
    if tuple(labels) != tuple(tokens[:2]):
        raise ConfigError(
            f"`labels` must have the shape of the decoder's tokens, {list(tokens[:2])}, but have {list(labels)}."
        )
    if not 0.0 <= smoothing <= 1.0:
        raise ConfigError(f"`smoothing` must be from 0 to 1, but is {smoothing}.")


def check_masks(shape: Sequence[int], clips: int, frames: int) -> None:
    """Check the shape of the caller's SpecAugment mask.

    Raises:
        ConfigError: If it does not have a number for each frame.
    """
    if tuple(shape) != (clips, frames):
        raise ConfigError(
            f"`mask_time_indices` must have the shape {[clips, frames]}, a number for each frame, but has "
            f"{list(shape)}."
        )
