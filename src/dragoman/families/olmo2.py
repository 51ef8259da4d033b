"""OLMo 2 (https://arxiv.org/abs/2501.00656): Llama with norms after each sublayer alone, and of queries and keys."""

from dataclasses import dataclass, replace
from typing import ClassVar

from dragoman.checkpoint.keymap import Rename, Rule
from dragoman.families import llama_like
from dragoman.families.base import Card, Family
from dragoman.spec import NormOrder, TextDecoderSpec


@dataclass(kw_only=True, init=False, eq=False)
class Olmo2Config(llama_like.LlamaLikeConfig):
    """Fields and defaults of an OLMo 2 `config.json`."""

    model_type: ClassVar[str] = "olmo2"

    vocab_size: int = 50304
    rms_norm_eps: float = 1e-5
    attention_bias: bool = False
    pad_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 50279

    def text_spec(self) -> TextDecoderSpec:
        head, bias = self.head_width(self.extra.get("head_dim")), self.attention_bias
        spec = self.decoder_spec(head_width=head, qkv_bias=bias, out_bias=bias, ffn_bias=False)
        block = spec.stack.block
        attention = replace(block.self_attn, query_norm=block.norm, norm_heads_together=True)
        return spec.with_block(replace(block, self_attn=attention, norm_order=NormOrder.INSIDE))


# fmt: off
def _rules(config: Olmo2Config) -> tuple[Rule, ...]:
    before = "model.layers.{i}.input_layernorm.*"  # which it does not have
    return (
        # theirs                                              ours
        *(rule for rule in llama_like.rules(config, "post_feedforward_layernorm") if rule.theirs != before),
        Rename("model.layers.{i}.post_attention_layernorm.*", "stack.layers.{i}.self_attn_norm.*"),
        Rename("model.layers.{i}.self_attn.q_norm.weight",    "stack.layers.{i}.self_attn.q_norm.weight"),
        Rename("model.layers.{i}.self_attn.k_norm.weight",    "stack.layers.{i}.self_attn.k_norm.weight"),
    )
# fmt: on


FAMILY = Family(
    config=Olmo2Config,
    text=llama_like.part("Olmo2ForCausalLM", table=_rules),
    card=Card(
        name="OLMo 2",
        paper="https://arxiv.org/abs/2501.00656",
        checkpoints=("allenai/OLMo-2-0425-1B", "allenai/OLMo-2-1124-7B"),
        licence="Apache-2.0",
        own="norms after each sublayer, and of queries and keys over all heads",
    ),
    tiny=llama_like.TINY | {"rms_norm_eps": 0.01},
    variants={"biased": {"attention_bias": True, "tie_word_embeddings": True, "num_key_value_heads": 4}},
)
