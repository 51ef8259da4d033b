"""Canary 1B v2 (https://arxiv.org/abs/2509.14128): speech in 25 European languages into text in these."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from dragoman.families import canary_like as like
from dragoman.families.base import Card, Family, Part, always
from dragoman.spec import Positions
from dragoman.spec.text import TextPositionSpec

# The fields of `decoder_config`, and those that are outside of it too.
_DECODER = {
    "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim",
    "hidden_act", "max_position_embeddings", "attention_bias", "attention_dropout",
}  # fmt: skip
_BOTH = {"vocab_size", "initializer_range", "use_cache", "pad_token_id", "bos_token_id", "eos_token_id"}


@dataclass(kw_only=True, init=False, eq=False)
class CanaryConfig(like.CanaryLikeConfig):
    """Fields and defaults of a Canary `config.json`; those of its `decoder_config` are fields like the others."""

    model_type: ClassVar[str] = "canary"
    positions: ClassVar[TextPositionSpec] = TextPositionSpec(kind=Positions.COMPUTED, scaled=True)

    decoder_start_token_id: int | list[int] | None = 7

    @property
    def decoder_config(self) -> dict[str, Any]:
        """The fields of the decoder, as a `config.json` has them; what is assigned sets them."""
        fields = {name: getattr(self, name) for name in sorted(_DECODER | _BOTH)}
        return {"model_type": "canary_decoder", **{name: value for name, value in fields.items() if value is not None}}

    @decoder_config.setter
    def decoder_config(self, fields: Mapping[str, Any] | None) -> None:
        for name in (_DECODER | _BOTH) & (fields or {}).keys():
            setattr(self, name, (fields or {})[name])

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], **overrides: Any) -> Self:
        """Build from a `config.json`."""
        decoder = {n: v for n, v in (data.get("decoder_config") or {}).items() if n in _DECODER | _BOTH}
        return super().from_dict({**decoder, **{n: v for n, v in data.items() if n != "decoder_config"}}, **overrides)

    def to_dict(self) -> dict[str, Any]:
        """Return the content of a `config.json`."""
        outer = {name: value for name, value in super().to_dict().items() if name not in _DECODER}
        return {**outer, "decoder_config": self.decoder_config}

    def encoder_fields(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of the encoder; Canary 1B v2's if the file gives none."""
        return dict(given) or {"num_hidden_layers": 32, "num_mel_bins": 128, "scale_input": False, "layerdrop": 0.0}


FAMILY = Family(
    config=CanaryConfig,
    speech=Part(
        rules=like.speech_rules,
        classes=("CanaryEncoder",),
        prefixes=("model.encoder.", "encoder."),
        public=False,
        apart=always,
    ),
    text=Part(rules=like.text_rules, classes=("CanaryDecoder",), public=False, apart=always),
    whole="CanaryForConditionalGeneration",
    feature_extractor="ParakeetFeatureExtractor",
    processor="CanaryProcessor",
    card=Card(
        name="Canary 1B v2",
        paper="https://arxiv.org/abs/2509.14128",
        checkpoints=("nvidia/canary-1b-v2",),
        licence="CC BY 4.0",
        own="a FastConformer and its decoder; languages, task and punctuation are a prompt",
    ),
    tiny=like.TINY,
    variants={"grouped": {"num_key_value_heads": 2, "head_dim": 6, "attention_bias": False, "hidden_act": "gelu"}},
)
