"""`SpeechEncoderDecoderConfig`: an encoder's configuration, a decoder's, and one set of special ids for both."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Self, cast

from dragoman.errors import ConfigError
from dragoman.families import config_from_dict, find, register, speech_part, text_part
from dragoman.families.composites import joint_data
from dragoman.families.config import ModelConfig
from dragoman.families.free_fields import field_name
from dragoman.families.kept import KEPT
from dragoman.spec import BridgeSpec, SharedId, SpecialIds

FUSIONS = ("cross_attention", "prefix")
"""How speech can reach a text model without cross-attention."""


@dataclass(kw_only=True, init=False, eq=False)
class SpeechEncoderDecoderConfig(ModelConfig):
    """Configuration of a speech encoder joined to a text decoder.

    The parts are copies: the caller's configurations do not change. The decoder's copy is causal, and has
    cross-attention unless speech is its prefix. The special ids set here are shared with the model's
    `generation_config`: see `special_id`.

    Args:
        encoder: The encoder's configuration, or its dictionary with a `model_type`.
        decoder: The decoder's configuration, or its dictionary with a `model_type`.
        fusion: How speech reaches a text model without cross-attention: `"cross_attention"` inserts it, with gates that
            are zero at first; `"prefix"` puts the speech before the tokens. `None` for decoders with cross-attention.
            `transformers` cannot load such models.
        fusion_stacking: Encoder frames that become one state of a prefix; 4 by default.
        fusion_prompt: For a prefix, two lists of token ids: before the speech, and after it.
        fusion_bridge: For a prefix, the other fields of a `BridgeSpec`: two layers with biases and a GELU by default.
        composite: What else the checkpoint says where it was one model with two inside it (`families.composite`).

    Raises:
        ConfigError: If a part is missing, of an unknown type, or cannot play its role, or no `fusion` is chosen for a
            decoder that needs one.
    """

    model_type: ClassVar[str] = "speech-encoder-decoder"

    encoder: Any = None  # required; `None` for a clear error
    decoder: Any = None
    pad_token_id: Any = SharedId()
    bos_token_id: Any = SharedId()
    eos_token_id: Any = SharedId()
    decoder_start_token_id: Any = SharedId()
    forced_bos_token_id: Any = SharedId()
    forced_eos_token_id: Any = SharedId()
    is_encoder_decoder: bool = True
    tie_word_embeddings: bool = False
    fusion: str | None = None
    fusion_stacking: int | None = None
    fusion_prompt: list[list[int]] | None = None
    fusion_bridge: dict[str, Any] | None = None
    composite: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        """Check and copy the parts."""
        if self.encoder is None or self.decoder is None:
            given = [name for name in ("encoder", "decoder") if getattr(self, name) is not None]
            raise ConfigError(
                f"A {self.model_type} configuration cannot be instantiated because not both `encoder` and `decoder` "
                f"are given, only {given or 'neither'}. Pass both, or use "
                "SpeechEncoderDecoderConfig.from_encoder_decoder_configs(encoder_config, decoder_config)."
            )
        self.encoder = _copy_of(self.encoder).copy(is_decoder=False, add_cross_attention=False)
        self.decoder = _copy_of(self.decoder).copy(is_decoder=True, add_cross_attention=self.fusion != "prefix")
        self.special_ids.owner = self
        speech_part(self.encoder)  # for its error, before weights are read
        super().__post_init__()
        self._check_fusion()

    def _keep(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)  # as if set later: options of `generate` are in force

    def _check_fusion(self) -> None:
        """Settle how the speech reaches the decoder."""
        self.fusion = settled_fusion(self.decoder, self.fusion)
        if self.fusion == "prefix":
            self.fusion_stacking = 4 if self.fusion_stacking is None else self.fusion_stacking
            self.fusion_prompt = [[], []] if self.fusion_prompt is None else self.fusion_prompt
            if len(self.fusion_prompt) != 2:
                raise ConfigError(
                    "`fusion_prompt` must be two lists of token ids, one before the speech and one after it, but has "
                    f"{len(self.fusion_prompt)}."
                )
            self.bridge_spec()  # for its error
        elif (self.fusion_stacking, self.fusion_prompt, self.fusion_bridge) != (None, None, None):
            raise ConfigError('`fusion_stacking`, `fusion_prompt` and `fusion_bridge` are for fusion="prefix" only.')

    def bridge_spec(self) -> BridgeSpec | None:
        """Describe what makes the speech a prefix of the tokens; `None` for cross-attention."""
        if self.fusion_stacking is None or self.fusion_prompt is None:
            return None
        return BridgeSpec.of(self.fusion_stacking, self.fusion_prompt, self.fusion_bridge or {})

    @property
    def special_ids(self) -> SpecialIds:
        """The ids of this configuration; assign another configuration's to share them."""
        return cast(SpecialIds, self.__dict__.setdefault("special_ids", SpecialIds()))

    @classmethod
    def from_encoder_decoder_configs(
        cls, encoder_config: ModelConfig, decoder_config: ModelConfig, **kwargs: Any
    ) -> Self:
        """Join two configurations; further keywords are fields of the joint one. The arguments are not changed."""
        return cls(encoder=encoder_config, decoder=decoder_config, **kwargs)

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, **kwargs: Any) -> Self:
        """Read the `config.json` of a folder or a hub id; see `AutoConfig.from_pretrained`.

        Raises:
            ConfigError: If it is not the configuration of a speech encoder-decoder.
        """
        config = AutoConfig.from_pretrained(name_or_path, **kwargs)
        if not isinstance(config, cls):
            raise ConfigError(
                f"{name_or_path} holds a {config.model_type!r} model, not a {cls.model_type!r} one. Join it to another "
                "with SpeechEncoderDecoderModel.from_encoder_decoder_pretrained(encoder, decoder)."
            )
        return config

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], **overrides: Any) -> Self:
        """Build from the keys of a `config.json`; `encoder_*` and `decoder_*` overrides go to the parts."""
        data = dict(data)
        for part in ("encoder", "decoder"):
            wanted = {k[len(part) + 1 :]: v for k, v in overrides.items() if _routed(k, part)}
            overrides = {k: v for k, v in overrides.items() if not _routed(k, part)}
            if isinstance(data.get(part), Mapping):
                data[part] = config_from_dict(data[part], **wanted)
        return super().from_dict(data, **overrides)

    def to_dict(self) -> dict[str, Any]:
        """Return the nested dictionary of a `config.json`."""
        data = super().to_dict()
        return {**data, "encoder": self.encoder.to_dict(), "decoder": self.decoder.to_dict()}

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> ModelConfig:
        """Return the decoder's configuration."""
        return cast(ModelConfig, self.decoder)

    def special_id(self, name: str) -> Any:
        """Return a special id as training uses it; `generate` uses that of the generation configuration.

        It is that of this configuration (shared with the generation configuration), else the decoder's own. Without a
        start id, the beginning-of-sequence id is used, as in `transformers`.
        """
        value = self.special_ids.or_decoders(name)
        if value is None and name == "decoder_start_token_id":
            return self.special_id("bos_token_id")
        return value


def settled_fusion(decoder: ModelConfig, fusion: str | None) -> str | None:
    """Return the fusion of a decoder; `None` for its own cross-attention.

    Raises:
        ConfigError: If there is no such fusion, or none is chosen although the decoder needs one.
    """
    if fusion not in (None, *FUSIONS):
        raise ConfigError(f"`fusion` must be {' or '.join(map(repr, FUSIONS))} or None, but is {fusion!r}.")
    attends = text_part(decoder).cross_attends
    if not attends and fusion is None:
        raise ConfigError(
            f"A {decoder.model_type!r} decoder has no cross-attention of its own. Choose how the speech reaches it: "
            'fusion="cross_attention" inserts cross-attention with gates that are zero at first, fusion="prefix" puts '
            "the speech before the tokens."
        )
    return None if attends and fusion == "cross_attention" else fusion


def _routed(name: str, part: str) -> bool:
    return name.startswith(part + "_") and name != "decoder_start_token_id"


def _copy_of(part: ModelConfig | Mapping[str, Any]) -> ModelConfig:
    if isinstance(part, ModelConfig):
        return deepcopy(part)
    if isinstance(part, Mapping):
        return config_from_dict(part)
    raise ConfigError(
        "`encoder` and `decoder` must be configurations of dragoman or their dictionaries, but one is a "
        f"{type(part).__module__}.{type(part).__qualname__}. Import its class from dragoman, or pass its `to_dict()`."
    )


class AutoConfig:
    """Configurations of any family; the class is chosen by `model_type`."""

    @staticmethod
    def from_dict(data: Mapping[str, Any], **overrides: Any) -> ModelConfig:
        """Build the configuration class that `model_type` names; the joint one for a model of two families."""
        data = joint_data(data)
        if data.get("model_type") == SpeechEncoderDecoderConfig.model_type:
            return SpeechEncoderDecoderConfig.from_dict(data, **overrides)
        return config_from_dict(data, **overrides)

    @staticmethod
    def register(model_type: str, config: type[ModelConfig], exist_ok: bool = False) -> None:
        """Read files of a `model_type` with a subclass of a family's configuration; see `families.register`."""
        register(model_type, config, exist_ok)

    @staticmethod
    def for_model(model_type: str, **fields: Any) -> ModelConfig:
        """Build the configuration class of a `model_type` with the given fields."""
        return AutoConfig.from_dict({"model_type": model_type}, **fields)

    @staticmethod
    def from_pretrained(name_or_path: str | Path, *, return_unused_kwargs: bool = False, **options: Any) -> Any:
        """Read the `config.json` of a folder or a hub id.

        Args:
            name_or_path: A local folder, a `config.json`, or a hub id.
            return_unused_kwargs: Return `(config, unused)`, unused being the keywords that are no field.
            **options: `revision`, `cache_dir`, `token`, `local_files_only`, `force_download`, `subfolder`; fields that
                win over the file.

        Raises:
            ModelNotFoundError: If there is no such folder, id or file.
            ConfigError: If the file does not describe a model of a known type.
        """
        data, overrides = ModelConfig.get_config_dict(name_or_path, **options)
        if not return_unused_kwargs:
            return AutoConfig.from_dict(data, **overrides)
        model_type = joint_data(data).get("model_type")
        composite = SpeechEncoderDecoderConfig
        family = composite if model_type == composite.model_type else find(model_type).config
        known = {f.name for f in fields(family)} | KEPT
        unused = {
            name: value
            for name, value in overrides.items()
            if not {name, field_name(family, name)} & known and "coder_" not in name and name not in data
        }
        used = {name: value for name, value in overrides.items() if name not in unused}
        return AutoConfig.from_dict(data, **used), unused
