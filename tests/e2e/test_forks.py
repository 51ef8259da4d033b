"""Processes forked after a model has computed: PyTorch works there, JAX says what to do instead."""

import os
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no forks on Windows")

PROGRAM = textwrap.dedent("""
    import multiprocessing, sys, warnings
    import numpy as np
    from dragoman import DragomanError, Transcriber

    warnings.simplefilter("ignore")
    audio = np.random.default_rng(0).normal(0, 0.1, 64_000).astype(np.float32)
    options = dict(beam_size=2, temperature=0, vad_filter=False, no_speech_threshold=None)
    transcriber = Transcriber(sys.argv[1], threads=2, device="cpu", backend=sys.argv[2])

    def transcribe(_):
        try:
            return transcriber.transcribe(audio, **options).text
        except DragomanError as error:
            return str(error)

    print(transcribe(0))
    with multiprocessing.get_context("fork").Pool(2) as pool:
        print(*pool.map_async(transcribe, range(2)).get(timeout=100), sep="\\n")
""")


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_a_pool_after_a_transcription(backend, tiny_checkpoint):
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    command = [sys.executable, "-c", PROGRAM, str(tiny_checkpoint), backend]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, env=environment)
    assert done.returncode == 0, done.stderr
    own, *others = done.stdout.splitlines()
    assert own
    if backend == "torch":
        assert others == [own] * 2
    else:
        assert all('multiprocessing.get_context("spawn")' in other for other in others)
        assert len(others) == 2
