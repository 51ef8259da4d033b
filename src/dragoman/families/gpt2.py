"""GPT-2 (Radford et al., 2019)."""

from dataclasses import dataclass
from typing import ClassVar

from dragoman.checkpoint.keymap import Drop, Rename, Rule, Split
from dragoman.errors import ConfigError
from dragoman.families.base import CROSS, Family, FieldAlias, ModelConfig, Part, head_rule
from dragoman.spec import Activation, BlockSpec, HeadSpec, NormOrder, StackSpec, TextDecoderSpec


@dataclass(kw_only=True)
class AnyGPT2Config(ModelConfig):
    """The fields that GPT-2 and GPT-BigCode share, and the decoder they describe."""

    vocab_size: int = 50257
    n_positions: int = 1024
    n_embd: int = 768
    n_layer: int = 12
    n_head: int = 12
    n_inner: int | None = None
    activation_function: str = "gelu_new"
    resid_pdrop: float = 0.1
    embd_pdrop: float = 0.1
    attn_pdrop: float = 0.1
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02
    scale_attn_weights: bool = True
    bos_token_id: int | None = 50256
    eos_token_id: int | list[int] | None = 50256

    hidden_size = FieldAlias("n_embd")
    num_hidden_layers = FieldAlias("n_layer")
    num_attention_heads = FieldAlias("n_head")
    max_position_embeddings = FieldAlias("n_positions")

    def text_spec(self) -> TextDecoderSpec:
        """Describe the decoder."""
        if not self.scale_attn_weights:
            raise ConfigError(
                f"dragoman scales the attention of {self.model_type} as the original does, so `scale_attn_weights` "
                "must be true, but it is false. Use another model."
            )
        block = BlockSpec(
            width=self.n_embd,
            num_heads=self.n_head,
            ffn_width=self.n_inner or 4 * self.n_embd,
            activation=Activation.parse(self.activation_function),
            norm_order=NormOrder.PRE,
            norm_eps=self.layer_norm_epsilon,
            dropout=self.resid_pdrop,
            attention_dropout=self.attn_pdrop,
            causal=True,
            cross_attention=self.add_cross_attention,
        )
        return TextDecoderSpec(
            vocab_size=self.vocab_size,
            num_positions=self.n_positions,
            dropout=self.embd_pdrop,
            stack=StackSpec(block=block, num_layers=self.n_layer, final_norm=True),
            head=HeadSpec(tied=self.tie_word_embeddings),
            norm_eps=self.layer_norm_epsilon,
            pad_token_id=self.pad_token_id,
            init_std=self.initializer_range,
            narrow_residuals=True,
        )


@dataclass(kw_only=True)
class GPT2Config(AnyGPT2Config):
    """Fields and defaults of a GPT-2 `config.json`; the defaults are the small model."""

    model_type: ClassVar[str] = "gpt2"

    scale_attn_by_inverse_layer_idx: bool = False

    def text_spec(self) -> TextDecoderSpec:
        """Describe the decoder."""
        if self.scale_attn_by_inverse_layer_idx:
            raise ConfigError(
                "dragoman scales the attention of all layers of GPT-2 alike, so `scale_attn_by_inverse_layer_idx` must "
                "be false, but it is true. Use another GPT-2."
            )
        return super().text_spec()


_SELF = "stack.layers.{i}.self_attn."
_CROSS = "stack.layers.{i}.cross_attn."
FUSED = (_SELF + "q_proj.*", _SELF + "k_proj.*", _SELF + "v_proj.*")


# fmt: off
def rules(config: AnyGPT2Config, fused: Split, transpose: bool) -> tuple[Rule, ...]:
    """Return the table of GPT-2 and GPT-BigCode, which fuse q, k, v, and of which one stores matrices `[in, out]`."""
    return (
        # theirs                                              ours
        Rename("transformer.wte.weight",                      "embed.tokens.weight"),
        Rename("transformer.wpe.weight",                      "embed.positions.weight"),
        Rename("transformer.h.{i}.ln_1.*",                    "stack.layers.{i}.self_attn_norm.*"),
        fused,
        Rename("transformer.h.{i}.attn.c_proj.*",             _SELF + "out_proj.*", transpose),
        Rename("transformer.h.{i}.ln_cross_attn.*",           "stack.layers.{i}.cross_attn_norm.*"),
        Rename("transformer.h.{i}.crossattention.q_attn.*",   _CROSS + "q_proj.*", transpose),
        Split("transformer.h.{i}.crossattention.c_attn.*",    (_CROSS + "k_proj.*", _CROSS + "v_proj.*"), transpose),
        Rename("transformer.h.{i}.crossattention.c_proj.*",   _CROSS + "out_proj.*", transpose),
        Rename("transformer.h.{i}.ln_2.*",                    "stack.layers.{i}.ffn_norm.*"),
        Rename("transformer.h.{i}.mlp.c_fc.*",                "stack.layers.{i}.ffn.in_proj.*", transpose),
        Rename("transformer.h.{i}.mlp.c_proj.*",              "stack.layers.{i}.ffn.out_proj.*", transpose),
        Rename("transformer.ln_f.*",                          "stack.final_norm.*"),
        Drop("score.weight",                                  why="a head that a decoder does not need"),
        head_rule(config.tie_word_embeddings),
    )


def _rules(config: GPT2Config) -> tuple[Rule, ...]:
    return (
        *rules(config, Split("transformer.h.{i}.attn.c_attn.*", FUSED, transpose=True), transpose=True),
        Drop("multiple_choice_head.*",                        why="a head that a decoder does not need"),
        Drop("transformer.h.{i}.attn.bias",                   why="a mask buffer, not a weight"),
        Drop("transformer.h.{i}.attn.masked_bias",            why="a mask buffer, not a weight"),
        Drop("transformer.h.{i}.crossattention.bias",         why="a mask buffer, not a weight"),
        Drop("transformer.h.{i}.crossattention.masked_bias",  why="a mask buffer, not a weight"),
    )
# fmt: on


FAMILY = Family(
    config=GPT2Config,
    text=Part(
        rules=_rules,
        classes=("GPT2LMHeadModel",),
        prefixes=("transformer.",),
        fresh=CROSS,
    ),
    tokenizer="GPT2Tokenizer",
)
