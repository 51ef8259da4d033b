"""The names of a whole model's tensors in checkpoints."""

from collections.abc import Iterable

from dragoman.api.config import SpeechEncoderDecoderConfig
from dragoman.checkpoint.keymap import KeyMap, Rename
from dragoman.families import Part, find, speech_part, text_part
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


def bridge_keys(config: SpeechEncoderDecoderConfig) -> KeyMap:
    """Return the name table of the bridge, which a sequence-to-sequence model of one family may call its own way."""
    family = find(config.decoder.model_type)
    if family.text is None or family.bridge is None or shared_config(config) is None:
        return BRIDGE_KEYS
    return KeyMap((Rename(f"{family.bridge}.*", "proj.*"),), family.text.aliases)


def unknown_names(keymap: KeyMap, names: Iterable[str]) -> tuple[str, ...]:
    """Return the names of a file for which a table has no rule."""
    return tuple(name for name in names if keymap.rule_for(keymap.canonical_name(name)) is None)


def name_tables(part: ModelPart) -> Part:
    """Return the name tables of a part's family."""
    return (speech_part if isinstance(part.spec, SpeechEncoderSpec) else text_part)(part.config)


def keymap_of(part: ModelPart) -> KeyMap:
    """Return the name table of a part."""
    return name_tables(part).keymap(part.config)


def saved_prefixes(config: SpeechEncoderDecoderConfig) -> tuple[str, str]:
    """Return the prefixes of the encoder's and of the decoder's tensors in the model's own checkpoint."""
    return ("encoder.", "decoder.") if shared_config(config) is None else ("model.encoder.", "")
