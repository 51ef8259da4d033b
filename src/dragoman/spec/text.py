"""What a text decoder is made of: embeddings, stack, head."""

from dataclasses import dataclass

from dragoman.errors import ConfigError
from dragoman.spec.block import StackSpec
from dragoman.spec.checks import check_cap, check_numbers, check_sizes
from dragoman.spec.enums import Activation, EmbedNorm, Positions
from dragoman.spec.positions import BucketBiasSpec

__all__ = ["HeadSpec", "TextDecoderSpec"]


@dataclass(frozen=True, kw_only=True)
class HeadSpec:
    """From states to logits: an optional dense layer (`transform`, BERT's), then one row of weights a token.

    A tied head reads the token embedding; an untied one has weights of its own. States are multiplied by `scale` (T5).
    With a `cap` logits are bent so that none is beyond it: `cap * tanh(logit / cap)` (Gemma 2).
    """

    tied: bool = True
    bias: bool = False
    transform: Activation | None = None
    scale: float = 1.0
    cap: float | None = None

    def __post_init__(self) -> None:
        """Check the cap."""
        check_cap("The cap of the logits", self.cap)


@dataclass(frozen=True, kw_only=True)
class TextDecoderSpec:
    """A text decoder: token + position (+ type) embeddings → `stack` → `head`.

    `position_offset` rows at the start of the position table belong to no position (BART has 2), so the table holds
    `num_positions + position_offset` rows. With `padding_has_own_position` the last of these rows is that of padding
    tokens, which are not counted (RoBERTa); with `positions_from_mask` positions count only what the attention mask
    keeps (OPT); otherwise padding counts like any token. `embed_width` is the width of the embeddings where it differs
    from the stack's and a projection follows (ELECTRA); with `narrow_tokens` the projection follows the token embedding
    directly, and another one leads back before the head (OPT). `position_bias` adds a learned number to the scores of
    self-attention, by distance (T5); all layers share it.
    """

    vocab_size: int
    num_positions: int
    stack: StackSpec
    head: HeadSpec
    positions: Positions = Positions.LEARNED
    position_offset: int = 0
    padding_has_own_position: bool = False
    positions_from_mask: bool = False
    position_bias: BucketBiasSpec | None = None
    num_token_types: int = 0
    embed_scale: float = 1.0
    embed_width: int | None = None
    narrow_tokens: bool = False
    embed_norm: EmbedNorm | None = None
    norm_eps: float = 1e-5
    dropout: float = 0.0
    pad_token_id: int | None = None
    init_std: float = 0.02
    # GPT-2 draws the weights that end a residual branch narrower, by the square root of the number of branches.
    scaled_residual_init: bool = False

    def __post_init__(self) -> None:
        """Check the sizes."""
        check_sizes("The text decoder", {"vocab_size": self.vocab_size, "num_positions": self.num_positions})
        check_sizes("The text decoder", {"num_token_types": self.num_token_types}, at_least=0)
        check_sizes("The text decoder", {"embed_width": self.token_width})
        check_numbers("The text decoder", {"dropout": self.dropout, "norm_eps": self.norm_eps})
        check_numbers("The text decoder", {"init_std": self.init_std}, at_most=100.0)
        if self.padding_has_own_position and (self.pad_token_id is None or self.position_offset < 1):
            raise ConfigError(
                "This text decoder has a position of its own for padding, so `pad_token_id` must be a token, but it is "
                f"{self.pad_token_id!r}."
            )
        sinusoids = self.positions in (Positions.STORED, Positions.COMPUTED)
        if sinusoids and (self.width % 2 or self.width < 4):
            raise ConfigError(f"Sinusoids come in pairs, so the width must be even and above 2, but is {self.width}.")

    @property
    def width(self) -> int:
        """Width of the stack."""
        return self.stack.block.width

    @property
    def token_width(self) -> int:
        """Width of the embeddings."""
        return self.width if self.embed_width is None else self.embed_width

    @property
    def memory_width(self) -> int:
        """Width of the memory that cross-attention looks at."""
        return self.stack.block.memory_width or self.width
