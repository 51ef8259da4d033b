"""Text files as numbered lines: UTF-8, or UTF-16 with its mark, plain or compressed by gzip."""

import codecs
import gzip
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dragoman.data.utterance import Problem
from dragoman.errors import DataError, ModelNotFoundError

_WIDE = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_BINARY = 0.05  # share of null bytes above which a file is no text


@dataclass(frozen=True, kw_only=True)
class Row:
    """One item as it is written.

    Attributes:
        values: By the name of the column.
        source: File and line.
    """

    values: Mapping[str, Any]
    source: str


def read_lines(path: Path) -> Iterator[tuple[int, str] | Problem]:
    """Yield the number, from 1, and the text of each line; a line that is not UTF-8 is a problem.

    Raises:
        ModelNotFoundError: If the file cannot be read.
        DataError: If it is empty or no text file.
    """
    content = _content(path)
    for mark, encoding in _WIDE.items():
        if content.startswith(mark):
            for number, text in enumerate(_decoded(path, content, encoding).split("\n"), 1):
                yield number, text.removesuffix("\r")  # not splitlines, which also splits at U+2028
            return
    if content[:4096].count(0) > _BINARY * len(content[:4096]):
        raise DataError(
            f"{path}: is not a text file, or is UTF-16 without its mark. Convert it to UTF-8: "
            "`iconv -f UTF-16 -t UTF-8 OLD > NEW`."
        )
    for number, line in enumerate(content.removeprefix(codecs.BOM_UTF8).split(b"\n"), 1):
        try:
            yield number, line.decode("utf-8").removesuffix("\r")
        except UnicodeDecodeError as error:
            byte = line[error.start]
            yield Problem(
                kind="wrong encoding",
                source=f"{path}:{number}",
                message=(
                    f"byte {error.start + 1} (0x{byte:02X}) is not UTF-8. Convert the file from its own encoding, as "
                    "with `iconv -f WINDOWS-1252 -t UTF-8 OLD > NEW`."
                ),
            )


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelNotFoundError(f"{path}: cannot be read: {error.strerror or error}.") from error
    if content.startswith(b"\x1f\x8b"):
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{path}: is damaged gzip ({error}). Copy it again.") from error
    if not content.strip():
        raise DataError(f"{path}: is empty. Check that it is the right file.")
    return content


def _decoded(path: Path, content: bytes, encoding: str) -> str:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is damaged {encoding} (byte {error.start}). Convert it to UTF-8.") from error
