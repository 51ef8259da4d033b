"""A server of faster-whisper with the one path that `serve_load.py` asks, in the few lines that people write for it.

python benchmarks/faster_whisper_server.py FOLDER [--threads 1] [--compute_type float32]
"""

import argparse
import io
import socket
import sys
from pathlib import Path
from typing import Annotated

import uvicorn
from fastapi import FastAPI, File, Form
from faster_whisper import WhisperModel

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("folder", type=Path, help="a model in CTranslate2's format")
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--compute_type", default="float32")


def main() -> None:
    """Serve until SIGTERM; the address is written to standard error."""
    given = parser.parse_args()
    model = WhisperModel(str(given.folder), device="cpu", cpu_threads=given.threads, compute_type=given.compute_type)
    app = FastAPI()

    @app.post("/v1/audio/transcriptions")
    def transcriptions(file: Annotated[bytes, File()], beam_size: Annotated[int, Form()] = 5) -> dict[str, str]:
        segments, _ = model.transcribe(io.BytesIO(file), language="en", beam_size=beam_size)
        return {"text": "".join(segment.text for segment in segments).strip()}

    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listening:
        print(f"Listening on http://127.0.0.1:{listening.getsockname()[1]}.", file=sys.stderr, flush=True)
        uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False)).run(sockets=[listening])


if __name__ == "__main__":
    main()
