"""`SpeechEncoder` and `TextDecoder`: networks with a configuration, arguments as in `transformers`, loading and saving.

Both take the configuration of any family. The class names of `transformers` are these two bound to one family each;
there is no file per class. Not here: the networks (`net`).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dragoman.api.outputs import CausalLMOutput
from dragoman.errors import ConfigError
from dragoman.families import FAMILIES, Family, ModelConfig, speech_part, text_part
from dragoman.generation.options import GenerationConfig
from dragoman.model.parts import DecoderMethods, EncoderMethods
from dragoman.torch.arrays import ARRAYS
from dragoman.torch.backend import BACKEND
from dragoman.torch.language_model import continue_text
from dragoman.torch.net.speech_encoder import SpeechEncoderNet
from dragoman.torch.net.text_decoder import TextDecoderNet
from dragoman.torch.pretrained import PretrainedPart
from dragoman.torch.vocabulary import VocabularyMethods

torch.export.register_dataclass(CausalLMOutput)  # so that torch.export and sharding see its tensors


class SpeechEncoder(SpeechEncoderNet, PretrainedPart, EncoderMethods):
    """A speech encoder built from the configuration of its family.

    Args:
        config: The configuration of a family that has a speech encoder.
        empty: Allocate no memory (meta device): a checkpoint fills the tensors.

    Raises:
        ConfigError: If the family has none, or sizes do not fit each other.
    """

    _backend, _arrays, _network = BACKEND, ARRAYS, SpeechEncoderNet
    forward = EncoderMethods._call

    def __init__(self, config: ModelConfig, *, empty: bool = False) -> None:
        speech_part(config)
        super().__init__(config.speech_spec(), empty=empty)
        self.config = config
        self.main_input_name = self.spec.input_name

    def freeze_feature_encoder(self) -> None:
        """Freeze the convolutions of the front end; the projection after them is still trained."""
        for name, layers in self.frontend.named_children():
            if name not in ("norm", "proj"):
                layers.requires_grad_(False)

    def freeze_feature_extractor(self) -> None:
        """Do the same, under an older name in `transformers`."""
        self.freeze_feature_encoder()

    def freeze_base_model(self) -> None:
        """Freeze the whole encoder."""
        self.requires_grad_(False)

    def get_input_embeddings(self) -> nn.Module:
        """Raise an error: an encoder of speech has no token embedding."""
        raise NotImplementedError("A speech encoder has no token embedding; that of the decoder is in model.decoder.")


class TextDecoder(TextDecoderNet, PretrainedPart, DecoderMethods, VocabularyMethods):
    """A text decoder built from the configuration of its family.

    Args:
        config: The configuration of a family that has a text decoder. `is_decoder` makes it causal and
            `add_cross_attention` gives it cross-attention, where the family leaves the choice.
        empty: Allocate no memory (meta device): a checkpoint fills the tensors.

    Raises:
        ConfigError: If the family has none, or sizes do not fit each other.
    """

    _arrays, _network = ARRAYS, TextDecoderNet
    forward = DecoderMethods._call

    def __init__(self, config: ModelConfig, *, empty: bool = False) -> None:
        text_part(config)
        super().__init__(config.text_spec(), empty=empty)
        self.config = config

    def get_output_embeddings(self) -> nn.Module:
        """Return the head; where it is tied, its weight is that of the token embedding."""
        return self.head

    def generate(
        self,
        input_ids: Tensor | None = None,
        generation_config: GenerationConfig | None = None,
        *,
        attention_mask: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        logits_processor: Sequence[Any] | None = None,
        stopping_criteria: Sequence[Any] | None = None,
        streamer: Any = None,
        seed: int | Sequence[int] | None = None,
        **options: Any,
    ) -> Any:
        """Continue a prompt with the decoder alone, or for encoder states.

        Args:
            input_ids: The prompt; by default the beginning-of-sequence id.
            generation_config: Options.
            attention_mask: 1 for valid tokens of prompts, which are padded on the left.
            encoder_hidden_states: Encoder states, as wide as the decoder.
            encoder_attention_mask: 1 for valid frames.
            logits_processor: Callables `(tokens, scores) -> scores`.
            stopping_criteria: Callables `(tokens, scores) -> bool or bools` that end sequences.
            streamer: Receives each token.
            seed: For sampling; by default drawn from PyTorch's generator.
            **options: Fields of `GenerationConfig`; without a length, 20 new tokens are generated.

        Returns:
            Token ids, the prompt included; with `return_dict_in_generate`, an output with scores and more.

        Raises:
            GenerationError: If options are unknown or invalid, or there is neither a prompt nor a start id.
            ConfigError: If tokens or states do not fit the decoder.
        """
        return continue_text(
            self,
            TextDecoder.forward,
            input_ids,
            generation_config,
            options,
            mask=attention_mask,
            memory=(encoder_hidden_states, encoder_attention_mask),
            seed=seed,
            processors=logits_processor or (),
            criteria=stopping_criteria or (),
            streamer=streamer,
        )


def _bound(name: str, base: type[SpeechEncoder] | type[TextDecoder], family: Family) -> type[Any]:
    """Return `base` bound to one family."""
    role = "speech encoder" if base is SpeechEncoder else "text decoder"

    def __init__(self: Any, config: ModelConfig, *, empty: bool = False) -> None:  # noqa: N807
        if not isinstance(config, family.config):
            raise ConfigError(
                f"{name} takes a {family.config.__name__}, but got a {type(config).__name__} "
                f"({getattr(config, 'model_type', '')!r})."
            )
        base.__init__(self, config, empty=empty)

    body: dict[str, Any] = {
        "__init__": __init__,
        "__doc__": f"The {role} of the {family.model_type!r} family; see `{base.__name__}`.",
        "__module__": __name__,
        "config_class": family.config,
    }
    return type(name, (base,), body)


def part_classes() -> dict[str, type[Any]]:
    """Return every part of every family by its known name."""
    classes: dict[str, type[Any]] = {}
    for family in FAMILIES:
        for base, part in (SpeechEncoder, family.speech), (TextDecoder, family.text):
            for name in part.classes if part else ():
                classes[name] = _bound(name, base, family)
    return classes


globals().update(part_classes())
