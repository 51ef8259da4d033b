"""Gemma (https://arxiv.org/abs/2403.08295): Llama with norms that count from one and scaled embeddings."""

from dataclasses import dataclass, replace
from typing import ClassVar

from dragoman.errors import ConfigError
from dragoman.families.base import Family
from dragoman.families.llama_like import LlamaLikeConfig, part
from dragoman.spec import Norm, TextDecoderSpec


@dataclass(kw_only=True)
class GemmaConfig(LlamaLikeConfig):
    """Fields and defaults of a Gemma `config.json`; the defaults are the model of 7 billion parameters."""

    model_type: ClassVar[str] = "gemma"

    vocab_size: int = 256000
    hidden_size: int = 3072
    intermediate_size: int = 24576
    num_hidden_layers: int = 28
    num_attention_heads: int = 16
    num_key_value_heads: int | None = 16
    head_dim: int = 256
    hidden_act: str = "gelu_pytorch_tanh"
    max_position_embeddings: int = 8192
    attention_bias: bool = False
    use_bidirectional_attention: bool | None = None
    tie_word_embeddings: bool = True
    pad_token_id: int | None = 0
    bos_token_id: int | None = 2
    eos_token_id: int | list[int] | None = 1

    def __post_init__(self) -> None:
        """Check the fields, and mend the activation: the first files say "gelu" and mean its approximation."""
        super().__post_init__()
        if self.hidden_act == "gelu":
            self.hidden_act = "gelu_pytorch_tanh"

    def text_spec(self) -> TextDecoderSpec:
        """Describe the decoder."""
        if self.use_bidirectional_attention:
            raise ConfigError("A Gemma with `use_bidirectional_attention` cannot write a text, so it is no decoder.")
        bias = self.attention_bias
        spec = self.decoder_spec(head_width=self.head_dim, qkv_bias=bias, out_bias=bias, ffn_bias=False)
        stack = replace(spec.stack, block=replace(spec.stack.block, norm=Norm.RMS_FROM_ONE))
        return replace(spec, stack=stack, embed_scale=self.hidden_size**0.5)


FAMILY = Family(config=GemmaConfig, text=part("GemmaForCausalLM"), tokenizer="GemmaTokenizer")
