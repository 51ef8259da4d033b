"""Qwen 3 (https://arxiv.org/abs/2505.09388): Qwen 2 with normalised queries and keys in place of biases."""

from dataclasses import dataclass, replace
from typing import ClassVar

from dragoman.checkpoint.keymap import Rename, Rule
from dragoman.families import llama_like
from dragoman.families.base import Card, Family
from dragoman.families.qwen2 import QwenConfig
from dragoman.spec import TextDecoderSpec


@dataclass(kw_only=True, init=False, eq=False)
class Qwen3Config(QwenConfig):
    """Fields and defaults of a Qwen 3 `config.json`."""

    model_type: ClassVar[str] = "qwen3"

    head_dim: int = 128
    attention_bias: bool = False

    def text_spec(self) -> TextDecoderSpec:
        bias = self.attention_bias
        spec = self.decoder_spec(head_width=self.head_dim, qkv_bias=bias, out_bias=bias, ffn_bias=False)
        block = spec.stack.block
        block = replace(block, self_attn=replace(block.self_attn, query_norm=block.norm))
        stack = llama_like.windowed(spec.stack, self.layer_types, self.sliding_window)
        return replace(spec, stack=replace(stack, block=block))


# fmt: off
def _rules(config: Qwen3Config) -> tuple[Rule, ...]:
    return (
        # theirs                                              ours
        *llama_like.rules(config),
        Rename("model.layers.{i}.self_attn.q_norm.weight",    "stack.layers.{i}.self_attn.q_norm.weight"),
        Rename("model.layers.{i}.self_attn.k_norm.weight",    "stack.layers.{i}.self_attn.k_norm.weight"),
    )
# fmt: on


FAMILY = Family(
    config=Qwen3Config,
    text=llama_like.part("Qwen3ForCausalLM", table=_rules),
    other_tokenizers=("Qwen2Tokenizer",),
    card=Card(
        name="Qwen 3",
        paper="https://arxiv.org/abs/2505.09388",
        checkpoints=("Qwen/Qwen3-0.6B", "Qwen/Qwen3-1.7B"),
        licence="Apache-2.0",
        ends=r"to be set: `<\|im_end\|>` ends",
        own="normalised queries and keys",
    ),
    tiny=llama_like.TINY | {"head_dim": 8},
    variants={"windows": {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}},
)
