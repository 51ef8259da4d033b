"""Qwen 2 and 2.5 (https://arxiv.org/abs/2407.10671): Llama with biases before attention, and windows in some layers."""

from dataclasses import dataclass, replace
from typing import ClassVar

from dragoman.errors import ConfigError
from dragoman.families.base import Family
from dragoman.families.llama_like import LlamaLikeConfig, part
from dragoman.spec import StackSpec, TextDecoderSpec


@dataclass(kw_only=True)
class QwenConfig(LlamaLikeConfig):
    """The fields that Qwen 2 and Qwen 3 have in common."""

    vocab_size: int = 151936
    intermediate_size: int = 22016
    num_key_value_heads: int | None = 32
    max_position_embeddings: int = 32768
    use_sliding_window: bool = False
    sliding_window: int | None = 4096
    max_window_layers: int = 28
    layer_types: list[str] | None = None

    def __post_init__(self) -> None:
        """Check the fields, and fill those that follow from others."""
        super().__post_init__()
        self.sliding_window = self.sliding_window if self.use_sliding_window else None
        if self.layer_types is None:
            first = self.num_hidden_layers if self.sliding_window is None else self.max_window_layers
            count = min(max(self.num_hidden_layers, 0), 1_000)  # a greater number is refused by the stack
            self.layer_types = ["sliding_attention" if i >= first else "full_attention" for i in range(count)]

    def windowed(self, stack: StackSpec) -> StackSpec:
        """Return the stack with windows where `layer_types` says so.

        Raises:
            ConfigError: If `layer_types` does not fit the layers.
        """
        kinds = self.layer_types or []
        if len(kinds) != stack.num_layers or not set(kinds) <= {"full_attention", "sliding_attention"}:
            raise ConfigError(
                f'`layer_types` must be "full_attention" or "sliding_attention" for each of the {stack.num_layers} '
                f"layers, but is {kinds}."
            )
        windowed = frozenset(i for i, kind in enumerate(kinds) if kind == "sliding_attention")
        if windowed and self.sliding_window is None:
            raise ConfigError('Some `layer_types` are "sliding_attention", so `sliding_window` must be a number.')
        return replace(stack, window=self.sliding_window, windowed=windowed)


@dataclass(kw_only=True)
class Qwen2Config(QwenConfig):
    """Fields and defaults of a Qwen 2 `config.json`."""

    model_type: ClassVar[str] = "qwen2"

    def text_spec(self) -> TextDecoderSpec:
        """Describe the decoder."""
        spec = self.decoder_spec(head_width=self.head_width(None), qkv_bias=True, out_bias=False, ffn_bias=False)
        return replace(spec, stack=self.windowed(spec.stack))


FAMILY = Family(config=Qwen2Config, text=part("Qwen2ForCausalLM"), tokenizer="Qwen2Tokenizer")
