"""StableLM (https://arxiv.org/abs/2402.17834): Llama with layer norms and rotary positions in a part of each head."""

from dataclasses import dataclass, replace
from typing import ClassVar

from dragoman.errors import ConfigError
from dragoman.families.base import Card, Family
from dragoman.families.free_fields import FieldAlias
from dragoman.families.llama_like import TINY, LlamaLikeConfig, part
from dragoman.families.rope import TINY_ROPES
from dragoman.spec import Norm, NormOrder, TextDecoderSpec


@dataclass(kw_only=True, init=False, eq=False)
class StableLmConfig(LlamaLikeConfig):
    """Fields and defaults of a StableLM `config.json`."""

    model_type: ClassVar[str] = "stablelm"
    default_share: ClassVar[float | None] = 0.25

    vocab_size: int = 50304
    hidden_size: int = 2560
    intermediate_size: int = 6912
    num_key_value_heads: int | None = 32
    max_position_embeddings: int = 4096
    layer_norm_eps: float = 1e-5
    use_qkv_bias: bool = False
    qk_layernorm: bool = False
    use_parallel_residual: bool = False
    hidden_dropout: float = 0.0
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 0

    rms_norm_eps: ClassVar = FieldAlias("layer_norm_eps")  # type: ignore[misc]

    def text_spec(self) -> TextDecoderSpec:
        if self.qk_layernorm:
            raise ConfigError(
                "`qk_layernorm` must be false, but is true: StableLM's norms "
                "have weights for each head, which is not supported. Use a "
                "model without them, such as stabilityai/stablelm-2-1_6b."
            )
        if self.hidden_dropout:
            raise ConfigError(
                f"`hidden_dropout` must be 0, but is {self.hidden_dropout}: "
                "StableLM drops outputs of feed-forward networks but not of "
                "attention, which is not supported. Use `attention_dropout`."
            )
        spec = self.decoder_spec(
            head_width=self.head_width(None),
            qkv_bias=self.use_qkv_bias,
            out_bias=False,
            ffn_bias=False,
            norm=Norm.LAYER,
        )
        if not self.use_parallel_residual:
            return spec
        block = replace(spec.stack.block, norm_order=NormOrder.SHARED)
        return replace(spec, stack=replace(spec.stack, block=block))


FAMILY = Family(
    config=StableLmConfig,
    text=part("StableLmForCausalLM"),
    card=Card(
        name="StableLM",
        paper="https://arxiv.org/abs/2402.17834",
        checkpoints=(
            "stabilityai/stablelm-3b-4e1t",
            "stabilityai/stablelm-2-1_6b",
        ),
        licence="CC BY-SA 4.0 (3B); see its card (1.6B)",
        own="layer norms, rotary positions in a quarter of each head, no 12B",
    ),
    tiny=TINY | {"hidden_size": 32, "layer_norm_eps": 0.01},
    variants={
        "2": {"use_qkv_bias": True, "tie_word_embeddings": True},
        "parallel": {"use_parallel_residual": True, "num_key_value_heads": 4},
        "yarn": {"rope_parameters": TINY_ROPES["yarn"]},
    },
)
