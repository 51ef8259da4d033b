"""A server process for tests: started, waited for, and ended in good order."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx


class Server:
    """A running `dragoman serve`."""

    def __init__(self, *arguments: object, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "dragoman", "serve", "--port", "0", "--threads", "1", *map(str, arguments)],
            env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **environment},
            stderr=subprocess.PIPE,
            text=True,
        )
        self.log: list[str] = []
        self.url = self._address()
        threading.Thread(target=self._drain, daemon=True).start()
        self.client = httpx.Client(base_url=self.url, timeout=60)

    def _address(self) -> str:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line)
            if found := re.search(r"Listening on (\S+)\.\n", line):
                return found[1]
        self.process.wait()
        self.process.stderr.close()
        raise AssertionError(f"the server did not start: {''.join(self.log)}")

    def _drain(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line)

    def post(self, file: object, *, path: str = "transcriptions", headers: dict | None = None, **fields: object):
        return self.client.post(f"/v1/audio/{path}", files={"file": file}, data=fields, headers=headers)

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(60)


@contextmanager
def running(*arguments: object, **environment: str) -> Iterator[Server]:
    server = Server(*arguments, **environment)
    try:
        yield server
    finally:
        server.client.close()
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()
        server.process.stderr.close()
