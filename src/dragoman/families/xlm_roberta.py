"""XLM-RoBERTa (https://arxiv.org/abs/1911.02116): RoBERTa, trained on a hundred languages."""

from dataclasses import dataclass
from typing import ClassVar

from dragoman.families import bert_like, roberta
from dragoman.families.base import Family, Part


@dataclass(kw_only=True)
class XLMRobertaConfig(roberta.RobertaConfig):
    """Fields and defaults of an XLM-RoBERTa `config.json`."""

    model_type: ClassVar[str] = "xlm-roberta"

    vocab_size: int = 30522


FAMILY = Family(
    config=XLMRobertaConfig,
    text=Part(rules=roberta.rules, classes=("XLMRobertaForCausalLM",), prefixes=("roberta.",), fresh=bert_like.FRESH),
    tokenizer="XLMRobertaTokenizer",
)
