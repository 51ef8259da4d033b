"""Phi-3 (https://arxiv.org/abs/2404.14219), Phi-4 and Phi-4-mini: Llama with fused projections and LongRoPE."""

from dataclasses import dataclass, replace
from typing import ClassVar

from dragoman.checkpoint.keymap import Rule, Split
from dragoman.errors import ConfigError
from dragoman.families import llama_like
from dragoman.families.base import Card, Family
from dragoman.families.rope import TINY_ROPES
from dragoman.spec import TextDecoderSpec

_OLD_NAMES = ("su", "yarn")  # of LongRoPE, in early files


@dataclass(kw_only=True, init=False, eq=False)
class Phi3Config(llama_like.LlamaLikeConfig):
    """Fields and defaults of a Phi-3 `config.json`; the defaults are Phi-3 mini.

    With LongRoPE, `original_max_position_embeddings` is the longest sequence; longer ones need other angles, which are
    not supported.
    """

    model_type: ClassVar[str] = "phi3"
    default_share: ClassVar[float | None] = 1.0

    vocab_size: int = 32064
    hidden_size: int = 3072
    intermediate_size: int = 8192
    resid_pdrop: float = 0.0
    embd_pdrop: float = 0.0  # `transformers` ignores it
    max_position_embeddings: int = 4096
    original_max_position_embeddings: int = 4096
    rms_norm_eps: float = 1e-5
    sliding_window: int | None = None
    pad_token_id: int | None = 32000
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 32000

    def __post_init__(self) -> None:
        """Complete `rope_parameters` from the names of earlier releases."""
        super().__post_init__()
        rope = self.rope
        if rope["rope_type"] in _OLD_NAMES:
            rope["rope_type"] = "longrope"
        if rope["rope_type"] == "longrope":
            rope["original_max_position_embeddings"] = self.original_max_position_embeddings

    def text_spec(self) -> TextDecoderSpec:
        kind = self.rope.get("rope_type", "default")
        if kind not in ("default", "longrope"):
            raise ConfigError(
                f'The `rope_type` of the `rope_parameters` of a Phi-3 must be "default" or "longrope", but is {kind!r}.'
            )
        width = self.head_width(self.extra.get("head_dim"))
        spec = self.decoder_spec(head_width=width, qkv_bias=False, out_bias=False, ffn_bias=False)
        stack = replace(spec.stack, block=replace(spec.stack.block, dropout=self.resid_pdrop))
        return replace(spec, stack=llama_like.windowed_everywhere(stack, self.sliding_window))


def _rules(config: Phi3Config) -> tuple[Rule, ...]:
    attention, ffn = "stack.layers.{i}.self_attn.", "stack.layers.{i}.ffn."
    keys = config.num_key_value_heads or config.num_attention_heads
    return (
        *llama_like.rules_around(config),
        Split(
            "model.layers.{i}.self_attn.qkv_proj.*",
            into=(attention + "q_proj.*", attention + "k_proj.*", attention + "v_proj.*"),
            shares=(config.num_attention_heads, keys, keys),
        ),
        Split("model.layers.{i}.mlp.gate_up_proj.*", into=(ffn + "gate_proj.*", ffn + "in_proj.*")),
    )


FAMILY = Family(
    config=Phi3Config,
    text=llama_like.part("Phi3ForCausalLM", table=_rules),
    card=Card(
        name="Phi-3, Phi-3.5, Phi-4",
        paper="https://arxiv.org/abs/2404.14219",
        checkpoints=("microsoft/Phi-3-mini-4k-instruct", "microsoft/Phi-4-mini-instruct"),
        licence="MIT",
        own="fused projections, a window in some models, LongRoPE (up to 4096 tokens)",
    ),
    tiny=llama_like.TINY
    | {
        "hidden_size": 32,  # rotary positions in three quarters of a head of 8
        "rope_parameters": {"partial_rotary_factor": 0.75},
        "sliding_window": 5,
    },
    variants={
        "longrope": {
            "rope_parameters": TINY_ROPES["longrope"] | {"partial_rotary_factor": 0.75},
            "original_max_position_embeddings": 16,
        },
        "mini": {"rope_parameters": None, "sliding_window": None, "num_key_value_heads": 4},
        "tied": {"tie_word_embeddings": True, "sliding_window": None},
    },
)
