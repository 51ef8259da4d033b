"""A process that decodes uploads and has nothing else: no network, no model, little memory, little time.

Each message on its socket is a JSON object with two open files: the upload, and where to write mono float32 samples at
16 kHz. The answer is a JSON object with the duration, or the error. The parent closes the socket to end the process.
"""

import json
import os
import resource
import socket
import sys
import warnings
from typing import Any, BinaryIO

from dragoman.audio.reading.io import stream_audio
from dragoman.errors import AudioError, MissingDependencyError

_MESSAGE_BYTES = 1 << 16


def _limit(memory_mb: int, seconds: int, most_bytes: int) -> None:
    """Set the limits of the process; the time begins now."""
    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    memory = memory_mb << 20
    hard_memory = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (memory, hard_memory))
    resource.setrlimit(resource.RLIMIT_CPU, (int(used) + seconds + 1, resource.getrlimit(resource.RLIMIT_CPU)[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _decode(upload: BinaryIO, samples: BinaryIO, request: dict[str, Any]) -> dict[str, Any]:
    """Decode a file and return the answer."""
    count = 0
    try:
        with warnings.catch_warnings(record=True) as caught:
            for block in stream_audio(upload, max_seconds=request["max_seconds"]):
                samples.write(block.tobytes())
                count += len(block)
    except MissingDependencyError as error:
        return {"error": "dependency", "message": str(error)}
    except AudioError as error:
        return {"error": "audio", "message": str(error)[:2000]}
    except MemoryError:
        return {"error": "audio", "message": "the upload needs too much memory to be decoded."}
    samples.flush()
    return {"samples": count, "warnings": [str(one.message)[:500] for one in caught[:4]]}


def main() -> None:
    """Answer messages until the socket is closed."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    connection.sendall(b"{}\n")  # ready: everything is imported
    while True:
        message, descriptors, _, _ = socket.recv_fds(connection, _MESSAGE_BYTES, 2)
        if not message:
            return
        request = json.loads(message)
        _limit(request["memory_mb"], request["seconds"], request["most_bytes"])
        try:
            with os.fdopen(descriptors[0], "rb") as upload, os.fdopen(descriptors[1], "wb") as samples:
                answer = _decode(upload, samples, request)
        except OSError as error:  # of the samples: what is wrong with an upload is an `AudioError`
            answer = {"error": "disk", "errno": error.errno}
        connection.sendall(json.dumps(answer).encode() + b"\n")


if __name__ == "__main__":
    main()
