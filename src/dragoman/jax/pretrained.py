"""The attributes of models that users of `transformers` know: configuration, parameters, gradient checkpointing."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import jax
import jax.numpy as jnp
from flax import nnx

from dragoman.families import ModelConfig
from dragoman.jax.backend import BACKEND
from dragoman.jax.masks import all_from_flax, from_flax, to_flax
from dragoman.jax.net.block import Stack
from dragoman.jax.net.bridge import Bridge, Prefix
from dragoman.jax.net.frontend import ConvFrontend
from dragoman.jax.net.joint import Joint
from dragoman.jax.net.tree import Tree, cast
from dragoman.jax.programs import STATIC, Programs
from dragoman.model.following import changed_spec, is_fixed, numbers_of


@dataclass(eq=False)
class _Held:
    """Holds a mutable configuration in a module, whose structure must stay hashable for `nnx.jit`."""

    value: ModelConfig


class PretrainedPart(nnx.Module):
    """An encoder or a decoder with its configuration."""

    spec: Any  # a `SpeechEncoderSpec` or a `TextDecoderSpec`
    _network: Callable[..., nnx.Module]  # builds a network from a spec

    @property
    def config(self) -> ModelConfig:
        """The configuration that it was built from."""
        return self._held.value

    @config.setter
    def config(self, config: ModelConfig) -> None:
        self._held = _Held(config)
        config.follow_by(self)
        if config.gradient_checkpointing:
            self._set_checkpointing(True)

    def config_changed(self, name: str) -> None:
        """Take over a field that was set in the configuration.

        Raises:
            ConfigError: If it would need another network.
        """
        if name == "gradient_checkpointing":
            return self._set_checkpointing(bool(self.config.gradient_checkpointing))
        spec = changed_spec(self.spec, self.config, name)
        if spec == self.spec:
            return None
        self.spec, own = spec, dict(nnx.iter_modules(self))
        for path, new in nnx.iter_modules(type(self)._network(spec, empty=True)):
            if path and isinstance(own.get(path), type(new)):
                for key, value in numbers_of(new).items():
                    setattr(own[path], key, value)
        return None

    def _set_checkpointing(self, on: bool) -> None:
        for _, module in nnx.iter_modules(self):
            if isinstance(module, Stack | ConvFrontend):
                module.gradient_checkpointing = on


class PretrainedModule:
    """A network and its compiled programs.

    Args:
        module: The network.
    """

    def __init__(self, module: Joint) -> None:
        self.module = module
        self._programs = Programs(module)
        self._version = 0
        self._built: tuple[Any, ...] = (module.encoder.spec, module.decoder.spec, False, False)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("encoder", "decoder", "bridge", "enc_to_dec_proj"):
            is_fixed(name)
        super().__setattr__(name, value)

    @property
    def bridge(self) -> Bridge | Prefix:
        """The module between them."""
        return self.module.bridge

    @property
    def dtype(self) -> Any:
        """Type to compute in: that given as `dtype`, else that of the parameters."""
        own = self.module.decoder.embed.tokens.weight.dtype
        return own if self._programs.dtype is None else self._programs.dtype

    @property
    def params(self) -> Tree:
        """All parameters as Flax models of `transformers` have them (`masks`); assign such a tree, or `tree`."""
        return to_flax(self, self.tree)

    @params.setter
    def params(self, tree: Mapping[str, Any]) -> None:
        self._programs.params = from_flax(self, tree, self._programs.names())

    @property
    def tree(self) -> Tree:
        """All parameters as nested dictionaries under our names, without copies of what Flax stores otherwise."""
        return self._programs.params

    def own(self, params: Any) -> Tree:
        """Return the caller's parameters, of either form, under our names; `None` for those of the model."""
        return self.tree if params is None else all_from_flax(self, params, self._programs.names())

    def computing_in(self, dtype: Any) -> Self:
        """Set the type to compute in, `None` for that of the parameters, and return the model.

        Raises:
            CheckpointError: If it is no floating-point type.
        """
        self._programs.dtype = None if isinstance(dtype, str) and dtype == "auto" else BACKEND.dtype(dtype)
        return self

    def in_dtype(self, cache: Any) -> Any:
        """Return a cache in the type to compute in."""
        if self._programs.dtype is None:
            return cache
        return jax.tree.map(lambda x: x.astype(self.dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, cache)

    def to_bf16(self, params: Mapping[str, Any], mask: Mapping[str, Any] | None = None) -> Tree:
        """Return parameters in bfloat16, such as `model.params`; the model is not changed.

        Args:
            params: The parameters.
            mask: A tree of the same form: `True` for those to convert; by default all.
        """
        return cast(params, jnp.bfloat16, mask)

    def to_fp16(self, params: Mapping[str, Any], mask: Mapping[str, Any] | None = None) -> Tree:
        """Return parameters in float16; see `to_bf16`."""
        return cast(params, jnp.float16, mask)

    def to_fp32(self, params: Mapping[str, Any], mask: Mapping[str, Any] | None = None) -> Tree:
        """Return parameters in float32; see `to_bf16`."""
        return cast(params, jnp.float32, mask)

    @property
    def is_gradient_checkpointing(self) -> bool:
        """Whether activations are recomputed in the backward pass."""
        return self.module.encoder.stack.gradient_checkpointing

    def gradient_checkpointing_enable(self, gradient_checkpointing_kwargs: dict[str, Any] | None = None) -> None:
        """Store only the input of each layer for the backward pass: less memory, more time; the argument is idle."""
        self._set_checkpointing(True)

    def enable_gradient_checkpointing(self) -> None:
        """Do the same, under the name that Flax models have in `transformers`."""
        self._set_checkpointing(True)

    def gradient_checkpointing_disable(self) -> None:
        """Store all activations again."""
        self._set_checkpointing(False)

    def _set_checkpointing(self, on: bool) -> None:
        self.module.encoder.stack.gradient_checkpointing = self.module.decoder.stack.gradient_checkpointing = on
        if isinstance(self.module.encoder.frontend, ConvFrontend):
            self.module.encoder.frontend.gradient_checkpointing = on
        self._programs.forget()

    @property
    def version(self) -> int:
        """Grows with each change of the configuration that compiled programs contain."""
        encoder, decoder = self.module.encoder, self.module.decoder
        now = encoder.spec, decoder.spec, encoder.stack.gradient_checkpointing, decoder.stack.gradient_checkpointing
        if any(one is not other for one, other in zip(now, self._built, strict=True)):
            self._built, self._version = now, self._version + 1
            self._programs.forget()
        return self._version

    def num_parameters(self) -> int:
        """Return the number of parameters; tied ones count once."""
        return sum(leaf.size for leaf in jax.tree.leaves(self.tree))

    def program(self, function: Callable[..., Any], static: tuple[str, ...] = STATIC) -> Callable[..., Any]:
        """Return a compiled function of the network; see `dragoman.jax.programs.Programs.of`."""
        _ = self.version
        return self._programs.of(function, static, self.own)
