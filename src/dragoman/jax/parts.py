"""`SpeechEncoder` and `TextDecoder`: networks with a configuration and the arguments of `transformers`.

Not here: the networks (`net`).
"""

from typing import Any

import jax

from dragoman.api.outputs import CausalLMOutput
from dragoman.families import ModelConfig, speech_part, text_part
from dragoman.jax.arrays import ARRAYS
from dragoman.jax.backend import BACKEND
from dragoman.jax.net.speech_encoder import SpeechEncoderNet
from dragoman.jax.net.text_decoder import TextDecoderNet
from dragoman.jax.pretrained import PretrainedPart
from dragoman.model.parts import DecoderMethods, EncoderMethods

jax.tree_util.register_dataclass(CausalLMOutput)


class SpeechEncoder(SpeechEncoderNet, PretrainedPart, EncoderMethods):
    """A speech encoder built from the configuration of its family.

    Args:
        config: The configuration of a family that has a speech encoder.
        empty: Allocate no memory: a checkpoint fills the tensors.
        seed: Of the random weights.

    Raises:
        ConfigError: If the family has none, or sizes do not fit each other.
    """

    _backend, _arrays, _network = BACKEND, ARRAYS, SpeechEncoderNet
    __call__ = EncoderMethods._call

    def __init__(self, config: ModelConfig, *, empty: bool = False, seed: int = 0) -> None:
        speech_part(config)
        super().__init__(config.speech_spec(), empty=empty, seed=seed)
        self.config = config
        self.main_input_name = self.spec.input_name


class TextDecoder(TextDecoderNet, PretrainedPart, DecoderMethods):
    """A text decoder built from the configuration of its family.

    Args:
        config: The configuration of a family that has a text decoder. `is_decoder` makes it causal and
            `add_cross_attention` gives it cross-attention, where the family leaves the choice.
        empty: Allocate no memory: a checkpoint fills the tensors.
        seed: Of the random weights.

    Raises:
        ConfigError: If the family has none, or sizes do not fit each other.
    """

    _arrays, _network = ARRAYS, TextDecoderNet
    __call__ = DecoderMethods._call

    def __init__(self, config: ModelConfig, *, empty: bool = False, seed: int = 0) -> None:
        text_part(config)
        super().__init__(config.text_spec(), empty=empty, seed=seed)
        self.config = config

    def get_output_embeddings(self) -> Any:
        """Return the module with the head's weight: the token embedding, where the head is tied to it."""
        return self.embed.tokens if self.head.weight is None else self.head
