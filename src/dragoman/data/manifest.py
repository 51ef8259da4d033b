"""Data sets by path alone: the format is recognised, and every item that cannot be used is named."""

import os
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from dragoman.data.columns import NEEDED, RowReader
from dragoman.data.formats.folders import find_table, read_folder
from dragoman.data.formats.huggingface import is_saved, read_dataset
from dragoman.data.formats.kaldi import is_kaldi, read_kaldi
from dragoman.data.formats.lhotse import holds_cuts, read_cuts
from dragoman.data.formats.lines import Row
from dragoman.data.formats.tables import read_table, table_kind
from dragoman.data.utterance import Manifest, Problem, Utterance, check_share
from dragoman.errors import ConfigError, DataError, ModelNotFoundError

MAX_BAD = 0.05

_HUB_NAME = re.compile(r"^[\w-]+[\w.-]*/[\w.-]+(?::[\w.-]+)?$")  # owner/name, with a configuration after a colon


def read_manifest(
    path: str | os.PathLike[str],
    columns: Mapping[str, str] | None = None,
    split: str | None = None,
    *,
    audio_root: str | os.PathLike[str] | None = None,
    max_bad: float = MAX_BAD,
) -> list[Utterance]:
    """Read a data set. Items that cannot be used are skipped, with one warning that counts them.

    Args:
        path: JSONL, CSV or TSV (also with `.gz`), Parquet, a NeMo manifest, Lhotse cuts, a Kaldi folder, LibriSpeech, a
            folder of audio with a `.txt` beside each file, a saved data set of `datasets`, or its name on the hub.
        columns: Names of columns by role (`audio`, `text`, `id`, `duration`, `offset`, `end`, `speaker`, `language`),
            where they are not the usual ones.
        split: Which of several sets in a folder or a data set: `train` for `train.tsv`.
        audio_root: Folder that relative paths are relative to, if that is not the manifest's.
        max_bad: Largest share of unusable items, 0 to 1.

    Returns:
        The usable items, in their order.

    Raises:
        DataError: If the manifest is malformed, or too many items are unusable; the message names file and line.
        ModelNotFoundError: If there is no such file or data set.
    """
    if not 0 <= max_bad <= 1:
        raise ConfigError(f"`max_bad` must be a share from 0 to 1, but is {max_bad!r}.")
    manifest = scan_manifest(path, columns, split, audio_root=audio_root)
    total = len(manifest.utterances) + len(manifest.problems)
    check_share(manifest.path, manifest.problems, total, max_bad)
    if manifest.problems:
        warnings.warn(f"{manifest.path}: {skipped(manifest.problems, total)}", UserWarning, stacklevel=2)
    return manifest.utterances


def skipped(problems: list[Problem], total: int) -> str:
    """Return a sentence that counts unusable items by kind, and the first of them."""
    kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(p.kind for p in problems).most_common())
    return f"{len(problems)} of {total} items are skipped ({kinds}). The first: {problems[0]}"


def scan_manifest(
    path: str | os.PathLike[str],
    columns: Mapping[str, str] | None = None,
    split: str | None = None,
    *,
    audio_root: str | os.PathLike[str] | None = None,
    needed: Sequence[str] = NEEDED,
    remote: str | None = None,
) -> Manifest:
    """Read a data set with every problem, however many there are.

    Args:
        path: As all that follow, up to `audio_root`, those of `read_manifest`.
        columns: See there.
        split: See there.
        audio_root: See there.
        needed: Columns that every item must have; a text that is not needed may be missing or empty.
        remote: See `RowReader`: whether, and where, audio may be in an object store.

    Raises:
        DataError: If the manifest as a whole is malformed.
        ModelNotFoundError: If there is no such file or data set.
    """
    place = Path(path)
    if place.is_dir() and not is_saved(place) and not is_kaldi(place):
        table = find_table(place, split)
        if table is not None:
            return scan_manifest(table, columns, audio_root=audio_root, needed=needed, remote=remote)
        if split is not None and (place / split).is_dir():
            return scan_manifest(place / split, columns, audio_root=audio_root, needed=needed, remote=remote)
    kind, items = _items(place, path, split, columns)
    folder = place if place.is_dir() else place.parent
    reader = RowReader(folder, columns, audio_root, find=kind != "datasets", needed=needed, remote=remote)
    manifest = Manifest(path=str(path), kind=kind)
    header: tuple[str, ...] = ()
    for item in items:
        if kind in ("csv", "tsv") and isinstance(item, Row) and header != tuple(item.values):
            header = tuple(item.values)
            reader.check_header(place, header)
        manifest.add(reader.read(item) if isinstance(item, Row) else item)
    return manifest


def _items(
    place: Path, path: str | os.PathLike[str], split: str | None, columns: Mapping[str, str] | None
) -> tuple[str, Iterable[Row | Problem]]:
    """Return the format of a data set, and its rows."""
    if place.is_dir() and is_kaldi(place):
        return "kaldi", read_kaldi(place)
    if place.is_dir() and not is_saved(place):
        return read_folder(place)
    if place.is_file():
        kind = table_kind(place)
        if kind is None:
            raise DataError(
                f"{place}: is of no known format. Known are .jsonl, .json, .csv and .tsv, also with .gz, and .parquet."
            )
        if kind == "jsonl" and holds_cuts(place):
            return "lhotse", read_cuts(place)
        return kind, read_table(place, kind)
    local = table_kind(place) is not None or place.parent.is_dir() or not _HUB_NAME.match(str(path))
    if not place.exists() and local:
        raise ModelNotFoundError(f"{place}: there is no such file or folder. Check the spelling.")
    return "datasets", read_dataset(str(path), split, (columns or {}).get("audio"))
