"""data2vec for audio (https://arxiv.org/abs/2202.03555): wav2vec 2.0 with positions from several convolutions."""

from dataclasses import dataclass, replace
from typing import ClassVar

from dragoman.checkpoint.keymap import Rename, Rule
from dragoman.families import wav2vec2_like as like
from dragoman.families.base import Card, Family, Part
from dragoman.families.wav2vec2 import Wav2Vec2Config
from dragoman.spec import Activation, ConvStackPositionSpec, SpeechEncoderSpec


@dataclass(kw_only=True, init=False, eq=False)
class Data2VecAudioConfig(Wav2Vec2Config):
    """Fields and defaults of a data2vec `config.json`; the defaults are the base model."""

    model_type: ClassVar[str] = "data2vec-audio"

    feat_extract_norm: str = "layer"
    num_conv_pos_embeddings: int = 5  # number of convolutions; the next field is their kernel
    conv_pos_kernel_size: int = 19

    def __post_init__(self) -> None:
        """Fix two fields that `transformers` ignores."""
        self.feat_extract_norm, self.do_stable_layer_norm = "layer", False
        super().__post_init__()

    def speech_spec(self) -> SpeechEncoderSpec:
        positions = ConvStackPositionSpec(
            num_layers=self.num_conv_pos_embeddings,
            kernel=self.conv_pos_kernel_size,
            groups=self.num_conv_pos_embedding_groups,
            activation=Activation.parse(self.feat_extract_activation),
        )
        return replace(super().speech_spec(), positions=positions)


# fmt: off
_POSITIONS: tuple[Rule, ...] = (
    # theirs                                           ours
    Rename("encoder.pos_conv_embed.layers.{i}.conv.*", "positions.layers.{i}.*"),
)
# fmt: on


def _rules(config: Data2VecAudioConfig) -> tuple[Rule, ...]:
    blocks = (*like.FRONTEND, *_POSITIONS, *like.STACK, like.stack_norm(stable=False))
    return (*blocks, *like.ADAPTER, *like.HEADS, *like.SPEAKER)


FAMILY = Family(
    config=Data2VecAudioConfig,
    speech=Part(
        rules=_rules,
        classes=("Data2VecAudioModel",),
        prefixes=("data2vec_audio.",),
        fresh=("mask_embed", "adapter.*"),
    ),
    feature_extractor="Wav2Vec2FeatureExtractor",
    tokenizer="Wav2Vec2CTCTokenizer",
    processor="Wav2Vec2Processor",
    card=Card(
        name="data2vec",
        paper="https://arxiv.org/abs/2202.03555",
        checkpoints=("facebook/data2vec-audio-base", "facebook/data2vec-audio-large"),
        licence="Apache-2.0",
    ),
    tiny=like.TINY | {"num_conv_pos_embeddings": 2, "conv_pos_kernel_size": 5},
    variants={"adapter": {"conv_pos_kernel_size": 4, "add_adapter": True, "output_hidden_size": 24}},
)
