"""The parts under the names that Hugging Face's users know, and the automatic class.

There is no file per class: each name is one part of one family in `FAMILIES`, bound to that family's configuration.
"""

from pathlib import Path
from typing import Any

from dragoman.errors import ConfigError
from dragoman.families import FAMILIES, Family, ModelConfig
from dragoman.torch.model import SpeechEncoderDecoderModel
from dragoman.torch.net.speech_encoder import SpeechEncoder
from dragoman.torch.net.text_decoder import TextDecoder

__all__ = ["AutoModelForSpeechSeq2Seq", "part_classes"]


class AutoModelForSpeechSeq2Seq:
    """Models that turn speech into text, by what their `config.json` says."""

    @staticmethod
    def from_pretrained(name_or_path: str | Path, **kwargs: Any) -> SpeechEncoderDecoderModel:
        """Load a model; see `SpeechEncoderDecoderModel.from_pretrained`."""
        return SpeechEncoderDecoderModel.from_pretrained(name_or_path, **kwargs)

    @staticmethod
    def from_config(config: Any) -> SpeechEncoderDecoderModel:
        """Build a model with random weights."""
        return SpeechEncoderDecoderModel(config=config)


def _bound(name: str, base: type[SpeechEncoder] | type[TextDecoder], family: Family) -> type[Any]:
    """Return `base` bound to one family."""
    role = "speech encoder" if base is SpeechEncoder else "text decoder"

    def __init__(self: Any, config: ModelConfig, *, empty: bool = False) -> None:  # noqa: N807
        if not isinstance(config, family.config):
            raise ConfigError(
                f"{name} takes a {family.config.__name__}, but got a {type(config).__name__} "
                f"({getattr(config, 'model_type', '')!r})."
            )
        base.__init__(self, config, empty=empty)

    body: dict[str, Any] = {
        "__init__": __init__,
        "__doc__": f"The {role} of the {family.model_type!r} family; see `{base.__name__}`.",
        "__module__": __name__,
        "config_class": family.config,
    }
    return type(name, (base,), body)


def part_classes() -> dict[str, type[Any]]:
    """Return every part of every family by its known name."""
    classes: dict[str, type[Any]] = {}
    for family in FAMILIES:
        for base, part in (SpeechEncoder, family.speech), (TextDecoder, family.text):
            for name in part.classes if part else ():
                classes[name] = _bound(name, base, family)
    return classes


globals().update(part_classes())
