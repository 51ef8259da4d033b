"""The small files of a model folder, read with a size limit and with errors that name the file.

Lives here: bytes and JSON in, bytes and JSON out. What the JSON means is the business of the modules that call.
"""

import json
import os
import secrets
from pathlib import Path
from typing import Any

from dragoman.errors import DragomanError, ModelNotFoundError, TokenizerError

__all__ = ["CONFIG_BYTES", "VOCABULARY_BYTES", "parse_json", "read_bytes", "read_json", "write_bytes", "write_json"]

# Far above the largest ones in use (1.3 MB and 34 MB), far below what could hurt.
CONFIG_BYTES = 16 * 2**20
VOCABULARY_BYTES = 128 * 2**20


def read_bytes(path: Path, limit: int = VOCABULARY_BYTES, error: type[DragomanError] = TokenizerError) -> bytes:
    """Read a whole file of at most `limit` bytes.

    Raises:
        ModelNotFoundError: If it cannot be opened.
        TokenizerError: If it is longer than `limit`; `error` chooses another class.
    """
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as cause:
        raise ModelNotFoundError(f"{path} cannot be read: {cause.strerror}.") from cause
    if len(content) > limit:
        raise error(f"{path} is larger than the {limit >> 20} MiB that such a file may have; it is refused.")
    return content


def read_json(path: Path, error: type[DragomanError] = TokenizerError) -> dict[str, Any]:
    """Read the JSON object in a file; an absent file is an empty object.

    Raises:
        TokenizerError: If the file is too large, or does not hold a JSON object; `error` chooses another class.
    """
    return parse_json(read_bytes(path, CONFIG_BYTES, error), path, error) if path.is_file() else {}


def parse_json(content: bytes, path: Path, error: type[DragomanError] = TokenizerError) -> dict[str, Any]:
    """Return the JSON object in `content`, which was read from `path`.

    Raises:
        TokenizerError: If it is not UTF-8, not JSON or not an object; `error` chooses another class.
    """
    try:
        parsed = json.loads(content.decode())
        if b"\\ud" in content.lower():  # halves of characters, which no file can hold and no tokenizer takes
            json.dumps(parsed, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as cause:
        raise error(f"{path} is not valid JSON: {cause}. Fetch or save it again.") from cause
    if not isinstance(parsed, dict):
        raise error(f"{path} must hold a JSON object, but holds a {type(parsed).__name__}.")
    return parsed


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that at every moment either the old or the new content is there, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as file:
            file.write(content)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON object the way Hugging Face's files look: sorted keys, two spaces, plain Unicode."""
    write_bytes(path, (json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode())
