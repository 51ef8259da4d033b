"""The attributes of models that users of `transformers` know: configuration, parameters, gradient checkpointing."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
from flax import nnx

from dragoman.families import ModelConfig
from dragoman.jax.net.bridge import Bridge, Prefix
from dragoman.jax.net.frontend import ConvFrontend
from dragoman.jax.net.joint import Joint
from dragoman.jax.net.tree import Tree
from dragoman.jax.programs import Programs


@dataclass(eq=False)
class _Held:
    """Holds a mutable configuration in a module, whose structure must stay hashable for `nnx.jit`."""

    value: ModelConfig


class PretrainedPart(nnx.Module):
    """An encoder or a decoder with its configuration."""

    spec: Any  # a `SpeechEncoderSpec` or a `TextDecoderSpec`

    @property
    def config(self) -> ModelConfig:
        """The configuration that it was built from."""
        return self._held.value

    @config.setter
    def config(self, config: ModelConfig) -> None:
        self._held = _Held(config)


class PretrainedModule:
    """A network and its compiled programs.

    Args:
        module: The network.
    """

    def __init__(self, module: Joint) -> None:
        self.module = module
        self._programs = Programs(module)

    @property
    def bridge(self) -> Bridge | Prefix:
        """The module between them."""
        return self.module.bridge

    @property
    def dtype(self) -> Any:
        """Type of the parameters."""
        return self.module.decoder.embed.tokens.weight.dtype

    @property
    def params(self) -> Tree:
        """All parameters as nested dictionaries, for optax and `jax.grad`; assign such a tree to change them."""
        return self._programs.params

    @params.setter
    def params(self, tree: Mapping[str, Any]) -> None:
        self._programs.params = tree

    @property
    def is_gradient_checkpointing(self) -> bool:
        """Whether activations are recomputed in the backward pass."""
        return self.module.encoder.stack.gradient_checkpointing

    def gradient_checkpointing_enable(self, gradient_checkpointing_kwargs: dict[str, Any] | None = None) -> None:
        """Store only the input of each layer for the backward pass: less memory, about a third more time.

        Args:
            gradient_checkpointing_kwargs: Accepted for `transformers`; without effect.
        """
        self._set_checkpointing(True)

    def gradient_checkpointing_disable(self) -> None:
        """Store all activations again."""
        self._set_checkpointing(False)

    def _set_checkpointing(self, on: bool) -> None:
        self.module.encoder.stack.gradient_checkpointing = self.module.decoder.stack.gradient_checkpointing = on
        if isinstance(self.module.encoder.frontend, ConvFrontend):
            self.module.encoder.frontend.gradient_checkpointing = on
        self._programs.forget()

    def num_parameters(self) -> int:
        """Return the number of parameters; tied ones count once."""
        return sum(leaf.size for leaf in jax.tree.leaves(self.params))

    def program(self, function: Callable[..., Any], static: tuple[str, ...] | None = None) -> Callable[..., Any]:
        """Return a compiled function of the network; see `dragoman.jax.programs.Programs.of`."""
        return self._programs.of(function) if static is None else self._programs.of(function, static)
