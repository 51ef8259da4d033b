"""Tiny configurations of every family: all parts of the real network, thousands of weights instead of millions."""

from collections.abc import Mapping
from typing import Any

from dragoman.api.config import FUSIONS
from dragoman.families import FAMILIES, find
from dragoman.families.config import ModelConfig

ENCODERS = [family.model_type for family in FAMILIES if family.speech]
"""The `model_type` of every family with a speech encoder."""

DECODERS = [
    (family.model_type, fusion)
    for family in FAMILIES
    if family.text
    for fusion in ((None,) if family.text.cross_attends else FUSIONS)
]
"""The `model_type` of every family with a text decoder, with each `fusion` by which it can be joined."""

VARIANTS: dict[str, tuple[str, Mapping[str, Any]]] = {
    "-".join((family.model_type, *name)): (family.model_type, fields)
    for family in FAMILIES
    for name, fields in (((), {}), *(((name,), fields) for name, fields in family.variants.items()))
}
"""Arguments of `tiny_config` by name: of each family the plain configuration, and its variants."""


def tiny_config(model_type: str, **fields: Any) -> ModelConfig:
    """Return a configuration of a family that builds in milliseconds and still has every part of the real network.

    Encoders of waveforms have one frame per 40 samples; Whisper takes spectrograms of 8 bins and 60 frames, Speech to
    Text and wav2vec2-bert take filter banks of 8 bins. Text decoders have 99 tokens (0 is the start, 1 padding, 2 the
    end, in families with such ids) and 64 positions.

    Args:
        model_type: As in `config.json`: "wav2vec2", "bert", …
        **fields: Fields of the family's configuration to replace.

    Raises:
        ConfigError: If the family is unknown, or a value is not valid.

    Example:
        >>> config = SpeechEncoderDecoderConfig(encoder=tiny_config("wav2vec2"), decoder=tiny_config("bert"))
        >>> model = SpeechEncoderDecoderModel(config=config)
    """
    family = find(model_type)
    return family.config(**{**family.tiny, **fields})
