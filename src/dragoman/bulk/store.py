"""Where results go: a folder or an object store, in which a file appears whole or not at all."""

import hashlib
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from dragoman.bulk.remote import file_system, is_remote
from dragoman.errors import ConfigError, DragomanError
from dragoman.files import claim, is_abandoned

STATE = "_bulk"  # what is not a result; readers of data sets skip names that begin with _


class Store(Protocol):
    """What a run needs of the place where it writes; names are relative, with /.

    Attributes:
        journals: Folder on this machine for the journals of parts in progress.
    """

    journals: Path

    def read(self, name: str) -> bytes | None:
        """Return the content of a file, or `None` if there is none."""

    def write(self, name: str, content: bytes) -> None:
        """Write a file: it appears whole."""

    def create(self, name: str, content: bytes) -> bool:
        """Write a file unless there is one already, and return whether it was written."""

    def names(self, folder: str = "") -> list[str]:
        """Return the names of the files in a folder, sorted."""

    def move(self, name: str, new: str) -> None:
        """Rename a file, if it is there."""

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""


def open_store(output: str) -> Store:
    """Return the store of an output.

    Raises:
        ConfigError: If its folder cannot be made or written to.
    """
    return RemoteStore(output) if is_remote(output) else LocalStore(Path(output))


@contextmanager
def writing(path: object) -> Iterator[None]:
    """Tell what to do if an output cannot be written.

    Raises:
        DragomanError: In place of the error of the system.
    """
    try:
        yield
    except OSError as error:
        raise DragomanError(
            f"{path} cannot be written ({error.strerror or error}). Free some space or check the permissions, and run "
            "the same command again: it goes on where it stopped."
        ) from error


class LocalStore:
    """A folder, perhaps on a disk that many machines share.

    Args:
        root: The folder; it is made.

    Raises:
        ConfigError: If it cannot be made or written to.
    """

    def __init__(self, root: Path) -> None:
        self._root, self._temporary = root, root / STATE / "writing"
        self.journals = root / STATE / "journals"
        try:
            for folder in (self._temporary, self.journals):
                folder.mkdir(parents=True, exist_ok=True)
            (probe := self._temporary / f"{secrets.token_hex(8)}.probe").touch()
            probe.unlink()
        except OSError as error:
            reason = error.strerror or error
            raise ConfigError(
                f"`--output_dir` {root} cannot be written to: {reason}. Check its permissions."
            ) from error
        for left in self._temporary.iterdir():
            if is_abandoned(left):
                with suppress(OSError):
                    left.unlink()

    def read(self, name: str) -> bytes | None:
        """See `Store`."""
        try:
            return (self._root / name).read_bytes()
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes) -> None:
        """See `Store`."""
        with self._written(name, content) as temporary:
            os.replace(temporary, self._root / name)

    def create(self, name: str, content: bytes) -> bool:
        """See `Store`."""
        with self._written(name, content) as temporary:
            try:
                os.link(temporary, self._root / name)
            except FileExistsError:
                return False
            finally:
                temporary.unlink()
        return True

    @contextmanager
    def _written(self, name: str, content: bytes) -> Iterator[Path]:
        """Write a temporary file, to the disk and not only to its cache."""
        path, temporary = self._root / name, self._temporary / secrets.token_hex(8)
        with writing(path):
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                with temporary.open("xb") as file:
                    mark = claim(temporary)
                    try:
                        file.write(content)
                        file.flush()
                        os.fsync(file.fileno())
                        yield temporary
                    finally:
                        os.close(mark)
            except BaseException:
                with suppress(OSError):
                    temporary.unlink()
                raise

    def names(self, folder: str = "") -> list[str]:
        """See `Store`."""
        try:
            return sorted(entry.name for entry in os.scandir(self._root / folder) if entry.is_file())
        except FileNotFoundError:
            return []

    def move(self, name: str, new: str) -> None:
        """See `Store`."""
        with writing(self._root / new):
            (self._root / new).parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):
                os.replace(self._root / name, self._root / new)

    def remove(self, name: str) -> None:
        """See `Store`."""
        with writing(self._root / name), suppress(FileNotFoundError):
            os.unlink(self._root / name)


class RemoteStore:
    """A prefix of an object store; journals are on this machine, so that a part goes on here, or begins anew elsewhere.

    Args:
        url: Its address.
    """

    def __init__(self, url: str) -> None:
        self._files, inside = file_system(url)
        self._root, self._url = inside.rstrip("/"), url
        name = f"dragoman-bulk-{hashlib.sha256(url.encode()).hexdigest()[:16]}"
        self.journals = Path(tempfile.gettempdir()) / name
        with writing(self.journals):
            self.journals.mkdir(exist_ok=True)

    def read(self, name: str) -> bytes | None:
        """See `Store`."""
        try:
            content: bytes = self._files.cat_file(f"{self._root}/{name}")
        except FileNotFoundError:
            return None
        return content

    def write(self, name: str, content: bytes) -> None:
        """See `Store`."""
        with writing(f"{self._url}/{name}"):
            self._made(name)
            self._files.pipe_file(f"{self._root}/{name}", content)

    def create(self, name: str, content: bytes) -> bool:
        """See `Store`."""
        with writing(f"{self._url}/{name}"):
            self._made(name)
            try:
                self._files.pipe_file(f"{self._root}/{name}", content, mode="create")
            except FileExistsError:
                return False
        return True

    def _made(self, name: str) -> None:
        """Make the folder of a file, in file systems that have folders."""
        with suppress(NotImplementedError):
            self._files.makedirs(f"{self._root}/{name}".rpartition("/")[0], exist_ok=True)

    def names(self, folder: str = "") -> list[str]:
        """See `Store`."""
        self._files.invalidate_cache()
        try:
            listed: list[dict[str, Any]] = self._files.ls(f"{self._root}/{folder}".rstrip("/"), detail=True)
        except FileNotFoundError:
            return []
        return sorted(one["name"].rpartition("/")[2] for one in listed if one["type"] == "file")

    def move(self, name: str, new: str) -> None:
        """See `Store`."""
        content = self.read(name)
        if content is not None:
            self.write(new, content)
            self.remove(name)

    def remove(self, name: str) -> None:
        """See `Store`."""
        with writing(f"{self._url}/{name}"), suppress(FileNotFoundError):
            self._files.rm_file(f"{self._root}/{name}")
