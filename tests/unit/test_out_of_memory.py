"""Memory that is used up is told as such, whatever the class of the error, in Python and by the command."""

import errno
import os

import numpy as np
import pytest
import soundfile
import torch

from dragoman import OutOfMemoryError, SpeechEncoderDecoderModel, Transcriber, load_audio
from dragoman._lazy import require
from dragoman.audio.reading import io
from dragoman.checkpoint.tensors import SafetensorsFile
from dragoman.cli.console import describe
from dragoman.errors import CheckpointError, ConfigError, is_out_of_memory
from dragoman.files import open_file
from dragoman.torch.runner import Runner

CAUSES = [
    MemoryError(),
    OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
    ImportError("libtorch_cpu.so: failed to map segment from shared object"),
    BufferError("Cannot allocate memory"),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:115] DefaultCPUAllocator: can't allocate memory: you tried to allocate"
    ),
    RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 4294967296 bytes."),
    ValueError("Out of memory allocating 4294967296 bytes."),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
]


def raising(error):
    def fails(*_, **__):
        raise error

    return fails


@pytest.mark.parametrize("cause", CAUSES, ids=lambda one: type(one).__name__)
def test_every_cause_is_told(cause, monkeypatch, tiny_checkpoint, tmp_path, sample):
    with monkeypatch.context() as patched:
        patched.setattr(SafetensorsFile, "read", raising(cause))
        with pytest.raises(OutOfMemoryError, match=r"The model does not fit into memory\. Use a smaller one"):
            SpeechEncoderDecoderModel.from_pretrained(tiny_checkpoint)
        with pytest.raises(OutOfMemoryError, match="The model does not fit"):
            Transcriber(tiny_checkpoint)
    transcriber = Transcriber(tiny_checkpoint, device="cpu")
    with monkeypatch.context() as patched:
        patched.setattr(Runner, "encode", raising(cause))
        with pytest.raises(OutOfMemoryError, match="does not fit into memory"):
            transcriber.transcribe(sample[:32_000])
    soundfile.write(tmp_path / "a.wav", np.zeros(100), 16_000)
    monkeypatch.setattr(io, "stream_audio", raising(cause))
    with pytest.raises(OutOfMemoryError, match="The recording does not fit"):
        load_audio(tmp_path / "a.wav")
    wrapped = CheckpointError("The file is damaged.")
    wrapped.__cause__ = cause
    assert describe(wrapped)[1] == 4
    assert "--batch_size" in describe(cause)[0]


def test_packages_and_files(monkeypatch, tmp_path):
    monkeypatch.setattr("dragoman._lazy.import_module", raising(CAUSES[2]))
    with pytest.raises(OutOfMemoryError, match="`av` does not fit into memory"):
        require("av", "Reading")
    (tmp_path / "a.json").write_text("{}")
    monkeypatch.setattr("builtins.open", raising(CAUSES[1]))
    with pytest.raises(OutOfMemoryError, match=r"a\.json does not fit into memory"), open_file(tmp_path / "a.json"):
        pass


def test_other_errors_stay():
    assert not is_out_of_memory(ConfigError("`beam_size` must be at least 1, but is 0."))
    assert not is_out_of_memory(OSError(errno.EACCES, "Permission denied"))
    assert describe(CheckpointError("x"))[1] == 5
