"""CamemBERT (https://arxiv.org/abs/1911.03894): RoBERTa, trained on French."""

from dataclasses import dataclass
from typing import ClassVar

from dragoman.families import bert_like, roberta
from dragoman.families.base import Card, Family, Part


@dataclass(kw_only=True, init=False, eq=False)
class CamembertConfig(roberta.RobertaConfig):
    """Fields and defaults of a CamemBERT `config.json`."""

    model_type: ClassVar[str] = "camembert"

    vocab_size: int = 30522


FAMILY = Family(
    config=CamembertConfig,
    text=Part(rules=roberta.rules, classes=("CamembertForCausalLM",), prefixes=("roberta.",), fresh=bert_like.FRESH),
    tokenizer="CamembertTokenizer",
    card=Card(
        name="CamemBERT",
        paper="https://arxiv.org/abs/1911.03894",
        checkpoints=("almanach/camembert-base",),
        licence="MIT",
        ends="`<s>`, `</s>`",
    ),
    tiny=roberta.TINY,
)
