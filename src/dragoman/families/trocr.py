"""The decoder of TrOCR (https://arxiv.org/abs/2109.10282), trained with an image encoder."""

from dataclasses import dataclass, replace
from typing import ClassVar

from dragoman.checkpoint.keymap import Rule
from dragoman.families import bart_like
from dragoman.families.base import Card, Family, Part
from dragoman.families.rules import head_rule
from dragoman.spec import CrossAttentionSpec, EmbedNorm, NormOrder, Positions, TextDecoderSpec, TextPositionSpec


@dataclass(kw_only=True, init=False, eq=False)
class TrOCRConfig(bart_like.BartLikeConfig):
    """Fields and defaults of a TrOCR `config.json`; the defaults are trocr-base."""

    model_type: ClassVar[str] = "trocr"

    max_position_embeddings: int = 512
    use_learned_position_embeddings: bool = True
    layernorm_embedding: bool = True

    def text_spec(self) -> TextDecoderSpec:
        """Describe the decoder; the configuration gives the width of its memory."""
        learned = self.use_learned_position_embeddings
        positions = TextPositionSpec(
            kind=Positions.LEARNED if learned else Positions.COMPUTED,
            offset=2 if learned else 1 + (self.pad_token_id or 0),
            padding_has_own_position=not learned,
        )
        norm = EmbedNorm.SUM if self.layernorm_embedding else None
        spec = self.decoder_spec(NormOrder.POST, self.max_position_embeddings, positions, norm)
        cross = CrossAttentionSpec(memory_width=self.cross_attention_hidden_size)
        return spec.with_block(replace(spec.stack.block, cross_attn=cross))


def _rules(config: TrOCRConfig) -> tuple[Rule, ...]:
    head = head_rule(config.tie_word_embeddings, "output_projection.weight")
    return (*bart_like.BLOCKS, bart_like.EMBED_NORM, head)


def _is_computed(config: TrOCRConfig) -> bool:
    """Return whether positions are sinusoids, which `transformers` leaves without values when it loads a model."""
    return not config.use_learned_position_embeddings


FAMILY = Family(
    config=TrOCRConfig,
    text=Part(rules=_rules, classes=("TrOCRForCausalLM",), shifts_labels=False, apart=_is_computed),
    tokenizer="RobertaTokenizer",
    card=Card(
        name="TrOCR, its decoder",
        paper="https://arxiv.org/abs/2109.10282",
        checkpoints=("microsoft/trocr-base-printed", "microsoft/trocr-small-handwritten"),
        licence="see their cards",
    ),
    tiny=bart_like.TINY_DECODER | {"max_position_embeddings": 64},
    variants={
        "sinusoids": {"use_learned_position_embeddings": False, "layernorm_embedding": False},
        "wide-memory": {"cross_attention_hidden_size": 32},
    },
)
