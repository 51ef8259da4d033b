"""Voxtral (https://arxiv.org/abs/2507.13264): Whisper's encoder on windows of 30 s, before a Llama."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from dragoman.checkpoint.keymap import Rename, Rule
from dragoman.families import whisper_like as like
from dragoman.families.base import Card, Family, Part
from dragoman.families.composite import Composite
from dragoman.families.config import ModelConfig
from dragoman.families.free_fields import FieldAlias
from dragoman.spec import SpeechEncoderSpec


@dataclass(kw_only=True, init=False, eq=False)
class VoxtralEncoderConfig(ModelConfig):
    """Fields and defaults of the encoder in a Voxtral `config.json`."""

    model_type: ClassVar[str] = "voxtral_encoder"

    vocab_size: int = 51866
    hidden_size: int = 1280
    intermediate_size: int = 5120
    num_hidden_layers: int = 32
    num_attention_heads: int = 20
    scale_embedding: bool = False
    activation_function: str = "gelu"
    num_mel_bins: int = 128
    max_source_positions: int = 1500
    initializer_range: float = 0.02
    attention_dropout: float = 0.0
    dropout: float = 0.0
    layerdrop: float = 0.0
    activation_dropout: float = 0.0

    d_model = FieldAlias("hidden_size")
    encoder_layers = FieldAlias("num_hidden_layers")
    encoder_attention_heads = FieldAlias("num_attention_heads")
    encoder_ffn_dim = FieldAlias("intermediate_size")
    encoder_layerdrop = FieldAlias("layerdrop")

    def speech_spec(self) -> SpeechEncoderSpec:
        return like.whisper_spec(self, like.stack(self, layerdrop=self.layerdrop), windows=True)


def _rules(config: VoxtralEncoderConfig) -> tuple[Rule, ...]:
    return (*like.FRONTEND, *like.LAYERS, Rename("layer_norm.*", "stack.final_norm.*"))


def _bridge(whole: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    audio = {"hidden_size": 1280, "intermediate_size": 5120} | whole["audio_config"]
    activation = whole["projector_hidden_act"]
    return audio["intermediate_size"] // audio["hidden_size"], {"activation": activation, "bias": False}


FAMILY = Family(
    config=VoxtralEncoderConfig,
    speech=Part(rules=_rules, classes=("VoxtralEncoder",)),
    composite=Composite(
        model_type="voxtral",
        architecture="VoxtralForConditionalGeneration",
        encoder="voxtral_encoder",
        decoder="llama",
        decoder_defaults={
            "vocab_size": 131072,
            "hidden_size": 3072,
            "intermediate_size": 8192,
            "num_hidden_layers": 30,
            "num_key_value_heads": 8,
            "max_position_embeddings": 131072,
            "rms_norm_eps": 1e-5,
            "rope_theta": 1e8,
            "head_dim": 128,
        },
        defaults={"projector_hidden_act": "gelu"},
        bridge=_bridge,
        prompt=("<s>[INST][BEGIN_AUDIO]", "[/INST][TRANSCRIBE]"),
        language="lang:{}",
        language_leads=True,
    ),
    feature_extractor="VoxtralFeatureExtractor",
    processor="VoxtralProcessor",
    card=Card(
        name="Voxtral",
        paper="https://arxiv.org/abs/2507.13264",
        checkpoints=("mistralai/Voxtral-Mini-3B-2507", "mistralai/Voxtral-Small-24B-2507"),
        licence="Apache-2.0",
        own="Whisper's encoder on several windows of 30 s, with their padding; whole models too",
    ),
    tiny={
        "hidden_size": 32,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_source_positions": 32,
        "num_mel_bins": 8,
        "vocab_size": 99,
    },
)
