"""BERT (https://arxiv.org/abs/1810.04805) read as a left-to-right decoder with cross-attention."""

from dataclasses import dataclass, replace
from typing import ClassVar

from dragoman.checkpoint.keymap import Drop, Rename, Rule
from dragoman.families import bert_like
from dragoman.families.base import Card, Family, Part
from dragoman.spec import TextDecoderSpec


@dataclass(kw_only=True, init=False, eq=False)
class BertConfig(bert_like.BertLikeConfig):
    """Fields and defaults of a BERT `config.json`; the defaults are bert-base-uncased."""

    model_type: ClassVar[str] = "bert"

    type_vocab_size: int = 2

    def text_spec(self) -> TextDecoderSpec:
        spec = super().text_spec()
        return replace(spec, embed=replace(spec.embed, num_token_types=self.type_vocab_size))


# fmt: off
def _rules(config: BertConfig) -> tuple[Rule, ...]:
    return (
        *bert_like.block_rules("bert"),
        *bert_like.type_rules("bert"),
        *bert_like.decoder_rules("cls.predictions", config.tie_word_embeddings),
        Rename("cls.predictions.transform.dense.*",                     "head.transform.*"),
        Rename("cls.predictions.transform.LayerNorm.*",                 "head.norm.*"),
        Drop("bert.pooler.*",                                           why="a decoder does not pool"),
        Drop("cls.seq_relationship.*",                                  why="a decoder does not compare sentences"),
        *bert_like.OTHER_HEADS,
    )
# fmt: on


FAMILY = Family(
    config=BertConfig,
    text=Part(rules=_rules, classes=("BertLMHeadModel", "BertForCausalLM"), prefixes=("bert.",), fresh=bert_like.FRESH),
    tokenizer="BertTokenizer",
    card=Card(
        name="BERT",
        paper="https://arxiv.org/abs/1810.04805",
        checkpoints=("google-bert/bert-base-uncased", "google-bert/bert-base-multilingual-cased"),
        licence="Apache-2.0",
        ends="to be set: `[CLS]`, `[SEP]`",
    ),
    tiny=bert_like.TINY,
)
