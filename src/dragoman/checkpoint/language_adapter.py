"""Language adapters of MMS: small networks in a file per language, `adapter.<language>.safetensors` or `.bin`.

Reference: https://arxiv.org/abs/2305.13516, section 5.1.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dragoman.checkpoint import filling
from dragoman.checkpoint.copied import Copied
from dragoman.checkpoint.folder import PickleReader
from dragoman.checkpoint.keymap import KeyMap, match
from dragoman.checkpoint.options import LoadOptions
from dragoman.checkpoint.tensors import Framework, SafetensorsFile, TensorFile
from dragoman.errors import ConfigError, MissingDependencyError, ModelNotFoundError, did_you_mean

_TENSORS = "stack.layers.{i}.bottleneck.*"
_FILE = re.compile(r"adapter\.([\w-]+)\.(safetensors|bin)", re.ASCII)


def language_tensors(
    name_or_path: str | Path,
    language: str,
    options: LoadOptions,
    *,
    keymap: KeyMap,
    shapes: Mapping[str, tuple[int, ...]],
    framework: Framework,
    read_pickle: PickleReader | None = None,
) -> dict[str, Any]:
    """Return the tensors of the adapter for one language, by our names.

    Args:
        name_or_path: The folder or hub id that holds the file.
        language: As in the name of the file: "eng", "uig-script_arabic".
        options: How to find it.
        keymap: Name table of the encoder.
        shapes: All tensors of the encoder, by our names.
        framework: Whose arrays are returned.
        read_pickle: Reads a `.bin` file safely; `None` if the framework cannot.

    Raises:
        ConfigError: If the encoder has no adapters.
        ModelNotFoundError: If there is no file for the language; the message lists the languages there are.
        CheckpointError: If tensors are missing, unexpected or of another shape.
    """
    own = {name: shape for name, shape in shapes.items() if match(_TENSORS, name) is not None}
    if not own:
        raise ConfigError(
            f"This encoder has no language adapter, so {language!r} cannot be loaded: its configuration needs "
            "`adapter_attn_dim` and `do_stable_layer_norm`."
        )
    path = _find(name_or_path, language, options)
    arrays: dict[str, Any] = {}
    with _opened(path, framework, read_pickle) as opened:
        file = Copied(opened) if options.copy_weights else opened
        report = filling.fill(own, arrays.__setitem__, keymap, file, check_finite=not options.allow_nan)
        report.source = str(path)
        report.raise_if_unfit()
    return arrays


def _find(name_or_path: str | Path, language: str, options: LoadOptions) -> Path:
    if not _FILE.fullmatch(f"adapter.{language}.bin"):
        raise ConfigError(f'A language must be a code such as "eng" or "uig-script_arabic", but is {language!r}.')
    names = [f"adapter.{language}.{ending}" for ending in ("safetensors", "bin")]
    folder = options.find(name_or_path, patterns=names)
    found = next((folder / name for name in names if (folder / name).is_file()), None)
    if found is not None:
        return found
    there = sorted({name[1] for path in folder.iterdir() if (name := _FILE.fullmatch(path.name))})
    raise ModelNotFoundError(
        f"{name_or_path} has no {names[0]}; languages in {folder}: {', '.join(there) or 'none'}."
        f"{did_you_mean(language, there)}"
    )


def _opened(path: Path, framework: Framework, read_pickle: PickleReader | None) -> TensorFile:
    if path.suffix == ".safetensors":
        return SafetensorsFile(path, framework)
    if read_pickle is None:
        raise MissingDependencyError(f"{path} can only be read with PyTorch. Ask for a safetensors version of it.")
    return read_pickle(path)
