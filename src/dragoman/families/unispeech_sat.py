"""UniSpeech-SAT (https://arxiv.org/abs/2110.05752): wav2vec 2.0's network, trained with speakers in mind."""

from dataclasses import dataclass, replace
from typing import ClassVar

from dragoman.checkpoint.keymap import Drop, Rule
from dragoman.families import wav2vec2_like as like
from dragoman.families.base import Card, Family, Part
from dragoman.families.wav2vec2 import Wav2Vec2Config
from dragoman.spec import SpeechEncoderSpec


@dataclass(kw_only=True, init=False, eq=False)
class UniSpeechSatConfig(Wav2Vec2Config):
    """Fields and defaults of a UniSpeech-SAT `config.json`; the defaults are the base model."""

    model_type: ClassVar[str] = "unispeech-sat"

    def speech_spec(self) -> SpeechEncoderSpec:
        """Describe the encoder; it has the vector of masked frames even where none is ever masked."""
        return replace(super().speech_spec(), adapter=None, mask_embedding=True)


# fmt: off
_PRETRAINING: tuple[Rule, ...] = (
    Drop("label_embeddings_concat",    why="only pre-training needs it"),
    Drop("speaker_proj.*",             why="only pre-training needs it"),
    Drop("layer_norm_for_extract.*",   why="only pre-training needs it"),
)
# fmt: on


def _rules(config: UniSpeechSatConfig) -> tuple[Rule, ...]:
    norm = like.stack_norm(config.do_stable_layer_norm)
    blocks = (*like.FRONTEND, *like.POSITIONS, *like.STACK, norm, *like.LANGUAGE)
    return (*blocks, *like.HEADS, *like.SPEAKER, *like.QUANTIZER, *_PRETRAINING)


FAMILY = Family(
    config=UniSpeechSatConfig,
    speech=Part(
        rules=_rules,
        classes=("UniSpeechSatModel",),
        prefixes=("unispeech_sat.",),
        fresh=("mask_embed", "stack.layers.{i}.bottleneck.*"),
    ),
    feature_extractor="Wav2Vec2FeatureExtractor",
    tokenizer="Wav2Vec2CTCTokenizer",
    processor="Wav2Vec2Processor",
    card=Card(
        name="UniSpeech-SAT",
        paper="https://arxiv.org/abs/2110.05752",
        checkpoints=("microsoft/unispeech-sat-base", "microsoft/unispeech-sat-large"),
        licence="see their cards",
    ),
    tiny=like.TINY,
    variants={"large": like.TINY_LARGE},
)
