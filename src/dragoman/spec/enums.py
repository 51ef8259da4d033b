"""The choices that the parts of a model offer."""

from enum import Enum

from dragoman.errors import ConfigError, did_you_mean

__all__ = ["Activation", "EmbedNorm", "FrontendNorm", "Norm", "NormOrder", "Padding", "Positions"]


class NormOrder(Enum):
    """Where a Transformer block normalises."""

    PRE = "pre"  # x + f(norm(x)), as GPT-2, Whisper and the "stable" wav2vec 2.0
    POST = "post"  # norm(x + f(x)), as BERT, BART and wav2vec 2.0 base
    PARALLEL = "parallel"  # x + f(norm(x)) + g(other_norm(x)), as GPT-NeoX
    SHARED = "shared"  # n = norm(x); x + f(n) + g(n), as Phi
    BOTH = "both"  # x + other_norm(f(norm(x))), as Gemma 2


class Norm(Enum):
    """How the layers between the parts of a block normalise."""

    LAYER = "layer"  # mean 0, variance 1, then a weight and a bias
    RMS = "rms"  # mean square 1, then a weight: T5 and Llama (https://arxiv.org/abs/1910.07467)
    RMS_FROM_ONE = "rms_from_one"  # the same, stored as what the weight has more than 1: Gemma


class FrontendNorm(Enum):
    """How the convolutional front end normalises its channels."""

    GROUP = "group"  # each channel over time, after the first convolution only
    LAYER = "layer"  # each frame over its channels, after every convolution


class Positions(Enum):
    """What tells a text decoder where a token stands, added to its embedding."""

    LEARNED = "learned"  # a table that is trained
    STORED = "stored"  # sinusoids that checkpoints hold like weights, though nobody trains them: Pegasus, Marian
    COMPUTED = "computed"  # sinusoids that no checkpoint needs to hold: fairseq's, as XGLM and Speech2Text2
    NONE = "none"  # nothing: attention itself knows positions


class EmbedNorm(Enum):
    """What a text decoder normalises before its first block."""

    TOKENS = "tokens"  # the embeddings of the tokens, before positions are added: Blenderbot's small model
    SUM = "sum"  # tokens, positions and types together, as BERT and BART


class Padding(Enum):
    """What padding may do to a result."""

    EXACT = "exact"  # nothing: a clip in a padded batch gives what it gives alone
    REFERENCE = "reference"  # what it does upstream, for bit-compatible numbers


class Activation(Enum):
    """Non-linearities; the values are our names, `parse` knows Hugging Face's."""

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
