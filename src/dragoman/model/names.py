"""The names of a whole model's tensors in checkpoints."""

from dragoman.api.config import SpeechEncoderDecoderConfig
from dragoman.checkpoint.keymap import KeyMap, Rename
from dragoman.families import Part, speech_part, text_part
from dragoman.model.backend import ModelPart
from dragoman.model.configs import shared_config
from dragoman.spec import SpeechEncoderSpec

BRIDGE_KEYS = KeyMap(
    (
        Rename("enc_to_dec_proj.*", "proj.*"),
        Rename("speech_proj.in_proj.*", "in_proj.*"),
        Rename("speech_proj.out_proj.*", "out_proj.*"),
    )
)


def name_tables(part: ModelPart) -> Part:
    """Return the name tables of a part's family."""
    return (speech_part if isinstance(part.spec, SpeechEncoderSpec) else text_part)(part.config)


def keymap_of(part: ModelPart) -> KeyMap:
    """Return the name table of a part."""
    return name_tables(part).keymap(part.config)


def saved_prefixes(config: SpeechEncoderDecoderConfig) -> tuple[str, str]:
    """Return the prefixes of the encoder's and of the decoder's tensors in the model's own checkpoint."""
    return ("encoder.", "decoder.") if shared_config(config) is None else ("model.encoder.", "")
