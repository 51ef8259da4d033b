"""What a model may be given: the rules that both backends keep, told by shapes, names of types and single numbers.

Not here: audio (`speech_encoder` of each backend) and the options of `generate` (`dragoman.generation`).
"""

from collections.abc import Iterable, Sequence
from typing import Any

from dragoman.errors import AudioError, ConfigError

__all__ = [
    "IGNORED",
    "check_embeds",
    "check_encoded",
    "check_encoded_mask",
    "check_id",
    "check_ids",
    "check_loss",
    "check_masks",
    "check_memory",
    "check_rows",
    "check_text_mask",
    "check_tokens",
    "one_audio",
]

IGNORED = -100  # labels that do not count

_REMEDY = "Use the decoder's own tokenizer, or model.resize_token_embeddings(len(tokenizer))."


def one_audio(inputs: Any, input_values: Any, input_features: Any) -> Any:
    """Return the audio by whichever of its names it was given, `None` if by none.

    Raises:
        ConfigError: If it was given twice.
    """
    given = [x for x in (inputs, input_values, input_features) if x is not None]
    if len(given) > 1:
        raise ConfigError(
            "You cannot specify both input_values and input_features (or `inputs`) at the same time; pass one."
        )
    return given[0] if given else None


def check_rows(texts: int, others: int, what: str = "clips") -> None:
    """Check that there is a text for each clip; other rows would be taken for beams of one clip.

    Args:
        texts: How many texts there are.
        others: How many there are of what goes with them.
        what: Its name.

    Raises:
        ConfigError: If there are more or fewer.
    """
    if texts != others:
        remedy = "Repeat the clips, or the output of the encoder, once for each of their texts."
        raise ConfigError(
            f"There must be as many texts as {what}, but there are {texts} and {others}."
            f"{f' {remedy}' if what == 'clips' else ''}"
        )


def check_tokens(name: str, shape: Sequence[int], kind: str) -> None:
    """Check that tokens are whole numbers, one row a text, and at least one in each.

    Args:
        name: What the caller calls them.
        shape: Of their tensor.
        kind: Type of their numbers, such as "int64".

    Raises:
        ConfigError: If they are not.
    """
    if len(shape) != 2 or not kind.startswith(("int", "uint")):
        raise ConfigError(
            f"`{name}` must be whole numbers of the shape [batch, tokens], but have the shape {list(shape)} and the "
            f"type {kind}."
        )
    if shape[1] < 1:
        raise ConfigError(f"`{name}` must hold at least one token of each text, but has the shape {list(shape)}.")


def check_ids(name: str, ids: Iterable[int], vocab_size: int, *, ignored: bool = False) -> None:
    """Check that every id is in the vocabulary; the lowest and the highest of many are enough.

    Args:
        name: What the caller calls them.
        ids: The ids.
        vocab_size: How many tokens there are.
        ignored: Whether −100 is allowed among them; it is not in `ids`.

    Raises:
        ConfigError: If one is not.
    """
    for token in ids:
        if not 0 <= token < vocab_size:
            also = f", or {IGNORED} to be ignored" if ignored else ""
            raise ConfigError(f"`{name}` must be from 0 to {vocab_size - 1}{also}, but got {token}. {_REMEDY}")


def check_id(name: str, value: Any, vocab_size: int) -> None:
    """Check an id that the configuration gives, which training puts into every text.

    Raises:
        ConfigError: If it is not set, is a list with an id for each row, or is outside the vocabulary.
    """
    what = name.removeprefix("decoder_").removesuffix("_token_id")
    if value is None:
        token = {"start": "cls", "pad": "pad"}[what]
        raise ConfigError(
            f"No {what} token is set. Make sure to set the {name} attribute of the model's configuration, for "
            f"instance: model.config.{name} = tokenizer.{token}_token_id."
        )
    if not isinstance(value, int):
        raise ConfigError(f"Training needs one `{name}` for all texts, but it is {value!r:.60}.")
    check_ids(name, [value], vocab_size)


def check_embeds(name: str, shape: Sequence[int], kind: str, width: int) -> None:
    """Check embeddings that are given in place of tokens.

    Raises:
        ConfigError: If they are not vectors of the decoder's width, one row of them a text.
    """
    if len(shape) != 3 or shape[2] != width or "float" not in kind:
        raise ConfigError(
            f"`{name}` must be floating numbers of the shape [batch, tokens, {width}], but have the shape "
            f"{list(shape)} and the type {kind}."
        )


def check_memory(shape: Sequence[int], width: int, mask: Sequence[int] | None) -> None:
    """Check the memory that a text decoder alone is given, and the shape of its mask.

    Raises:
        ConfigError: If the memory is not as wide as the decoder, or the mask is not for its frames.
    """
    if len(shape) != 3 or shape[2] != width:
        raise ConfigError(
            f"`encoder_hidden_states` must have the shape [batch, frames, {width}], but have {list(shape)}. "
            "A SpeechEncoderDecoderModel has a bridge for another width."
        )
    if mask is not None and tuple(mask) != tuple(shape[:2]):
        raise ConfigError(
            f"`encoder_attention_mask` must have the shape {list(shape[:2])}, a number for each frame, but has "
            f"{list(mask)}."
        )


def check_encoded(shape: Sequence[int], width: int) -> None:
    """Check the states that an encoder is said to have given before.

    Raises:
        ConfigError: If they are not as wide as the encoder's.
    """
    if len(shape) != 3 or shape[2] != width:
        raise ConfigError(f"`encoder_outputs` must have the shape [batch, frames, {width}], but has {list(shape)}.")


def check_encoded_mask(numbers: int, frames: int, due: int) -> None:
    """Check the mask beside `encoder_outputs`, where it has not a number for each of their frames.

    Args:
        numbers: How many it has for a row.
        frames: How many frames there are.
        due: How many frames so many samples give.

    Raises:
        AudioError: If it is not for the samples either.
    """
    if due != frames:
        raise AudioError(
            f"`attention_mask` must have one number for each sample that gave the {frames} frames of "
            f"`encoder_outputs`, or for each of these frames, but has {numbers}."
        )


def check_text_mask(shape: Sequence[int], rows: int) -> None:
    """Check a mask of tokens; its length depends on those that came before.

    Raises:
        ConfigError: If it has not a row for each text.
    """
    if len(shape) != 2 or shape[0] != rows:
        raise ConfigError(
            f"The attention mask of the decoder must have a row for each of the {rows} texts, but has the shape "
            f"{list(shape)}."
        )


def check_loss(labels: Sequence[int], tokens: Sequence[int], smoothing: float = 0.0) -> None:
    """Check that there is a label for each token that the decoder reads, and the share that is spread evenly.

    Args:
        labels: Shape of the labels.
        tokens: Shape of the tokens.
        smoothing: The share.

    Raises:
        ConfigError: If a number is wrong.
    """
    if tuple(labels) != tuple(tokens[:2]):
        raise ConfigError(
            f"`labels` must have the shape of the decoder's tokens, {list(tokens[:2])}, but have {list(labels)}."
        )
    if not 0.0 <= smoothing <= 1.0:
        raise ConfigError(f"`smoothing` must be from 0 to 1, but is {smoothing}.")


def check_masks(shape: Sequence[int], clips: int, frames: int) -> None:
    """Check masks of SpecAugment that the caller made.

    Raises:
        ConfigError: If there is not a number for each frame.
    """
    if tuple(shape) != (clips, frames):
        raise ConfigError(
            f"`mask_time_indices` must have the shape {[clips, frames]}, a number for each frame, but has "
            f"{list(shape)}."
        )
