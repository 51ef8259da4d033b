"""The names that Flax models have in `transformers`: `FlaxWav2Vec2Model`, `FlaxBartForCausalLM` and the like.

Each is `SpeechEncoder` or `TextDecoder` bound to one family; there is no file per class.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import jax.numpy as jnp
from flax import nnx

from dragoman.checkpoint.options import LoadOptions, check_saving, tensors_to_save
from dragoman.errors import ConfigError
from dragoman.families import FAMILIES, Family, ModelConfig
from dragoman.files import as_path
from dragoman.jax.backend import BACKEND
from dragoman.jax.flax_keywords import check_init, loading_keywords
from dragoman.jax.masks import from_flax, to_flax
from dragoman.jax.model import FlaxSpeechEncoderDecoderModel
from dragoman.jax.net.tree import Tree, flat, tree_of, update
from dragoman.jax.parts import SpeechEncoder, TextDecoder
from dragoman.model.load import load_part, log_new
from dragoman.model.save import save_part


class FlaxPart:
    """Loading, saving and parameters of a part alone."""

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, dtype: Any = None, **kwargs: Any) -> Self:
        """Load a part from its own checkpoint, from that of its head model, or from a sequence-to-sequence model.

        Args:
            name_or_path: A local folder or a hub id.
            dtype: Must be float32: a part alone computes in the type of its parameters, which `torch_dtype` chooses.
            **kwargs: Loader options, `config=`, and fields of the configuration that win over the file's.

        Raises:
            ModelNotFoundError: If it is not found.
            ConfigError: If it is of another family, or a keyword is unknown.
            CheckpointError: If its tensors do not fit.
        """
        _check_dtype(dtype)
        options, overrides = LoadOptions.split(loading_keywords(kwargs, None))
        own: Any = cls  # with `SpeechEncoder` or `TextDecoder`, which this class is mixed into
        part, report = load_part(BACKEND, own, name_or_path, options, overrides.pop("config", None), **overrides)
        log_new(report)
        loaded: Self = part
        return loaded

    def save_pretrained(
        self,
        save_directory: str | Path,
        params: Mapping[str, Any] | None = None,
        *,
        max_shard_size: int | str = "5GB",
        **ways: Any,
    ) -> None:
        """Write configuration and weights under the names of `transformers`; all files or none.

        Args:
            save_directory: Made if it does not exist; other files in it stay.
            params: Written instead of the part's own.
            max_shard_size: Bytes of one weight file, or a string like "5GB".
            **ways: Options of `transformers` without effect here; others are refused.
        """
        check_saving(ways)
        own = flat(tree_of(_module(self), nnx.Param))
        given = tensors_to_save(own, None if params is None else flat(from_flax(self, params, own)), "params")
        tensors = {**flat(tree_of(_module(self))), **given}
        save_part(BACKEND, self, tensors, as_path(save_directory, "`save_directory`"), max_shard_size)  # type: ignore[arg-type]

    @property
    def params(self) -> Tree:
        """All parameters as nested dictionaries, as Flax models have them; assign such a tree to change them."""
        return to_flax(self, tree_of(_module(self), nnx.Param))

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "params":  # not by a setter: a module of nnx refuses to be given a tree of arrays
            update(_module(self), from_flax(self, value, flat(tree_of(_module(self), nnx.Param))))
        else:
            super().__setattr__(name, value)


class FlaxAutoModelForSpeechSeq2Seq:
    """Speech-to-text models; the class is chosen by the `config.json`."""

    @staticmethod
    def from_pretrained(name_or_path: str | Path, *args: Any, **kwargs: Any) -> FlaxSpeechEncoderDecoderModel:
        """Load a model; see `FlaxSpeechEncoderDecoderModel.from_pretrained`."""
        return FlaxSpeechEncoderDecoderModel.from_pretrained(name_or_path, *args, **kwargs)

    @staticmethod
    def from_config(config: Any, **kwargs: Any) -> FlaxSpeechEncoderDecoderModel:
        """Build a model with random weights; see `FlaxSpeechEncoderDecoderModel`."""
        return FlaxSpeechEncoderDecoderModel(config, **kwargs)


def _module(part: Any) -> nnx.Module:
    assert isinstance(part, nnx.Module)
    return part


def _check_dtype(dtype: Any) -> None:
    if BACKEND.dtype(dtype) not in (None, jnp.dtype("float32")):
        raise ConfigError(
            f"A part alone computes in the type of its parameters, but `dtype` is {dtype}. Load it with "
            "`torch_dtype=`, or give `dtype` to the whole model."
        )


def _bound(name: str, base: type[SpeechEncoder] | type[TextDecoder], family: Family) -> type[Any]:
    """Return `base` bound to one family."""
    role = "speech encoder" if base is SpeechEncoder else "text decoder"

    def __init__(  # noqa: N807
        self: Any,
        config: ModelConfig,
        input_shape: Any = None,
        seed: int = 0,
        dtype: Any = None,
        _do_init: bool = True,
        *,
        empty: bool = False,
    ) -> None:
        if not isinstance(config, family.config):
            raise ConfigError(
                f"{name} takes a {family.config.__name__}, but got a {type(config).__name__} "
                f"({getattr(config, 'model_type', '')!r})."
            )
        check_init(_do_init)
        _check_dtype(dtype)
        base.__init__(self, config, empty=empty, seed=seed)

    body: dict[str, Any] = {
        "__init__": __init__,
        "__doc__": f"The {role} of the {family.model_type!r} family in JAX; see `{base.__name__}` and `FlaxPart`.",
        "__module__": __name__,
        "config_class": family.config,
    }
    kind: Any = type(base)
    bound: type[Any] = kind(name, (FlaxPart, base), body)
    return bound


def part_classes() -> dict[str, type[Any]]:
    """Return every part of every family by its known name."""
    classes: dict[str, type[Any]] = {}
    for family in FAMILIES:
        for base, part in (SpeechEncoder, family.speech), (TextDecoder, family.text):
            for name in part.classes if part else ():
                classes[f"Flax{name}"] = _bound(f"Flax{name}", base, family)
    return classes


globals().update(part_classes())
