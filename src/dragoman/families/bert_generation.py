"""BertGeneration (https://arxiv.org/abs/1907.12461): BERT's blocks, trained to generate."""

from dataclasses import dataclass, replace
from typing import ClassVar

from dragoman.checkpoint.keymap import Rule
from dragoman.families import bert_like
from dragoman.families.base import Card, Family, Part
from dragoman.spec import HeadSpec, TextDecoderSpec


@dataclass(kw_only=True, init=False, eq=False)
class BertGenerationConfig(bert_like.BertLikeConfig):
    """Fields and defaults of a BertGeneration `config.json`; the defaults are bert-for-seq-generation-L-24."""

    model_type: ClassVar[str] = "bert-generation"

    vocab_size: int = 50358
    hidden_size: int = 1024
    num_hidden_layers: int = 24
    num_attention_heads: int = 16
    intermediate_size: int = 4096
    bos_token_id: int | None = 2
    eos_token_id: int | list[int] | None = 1

    def text_spec(self) -> TextDecoderSpec:
        """Describe the decoder; its head is one linear layer."""
        return replace(super().text_spec(), head=HeadSpec(tied=self.tie_word_embeddings, bias=True))


def _rules(config: BertGenerationConfig) -> tuple[Rule, ...]:
    return (*bert_like.block_rules("bert"), *bert_like.decoder_rules("lm_head", config.tie_word_embeddings))


FAMILY = Family(
    config=BertGenerationConfig,
    text=Part(rules=_rules, classes=("BertGenerationDecoder",), prefixes=("bert.",), fresh=bert_like.FRESH),
    tokenizer="BertGenerationTokenizer",
    card=Card(
        name="BertGeneration",
        paper="https://arxiv.org/abs/1907.12461",
        checkpoints=("google/bert_for_seq_generation_L-24_bbc_encoder",),
        licence="Apache-2.0",
        ends="`<s>`, `</s>`",
        own="cross-attention is new only where the checkpoint is an encoder's",
    ),
    tiny=bert_like.TINY,
)
