"""GPT-BigCode (https://arxiv.org/abs/2305.06161), of SantaCoder and StarCoder: GPT-2 with one head of keys and values.

With one such head, `transformers` has no cross-attention; here, cross-attention has one such head too.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

from dragoman.checkpoint.keymap import Rule, Split
from dragoman.families import gpt2_like
from dragoman.families.base import Card, Family, Part
from dragoman.families.rules import CROSS
from dragoman.spec import TextDecoderSpec


@dataclass(kw_only=True, init=False, eq=False)
class GPTBigCodeConfig(gpt2_like.GPT2LikeConfig):
    """Fields and defaults of a GPT-BigCode `config.json`."""

    model_type: ClassVar[str] = "gpt_bigcode"

    activation_function: str = "gelu_pytorch_tanh"
    multi_query: bool = True

    def text_spec(self) -> TextDecoderSpec:
        spec = super().text_spec()
        if not self.multi_query:
            return spec
        block = spec.stack.block
        return spec.with_block(replace(block, self_attn=replace(block.self_attn, num_kv_heads=1)))


def _rules(config: GPTBigCodeConfig) -> tuple[Rule, ...]:
    name = "transformer.h.{i}.attn.c_attn.*"
    if config.multi_query:
        fused = Split(name, gpt2_like.FUSED, shares=(config.n_head, 1, 1))
    else:
        fused = Split(name, gpt2_like.FUSED, groups=config.n_head)  # q, k, v are stored head by head
    return gpt2_like.rules(config, fused, transpose=False)


FAMILY = Family(
    config=GPTBigCodeConfig,
    text=Part(
        rules=_rules,
        classes=("GPTBigCodeForCausalLM",),
        prefixes=("transformer.",),
        fresh=CROSS,
        apart=lambda config: config.multi_query,
    ),
    tokenizer="GPT2Tokenizer",
    card=Card(
        name="GPT-BigCode",
        paper="https://arxiv.org/abs/2301.03988",
        checkpoints=("bigcode/gpt_bigcode-santacoder",),
        licence="BigCode OpenRAIL-M",
        ends=r"`<\|endoftext\|>` for both; padding to be set",
    ),
    tiny=gpt2_like.TINY,
)
