"""Qwen2-Audio (https://arxiv.org/abs/2407.10759): Whisper's encoder at half its frame rate, before a Qwen 2."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from dragoman.checkpoint.keymap import Rename, Rule
from dragoman.families import whisper_like as like
from dragoman.families.base import Card, Family, Part
from dragoman.families.composite import PROJECTOR, Composite
from dragoman.spec import PoolSpec, SpeechEncoderSpec


@dataclass(kw_only=True, init=False, eq=False)
class Qwen2AudioEncoderConfig(like.WhisperLikeConfig):
    """Fields and defaults of the encoder in a Qwen2-Audio `config.json`."""

    model_type: ClassVar[str] = "qwen2_audio_encoder"

    encoder_layerdrop: float = 0.0
    max_source_positions: int = 1500

    def speech_spec(self) -> SpeechEncoderSpec:
        blocks = like.stack(self, final_norm=False, layerdrop=self.encoder_layerdrop)
        return like.whisper_spec(self, blocks, windows=False, adapter=PoolSpec(width=self.d_model))


def _rules(config: Qwen2AudioEncoderConfig) -> tuple[Rule, ...]:
    return (*like.FRONTEND, *like.LAYERS, Rename("layer_norm.*", "adapter.norm.*"))


def _bridge(whole: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
    return 1, {"layers": 1}


FAMILY = Family(
    config=Qwen2AudioEncoderConfig,
    speech=Part(rules=_rules, classes=("Qwen2AudioEncoder",)),
    composite=Composite(
        model_type="qwen2_audio",
        architecture="Qwen2AudioForConditionalGeneration",
        encoder="qwen2_audio_encoder",
        decoder="qwen2",
        defaults={"audio_token_index": 151646},
        bridge=_bridge,
        rules=(
            *(rule for rule in PROJECTOR if "projector" not in rule.theirs),
            Rename("multi_modal_projector.linear.*", "speech_proj.in_proj.*"),
        ),
        prompt=(
            "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nAudio 1: <|audio_bos|>",
            "<|audio_eos|>\nWhat does the person say?<|im_end|>\n<|im_start|>assistant\n",
        ),
    ),
    feature_extractor="Qwen2AudioFeatureExtractor",
    processor="Qwen2AudioProcessor",
    card=Card(
        name="Qwen2-Audio",
        paper="https://arxiv.org/abs/2407.10759",
        checkpoints=("Qwen/Qwen2-Audio-7B", "Qwen/Qwen2-Audio-7B-Instruct"),
        licence="Apache-2.0",
        own="Whisper's encoder, of which two frames become one; 25 frames a second; whole models too",
    ),
    tiny=like.TINY | {"max_source_positions": 30},
)
