"""`Backend`: the few operations on tensors and modules that the shell needs from a framework.

`dragoman.torch.backend` and `dragoman.jax.backend` implement it. A part is anything with a configuration, a spec and
named tensors.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

from dragoman.api.config import SpeechEncoderDecoderConfig
from dragoman.checkpoint.folder import PickleReader
from dragoman.checkpoint.report import LoadReport
from dragoman.checkpoint.tensors import Framework
from dragoman.families import ModelConfig
from dragoman.spec import SpeechEncoderSpec, TextDecoderSpec
from dragoman.spec.lora import LoraSpec


class ModelPart(Protocol):
    """A speech encoder or a text decoder."""

    config: ModelConfig

    @property
    def spec(self) -> SpeechEncoderSpec | TextDecoderSpec:
        """The description that the network was built from."""


class JointModel(Protocol):
    """A speech encoder, a bridge and a text decoder.

    Attributes:
        encoder_class: Class of its speech encoders.
        decoder_class: Class of its text decoders.
        ctc_scoring_head: Its head for CTC (`dragoman.checkpoint.ctc_head.CtcHead`), if it has one.
        base_marks: Marks of the tensors to which a LoRA was added, to tell which were trained.
    """

    encoder_class: type[Any]
    decoder_class: type[Any]
    config: SpeechEncoderDecoderConfig
    generation_config: Any
    load_report: LoadReport
    ctc_scoring_head: Any
    processing: tuple[Any, ...]
    base_marks: Mapping[str, tuple[int, ...]]

    def __init__(
        self, config: SpeechEncoderDecoderConfig, encoder: Any = None, decoder: Any = None, *, empty: bool = False
    ) -> None: ...

    @property
    def encoder(self) -> Any:
        """The speech encoder, a `ModelPart`."""

    @property
    def decoder(self) -> Any:
        """The text decoder, a `ModelPart`."""

    @property
    def bridge(self) -> Any:
        """The module between them."""

    @property
    def dtype(self) -> Any:
        """Type of the parameters."""

    def added_names(self) -> Sequence[str]:
        """Return the names of the tensors of modules that a subclass adds."""


class Backend(Protocol):
    """A framework's tensors and modules.

    Attributes:
        framework: Its name in the safetensors library.
        read_pickle: Reads a `.bin` file safely; `None` if the framework cannot.
    """

    framework: Framework
    read_pickle: PickleReader | None

    def dtype(self, wanted: Any) -> Any:
        """Return the framework's floating type for a name ("float16", "torch.float16") or a type; `None` for `None`.

        Raises:
            CheckpointError: If it is not a floating type.
        """

    def device(self, wanted: Any) -> Any:
        """Return the device to load onto; the default one for `None`.

        Raises:
            ConfigError: If there is no such device.
        """

    def tensors(self, module: Any) -> Mapping[str, Any]:
        """Return the tensors that checkpoints hold, by our names; `shape` and `dtype` are set before the values are."""

    def array(self, tensor: Any) -> Any:
        """Return the value of a tensor as `framework` writes it."""

    def placer(self, module: Any, dtype: Any, device: Any) -> Callable[[str, Any], None]:
        """Return a function that gives the tensor of a name its value, an array of the framework or of NumPy.

        Floating tensors get the type `dtype`, or keep that of the array where it is `None`.
        """

    def assign(self, module: Any, tensors: Mapping[str, Any]) -> None:
        """Change the values of some tensors, which keep their type and device."""

    def mark(self, tensor: Any) -> int:
        """Return the sum of the bits of a tensor, which changes when it is trained."""

    def resize(self, decoder: Any, vocab_size: int) -> None:
        """Change the size of a decoder's vocabulary; the values of new tokens are yet to be assigned."""

    def initialise(
        self, module: Any, names: Collection[str], spec: SpeechEncoderSpec | TextDecoderSpec, dtype: Any, device: Any
    ) -> None:
        """Give tensors the values from which training starts."""

    def set_to_evaluation(self, module: Any) -> None:
        """Turn dropout off, where that is a state of the module."""

    def linears(self, module: Any) -> Collection[str]:
        """Return the names of the linear layers."""

    def loras(self, module: Any) -> Mapping[str, LoraSpec]:
        """Return the linear layers that have a LoRA."""

    def add_lora(self, module: Any, layer: str, spec: LoraSpec, seed: int) -> None:
        """Give a linear layer a LoRA; its output stays the same."""

    def merge_lora(self, module: Any, layer: str) -> None:
        """Fold the LoRA of a layer into its weight."""
