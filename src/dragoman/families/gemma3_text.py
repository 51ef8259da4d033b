"""The text model of Gemma 3 (https://arxiv.org/abs/2503.19786): Gemma 2 without caps, with normalised queries and keys.

Layers with a window have rotary positions of another base than layers without. Of a multimodal model (`gemma3`) only
the text model is read; it is saved as a `gemma3_text`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from dragoman.checkpoint.keymap import Alias, Drop, Rename, Rule
from dragoman.errors import ConfigError
from dragoman.families import gemma2, llama_like
from dragoman.families.base import Card, Family
from dragoman.families.rope import TINY_ROPES, rope_parameters_of, rotary_of
from dragoman.spec import TextDecoderSpec

_KINDS = ("full_attention", "sliding_attention")
_OF_BOTH = ("pad_token_id", "bos_token_id", "eos_token_id", "tie_word_embeddings", "dtype", "torch_dtype")


@dataclass(kw_only=True, init=False, eq=False)
class Gemma3TextConfig(gemma2.Gemma2Config):
    """Fields and defaults of a Gemma 3 `config.json`; the defaults are the text model of 4 billion parameters.

    `rope_parameters` holds one set for each kind of layer: "full_attention" and "sliding_attention".
    """

    model_type: ClassVar[str] = "gemma3_text"

    vocab_size: int = 262208
    max_position_embeddings: int = 131072
    attn_logit_softcapping: float | None = None  # `transformers` ignores it
    final_logit_softcapping: float | None = None
    use_bidirectional_attention: bool | None = False
    _sliding_window_pattern: int = 6

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], **overrides: Any) -> Self:
        """Build from the keys of a `config.json`; for a multimodal model, from those of its text model."""
        text = data.get("text_config")
        if isinstance(text, Mapping):
            data = {**{name: data[name] for name in _OF_BOTH if name in data}, **text}
        return super().from_dict(data, **overrides)

    def __post_init__(self) -> None:
        """Fill in the fields that follow from others."""
        given = self.rope_parameters
        super().__post_init__()
        self.rope_parameters = _rope_parameters(given or {}, self.extra)

    @property
    def pattern(self) -> int:
        """One layer in N has no window, unless `layer_types` says otherwise."""
        pattern = self.extra.get("sliding_window_pattern", self._sliding_window_pattern)
        if type(pattern) is not int or pattern < 1:
            raise ConfigError(f"`sliding_window_pattern` must be a whole number above 0, but is {pattern!r}.")
        return pattern

    @property
    def rope(self) -> dict[str, Any]:
        """The `rope_parameters` of the layers without a window."""
        return dict((self.rope_parameters or {})["full_attention"])

    def text_spec(self) -> TextDecoderSpec:
        spec = super().text_spec()
        block, local = spec.stack.block, spec.stack.local
        attention = replace(block.self_attn, query_norm=block.norm, score_cap=None)
        rope = (self.rope_parameters or {})["sliding_attention"]
        rotary = rotary_of(rope, self.head_dim, self.max_position_embeddings)
        stack = replace(
            spec.stack,
            block=replace(block, self_attn=attention),
            local=None if local is None else replace(local, rotary=rotary),
        )
        return replace(spec, stack=stack)


def _rope_parameters(given: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of both kinds of layers, completed by the keys that releases before 5.0 wrote."""
    far, near = (given.get(kind) or {} for kind in _KINDS)
    one = given and not given.keys() & set(_KINDS)  # one set for all layers, which Gemma 3 does not have
    if one or not isinstance(far, Mapping) or not isinstance(near, Mapping):
        raise ConfigError(f"`rope_parameters` must hold a dictionary for each of {', '.join(_KINDS)}, but is {given}.")
    local = extra.get("rope_local_base_freq", 10_000.0)
    sets = (
        rope_parameters_of(far, {"rope_theta": 1_000_000.0, **extra}),
        rope_parameters_of(near, {"rope_theta": local}),
    )
    return dict(zip(_KINDS, sets, strict=True))


# fmt: off
def _rules(config: Gemma3TextConfig) -> tuple[Rule, ...]:
    layer, ours = "model.layers.{i}.self_attn.", "stack.layers.{i}.self_attn."
    return (
        # theirs                         ours
        *gemma2.rules(config),
        Rename(layer + "q_norm.weight",  ours + "q_norm.weight"),
        Rename(layer + "k_norm.weight",  ours + "k_norm.weight"),
        Drop("vision_tower.*",           why="the vision encoder is not used"),
        Drop("multi_modal_projector.*",  why="the vision encoder is not used"),
    )
# fmt: on


_MULTIMODAL = (  # names in a multimodal model, in files and in memory
    Alias("language_model.model.*", "model.*"),
    Alias("language_model.lm_head.*", "lm_head.*"),
    Alias("model.language_model.*", "model.*"),
)
FAMILY = Family(
    config=Gemma3TextConfig,
    also=("gemma3",),
    text=replace(llama_like.part("Gemma3ForCausalLM", table=_rules), aliases=_MULTIMODAL),
    other_tokenizers=("GemmaTokenizer",),
    card=Card(
        name="Gemma 3",
        paper="https://arxiv.org/abs/2503.19786",
        checkpoints=("google/gemma-3-270m", "google/gemma-3-1b-it", "google/gemma-3-4b-it"),
        licence="Gemma terms of use; gated",
        own="two kinds of positions, a window in five of six layers; of multimodal `gemma3`, only the text model",
    ),
    tiny=gemma2.TINY | {"_sliding_window_pattern": 2},
    variants={
        "scaled": {
            "rope_parameters": {"full_attention": TINY_ROPES["llama3"], "sliding_attention": TINY_ROPES["linear"]},
            "final_logit_softcapping": 2.0,
        },
        "untied": {"tie_word_embeddings": False, "sliding_window": 2},
    },
)
