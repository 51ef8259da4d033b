"""Choices that the specs offer."""

from enum import Enum

from dragoman.errors import ConfigError, did_you_mean


class FrontendNorm(Enum):
    """How the convolutional front end normalises its channels."""

    GROUP = "group"  # each channel over time, after the first convolution only
    LAYER = "layer"  # each frame over its channels, after every convolution
    ALL = "all"  # all channels and frames together, after the first convolution and its non-linearity: Moonshine


class Positions(Enum):
    """Position embeddings of a text decoder."""

    LEARNED = "learned"  # a trained table
    STORED = "stored"  # a table of sinusoids that is not trained, but stored in checkpoints: Pegasus, Marian
    COMPUTED = "computed"  # sinusoids that are not stored: fairseq's, as in XGLM and Speech2Text2


class EmbedNorm(Enum):
    """The embeddings that a text decoder normalises."""

    TOKENS = "tokens"  # those of the tokens, before positions are added: Blenderbot's small model
    SUM = "sum"  # the sum of tokens, positions and types, as BERT and BART


class Padding(Enum):
    """Whether padding may change a result."""

    EXACT = "exact"  # no: a clip in a padded batch gives the same result as alone
    REFERENCE = "reference"  # as in `transformers`, for bit-compatible numbers


class Activation(Enum):
    """Non-linearities; the values are our names, `parse` reads those of `config.json`."""

    GELU = "gelu"  # x Φ(x), exact
    GELU_TANH = "gelu_tanh"  # the tanh approximation that GPT-2 was trained with
    QUICK_GELU = "quick_gelu"  # x σ(1.702 x)
    RELU = "relu"
    SILU = "silu"
    TANH = "tanh"

    @classmethod
    def parse(cls, name: str) -> "Activation":
        """Return the activation that a `config.json` calls `name`.

        Raises:
            ConfigError: If no activation has that name.
        """
        try:
            return _ACTIVATIONS[name]
        except (KeyError, TypeError):
            raise ConfigError(
                f"The activation must be one of {', '.join(_ACTIVATIONS)}, but is {name!r}."
                f"{did_you_mean(str(name), _ACTIVATIONS)}"
            ) from None


_ACTIVATIONS = {
    "gelu": Activation.GELU,
    "gelu_python": Activation.GELU,
    "gelu_new": Activation.GELU_TANH,
    "gelu_fast": Activation.GELU_TANH,
    "gelu_pytorch_tanh": Activation.GELU_TANH,
    "quick_gelu": Activation.QUICK_GELU,
    "relu": Activation.RELU,
    "silu": Activation.SILU,
    "swish": Activation.SILU,
    "tanh": Activation.TANH,
}
