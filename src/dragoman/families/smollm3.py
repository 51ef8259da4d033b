"""SmolLM3 (https://huggingface.co/blog/smollm3): Llama with layers that have no rotary positions."""

from dataclasses import dataclass, replace
from typing import ClassVar

from dragoman.errors import ConfigError
from dragoman.families.base import Card, Family
from dragoman.families.llama_like import TINY, LlamaLikeConfig, part, windowed
from dragoman.spec import TextDecoderSpec
from dragoman.spec.checks import MOST_LAYERS


@dataclass(kw_only=True, init=False, eq=False)
class SmolLM3Config(LlamaLikeConfig):
    """Fields and defaults of a SmolLM3 `config.json`; the defaults are the model of 3 billion parameters.

    `no_rope_layers` has 1 for each layer with rotary positions and 0 for each without; by default every
    `no_rope_layer_interval`-th layer has none. With `use_sliding_window`, layers without them have a window, unless
    `layer_types` says otherwise.
    """

    model_type: ClassVar[str] = "smollm3"
    default_theta: ClassVar[float] = 2_000_000.0

    vocab_size: int = 128256
    hidden_size: int = 2048
    num_hidden_layers: int = 36
    num_attention_heads: int = 16
    num_key_value_heads: int | None = 4
    max_position_embeddings: int = 32768
    use_sliding_window: bool = False
    sliding_window: int | None = None
    no_rope_layers: list[int] | None = None
    no_rope_layer_interval: int = 4
    layer_types: list[str] | None = None
    attention_bias: bool = False
    mlp_bias: bool = False
    tie_word_embeddings: bool = True
    pad_token_id: int | None = 128004
    bos_token_id: int | None = 128000
    eos_token_id: int | list[int] | None = 128001

    def __post_init__(self) -> None:
        """Fill in the fields that follow from others."""
        super().__post_init__()
        every = self.no_rope_layer_interval
        if every < 1:
            raise ConfigError(f"`no_rope_layer_interval` must be above 0, but is {every}.")
        layers = range(min(max(self.num_hidden_layers, 0), MOST_LAYERS))  # the stack rejects more
        if self.no_rope_layers is None:
            self.no_rope_layers = [int((layer + 1) % every != 0) for layer in layers]
        if self.layer_types is None:
            near = self.nope_layers if self.use_sliding_window and self.sliding_window is not None else ()
            self.layer_types = ["sliding_attention" if layer in near else "full_attention" for layer in layers]

    @property
    def nope_layers(self) -> frozenset[int]:
        """The layers without rotary positions."""
        return frozenset(layer for layer, has_rope in enumerate(self.no_rope_layers or []) if not has_rope)

    def text_spec(self) -> TextDecoderSpec:
        given, layers = self.no_rope_layers or [], self.num_hidden_layers
        if len(given) < layers or not set(given) <= {0, 1}:
            raise ConfigError(f"`no_rope_layers` must hold 0 or 1 for each of the {layers} layers, but is {given}.")
        bias, width = self.attention_bias, self.head_width(self.extra.get("head_dim"))
        spec = self.decoder_spec(head_width=width, qkv_bias=bias, out_bias=bias, ffn_bias=self.mlp_bias)
        stack = windowed(spec.stack, self.layer_types, self.sliding_window)
        return replace(spec, stack=replace(stack, nope_layers=self.nope_layers))


FAMILY = Family(
    config=SmolLM3Config,
    text=part("SmolLM3ForCausalLM"),
    card=Card(
        name="SmolLM3",
        paper="https://huggingface.co/blog/smollm3",
        checkpoints=("HuggingFaceTB/SmolLM3-3B", "HuggingFaceTB/SmolLM3-3B-Base"),
        licence="Apache-2.0",
        own="no rotary positions in every fourth layer",
    ),
    tiny=TINY | {"no_rope_layer_interval": 2, "use_sliding_window": True, "sliding_window": 5},
    variants={
        "3b": {"use_sliding_window": False, "sliding_window": None},
        "windows-apart": {
            "no_rope_layers": [0, 1, 0],  # longer than the stack: the rest is ignored
            "layer_types": ["full_attention", "sliding_attention"],
            "attention_bias": True,
            "mlp_bias": True,
            "tie_word_embeddings": False,
        },
    },
)
