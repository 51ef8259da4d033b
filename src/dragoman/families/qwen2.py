"""Qwen 2 and 2.5 (https://arxiv.org/abs/2407.10671): Llama with biases of queries, keys and values."""

from dataclasses import dataclass, replace
from typing import ClassVar

from dragoman.families.base import Card, Family
from dragoman.families.llama_like import TINY, LlamaLikeConfig, part, windowed
from dragoman.spec import TextDecoderSpec
from dragoman.spec.checks import MOST_LAYERS


@dataclass(kw_only=True, init=False, eq=False)
class QwenConfig(LlamaLikeConfig):
    """The fields that Qwen 2 and Qwen 3 share."""

    vocab_size: int = 151936
    intermediate_size: int = 22016
    num_key_value_heads: int | None = 32
    max_position_embeddings: int = 32768
    use_sliding_window: bool = False
    sliding_window: int | None = 4096
    max_window_layers: int = 28
    layer_types: list[str] | None = None

    def __post_init__(self) -> None:
        """Fill in the fields that follow from others."""
        super().__post_init__()
        self.sliding_window = self.sliding_window if self.use_sliding_window else None
        if self.layer_types is None:
            first = self.num_hidden_layers if self.sliding_window is None else self.max_window_layers
            count = min(max(self.num_hidden_layers, 0), MOST_LAYERS)  # the stack rejects more
            self.layer_types = ["sliding_attention" if i >= first else "full_attention" for i in range(count)]


@dataclass(kw_only=True, init=False, eq=False)
class Qwen2Config(QwenConfig):
    """Fields and defaults of a Qwen 2 `config.json`."""

    model_type: ClassVar[str] = "qwen2"

    def text_spec(self) -> TextDecoderSpec:
        spec = self.decoder_spec(head_width=self.head_width(None), qkv_bias=True, out_bias=False, ffn_bias=False)
        return replace(spec, stack=windowed(spec.stack, self.layer_types, self.sliding_window))


FAMILY = Family(
    config=Qwen2Config,
    text=part("Qwen2ForCausalLM"),
    other_tokenizers=("Qwen2Tokenizer",),
    card=Card(
        name="Qwen 2, Qwen 2.5",
        paper="https://arxiv.org/abs/2407.10671",
        checkpoints=("Qwen/Qwen2.5-0.5B", "Qwen/Qwen2-1.5B"),
        licence="Apache-2.0 (most sizes)",
        ends=r"to be set: `<\|im_end\|>` ends",
        own="biases of queries, keys and values; a window in some layers",
    ),
    tiny=TINY | {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1},
)
