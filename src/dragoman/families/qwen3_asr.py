"""Qwen3-ASR (https://github.com/QwenLM/Qwen3-ASR): an encoder of seconds in windows of eight, before a Qwen 3."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from dragoman.checkpoint.keymap import Alias, Rename, Rule
from dragoman.errors import ConfigError
from dragoman.families import whisper_like as like
from dragoman.families.base import Card, Family, Part, always
from dragoman.families.composite import Composite
from dragoman.spec import PieceFrontendSpec, SinusoidPositionSpec, SpeechEncoderSpec


@dataclass(kw_only=True, init=False, eq=False)
class Qwen3ASREncoderConfig(like.WhisperLikeConfig):
    """Fields and defaults of the encoder in a Qwen3-ASR `config.json`."""

    model_type: ClassVar[str] = "qwen3_asr_encoder"

    encoder_layers: int = 24
    encoder_attention_heads: int = 16
    encoder_ffn_dim: int = 4096
    d_model: int = 1024
    n_window: int = 50
    output_dim: int = 3584
    n_window_infer: int = 800
    downsample_hidden_size: int = 480
    max_position_embeddings: int = 13

    def speech_spec(self) -> SpeechEncoderSpec:
        frontend = PieceFrontendSpec(
            num_mels=self.num_mel_bins, channels=self.downsample_hidden_size, piece=2 * self.n_window
        )
        if self.n_window_infer % frontend.piece or self.n_window_infer < 1:
            raise ConfigError(
                f"`n_window_infer` must be a multiple of {frontend.piece} (2 * n_window), but is {self.n_window_infer}."
            )
        if self.max_position_embeddings < frontend.states:
            raise ConfigError(
                f"`max_position_embeddings` must be at least {frontend.states}, the frames of a piece, but is "
                f"{self.max_position_embeddings}."
            )
        return SpeechEncoderSpec(
            frontend=frontend,
            positions=SinusoidPositionSpec(period=frontend.states),
            stack=like.stack(self, key_bias=True),
            input_norm=False,
            window=self.n_window_infer // frontend.piece * frontend.states,
            init_std=self.initializer_range,
        )


# fmt: off
def _rules(config: Qwen3ASREncoderConfig) -> tuple[Rule, ...]:
    return (
        # theirs                          ours
        *(Rename(f"conv2d{i + 1}.*",      f"frontend.convs.{i}.*") for i in range(3)),
        Rename("conv_out.*",              "frontend.proj.*"),
        *like.LAYERS,
        Rename("ln_post.*",               "stack.final_norm.*"),
    )


_JOINT = (
    Rename("model.audio_tower.*",                       "encoder.*"),
    Rename("model.multi_modal_projector.linear_1.*",    "speech_proj.in_proj.*"),
    Rename("model.multi_modal_projector.linear_2.*",    "speech_proj.out_proj.*"),
    Rename("model.language_model.*",                    "decoder.model.*"),
    Rename("lm_head.*",                                 "decoder.lm_head.*"),
)
_ORIGINAL = (
    Alias("thinker.audio_tower.proj1.*",                "model.multi_modal_projector.linear_1.*"),
    Alias("thinker.audio_tower.proj2.*",                "model.multi_modal_projector.linear_2.*"),
    Alias("thinker.audio_tower.*",                      "model.audio_tower.*"),
    Alias("thinker.model.*",                            "model.language_model.*"),
    Alias("thinker.lm_head.*",                          "lm_head.*"),
)
# fmt: on


def _bridge(whole: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    audio = {"d_model": 1024, "activation_function": "gelu"} | whole["audio_config"]
    return 1, {"width": audio["d_model"], "activation": audio["activation_function"]}


FAMILY = Family(
    config=Qwen3ASREncoderConfig,
    speech=Part(rules=_rules, classes=("Qwen3ASREncoder",), apart=always),
    composite=Composite(
        model_type="qwen3_asr",
        architecture="Qwen3ASRForConditionalGeneration",
        encoder="qwen3_asr_encoder",
        decoder="qwen3",
        inside="thinker_config",
        decoder_defaults={
            "hidden_size": 2048,
            "intermediate_size": 6144,
            "num_hidden_layers": 28,
            "num_attention_heads": 16,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "max_position_embeddings": 65536,
        },
        complete=True,
        defaults={"audio_token_id": 151676, "pad_token_id": 151645, "eos_token_id": [151643, 151645]},
        tied=True,
        bridge=_bridge,
        rules=_JOINT,
        aliases=_ORIGINAL,
        prompt=(
            "<|im_start|>system\n<|im_end|>\n<|im_start|>user\n<|audio_start|>",
            "<|audio_end|><|im_end|>\n<|im_start|>assistant\n",
        ),
        language="language {}<asr_text>",
        marker="<asr_text>",
    ),
    feature_extractor="Qwen3ASRFeatureExtractor",
    processor="Qwen3ASRProcessor",
    card=Card(
        name="Qwen3-ASR",
        paper="https://github.com/QwenLM/Qwen3-ASR",
        checkpoints=("Qwen/Qwen3-ASR-0.6B", "Qwen/Qwen3-ASR-1.7B"),
        licence="Apache-2.0",
        own="convolutions over pieces of 1 s, attention in windows of 8 s, clips of any length; whole models too",
    ),
    tiny=like.TINY | {"output_dim": 24, "downsample_hidden_size": 8, "n_window_infer": 200},
)
