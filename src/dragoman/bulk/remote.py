"""Object stores, through fsspec: addresses, errors, and recordings fetched into a temporary file."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any

from dragoman._lazy import require
from dragoman.errors import AudioError, MissingDependencyError, ModelNotFoundError


def is_remote(path: str) -> bool:
    """Return whether a path is the address of something in an object store."""
    return "://" in path and not path.startswith("dataset://")


def file_system(url: str) -> tuple[Any, str]:
    """Return the file system of an address, and the path in it.

    Raises:
        MissingDependencyError: If the package for this kind of store is not installed.
        ModelNotFoundError: If there is no such kind of store.
    """
    fsspec = require("fsspec", f"Reading {url.partition('://')[0]}:// addresses")
    try:
        found: tuple[Any, str] = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise MissingDependencyError(f"{url}: {error} For s3:// it is the extra `cloud`.") from error
    except ValueError as error:
        raise ModelNotFoundError(f"{url}: {error}. Check the beginning of the address.") from error
    return found


@contextmanager
def store_errors(url: str) -> Iterator[None]:
    """Raise errors of a store as ours.

    Raises:
        ModelNotFoundError: In place of whatever the store says.
    """
    try:
        yield
    except OSError as error:
        raise ModelNotFoundError(
            f"{url}: cannot be read: {error.strerror or error}. Check address and access."
        ) from error


@contextmanager
def fetched(url: str) -> Iterator[str]:
    """Copy a recording into a temporary file for the duration of a `with` block.

    Raises:
        AudioError: If it cannot be read.
    """
    files, inside = file_system(url)
    with tempfile.TemporaryDirectory(prefix="dragoman-") as folder:
        path = os.path.join(folder, "audio" + PurePosixPath(inside).suffix)
        try:
            files.get_file(inside, path)
        except FileNotFoundError as error:
            raise AudioError(f"{url}: there is no such file.") from error
        except OSError as error:
            raise AudioError(f"{url}: cannot be read: {error.strerror or error}.") from error
        yield path
