"""Moonshine (https://arxiv.org/abs/2410.15608): an encoder of raw samples for clips of any length, and its decoder."""

from dataclasses import dataclass, replace
from typing import ClassVar

from dragoman.checkpoint.keymap import Drop, Rename, Rule, Split
from dragoman.errors import ConfigError
from dragoman.families.base import Card, Family, Part, always
from dragoman.families.free_fields import FieldAlias
from dragoman.families.llama_like import LlamaLikeConfig
from dragoman.families.rules import head_rule
from dragoman.spec import Activation, ConvFrontendSpec, FrontendNorm, Norm, SpeechEncoderSpec, TextDecoderSpec
from dragoman.spec.attention import CrossAttentionSpec


@dataclass(kw_only=True, init=False, eq=False)
class MoonshineConfig(LlamaLikeConfig):
    """Fields and defaults of a Moonshine `config.json`; the defaults are the tiny model's."""

    model_type: ClassVar[str] = "moonshine"
    default_share: ClassVar[float | None] = 0.9
    interleaved: ClassVar[bool] = True

    vocab_size: int = 32768
    hidden_size: int = 288
    intermediate_size: int = 1152
    encoder_num_hidden_layers: int = 6
    decoder_num_hidden_layers: int = 6
    encoder_num_attention_heads: int = 8
    decoder_num_attention_heads: int = 8
    encoder_num_key_value_heads: int | None = None
    decoder_num_key_value_heads: int | None = None
    pad_head_dim_to_multiple_of: int | None = None  # makes `transformers` faster, and changes no number
    encoder_hidden_act: str = "gelu"
    decoder_hidden_act: str = "silu"
    max_position_embeddings: int = 512
    decoder_start_token_id: int | list[int] | None = 1
    is_encoder_decoder: bool = True
    attention_bias: bool = False
    tie_word_embeddings: bool = True
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2

    rms_norm_eps: ClassVar[float] = 1e-5  # type: ignore[misc]
    num_hidden_layers: ClassVar = FieldAlias("decoder_num_hidden_layers")  # type: ignore[misc]
    num_attention_heads: ClassVar = FieldAlias("decoder_num_attention_heads")  # type: ignore[misc]
    num_key_value_heads: ClassVar = FieldAlias("decoder_num_key_value_heads")  # type: ignore[misc]
    hidden_act: ClassVar = FieldAlias("decoder_hidden_act")  # type: ignore[misc]

    def __post_init__(self) -> None:
        """Fill in the fields that follow from others, and check the heads."""
        super().__post_init__()
        self.encoder_num_key_value_heads = self.encoder_num_key_value_heads or self.encoder_num_attention_heads
        heads = {name: getattr(self, name) for name in vars(self) if name.endswith("_heads")}
        if len(set(heads.values())) > 1:
            raise ConfigError(f"A Moonshine has one number of heads, but has {heads}. Give all the same.")

    def speech_spec(self) -> SpeechEncoderSpec:
        stack, width = self.text_spec().stack, self.hidden_size
        ffn = replace(stack.block.ffn, activation=Activation.parse(self.encoder_hidden_act), gated=False)
        block = replace(stack.block, ffn=ffn, cross_attn=None)
        frontend = ConvFrontendSpec(
            channels=(width, 2 * width, width), kernels=(127, 7, 3), strides=(64, 3, 2), bias=True, project=False,
            norm=FrontendNorm.ALL, activation=Activation.GELU, first_activation=Activation.TANH, feature_norm=False,
        )  # fmt: skip
        return SpeechEncoderSpec(
            frontend=frontend, positions=None, input_norm=False, init_std=self.initializer_range,
            stack=replace(stack, block=block, num_layers=self.encoder_num_hidden_layers),
        )  # fmt: skip

    def text_spec(self) -> TextDecoderSpec:
        head, bias, norm = self.head_width(None), self.attention_bias, Norm.LAYER_WITHOUT_BIAS
        spec = self.decoder_spec(head_width=head, qkv_bias=bias, out_bias=False, ffn_bias=True, norm=norm)
        block = replace(spec.stack.block, cross_attn=CrossAttentionSpec())
        return replace(spec, stack=replace(spec.stack, block=block))


# fmt: off
def stack_rules(base: str, attentions: dict[str, str], norms: dict[str, str]) -> tuple[Rule, ...]:
    """Return the rules of a stack; `base` begins each of their names."""
    theirs, ours = f"{base}layers.{{i}}.", "stack.layers.{i}."
    projections = {"q_proj": "q_proj", "k_proj": "k_proj", "v_proj": "v_proj", "o_proj": "out_proj"}.items()
    return (
        *(Rename(f"{theirs}{a}.{c}.*", f"{ours}{b}.{d}.*") for a, b in attentions.items() for c, d in projections),
        *(Rename(f"{theirs}{a}_layernorm.*", f"{ours}{b}_norm.*") for a, b in norms.items()),
        Rename(f"{theirs}mlp.fc2.*", f"{ours}ffn.out_proj.*"),
    )


def _speech_rules(config: MoonshineConfig) -> tuple[Rule, ...]:
    return (
        *(Rename(f"conv{i + 1}.*",                  f"frontend.convs.{i}.conv.*") for i in range(3)),
        Rename("groupnorm.*",                       "frontend.convs.0.norm.*"),
        *stack_rules("", {"self_attn": "self_attn"}, {"input": "self_attn", "post_attention": "ffn"}),
        Rename("layers.{i}.mlp.fc1.*",              "stack.layers.{i}.ffn.in_proj.*"),
        Rename("layer_norm.*",                      "stack.final_norm.*"),
        Drop("decoder.*",                           why="the text decoder is not used"),
        Drop("model.decoder.*",                     why="the text decoder is not used"),
        Drop("proj_out.weight",                     why="a head that an encoder does not need"),
    )


def _text_rules(config: MoonshineConfig) -> tuple[Rule, ...]:
    attentions, ffn = {"self_attn": "self_attn", "encoder_attn": "cross_attn"}, "stack.layers.{i}.ffn."
    norms = {"input": "self_attn", "post_attention": "cross_attn", "final": "ffn"}
    return (
        Rename("model.decoder.embed_tokens.weight", "embed.tokens.weight"),
        *stack_rules("model.decoder.", attentions, norms),
        Split("model.decoder.layers.{i}.mlp.fc1.*", into=(ffn + "in_proj.*", ffn + "gate_proj.*")),
        Rename("model.decoder.norm.*",              "stack.final_norm.*"),
        Drop("model.encoder.*",                     why="the speech encoder is not used"),
        head_rule(config.tie_word_embeddings, "proj_out.weight"),
    )
# fmt: on


FAMILY = Family(
    config=MoonshineConfig,
    speech=Part(
        rules=_speech_rules, classes=("MoonshineEncoder",), prefixes=("model.encoder.", "encoder."), apart=always
    ),
    text=Part(rules=_text_rules, classes=("MoonshineDecoder",), prefixes=("model.",), apart=always),
    whole="MoonshineForConditionalGeneration",
    feature_extractor="Wav2Vec2FeatureExtractor",
    processor="Wav2Vec2Processor",
    card=Card(
        name="Moonshine",
        paper="https://arxiv.org/abs/2410.15608",
        checkpoints=("UsefulSensors/moonshine-tiny", "UsefulSensors/moonshine-base"),
        licence="MIT",
        own="clips of any length without padding, rotary positions; no streaming models",
    ),
    tiny={
        "vocab_size": 99,
        "hidden_size": 24,
        "intermediate_size": 30,
        "encoder_num_hidden_layers": 2,
        "decoder_num_hidden_layers": 2,
        "encoder_num_attention_heads": 4,
        "decoder_num_attention_heads": 4,
        "max_position_embeddings": 64,
        "pad_token_id": 2,
        "rope_parameters": {"rope_type": "default", "rope_theta": 100.0, "partial_rotary_factor": 0.7},
    },
    variants={"biased": {"attention_bias": True, "tie_word_embeddings": False, "decoder_hidden_act": "gelu"}},
)
