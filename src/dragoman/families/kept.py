"""Names that configurations of `transformers` have and that say nothing about a network here.

They are kept as attributes and saved, like every unknown name; but they are no misspellings, and have the defaults of
`transformers`.
"""

from difflib import get_close_matches
from typing import Any

from dragoman.errors import ConfigError

# What every configuration of `transformers` 4 or 5 has, with its default.
GENERAL: dict[str, Any] = {
    "chunk_size_feed_forward": 0,
    "finetuning_task": None,
    "gradient_checkpointing": False,
    "prefix": None,
    "problem_type": None,
    "pruned_heads": {},
    "sep_token_id": None,
    "task_specific_params": None,
    "tokenizer_class": None,
    "torchscript": False,
}
# What those of single families have besides, for heads, pre-training or implementations.
HEADS = frozenset({
    "attention_softmax_in_fp32", "attn_implementation", "classifier_dropout", "classifier_proj_size", "codevector_dim",
    "contrastive_logits_temperature", "ctc_loss_reduction", "ctc_zero_infinity", "dense_act_fn",
    "diversity_loss_weight", "encoder_no_repeat_ngram_size", "feat_extract_dropout", "feat_quantizer_dropout",
    "feature_extractor_type", "id2label", "is_gated_act", "label2id", "median_filter_width", "num_clusters",
    "num_codevector_groups", "num_codevectors_per_group", "num_ctc_classes", "num_feat_extract_layers", "num_labels",
    "num_negatives", "pretraining_tp", "processor_class", "proj_codevector_dim", "reorder_and_upcast_attn",
    "replace_prob", "scale_attention_softmax_in_fp32", "summary_activation", "summary_first_dropout",
    "summary_last_dropout", "summary_proj_to_labels", "summary_type", "summary_use_proj", "tdnn_dilation", "tdnn_dim",
    "tdnn_kernel", "tie_encoder_decoder", "transformers_version", "use_weighted_layer_sum", "xvector_output_dim",
})  # fmt: skip
KEPT = HEADS | GENERAL.keys()

# Nearer than any two names that `transformers` itself has on one configuration.
_NEAR = 0.8


def near_field(name: str, known: list[str]) -> str | None:
    """Return the field that an unknown name is probably a misspelling of, or `None`."""
    if name in KEPT:
        return None
    return next(iter(get_close_matches(name, known, n=1, cutoff=_NEAR)), None)


# Names of `transformers` for ways to compute attention. One way gives the numbers of all here: fused kernels, or step
# by step where the weights are asked for.
ATTENTIONS = ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention")


class AttentionChoice:
    """`_attn_implementation`: kept and answered as in `transformers`, not saved; it changes no number."""

    @property
    def _attn_implementation(self) -> str | None:
        """What was chosen; `None` before a model is built. By a dictionary, for encoder and decoder apart."""
        found: str | None = vars(self).get("_attention")
        return found

    @_attn_implementation.setter
    def _attn_implementation(self, value: Any) -> None:
        parts = {name: part for name, part in vars(self).items() if isinstance(part, AttentionChoice)}
        chosen = value if isinstance(value, dict) else dict.fromkeys(("", *parts), value)
        wrong = [one for one in chosen.values() if one not in (None, *ATTENTIONS)]
        unknown = [name for name in chosen if name not in ("", *parts)]
        if wrong or unknown:
            raise ConfigError(
                f"`attn_implementation` must be {', '.join(map(repr, ATTENTIONS))} or None, or a dictionary with one "
                f"of these for each of {[*parts]}, but is {value!r:.80}."
            )
        self.__dict__["_attention"] = chosen.get("", "sdpa")
        for name, one in chosen.items():
            if name:
                parts[name]._attn_implementation = one

    def attention_choices(self) -> dict[str, str | None]:
        """Return what was chosen: for this configuration under `""`, and for its parts by name."""
        parts = {name: part for name, part in vars(self).items() if isinstance(part, AttentionChoice)}
        return {name: part._attn_implementation for name, part in {"": self, **parts}.items()}

    def settle_attention(self) -> None:
        """Name the way that a new model takes if nothing was chosen."""
        if self._attn_implementation is None:
            self.__dict__["_attention"] = "sdpa"


class Labels:
    """`num_labels`, `id2label` and `label2id` of a classifier: two of them follow from the third."""

    extra: dict[str, Any]

    @property
    def num_labels(self) -> int:
        """Number of classes; 2 if nothing says otherwise."""
        if "id2label" in self.extra:
            return len(self.extra["id2label"])
        return int(self.extra.get("num_labels", 2))

    @num_labels.setter
    def num_labels(self, value: int) -> None:
        if value != self.num_labels:
            self.extra.pop("id2label", None)
            self.extra.pop("label2id", None)
        self.extra["num_labels"] = value

    @property
    def id2label(self) -> dict[int, str]:
        """Name of each class; read from a file, its keys are numbers again."""
        named = self.extra.get("id2label")
        if named is None:
            return {index: f"LABEL_{index}" for index in range(self.num_labels)}
        return {int(index): label for index, label in named.items()}

    @id2label.setter
    def id2label(self, value: dict[int, str]) -> None:
        self._set_labels("id2label", value)

    @property
    def label2id(self) -> dict[str, int]:
        """Index of each class."""
        named = self.extra.get("label2id")
        return {label: index for index, label in self.id2label.items()} if named is None else named

    @label2id.setter
    def label2id(self, value: dict[str, int]) -> None:
        self._set_labels("label2id", value)

    def _set_labels(self, name: str, value: Any) -> None:
        self.extra.pop("num_labels", None)
        if value is None:
            self.extra.pop(name, None)
        else:
            self.extra[name] = value
