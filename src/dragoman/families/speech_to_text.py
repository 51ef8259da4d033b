"""Speech to Text (https://arxiv.org/abs/2010.05171): an encoder of filter banks and a decoder, trained together."""

from dataclasses import dataclass
from typing import ClassVar

from dragoman.checkpoint.keymap import Drop, Rename, Rule
from dragoman.errors import ConfigError
from dragoman.families import bart_like, whisper
from dragoman.families.base import Card, Family, Part, always
from dragoman.families.free_fields import FieldAlias
from dragoman.families.rules import head_rule
from dragoman.spec import NormOrder, Positions, SinusoidPositionSpec, SpeechEncoderSpec, SubsampleFrontendSpec
from dragoman.spec.text import TextDecoderSpec, TextPositionSpec


@dataclass(kw_only=True, init=False, eq=False)
class Speech2TextConfig(bart_like.TwoStackConfig):
    """Fields and defaults of a Speech to Text `config.json`; the defaults are the small model's."""

    model_type: ClassVar[str] = "speech_to_text"

    vocab_size: int = 10000
    encoder_layers: int = 12
    encoder_ffn_dim: int = 2048
    encoder_attention_heads: int = 4
    decoder_layers: int = 6
    decoder_ffn_dim: int = 2048
    decoder_attention_heads: int = 4
    activation_function: str = "relu"
    d_model: int = 256
    scale_embedding: bool = True
    max_source_positions: int = 6000  # `transformers` ignores it for longer inputs
    max_target_positions: int = 1024
    num_conv_layers: int = 2
    conv_kernel_sizes: list[int] | tuple[int, ...] = (5, 5)
    conv_channels: int = 1024
    input_feat_per_channel: int = 80
    input_channels: int = 1

    num_hidden_layers = FieldAlias("encoder_layers")
    num_attention_heads = FieldAlias("encoder_attention_heads")

    def __post_init__(self) -> None:
        """Check that each convolution has a kernel size."""
        super().__post_init__()
        if len(self.conv_kernel_sizes) != self.num_conv_layers:
            raise ConfigError(
                f"`conv_kernel_sizes` must have one number for each of the {self.num_conv_layers} convolutions "
                f"(`num_conv_layers`), but has {len(self.conv_kernel_sizes)}."
            )

    @property
    def _first_position(self) -> int:
        return (self.pad_token_id or 0) + 1  # fairseq numbers positions from the padding's on

    def speech_spec(self) -> SpeechEncoderSpec:
        return SpeechEncoderSpec(
            frontend=SubsampleFrontendSpec(
                num_features=self.input_feat_per_channel * self.input_channels,
                channels=self.conv_channels,
                kernels=tuple(self.conv_kernel_sizes),
                scale=self.embed_scale,
            ),
            positions=SinusoidPositionSpec(first=self._first_position),
            stack=self.encoder_stack(),
            input_norm=False,
            dropout=self.dropout,
            init_std=self.init_std,
        )

    def text_spec(self) -> TextDecoderSpec:
        positions = TextPositionSpec(
            kind=Positions.COMPUTED, offset=self._first_position, padding_has_own_position=True
        )
        return self.decoder_spec(NormOrder.PRE, self.max_target_positions, positions)


# fmt: off
def _speech_rules(config: Speech2TextConfig) -> tuple[Rule, ...]:
    return (
        Rename("conv.conv_layers.{i}.*",               "frontend.convs.{i}.*"),
        *whisper.ENCODER,
        Drop("embed_positions.weights",                why="computed; only files of old releases hold it"),
        Drop("lm_head.weight",                         why="a head that an encoder does not need"),
    )


def _text_rules(config: Speech2TextConfig) -> tuple[Rule, ...]:
    return (
        *bart_like.block_rules("model.decoder"),
        bart_like.FINAL_NORM,
        Drop("model.decoder.embed_positions.weights",  why="computed; only files of old releases hold it"),
        Drop("model.encoder.*",                        why="the speech encoder is not used"),
        head_rule(config.tie_word_embeddings),
    )
# fmt: on


FAMILY = Family(
    config=Speech2TextConfig,
    speech=Part(
        rules=_speech_rules, classes=("Speech2TextEncoder",), prefixes=("model.encoder.", "encoder."), apart=always
    ),
    text=Part(rules=_text_rules, classes=("Speech2TextDecoder",), prefixes=("model.",), apart=always),
    whole="Speech2TextForConditionalGeneration",
    feature_extractor="Speech2TextFeatureExtractor",
    tokenizer="Speech2TextTokenizer",
    processor="Speech2TextProcessor",
    card=Card(
        name="Speech to Text",
        paper="https://arxiv.org/abs/2010.05171",
        checkpoints=("facebook/s2t-small-librispeech-asr", "facebook/s2t-small-mustc-en-de-st"),
        licence="MIT",
    ),
    tiny=bart_like.TINY
    | {
        "conv_channels": 12,
        "input_feat_per_channel": 8,
        "max_target_positions": 64,
        "decoder_start_token_id": 0,
    },
    variants={
        "three-convolutions": {"conv_kernel_sizes": (3, 5, 3), "num_conv_layers": 3, "scale_embedding": False},
    },
)
