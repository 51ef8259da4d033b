"""GPT-2 (Radford et al., 2019)."""

from dataclasses import dataclass
from typing import ClassVar

from dragoman.checkpoint.keymap import Drop, Rule, Split
from dragoman.errors import ConfigError
from dragoman.families import gpt2_like
from dragoman.families.base import Card, Family, Part
from dragoman.families.rules import CROSS, other_heads
from dragoman.spec import TextDecoderSpec


@dataclass(kw_only=True, init=False, eq=False)
class GPT2Config(gpt2_like.GPT2LikeConfig):
    """Fields and defaults of a GPT-2 `config.json`; the defaults are the small model."""

    model_type: ClassVar[str] = "gpt2"

    scale_attn_by_inverse_layer_idx: bool = False

    def text_spec(self) -> TextDecoderSpec:
        if self.scale_attn_by_inverse_layer_idx:
            raise ConfigError(
                "`scale_attn_by_inverse_layer_idx` must be false, but is true: scaling by layer is not supported. "
                "Use another GPT-2."
            )
        return super().text_spec()


# fmt: off
def _rules(config: GPT2Config) -> tuple[Rule, ...]:
    fused = Split("transformer.h.{i}.attn.c_attn.*", gpt2_like.FUSED, transpose=True)
    return (
        *gpt2_like.rules(config, fused, transpose=True),
        *other_heads("multiple_choice_head.*", "qa_outputs.*"),
        Drop("transformer.h.{i}.attn.bias",                   why="a mask buffer, not a weight"),
        Drop("transformer.h.{i}.attn.masked_bias",            why="a mask buffer, not a weight"),
        Drop("transformer.h.{i}.crossattention.bias",         why="a mask buffer, not a weight"),
        Drop("transformer.h.{i}.crossattention.masked_bias",  why="a mask buffer, not a weight"),
    )
# fmt: on


FAMILY = Family(
    config=GPT2Config,
    text=Part(rules=_rules, classes=("GPT2LMHeadModel",), prefixes=("transformer.",), fresh=CROSS),
    tokenizer="GPT2Tokenizer",
    card=Card(
        name="GPT-2",
        paper="https://openai.com/index/better-language-models/",
        checkpoints=("openai-community/gpt2", "openai-community/gpt2-medium"),
        licence="MIT",
        ends=r"`<\|endoftext\|>` for both; padding to be set",
    ),
    tiny=gpt2_like.TINY,
)
