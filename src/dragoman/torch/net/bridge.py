"""What joins an encoder to a decoder: a projection where widths differ, or a prefix of the text; what can be joined."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from dragoman.api.config import SpeechEncoderDecoderConfig
from dragoman.errors import ConfigError
from dragoman.torch.net.cache import Memory
from dragoman.torch.net.layers import Linear, zero_padding
from dragoman.torch.net.speech_encoder import SpeechEncoder
from dragoman.torch.net.text_decoder import TextDecoder
from dragoman.torch.net.text_embedding import TextEmbedding

__all__ = ["Bridge", "Prefix", "bridge_of", "check_joinable", "check_parts"]


class Bridge(nn.Module):
    """A linear layer from the encoder's real output width to the decoder's, or nothing where they are equal."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width_in, width_out) if width_in != width_out else None

    def forward(self, states: Float[Tensor, "batch frames width_in"]) -> Float[Tensor, "batch frames width_out"]:
        """Return the memory."""
        return states if self.proj is None else self.proj(states)


class Prefix(nn.Module):
    """Speech as what comes before a text: neighbouring frames stacked, projected by two layers, amid a prompt.

    Args:
        width_in: Width of the encoder's states.
        width_out: Width of the decoder's embeddings.
        stacking: Frames that become one state.
        prompt: Token ids before the speech, and behind it.
    """

    def __init__(self, width_in: int, width_out: int, stacking: int, prompt: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.stacking = stacking
        self.prompt = tuple(tuple(ids) for ids in prompt)
        self.in_proj = Linear(stacking * width_in, width_out)
        self.out_proj = Linear(width_out, width_out)

    def length(self, frames: int) -> int:
        """Return how many places the prefix of `frames` frames takes."""
        return -(-frames // self.stacking) + sum(map(len, self.prompt))

    def project(
        self, states: Float[Tensor, "batch frames width_in"], mask: Bool[Tensor, "batch frames"] | None
    ) -> tuple[Float[Tensor, "batch places width_out"], Bool[Tensor, "batch places"]]:
        """Return the speech as the text model reads it, as it were by tokens of its own, and which places count."""
        rows, frames, width = states.shape
        counts = states.new_ones(rows, frames, dtype=torch.bool) if mask is None else mask
        more = -frames % self.stacking
        stacked = F.pad(zero_padding(states, mask), (0, 0, 0, more)).reshape(rows, -1, self.stacking * width)
        counts = F.pad(counts, (0, more)).reshape(rows, -1, self.stacking).any(-1)
        return self.out_proj(F.gelu(self.in_proj(stacked))), counts

    def forward(
        self,
        states: Float[Tensor, "batch frames width_in"],
        mask: Bool[Tensor, "batch frames"] | None,
        embed: TextEmbedding,
    ) -> Memory:
        """Return the prefix, padded on the left; its mask is `None` where all frames count."""
        speech, counts = self.project(states, mask)
        rows = states.shape[0]
        before, after = (
            embed.look_up(torch.tensor([ids], dtype=torch.long, device=states.device)).expand(rows, -1, -1)
            for ids in self.prompt
        )
        whole = torch.cat([before, speech.to(before.dtype), after], 1)
        if mask is None:
            return Memory(states=whole)
        ones = [counts.new_ones(rows, len(ids)) for ids in self.prompt]
        counts = torch.cat([ones[0], counts, ones[1]], 1)
        # what does not count goes to the front, so that speech and text are neighbours whatever the batch
        order = counts.to(torch.uint8).argsort(dim=1, stable=True)
        return Memory(states=whole.take_along_dim(order[:, :, None], 1), mask=counts.take_along_dim(order, 1))


def bridge_of(config: SpeechEncoderDecoderConfig, encoder: SpeechEncoder, decoder: TextDecoder) -> Bridge | Prefix:
    """Return what joins two parts in the way that the configuration says."""
    if config.fusion_stacking is None or config.fusion_prompt is None:
        return Bridge(encoder.spec.output_width, decoder.spec.memory_width)
    prompt = config.fusion_prompt
    wrong = [token for ids in prompt for token in ids if not 0 <= token < decoder.spec.vocab_size]
    if wrong:
        raise ConfigError(
            f"`fusion_prompt` must hold tokens of the decoder, ids below {decoder.spec.vocab_size}, but has {wrong}."
        )
    return Prefix(encoder.spec.output_width, decoder.spec.token_width, config.fusion_stacking, prompt)


def check_parts(encoder: object, decoder: object) -> None:
    """Check that there is an encoder and a decoder.

    Raises:
        ConfigError: If one is something else.
    """
    if not isinstance(encoder, SpeechEncoder):
        raise ConfigError(f"The encoder must be a speech encoder of dragoman, but is a {type(encoder).__name__}.")
    if not isinstance(decoder, TextDecoder):
        raise ConfigError(f"The decoder must be a text decoder of dragoman, but is a {type(decoder).__name__}.")


def check_joinable(encoder: SpeechEncoder, decoder: TextDecoder, fusion: str | None) -> None:
    """Check that two parts make a model.

    Raises:
        ConfigError: If the decoder is not causal, or has no cross-attention where it needs some, or has some although
            the speech is to come before the text.
    """
    causal, crosses = decoder.spec.causal, decoder.spec.stack.block.cross_attn is not None
    if fusion == "prefix" and causal and crosses:
        raise ConfigError(
            f"This {decoder.config.model_type} decoder has cross-attention, so speech cannot be its prefix. "
            "Leave `fusion` out, or, where the family allows it, build the decoder with add_cross_attention=False."
        )
    if not causal or (fusion != "prefix" and not crosses):
        raise ConfigError(
            f"This {decoder.config.model_type} decoder cannot attend to speech: it was built with is_decoder="
            f"{decoder.config.is_decoder} and add_cross_attention={decoder.config.add_cross_attention}, and both "
            'must be true (with fusion="prefix" the first alone). Build it again with them set in its configuration.'
        )
    wanted = decoder.config.cross_attention_hidden_size
    if wanted is not None and wanted not in (encoder.spec.output_width, decoder.spec.width):
        raise ConfigError(
            f"The decoder's `cross_attention_hidden_size` is {wanted}, but the encoder gives states of width "
            f"{encoder.spec.output_width}. Leave it unset: a projection is added where widths differ."
        )
