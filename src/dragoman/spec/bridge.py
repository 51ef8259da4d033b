"""The bridge of a model whose speech is a prefix of the tokens."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

from dragoman.errors import ConfigError, did_you_mean
from dragoman.spec.checks import check_sizes
from dragoman.spec.enums import Activation


@dataclass(frozen=True, kw_only=True)
class BridgeSpec:
    """Neighbouring frames side by side, then one linear layer or two with a non-linearity between them."""

    stacking: int = 4
    """Frames that become one position."""
    whole_groups: bool = False
    """Whether frames that are too few for a last position are left out; otherwise zeros complete it."""
    layers: int = 2
    """Number of linear layers, one or two."""
    width: int | None = None
    """Width between two layers; `None` for that of the tokens."""
    activation: Activation = Activation.GELU
    """Non-linearity between two layers."""
    bias: bool = True
    """Whether the layers have biases."""
    prompt: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())
    """Token ids before the speech, and after it."""

    def __post_init__(self) -> None:
        sizes = {"fusion_stacking": self.stacking, "layers": self.layers}
        check_sizes("The prefix", sizes | ({} if self.width is None else {"width": self.width}))
        check_sizes("The prefix", {"fusion_stacking": self.stacking}, at_most=100)
        check_sizes("The prefix", {"layers": self.layers}, at_most=2)

    @classmethod
    def of(cls, stacking: int, prompt: Sequence[Sequence[int]], given: Mapping[str, Any]) -> Self:
        """Return the bridge of a configuration.

        Args:
            stacking: Its `fusion_stacking`.
            prompt: Its `fusion_prompt`.
            given: Its `fusion_bridge`: the other fields by name, the activation by its name in `config.json`.

        Raises:
            ConfigError: If a field is unknown or does not fit.
        """
        known = {field.name: field.type for field in fields(cls) if field.name not in ("stacking", "prompt")}
        for name, value in given.items():
            if name not in known:
                raise ConfigError(f"`fusion_bridge` has no field {name!r}.{did_you_mean(name, known)}")
            if name in ("whole_groups", "bias") and not isinstance(value, bool):
                raise ConfigError(f"`{name}` of `fusion_bridge` must be true or false, but is {value!r}.")
        values = dict(given)
        if "activation" in values:
            values["activation"] = Activation.parse(values["activation"])
        before, after = (tuple(ids) for ids in prompt)
        return cls(stacking=stacking, prompt=(before, after), **values)

    def positions(self, frames: Any) -> Any:
        """Return the positions that `frames` frames become, an int or an integer array of any framework."""
        return (frames if self.whole_groups else frames + self.stacking - 1) // self.stacking  # ONNX truncates

    def length(self, frames: int) -> int:
        """Return the positions of `frames` frames and of the prompt around them."""
        return int(self.positions(frames)) + sum(map(len, self.prompt))
