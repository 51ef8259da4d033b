"""GLM-ASR (https://huggingface.co/zai-org/GLM-ASR-Nano-2512): an encoder like Whisper's, with rotary positions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from dragoman.checkpoint.keymap import Rename, Rule
from dragoman.families.base import Card, Family, Part
from dragoman.families.composite import Composite
from dragoman.families.config import ModelConfig
from dragoman.families.rope import rope_parameters_of, rotary_of
from dragoman.spec import Activation, MelFrontendSpec, NormOrder, SpeechEncoderSpec
from dragoman.spec.attention import AttentionSpec
from dragoman.spec.block import BlockSpec, FeedForwardSpec, StackSpec


@dataclass(kw_only=True, init=False, eq=False)
class GlmAsrEncoderConfig(ModelConfig):
    """Fields and defaults of the encoder in a GLM-ASR `config.json`."""

    model_type: ClassVar[str] = "glmasr_encoder"

    hidden_size: int = 1280
    intermediate_size: int = 5120
    num_hidden_layers: int = 32
    num_attention_heads: int = 20
    num_key_value_heads: int | None = None
    hidden_act: str = "gelu"
    max_position_embeddings: int = 1500
    initializer_range: float = 0.02
    rope_parameters: dict[str, Any] | None = None
    attention_dropout: float = 0.0
    num_mel_bins: int = 128

    def __post_init__(self) -> None:
        """Fill in the fields that follow from others."""
        super().__post_init__()
        if self.num_key_value_heads is None:
            self.num_key_value_heads = self.num_attention_heads
        self.rope_parameters = rope_parameters_of(self.rope_parameters, self.extra, 0.5)

    def speech_spec(self) -> SpeechEncoderSpec:
        head = self.hidden_size // max(self.num_attention_heads, 1)
        block = BlockSpec(
            self_attn=AttentionSpec(
                width=self.hidden_size,
                num_heads=self.num_attention_heads,
                num_kv_heads=self.num_key_value_heads,
                key_bias=False,
                dropout=self.attention_dropout,
                rotary=rotary_of(self.rope_parameters or {}, head, self.max_position_embeddings),
            ),
            ffn=FeedForwardSpec(width=self.intermediate_size, activation=Activation.parse(self.hidden_act)),
            norm_order=NormOrder.PRE,
        )
        frames = self.max_position_embeddings
        return SpeechEncoderSpec(
            frontend=MelFrontendSpec(num_mels=self.num_mel_bins, masked=True, window=2 * frames),
            positions=None,
            stack=StackSpec(block=block, num_layers=self.num_hidden_layers, final_norm=True),
            input_norm=False,
            window=frames,
            attends_padding=True,
            init_std=self.initializer_range,
        )


# fmt: off
def _rules(config: GlmAsrEncoderConfig) -> tuple[Rule, ...]:
    return (
        # theirs                                          ours
        Rename("conv1.*",                                 "frontend.conv1.*"),
        Rename("conv2.*",                                 "frontend.conv2.*"),
        Rename("layers.{i}.input_layernorm.*",            "stack.layers.{i}.self_attn_norm.*"),
        Rename("layers.{i}.self_attn.q_proj.*",           "stack.layers.{i}.self_attn.q_proj.*"),
        Rename("layers.{i}.self_attn.k_proj.*",           "stack.layers.{i}.self_attn.k_proj.*"),
        Rename("layers.{i}.self_attn.v_proj.*",           "stack.layers.{i}.self_attn.v_proj.*"),
        Rename("layers.{i}.self_attn.o_proj.*",           "stack.layers.{i}.self_attn.out_proj.*"),
        Rename("layers.{i}.post_attention_layernorm.*",   "stack.layers.{i}.ffn_norm.*"),
        Rename("layers.{i}.mlp.fc1.*",                    "stack.layers.{i}.ffn.in_proj.*"),
        Rename("layers.{i}.mlp.fc2.*",                    "stack.layers.{i}.ffn.out_proj.*"),
        Rename("norm.*",                                  "stack.final_norm.*"),
    )
# fmt: on


def _bridge(whole: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    width = 2 * whole["text_config"].get("hidden_size", 2048)
    return 4, {"width": width, "whole_groups": True, "activation": whole["projector_hidden_act"]}


FAMILY = Family(
    config=GlmAsrEncoderConfig,
    speech=Part(rules=_rules, classes=("GlmAsrEncoder",)),
    composite=Composite(
        model_type="glmasr",
        architecture="GlmAsrForConditionalGeneration",
        encoder="glmasr_encoder",
        decoder="llama",
        decoder_defaults={
            "vocab_size": 59264,
            "hidden_size": 2048,
            "intermediate_size": 6144,
            "num_hidden_layers": 28,
            "num_attention_heads": 16,
            "num_key_value_heads": 4,
            "max_position_embeddings": 8192,
            "rms_norm_eps": 1e-5,
            "eos_token_id": [59246, 59253, 59255],
        },
        defaults={"audio_token_id": 59260, "projector_hidden_act": "gelu"},
        tied=True,
        bridge=_bridge,
        prompt=(
            "<|user|>\n<|begin_of_audio|>",
            "<|end_of_audio|><|user|>\nPlease transcribe this audio into text<|assistant|>\n",
        ),
    ),
    feature_extractor="GlmAsrFeatureExtractor",
    processor="GlmAsrProcessor",
    card=Card(
        name="GLM-ASR",
        paper="https://huggingface.co/zai-org/GLM-ASR-Nano-2512",
        checkpoints=("zai-org/GLM-ASR-Nano-2512",),
        licence="MIT",
        own="rotary positions in half of each head; windows of 30 s with their padding; whole models too",
    ),
    tiny={
        "hidden_size": 32,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 32,
        "num_mel_bins": 8,
    },
    variants={"grouped": {"num_key_value_heads": 2}},
)
