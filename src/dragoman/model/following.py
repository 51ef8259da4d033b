"""Changes of a configuration whose model exists already: what takes effect at once, and what is refused.

A network is built from its spec. The numbers in it that training alone reads (dropouts, LayerDrop, SpecAugment) may
change at any time; sizes and kinds of layers may not. Token ids may too: the loss and `generate` follow them, the
network keeps the padding that it was built with, as in `transformers`.
"""

from collections.abc import Iterable
from dataclasses import fields, is_dataclass, replace
from typing import Any, NoReturn

from dragoman.errors import ConfigError
from dragoman.families import ModelConfig
from dragoman.spec import SpeechEncoderSpec
from dragoman.spec.ids import SpecialIds

_FREE = ("attn_dropout", "dropout", "init_std", "layerdrop", "spec_augment")


def changed_spec(spec: Any, config: ModelConfig, name: str) -> Any:
    """Return the spec of a part, after a field of its configuration was set.

    Args:
        spec: What the part was built from.
        config: Its configuration.
        name: The field.

    Raises:
        ConfigError: If the value does not fit, or would need another network.
    """
    ModelConfig.__post_init__(config)
    if name in SpecialIds.names():
        return spec
    if not isinstance(spec, SpeechEncoderSpec):
        new: Any = config.copy(pad_token_id=spec.embed.pad_token_id).text_spec()
    else:
        new = config.speech_spec()
        if new.mask_embedding and not spec.mask_embedding:
            raise ConfigError(
                f"`{name}` asks for SpecAugment, but this encoder was built without the vector that stands for masked "
                f"frames. Set it before: from_pretrained(folder, {name}=…)."
            )
        new = replace(new, mask_embedding=spec.mask_embedding)
    if _fixed(new) != _fixed(spec):
        way = "Call model.resize_token_embeddings." if name == "vocab_size" else "Set it in the configuration before, "
        rest = "" if name == "vocab_size" else f"or load the model again: from_pretrained(folder, {name}=…)."
        raise ConfigError(
            f"`{name}` cannot become {getattr(config, name)!r} now: the layers of this {config.model_type!r} part were "
            f"built with another value. {way}{rest}"
        )
    return new


def joint_change_is_free(names: Iterable[str], name: str) -> None:
    """Check that a field of a joint configuration, set after its model was built, is none of `names`.

    Raises:
        ConfigError: If it is.
    """
    if name in names:
        raise ConfigError(
            f"`{name}` of a model's configuration cannot be replaced: the model was built from it. Change the fields "
            "inside, or build another model."
        )


def is_fixed(name: str) -> NoReturn:
    """Refuse to replace a part of a model in JAX.

    Raises:
        ConfigError: Always.
    """
    raise ConfigError(
        f"`{name}` cannot be replaced in JAX: the model was built from it. Replace modules inside it, assign other "
        "weights (model.params = …), or build the model from other parts (encoder=…, decoder=…)."
    )


def numbers_of(module: Any) -> dict[str, Any]:
    """Return the attributes of a module that come from its spec: specs, and single numbers."""
    return {name: value for name, value in vars(module).items() if isinstance(value, float) or _is_spec(value)}


def _is_spec(value: Any) -> bool:
    return is_dataclass(value) and type(value).__module__.startswith("dragoman.spec.")


def _fixed(spec: Any) -> Any:
    """Return a spec without what may change."""
    if not is_dataclass(spec):
        return spec
    return type(spec), [(f.name, _fixed(getattr(spec, f.name))) for f in fields(spec) if f.name not in _FREE]
