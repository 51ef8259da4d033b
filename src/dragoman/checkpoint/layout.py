"""The weight files of a folder, and the split of a checkpoint into shards, in the Hugging Face layout.

File names come from untrusted files (an index names its shards), so every name is checked before it is opened.
Not here: the content of the files (`tensors`, `formats`), and writing a folder safely (`saving`).
"""

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dragoman.checkpoint.saving import check_file_name, finish_save
from dragoman.errors import ConfigError, ModelNotFoundError, UntrustedFileError
from dragoman.files import read_json

WeightFormat = Literal["safetensors", "pytorch", "flax", "ctranslate2", "gguf"]

# In order of preference; "model.bin" is the file name of CTranslate2.
_NAMES: dict[WeightFormat, str] = {
    "safetensors": "model.safetensors",
    "pytorch": "pytorch_model.bin",
    "flax": "flax_model.msgpack",
    "ctranslate2": "model.bin",
}

_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?(?:([KMGT])(i?))?B", re.IGNORECASE)

_AGAIN = "Save or download the model again."


@dataclass(frozen=True, kw_only=True)
class WeightFiles:
    """The weights of a folder.

    Attributes:
        format: Their format.
        paths: The files, all present and inside the folder.
        index: The file name of each tensor of a sharded checkpoint, else `None`.
    """

    format: WeightFormat
    paths: tuple[Path, ...]
    index: Mapping[str, str] | None = None


@dataclass(frozen=True, kw_only=True)
class ShardPlan:
    """The distribution of tensors over files.

    Attributes:
        files: Names of the tensors in each file.
        index: Content of `model.safetensors.index.json`; `None` for a single file.
    """

    files: Mapping[str, tuple[str, ...]]
    index: Mapping[str, Any] | None

    def index_bytes(self) -> bytes:
        """Return the index as `transformers` writes it: sorted, indented by two, with a final newline."""
        return (json.dumps(self.index, indent=2, sort_keys=True) + "\n").encode()


def pick_weights(
    names: Iterable[str],
    *,
    use_safetensors: bool | None = None,
    variant: str | None = None,
    pickles: bool = True,
) -> tuple[WeightFormat, str] | None:
    """Choose the weight file by preference: safetensors before pickles before Flax, one file before shards.

    Args:
        names: Names of all files in a folder or a repository.
        use_safetensors: `True` accepts only safetensors, `False` only other formats, `None` prefers safetensors.
        variant: For instance `"fp16"` for `model.fp16.safetensors`.
        pickles: Whether the caller can read `.bin` files; if not, they come last.

    Returns:
        The format and the name of the weight file or of the index, `None` if no name fits.
    """
    present = set(names)
    accepted = _accepted(use_safetensors, variant)
    if not pickles:
        accepted.sort(key=lambda one: one[0] == "pytorch")
    for kind, name, index in accepted:
        for candidate in (name, index):
            if candidate in present:
                return kind, candidate
    return None


def _accepted(use_safetensors: bool | None, variant: str | None) -> list[tuple[WeightFormat, str, str]]:
    """Return format, file name and index name of every accepted file, in order of preference."""

    def named(name: str) -> str:
        stem, _, ending = name.rpartition(".")
        return f"{stem}.{variant}.{ending}" if variant else name

    return [
        (kind, named(name), named(name + ".index.json"))
        for kind, name in _NAMES.items()
        if use_safetensors is None or use_safetensors == (kind == "safetensors")
    ]


def find_weights(
    folder: str | Path, *, use_safetensors: bool | None = None, variant: str | None = None, pickles: bool = True
) -> WeightFiles:
    """Find the weight files of a folder and check that all of them are there.

    Args:
        folder: A folder in the Hugging Face layout, one of CTranslate2, or one with a single .gguf file.
        use_safetensors: As for `pick_weights`.
        variant: As for `pick_weights`.
        pickles: As for `pick_weights`.

    Raises:
        ModelNotFoundError: If the folder, its weights or a shard is missing; the message lists the names tried.
        UntrustedFileError: If an index is corrupt, or a name or a link points outside the folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ModelNotFoundError(
            f"There is no folder {folder}. Pass the folder that holds config.json and the weights."
        )
    finish_save(folder)
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise ModelNotFoundError(f"{folder} cannot be read ({error.strerror}). Check its permissions.") from error
    picked = pick_weights(names, use_safetensors=use_safetensors, variant=variant, pickles=pickles)
    containers = [name for name in names if name.endswith(".gguf")]
    if picked is None and len(containers) == 1 and not use_safetensors and variant is None:
        picked = "gguf", containers[0]
    if picked is None:
        raise ModelNotFoundError(_no_weights(folder, names, use_safetensors, variant))
    kind, name = picked
    if not name.endswith(".json"):
        return WeightFiles(format=kind, paths=_check_present(folder, [name]))
    index = read_index(folder / name)
    return WeightFiles(format=kind, paths=_check_present(folder, shard_names(index)), index=index)


def _no_weights(folder: Path, names: list[str], use_safetensors: bool | None, variant: str | None) -> str:
    accepted = [name for _, name, index in _accepted(use_safetensors, variant) for name in (name, index)]
    held = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
    narrowed = "" if use_safetensors is None and variant is None else f" ({use_safetensors=}, {variant=})"
    return (
        f"No weights in {folder}: looked for {', '.join(accepted)}{narrowed}. "
        f"The folder holds {held or 'nothing'}. Save or download the model again, or pass another folder."
    )


def read_index(path: str | Path) -> dict[str, str]:
    """Return the file name of each tensor in the index of a sharded checkpoint.

    Raises:
        ModelNotFoundError: If there is no such file.
        UntrustedFileError: If it is corrupt, or has names other than of plain files.
    """
    weight_map = read_json(path).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise UntrustedFileError(f'{path} has no "weight_map" with the file of each tensor. {_AGAIN}')
    for name in weight_map.values():
        if not isinstance(name, str):
            raise UntrustedFileError(f'The "weight_map" of {path} must hold file names, not {name!r:.50}. {_AGAIN}')
        check_file_name(name, path)
    return weight_map


def shard_names(index: Mapping[str, str]) -> list[str]:
    """Return the different files in an index, sorted."""
    return sorted(set(index.values()))


def _check_present(folder: Path, names: list[str]) -> tuple[Path, ...]:
    """Return the paths of the files, all of them present and none of them outside `folder`."""
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise ModelNotFoundError(
            f"{len(missing)} of {len(names)} weight files are missing in {folder} (or are broken links): "
            f"{', '.join(missing)}. Download or copy them again."
        )
    allowed = _allowed_roots(folder)
    for name in names:
        real = (folder / name).resolve()
        if not any(real.is_relative_to(root) for root in allowed):
            raise UntrustedFileError(
                f"{folder / name} is a link to {real}, outside its folder: refused. "
                "Copy the file into the folder, or pass the folder that it links to."
            )
    return tuple(folder / name for name in names)


def _allowed_roots(folder: Path) -> list[Path]:
    """Return the folders that links may point into: the folder itself and, in a hub cache, its blobs.

    The cache is `<cache>/models--org--name/{blobs,refs,snapshots/<commit>/}`; newer hub clients add `<cache>/blobs`,
    shared by all repositories.
    """
    real = folder.resolve()
    roots = [real]
    for parent in real.parents:
        if parent.name == "snapshots" and "--" in parent.parent.name:
            roots += [parent.parent / "blobs", parent.parent.parent / "blobs"]
    return roots


def plan_shards(
    sizes: Mapping[str, int], max_shard_size: int | str = "5GB", name: str = "model.safetensors"
) -> ShardPlan:
    """Distribute tensors over files, in the order given, as `transformers` does.

    Args:
        sizes: Bytes of each tensor.
        max_shard_size: Bytes per file, or a string like "5GB" (decimal) or "5GiB" (binary). A larger tensor gets a file
            of its own.
        name: Name of a single file; shards are `model-00001-of-00003.safetensors`.

    Raises:
        ConfigError: If `max_shard_size` is not a positive size.
    """
    limit = _bytes(max_shard_size)
    shards: list[list[str]] = []
    shard: list[str] = []
    filled = 0
    for tensor, size in sizes.items():
        if size > limit:
            shards.append([tensor])
            continue
        if shard and filled + size > limit:
            shards.append(shard)
            shard, filled = [], 0
        shard.append(tensor)
        filled += size
    if shard:
        shards.append(shard)
    if len(shards) <= 1:
        return ShardPlan(files={name: tuple(sizes)}, index=None)
    stem, _, ending = name.rpartition(".")
    files = {f"{stem}-{i:05d}-of-{len(shards):05d}.{ending}": tuple(names) for i, names in enumerate(shards, 1)}
    weight_map = {tensor: file for file, tensors in files.items() for tensor in tensors}
    return ShardPlan(files=files, index={"metadata": {"total_size": sum(sizes.values())}, "weight_map": weight_map})


def _bytes(size: int | str) -> int:
    number = size
    if isinstance(size, str):
        found = _SIZE.fullmatch(size.strip())
        base = 1024 if found and found[3] else 1000
        number = int(float(found[1]) * base ** " KMGT".index((found[2] or " ").upper())) if found else 0
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise ConfigError(
            f'`max_shard_size` must be a positive number of bytes or a string like "5GB", but is {size!r}.'
        )
    return number
