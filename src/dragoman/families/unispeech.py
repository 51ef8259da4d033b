"""UniSpeech (https://arxiv.org/abs/2101.07597): the network of wav2vec 2.0, trained with phonemes as well."""

from dataclasses import dataclass, replace
from typing import ClassVar

from dragoman.checkpoint.keymap import Drop, Rule
from dragoman.families import wav2vec2_like as like
from dragoman.families.base import Card, Family, Part
from dragoman.families.wav2vec2 import Wav2Vec2Config
from dragoman.spec import SpeechEncoderSpec


@dataclass(kw_only=True, init=False, eq=False)
class UniSpeechConfig(Wav2Vec2Config):
    """Fields and defaults of a UniSpeech `config.json`; the defaults are the base model."""

    model_type: ClassVar[str] = "unispeech"

    def speech_spec(self) -> SpeechEncoderSpec:
        return replace(super().speech_spec(), adapter=None)


_PHONEMES = Drop("ctc_proj.*", why="only pre-training needs it")


def _rules(config: UniSpeechConfig) -> tuple[Rule, ...]:
    norm = like.stack_norm(config.do_stable_layer_norm)
    blocks = (*like.FRONTEND, *like.POSITIONS, *like.STACK, norm, *like.LANGUAGE)
    return (*blocks, *like.HEADS, *like.QUANTIZER, _PHONEMES)


FAMILY = Family(
    config=UniSpeechConfig,
    speech=Part(
        rules=_rules,
        classes=("UniSpeechModel",),
        prefixes=("unispeech.",),
        fresh=("mask_embed", "stack.layers.{i}.bottleneck.*"),
    ),
    feature_extractor="Wav2Vec2FeatureExtractor",
    tokenizer="Wav2Vec2CTCTokenizer",
    processor="Wav2Vec2Processor",
    card=Card(
        name="UniSpeech",
        paper="https://arxiv.org/abs/2101.07597",
        checkpoints=("microsoft/unispeech-large-1500h-cv",),
        licence="see their cards",
    ),
    tiny=like.TINY,
    variants={"large": like.TINY_LARGE | {"adapter_attn_dim": 8}},
)
