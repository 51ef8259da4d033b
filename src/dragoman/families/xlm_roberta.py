"""XLM-RoBERTa (https://arxiv.org/abs/1911.02116): RoBERTa, trained on 100 languages."""

from dataclasses import dataclass
from typing import ClassVar

from dragoman.families import bert_like, roberta
from dragoman.families.base import Card, Family, Part


@dataclass(kw_only=True, init=False, eq=False)
class XLMRobertaConfig(roberta.RobertaConfig):
    """Fields and defaults of an XLM-RoBERTa `config.json`."""

    model_type: ClassVar[str] = "xlm-roberta"

    vocab_size: int = 30522


FAMILY = Family(
    config=XLMRobertaConfig,
    text=Part(rules=roberta.rules, classes=("XLMRobertaForCausalLM",), prefixes=("roberta.",), fresh=bert_like.FRESH),
    tokenizer="XLMRobertaTokenizer",
    card=Card(
        name="XLM-RoBERTa",
        paper="https://arxiv.org/abs/1911.02116",
        checkpoints=("FacebookAI/xlm-roberta-base", "FacebookAI/xlm-roberta-large"),
        licence="MIT",
        ends="`<s>`, `</s>`",
    ),
    tiny=roberta.TINY,
)
