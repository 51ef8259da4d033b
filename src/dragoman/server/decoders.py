"""From an upload to samples, in child processes that may crash: native decoders parse untrusted files.

A child that dies, hangs or takes too much memory costs the request that it worked for, and is replaced. One that has
died may have done so before the upload came (a system short of memory kills processes), so a new one tries again.
"""

import contextlib
import json
import os
import queue
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import IO, Any

import numpy as np

from dragoman.audio import SAMPLING_RATE
from dragoman.audio.waveform import Waveform
from dragoman.errors import AudioError, MissingDependencyError
from dragoman.server.settings import ServerSettings

_BLOCK_BYTES = 10 * SAMPLING_RATE * 4
_REUSES = 500  # a child is replaced after this many files, so that leaks in native decoders stay small


class Samples:
    """The samples of an upload at 16 kHz, in a temporary file without a name, which vanishes with this object."""

    def __init__(self, file: IO[bytes], count: int) -> None:
        self._file, self.count = file, count

    @property
    def seconds(self) -> float:
        """Duration."""
        return self.count / SAMPLING_RATE

    def blocks(self) -> Iterator[Waveform]:
        """Yield the samples in blocks."""
        self._file.seek(0)
        while data := self._file.read(_BLOCK_BYTES):
            yield np.frombuffer(data, dtype=np.float32)

    def close(self) -> None:
        """Free the disk space."""
        self._file.close()


class Decoders:
    """The pool of child processes.

    Args:
        settings: Their number and limits.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self._settings = settings
        self._idle: queue.LifoQueue[_Child | None] = queue.LifoQueue()
        for _ in range(settings.decoders):
            self._idle.put(None)  # started when first needed

    def decode(self, upload: IO[bytes], name: str) -> Samples:
        """Decode an upload; blocks until a child is free.

        Args:
            upload: The file.
            name: What to call it in messages.

        Raises:
            AudioError: If it cannot be decoded, or not within the limits.
            MissingDependencyError: If it needs the extra `media`.
            OSError: If there is no space for the samples.
        """
        child = self._idle.get()
        samples = tempfile.TemporaryFile()  # noqa: SIM115 (its owner closes it)
        try:
            child = child or _Child()
            answer = child.ask(upload, samples, self._settings)
            if answer is None and child.is_worn:
                child.close()
                child = _Child()
                answer = child.ask(upload, samples, self._settings)
            count = _checked(answer, name)
        except BaseException:
            samples.close()
            raise
        finally:
            usable = child is not None and child.is_usable
            if child is not None and not usable:
                child.close()
            self._idle.put(child if usable else None)
        return Samples(samples, count)

    def close(self) -> None:
        """End the children that are idle; the others end with the process."""
        with contextlib.suppress(queue.Empty):
            while True:
                child = self._idle.get_nowait()
                if child is not None:
                    child.close()


def _checked(answer: dict[str, Any] | None, name: str) -> int:
    if answer is None:
        raise AudioError(f"{name}: decoding it took too much time or memory, or failed. Convert it to WAV or FLAC.")
    if answer.get("error") == "disk":
        raise OSError(answer["errno"], os.strerror(answer["errno"]))
    if "error" in answer:
        kind = MissingDependencyError if answer["error"] == "dependency" else AudioError
        raise kind(_named(name, answer["message"].removeprefix("the given file object: ")))
    return int(answer["samples"])


def _named(name: str, fault: str) -> str:
    """Return one text of a file and its fault; the name is the subject of a fault that has none."""
    return f"{name} {fault}" if fault.startswith(("is ", "has ", "cannot ")) else f"{name}: {fault}"


class _Child:
    """One process."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        passed = ("PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "LANG", "LC_ALL", "TMPDIR", "SYSTEMROOT")
        environment = {name: os.environ[name] for name in passed if name in os.environ}  # no keys and tokens
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "dragoman.server.child", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C in a terminal is for the server, which ends it when it is done
                env={**environment, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            )
        self._socket, self._answers, self._asked = ours, ours.makefile("rb"), 0
        ours.settimeout(60)
        self.is_usable = bool(self._receive())

    def ask(self, upload: IO[bytes], samples: IO[bytes], settings: ServerSettings) -> dict[str, Any] | None:
        """Return its answer, or `None` if there is none; it is not usable then."""
        request = {
            "max_seconds": settings.max_seconds,
            "memory_mb": settings.decode_memory_mb,
            "seconds": settings.decode_timeout_s,
            "most_bytes": (settings.max_seconds + 20) * SAMPLING_RATE * 4,
        }
        self._asked += 1
        upload.flush()
        for file in (upload, samples):
            file.seek(0)
        samples.truncate()
        self._socket.settimeout(settings.decode_timeout_s)
        answer = None
        with contextlib.suppress(OSError):
            socket.send_fds(self._socket, [json.dumps(request).encode()], [upload.fileno(), samples.fileno()])
            answer = json.loads(self._receive() or "null")
        self.is_usable = answer is not None and self._asked < _REUSES
        return answer

    @property
    def is_worn(self) -> bool:
        """Whether it has died, and had other uploads before."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(0.5)
        return self._asked > 1 and self._process.returncode is not None

    def close(self) -> None:
        """End the process."""
        self._answers.close()
        self._socket.close()
        self._process.kill()
        self._process.wait()

    def _receive(self) -> bytes:
        try:
            return self._answers.readline(1 << 16)
        except OSError:
            return b""
