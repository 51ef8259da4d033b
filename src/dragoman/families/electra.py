"""ELECTRA (https://arxiv.org/abs/2003.10555): BERT with embeddings that may be narrower than its blocks."""

from dataclasses import dataclass, replace
from typing import ClassVar

from dragoman.checkpoint.keymap import Drop, Rename, Rule
from dragoman.families import bert_like
from dragoman.families.base import Card, Family, Part
from dragoman.families.bert import BertConfig
from dragoman.families.rules import head_rule, other_heads
from dragoman.spec import Activation, TextDecoderSpec


@dataclass(kw_only=True, init=False, eq=False)
class ElectraConfig(BertConfig):
    """Fields and defaults of an ELECTRA `config.json`; the defaults are the small discriminator."""

    model_type: ClassVar[str] = "electra"

    embedding_size: int = 128
    hidden_size: int = 256
    num_attention_heads: int = 4
    intermediate_size: int = 1024

    def text_spec(self) -> TextDecoderSpec:
        spec = super().text_spec()
        return replace(
            spec,
            embed=replace(spec.embed, width=None if self.embedding_size == self.hidden_size else self.embedding_size),
            head=replace(spec.head, transform=Activation.GELU),
        )


# fmt: off
def _rules(config: ElectraConfig) -> tuple[Rule, ...]:
    return (
        # theirs                                      ours
        *bert_like.block_rules("electra"),
        *bert_like.type_rules("electra"),
        Rename("electra.embeddings_project.*",        "embed.proj.*"),
        Rename("generator_predictions.dense.*",       "head.transform.*"),
        Rename("generator_predictions.LayerNorm.*",   "head.norm.*"),
        Rename("generator_lm_head.bias",              "head.bias"),
        head_rule(config.tie_word_embeddings, "generator_lm_head.weight"),
        Drop("discriminator_predictions.*",           why="a decoder does not tell true tokens from false ones"),
        *other_heads("sequence_summary.*"),
        *bert_like.OTHER_HEADS,
    )
# fmt: on


FAMILY = Family(
    config=ElectraConfig,
    text=Part(rules=_rules, classes=("ElectraForCausalLM",), prefixes=("electra.",), fresh=bert_like.FRESH),
    tokenizer="BertTokenizer",
    other_tokenizers=("ElectraTokenizer",),
    card=Card(
        name="ELECTRA",
        paper="https://arxiv.org/abs/2003.10555",
        checkpoints=("google/electra-base-generator", "google/electra-small-discriminator"),
        licence="Apache-2.0",
        ends="to be set: `[CLS]`, `[SEP]`",
        own="a discriminator's head is new too",
    ),
    tiny=bert_like.TINY | {"embedding_size": 16},
)
