"""wav2vec 2.0 with Conformer blocks (https://arxiv.org/abs/2010.05171, relative or rotary positions)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from dragoman.checkpoint.keymap import Drop, Rename, Rule
from dragoman.families import wav2vec2_like as like
from dragoman.families.base import Card, Family, Part
from dragoman.families.conformer_like import CONFORMER, ConformerFields
from dragoman.families.wav2vec2 import Wav2Vec2Config
from dragoman.spec import BlockSpec, Distance, NormOrder, SpeechEncoderSpec


@dataclass(kw_only=True, init=False, eq=False)
class Wav2Vec2ConformerConfig(ConformerFields, Wav2Vec2Config):
    """Fields and defaults of a wav2vec2-conformer `config.json`."""

    model_type: ClassVar[str] = "wav2vec2-conformer"
    distances: ClassVar[Mapping[str | None, Distance | None]] = {
        "relative": Distance.SINUSOID,
        "rotary": None,
        None: None,
    }

    vocab_size: int | None = None  # type: ignore[assignment]

    def speech_spec(self) -> SpeechEncoderSpec:
        """Describe the encoder; its positions are those of its blocks."""
        return self.encoder_spec(self._frontend(), None, self._block(), final_norm=True)

    def _block(self) -> BlockSpec:
        plain = self.plain_block(NormOrder.PRE, self.hidden_size, self.hidden_act)
        return self.conformer_block(plain, causal=False)


# fmt: off
_OWN: tuple[Rule, ...] = (
    # theirs                                                      ours
    Rename("encoder.layers.{i}.conv_module.batch_norm.*",         "stack.layers.{i}.conv.depth_norm.*"),
    Rename("encoder.layer_norm.*",                                "stack.final_norm.*"),
)
# fmt: on


def _rules(config: Wav2Vec2ConformerConfig) -> tuple[Rule, ...]:
    heads = (*like.HEADS, *like.SPEAKER, *like.QUANTIZER)
    return (*like.FRONTEND, *CONFORMER, *_OWN, *_unused(config), *like.ADAPTER, *heads)


def _unused(config: Wav2Vec2ConformerConfig) -> tuple[Rule, ...]:
    """Return rules for what `transformers` computes, or builds and never uses."""
    width, kernel = config.hidden_size, config.num_conv_pos_embeddings
    conv, weight = "encoder.pos_conv_embed.conv", "encoder.pos_conv_embed.conv.parametrizations.weight"
    idle, computed = "`transformers` has it and never uses it", "computed from the configuration"
    rotary = config.position_embeddings_type == "rotary"
    return (
        Drop(f"{conv}.bias", why=idle, saved=lambda: np.zeros(width, np.float32)),
        Drop(f"{weight}.original0", why=idle, saved=lambda: np.zeros((1, 1, kernel), np.float32)),
        Drop(
            f"{weight}.original1",
            why=idle,
            saved=lambda: np.ones((width, width // config.num_conv_pos_embedding_groups, kernel), np.float32),
        ),
        Drop(
            "encoder.embed_positions.inv_freq", why=computed, saved=(lambda: _frequencies(config)) if rotary else None
        ),
    )


def _frequencies(config: Wav2Vec2ConformerConfig) -> np.ndarray[Any, Any]:
    """Return the frequencies of the rotary positions."""
    size = config.hidden_size // config.num_attention_heads
    exponents = np.arange(0, size, 2, dtype=np.float32) / np.float32(size)
    return (1.0 / np.float32(config.rotary_embedding_base) ** exponents).astype(np.float32)


FAMILY = Family(
    config=Wav2Vec2ConformerConfig,
    speech=Part(
        rules=_rules,
        classes=("Wav2Vec2ConformerModel",),
        prefixes=("wav2vec2_conformer.",),
        fresh=("mask_embed", "adapter.*"),
    ),
    feature_extractor="Wav2Vec2FeatureExtractor",
    tokenizer="Wav2Vec2CTCTokenizer",
    processor="Wav2Vec2Processor",
    card=Card(
        name="wav2vec 2.0 Conformer",
        paper="https://arxiv.org/abs/2010.05171",
        checkpoints=("facebook/wav2vec2-conformer-rel-pos-large", "facebook/wav2vec2-conformer-rope-large-960h-ft"),
        licence="Apache-2.0",
    ),
    tiny=like.TINY | {"conv_depthwise_kernel_size": 7, "layer_norm_eps": 0.01},
    variants={
        "rotary": {"position_embeddings_type": "rotary", "rotary_embedding_base": 100, "add_adapter": True},
        "no-positions": {"position_embeddings_type": None, "feat_extract_norm": "layer"},
    },
)
