"""Speech to Text (https://arxiv.org/abs/2010.05171): an encoder over filter banks and a decoder, trained as one."""

from dataclasses import dataclass
from typing import ClassVar

from dragoman.checkpoint.keymap import Drop, Rename, Rule
from dragoman.errors import ConfigError
from dragoman.families import bart, whisper
from dragoman.families.base import Family, FieldAlias, ModelConfig, Part, head_rule
from dragoman.spec import (
    Activation,
    BlockSpec,
    HeadSpec,
    NormOrder,
    Positions,
    SinusoidPositionSpec,
    SpeechEncoderSpec,
    StackSpec,
    SubsampleFrontendSpec,
    TextDecoderSpec,
)


@dataclass(kw_only=True)
class Speech2TextConfig(ModelConfig):
    """Fields and defaults of a Speech to Text `config.json`; the defaults are the small model's."""

    model_type: ClassVar[str] = "speech_to_text"

    vocab_size: int = 10000
    encoder_layers: int = 12
    encoder_ffn_dim: int = 2048
    encoder_attention_heads: int = 4
    decoder_layers: int = 6
    decoder_ffn_dim: int = 2048
    decoder_attention_heads: int = 4
    encoder_layerdrop: float = 0.0
    decoder_layerdrop: float = 0.0
    is_encoder_decoder: bool = True
    activation_function: str = "relu"
    d_model: int = 256
    dropout: float = 0.1
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    init_std: float = 0.02
    decoder_start_token_id: int | list[int] | None = 2
    scale_embedding: bool = True
    pad_token_id: int | None = 1
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 2
    max_source_positions: int = 6000  # upstream reads it and goes beyond where an input is longer
    max_target_positions: int = 1024
    num_conv_layers: int = 2
    conv_kernel_sizes: list[int] | tuple[int, ...] = (5, 5)
    conv_channels: int = 1024
    input_feat_per_channel: int = 80
    input_channels: int = 1

    hidden_size = FieldAlias("d_model")
    num_hidden_layers = FieldAlias("encoder_layers")
    num_attention_heads = FieldAlias("encoder_attention_heads")

    def __post_init__(self) -> None:
        """Check that each convolution has its kernel."""
        super().__post_init__()
        if len(self.conv_kernel_sizes) != self.num_conv_layers:
            raise ConfigError(
                f"`conv_kernel_sizes` must have one number for each of the {self.num_conv_layers} convolutions "
                f"(`num_conv_layers`), but has {len(self.conv_kernel_sizes)}."
            )

    def _stack(self, num_layers: int, num_heads: int, ffn_width: int, layerdrop: float, *, decoder: bool) -> StackSpec:
        block = BlockSpec(
            width=self.d_model,
            num_heads=num_heads,
            ffn_width=ffn_width,
            activation=Activation.parse(self.activation_function),
            norm_order=NormOrder.PRE,
            dropout=self.dropout,
            attention_dropout=self.attention_dropout,
            activation_dropout=self.activation_dropout,
            causal=decoder,
            cross_attention=decoder,
        )
        return StackSpec(block=block, num_layers=num_layers, final_norm=True, layerdrop=layerdrop)

    @property
    def _scale(self) -> float:
        return float(abs(self.d_model) ** 0.5) if self.scale_embedding else 1.0  # the block refuses what is below 1

    @property
    def _first_position(self) -> int:
        return (self.pad_token_id or 0) + 1  # fairseq counts on from the padding's place

    def speech_spec(self) -> SpeechEncoderSpec:
        """Describe the encoder."""
        heads, ffn_width, layerdrop = self.encoder_attention_heads, self.encoder_ffn_dim, self.encoder_layerdrop
        return SpeechEncoderSpec(
            frontend=SubsampleFrontendSpec(
                num_features=self.input_feat_per_channel * self.input_channels,
                channels=self.conv_channels,
                kernels=tuple(self.conv_kernel_sizes),
                scale=self._scale,
            ),
            positions=SinusoidPositionSpec(first=self._first_position),
            stack=self._stack(self.encoder_layers, heads, ffn_width, layerdrop, decoder=False),
            input_norm=False,
            dropout=self.dropout,
            init_std=self.init_std,
        )

    def text_spec(self) -> TextDecoderSpec:
        """Describe the decoder; it always has cross-attention."""
        heads, ffn_width, layerdrop = self.decoder_attention_heads, self.decoder_ffn_dim, self.decoder_layerdrop
        return TextDecoderSpec(
            vocab_size=self.vocab_size,
            num_positions=self.max_target_positions,
            positions=Positions.COMPUTED,
            position_offset=self._first_position,
            padding_apart=True,
            embed_scale=self._scale,
            dropout=self.dropout,
            stack=self._stack(self.decoder_layers, heads, ffn_width, layerdrop, decoder=True),
            head=HeadSpec(tied=self.tie_word_embeddings),
            pad_token_id=self.pad_token_id,
            init_std=self.init_std,
        )


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
        *bart.block_rules("model.decoder"),
        bart.FINAL_NORM,
        Drop("model.decoder.embed_positions.weights",  why="computed; only files of old releases hold it"),
        Drop("model.encoder.*",                        why="the speech encoder is not used"),
        head_rule(config.tie_word_embeddings),
    )
# fmt: on


FAMILY = Family(
    config=Speech2TextConfig,
    speech=Part(rules=_speech_rules, classes=("Speech2TextEncoder",), prefixes=("model.encoder.", "encoder.")),
    text=Part(rules=_text_rules, classes=("Speech2TextDecoder",), prefixes=("model.",)),
    whole="Speech2TextForConditionalGeneration",
    feature_extractor="Speech2TextFeatureExtractor",
    tokenizer="Speech2TextTokenizer",
)
