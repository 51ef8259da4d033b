"""A text decoder: embeddings, stack and head."""

from dataclasses import dataclass, replace

from dragoman.errors import ConfigError
from dragoman.spec.block import BlockSpec, StackSpec
from dragoman.spec.checks import check_cap, check_numbers, check_sizes
from dragoman.spec.enums import Activation, EmbedNorm, Positions
from dragoman.spec.positions import BucketBiasSpec


@dataclass(frozen=True, kw_only=True)
class TextPositionSpec:
    """Position embeddings of tokens."""

    kind: Positions = Positions.LEARNED
    """Where they come from."""
    offset: int = 0
    """Rows of the table before that of position 0 (BART has 2)."""
    padding_has_own_position: bool = False
    """Whether padding tokens take the last row before position 0 and are not counted (RoBERTa)."""
    scaled: bool = False
    """Whether computed sinusoids are those of the Transformer's paper, divided by the root of the width (Canary)."""
    from_mask: bool = False
    """Whether positions count only the tokens that the attention mask keeps (OPT)."""


@dataclass(frozen=True, kw_only=True)
class TextEmbeddingSpec:
    """Embeddings of tokens, positions and types, added up."""

    positions: TextPositionSpec | None = TextPositionSpec()
    """Position embeddings; `None` where attention itself encodes positions."""
    num_token_types: int = 0
    """Rows of the table of token types (BERT); 0 for no table."""
    scale: float = 1.0
    """Factor of the token embeddings."""
    width: int | None = None
    """Width of the token embeddings where it is not the stack's, so that a projection follows."""
    project_tokens: bool = False
    """Whether that projection comes before positions are added, and another one leads back before the head (OPT)."""
    norm: EmbedNorm | None = None
    """What is normalised."""
    norm_eps: float = 1e-5
    """The norm's epsilon, and that of the head's."""
    dropout: float = 0.0
    """Probability that a value is dropped in training."""
    pad_token_id: int | None = None
    """The padding token."""
    trains_padding: bool = False
    """Whether the lookup of the padding token is trained like any other (GPT-2, T5)."""

    def __post_init__(self) -> None:
        check_sizes("The text decoder", {"num_token_types": self.num_token_types}, at_least=0)
        check_numbers("The text decoder", {"dropout": self.dropout, "norm_eps": self.norm_eps})
        own = self.positions is not None and self.positions.padding_has_own_position
        if own and self.positions is not None and (self.pad_token_id is None or self.positions.offset < 1):
            raise ConfigError(
                "This text decoder has a position of its own for padding, so `pad_token_id` must be a token, but it is "
                f"{self.pad_token_id!r}."
            )


@dataclass(frozen=True, kw_only=True)
class HeadSpec:
    """From states to logits."""

    tied: bool = True
    """Whether its weight is the token embedding."""
    bias: bool = False
    """Whether it has a bias for each token."""
    transform: Activation | None = None
    """Non-linearity of a dense, normalised layer before it (BERT); `None` for no such layer."""
    scale: float = 1.0
    """Factor of the states (T5)."""
    cap: float | None = None
    """Bound of the logits: `cap * tanh(logit / cap)` (Gemma 2)."""

    def __post_init__(self) -> None:
        check_cap("The cap of the logits", self.cap)


@dataclass(frozen=True, kw_only=True)
class TextDecoderSpec:
    """A text decoder: `embed` → `stack` → `head`."""

    vocab_size: int
    """Number of tokens."""
    num_positions: int
    """The longest sequence, in tokens."""
    embed: TextEmbeddingSpec
    """The embeddings."""
    stack: StackSpec
    """The blocks."""
    head: HeadSpec
    """The output layer."""
    causal: bool = True
    """Whether a token attends only to itself and to earlier tokens."""
    position_bias: BucketBiasSpec | None = None
    """Learned bias of the self-attention scores of all layers, by distance (T5)."""
    init_std: float = 0.02
    """Standard deviation of fresh weights."""
    scaled_residual_init: bool = False
    """Whether weights that end a residual branch are drawn smaller, by the root of the number of branches (GPT-2)."""

    def __post_init__(self) -> None:
        check_sizes("The text decoder", {"vocab_size": self.vocab_size, "num_positions": self.num_positions})
        check_sizes("The text decoder", {"embed_width": self.token_width})
        check_numbers("The text decoder", {"init_std": self.init_std}, at_most=100.0)
        positions = self.embed.positions
        sinusoids = positions is not None and positions.kind is not Positions.LEARNED
        if sinusoids and (self.width % 2 or self.width < 4):
            raise ConfigError(f"Sinusoids come in pairs, so the width must be even and above 2, but is {self.width}.")

    def with_block(self, block: BlockSpec) -> "TextDecoderSpec":
        """Return the same decoder with other blocks."""
        return replace(self, stack=replace(self.stack, block=block))

    @property
    def width(self) -> int:
        """Width of the stack."""
        return self.stack.block.width

    @property
    def token_width(self) -> int:
        """Width of the token embeddings."""
        return self.width if self.embed.width is None else self.embed.width

    @property
    def untrained_rows(self) -> dict[str, int]:
        """Rows of tables whose lookup has no gradient (`padding_idx` of PyTorch), by the table's name.

        They begin as zeros. Through a tied head the padding token's is trained.
        """
        pad, positions, found = self.embed.pad_token_id, self.embed.positions, {}
        if pad is not None and -self.vocab_size <= pad < self.vocab_size and not self.embed.trains_padding:
            found["embed.tokens"] = pad % self.vocab_size
        if positions is not None and positions.padding_has_own_position and positions.kind is Positions.LEARNED:
            found["embed.positions"] = positions.offset - 1
        return found

    @property
    def memory_width(self) -> int:
        """Width of the memory that cross-attention reads."""
        cross = self.stack.block.cross_attn
        return (None if cross is None else cross.memory_width) or self.width
