"""RoBERTa (https://arxiv.org/abs/1907.11692): BERT with another head, and a separate position for padding."""

from dataclasses import dataclass, replace
from typing import ClassVar

from dragoman.checkpoint.keymap import Drop, Rename, Rule
from dragoman.families import bert_like
from dragoman.families.base import Card, Family, Part
from dragoman.families.bert import BertConfig
from dragoman.spec import Activation, TextDecoderSpec, TextPositionSpec


@dataclass(kw_only=True, init=False, eq=False)
class RobertaConfig(BertConfig):
    """Fields and defaults of a RoBERTa `config.json`."""

    model_type: ClassVar[str] = "roberta"

    vocab_size: int = 50265
    pad_token_id: int | None = 1
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 2

    def text_spec(self) -> TextDecoderSpec:
        """Describe the decoder; padding has position `pad_token_id`, and the first token the one after."""
        spec = super().text_spec()
        offset = 1 + (self.pad_token_id or 0)
        return replace(
            spec,
            num_positions=self.max_position_embeddings - offset,
            embed=replace(spec.embed, positions=TextPositionSpec(offset=offset, padding_has_own_position=True)),
            head=replace(spec.head, transform=Activation.GELU),
        )


# fmt: off
def rules(config: RobertaConfig) -> tuple[Rule, ...]:
    """Return the rules of RoBERTa, CamemBERT and XLM-RoBERTa."""
    return (
        # theirs                      ours
        *bert_like.block_rules("roberta"),
        *bert_like.type_rules("roberta"),
        *bert_like.decoder_rules("lm_head", config.tie_word_embeddings),
        Rename("lm_head.dense.*",       "head.transform.*"),
        Rename("lm_head.layer_norm.*",  "head.norm.*"),
        Drop("roberta.pooler.*",        why="a decoder does not pool"),
        *bert_like.OTHER_HEADS,
    )
# fmt: on


TINY = bert_like.TINY | {"max_position_embeddings": 66}  # the first two are unused
FAMILY = Family(
    config=RobertaConfig,
    text=Part(rules=rules, classes=("RobertaForCausalLM",), prefixes=("roberta.",), fresh=bert_like.FRESH),
    tokenizer="RobertaTokenizer",
    card=Card(
        name="RoBERTa",
        paper="https://arxiv.org/abs/1907.11692",
        checkpoints=("FacebookAI/roberta-base", "FacebookAI/roberta-large"),
        licence="MIT",
        ends="`<s>`, `</s>`",
    ),
    tiny=TINY,
)
