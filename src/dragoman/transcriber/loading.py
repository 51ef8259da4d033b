"""From a name to an `Engine`: the backend, the checkpoint and its processor."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import dragoman
from dragoman._lazy import require
from dragoman.checkpoint.default_model import DEFAULT_MODEL_NAME, default_model_folder
from dragoman.checkpoint.folder import open_folder
from dragoman.checkpoint.source import resolve
from dragoman.errors import CheckpointError, ConfigError, DragomanError
from dragoman.hub import commit_of
from dragoman.model.configs import whole_config
from dragoman.model.runner import BackendRunner
from dragoman.spec.compute_type import ComputeType
from dragoman.transcriber.engine import Engine
from dragoman.transcriber.result import ModelInfo

# By name, the package that each needs, and the module of its runner. The first that is installed is the default.
_BACKENDS = {
    "torch": ("torch", "dragoman.torch.runner"),
    "jax": ("jax", "dragoman.jax.runner"),
    "onnx": ("onnxruntime", "dragoman.onnx.runner"),
}

# The names that `whisper` and `faster-whisper` give models. The default model is tiny.en.
_WHISPER_SIZES = (
    "tiny", "base", "base.en", "small", "small.en", "medium", "medium.en", "large-v1", "large-v2", "large-v3",
    "large-v3-turbo",
)  # fmt: skip
_DISTILLED = ("distil-small.en", "distil-medium.en", "distil-large-v2", "distil-large-v3", "distil-large-v3.5")
_WHISPER_NAMES: dict[str, str | None] = {
    "tiny.en": None,
    **{name: f"openai/whisper-{name}" for name in _WHISPER_SIZES},
    "large-v1": "openai/whisper-large",
    "large": "openai/whisper-large-v3",
    "turbo": "openai/whisper-large-v3-turbo",
    **{name: f"distil-whisper/{name}" for name in _DISTILLED},
}

_log = logging.getLogger("dragoman")


def load_engine(
    name: str | os.PathLike[str] | None,
    processor: Any,
    device: str,
    source: dict[str, Any],
    backend: str | None = None,
    *,
    copy_weights: bool = False,
    compute_type: ComputeType = "default",
) -> Engine:
    """Load a checkpoint onto a device.

    Args:
        name: A folder, a hub id or a name that `whisper` gives a model (`small.en`); `None` for the default model.
        processor: Used instead of the checkpoint's own.
        device: `"auto"`, `"cpu"`, `"cuda"`, `"cuda:1"`, …
        source: Options of `dragoman.checkpoint.source.resolve`.
        backend: See `runner_class`.
        copy_weights: See `dragoman.checkpoint.options.LoadOptions`.
        compute_type: The number type to compute in.

    Raises:
        ConfigError: If there is no such device or backend, or the device does not compute in this type.
        CheckpointError: If the files of the checkpoint are invalid.
        ModelNotFoundError: If the model, or a file of it, is not found.
    """
    name = full_name(name)
    runner = runner_class(backend)
    place = runner.device(device)
    number_type = runner.number_type(compute_type, place)
    folder = checkpoint_folder(name, source)
    info = ModelInfo(name=DEFAULT_MODEL_NAME if name is None else os.fspath(name), commit=commit_of(folder))
    _log.info("Loading %s on %s, in %s.", info.name, place, number_type)
    with checkpoint_errors(info.name):
        if processor is None:  # before the weights: it is quick, so that a missing file is reported at once
            processor = _processor_of(folder, info.name)
        loaded = runner.load(folder, place, copy_weights=copy_weights, number_type=number_type)
        return Engine(loaded, processor, info)


def checkpoint_folder(name: str | os.PathLike[str] | None, source: dict[str, Any]) -> Path:
    """Return the local folder of a checkpoint; the arguments are those of `load_engine`."""
    name = full_name(name)
    return default_model_folder() if name is None else resolve(os.fspath(name), **source)


def full_name(name: str | os.PathLike[str] | None) -> str | os.PathLike[str] | None:
    """Return the hub id of one of `whisper`'s names, unless a folder has the same name."""
    known = isinstance(name, str) and name in _WHISPER_NAMES and not Path(name).exists()
    return _WHISPER_NAMES[str(name)] if known else name


def runner_class(backend: str | None) -> type[BackendRunner]:
    """Return the runner of a backend; `None` and "auto" are PyTorch if it is installed, else JAX, else ONNX Runtime.

    Raises:
        ConfigError: If there is no such backend.
        MissingDependencyError: If it is not installed.
    """
    if backend in (None, "auto"):
        backend = next((name for name, (package, _) in _BACKENDS.items() if find_spec(package)), "torch")
    if backend not in _BACKENDS:
        raise ConfigError(f"`backend` must be auto, torch, jax or onnx, but is {backend!r}.")
    found: type[BackendRunner] = require(_BACKENDS[backend][1], "Transcription").Runner
    return found


@contextmanager
def checkpoint_errors(checkpoint: str) -> Iterator[None]:
    """Report invalid values in the files of a checkpoint as such, and not as options that the user typed.

    Raises:
        CheckpointError: In place of a `ConfigError`.
    """
    try:
        yield
    except ConfigError as error:
        raise CheckpointError(f"{checkpoint}: {error}") from error


def _processor_of(folder: Path, name: str) -> Any:
    """Return the processor of a checkpoint; if there is none, errors of its configuration are reported first."""
    try:
        return dragoman.AutoProcessor.from_pretrained(folder)
    except DragomanError:
        whole_config(open_folder(folder).config, name, {})
        raise
