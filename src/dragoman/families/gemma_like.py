"""Shared by Gemma 1 to 3: Llama's network with norm weights stored minus one and scaled embeddings."""

from dataclasses import dataclass, replace

from dragoman.errors import ConfigError
from dragoman.families.llama_like import LlamaLikeConfig
from dragoman.spec import Norm, TextDecoderSpec


@dataclass(kw_only=True, init=False, eq=False)
class GemmaLikeConfig(LlamaLikeConfig):
    """The fields and defaults that Gemma 1 to 3 share."""

    vocab_size: int = 256000
    head_dim: int = 256
    hidden_act: str = "gelu_pytorch_tanh"
    max_position_embeddings: int = 8192
    attention_bias: bool = False
    use_bidirectional_attention: bool | None = None
    tie_word_embeddings: bool = True
    pad_token_id: int | None = 0
    bos_token_id: int | None = 2
    eos_token_id: int | list[int] | None = 1

    def text_spec(self) -> TextDecoderSpec:
        if self.use_bidirectional_attention:
            raise ConfigError(
                "`use_bidirectional_attention` must be false, but is true: without a causal mask Gemma is no decoder. "
                "Use another Gemma."
            )
        bias = self.attention_bias
        spec = self.decoder_spec(
            head_width=self.head_dim, qkv_bias=bias, out_bias=bias, ffn_bias=False, norm=Norm.RMS_FROM_ONE
        )
        return replace(spec, embed=replace(spec.embed, scale=self.hidden_size**0.5))
