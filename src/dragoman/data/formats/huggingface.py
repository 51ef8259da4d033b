"""Data sets of the `datasets` library, saved in a folder or by name. Audio is addressed by row and read when needed."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlencode

from dragoman._lazy import require
from dragoman.data.formats.lines import Row
from dragoman.errors import DataError, ModelNotFoundError

SCHEME = "dataset://"
_WANTED = "Reading a data set of Hugging Face"


def is_saved(folder: Path) -> bool:
    """Return whether a folder was written by `save_to_disk`."""
    return (folder / "dataset_dict.json").is_file() or (folder / "dataset_info.json").is_file()


def read_dataset(path: str, split: str | None, audio: str | None) -> Iterator[Row]:
    """Yield the rows of a data set; its audio becomes an address for `audio_bytes`.

    Args:
        path: A folder written by `save_to_disk`, or a name on the hub, with the configuration after a colon.
        split: Which of its sets; may be left out if there is one.
        audio: Column of the audio; by default the first whose type is audio.

    Raises:
        DataError: If the split or the audio column is not clear.
        ModelNotFoundError: If there is no such data set.
    """
    data, chosen = _opened(path, split)
    names = data.column_names
    typed = [name for name, kind in data.features.items() if type(kind).__name__ == "Audio"]
    column = audio or (typed[0] if typed else next((n for n in ("audio", "path", "file") if n in names), None))
    if column is None or column not in names:
        raise DataError(f"{path}: has no column {column or 'of audio'!r}. Its columns: {', '.join(names)}.")
    rest = data.remove_columns([column])
    for number, values in enumerate(rest):
        place = f"{SCHEME}{quote(path)}?{urlencode({'split': chosen, 'column': column, 'row': number})}"
        yield Row(values={**values, column: place}, source=f"{path}[{chosen}]: row {number}")


def audio_bytes(address: str) -> Any:
    """Return the bytes or the path of the audio at an address, for the audio readers."""
    path, _, query = address.removeprefix(SCHEME).partition("?")
    facts = {name: values[0] for name, values in parse_qs(query).items()}
    data, _ = _opened(unquote(path), facts["split"])
    value = data[int(facts["row"])][facts["column"]]
    if isinstance(value, dict):
        value = value["bytes"] if value.get("bytes") is not None else value["path"]
    return value


@lru_cache(maxsize=8)
def _opened(path: str, split: str | None) -> tuple[Any, str]:
    """Return a data set whose audio stays encoded, and the name of its split."""
    library = require("datasets", _WANTED)
    if is_saved(Path(path)):
        data = library.load_from_disk(path)
    else:
        name, _, configuration = path.partition(":")
        try:
            data = library.load_dataset(name, configuration or None)
        except Exception as error:  # of many kinds, by host, script and format
            raise ModelNotFoundError(f"{path}: cannot be loaded: {type(error).__name__}: {error!s:.200}") from error
    if hasattr(data, "keys"):
        splits = list(data.keys())
        if split is None and len(splits) > 1:
            raise DataError(f"{path}: has the splits {', '.join(splits)}. Name one with `split`.")
        chosen = split or splits[0]
        if chosen not in splits:
            raise DataError(f"{path}: has no split {chosen!r}. It has {', '.join(splits)}.")
        data = data[chosen]
    else:
        chosen = split or "all"
    for name, kind in data.features.items():
        if type(kind).__name__ == "Audio":
            data = data.cast_column(name, library.Audio(decode=False))
    return data, chosen
