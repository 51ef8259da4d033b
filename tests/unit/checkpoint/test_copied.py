"""With `copy_weights`, a model does not depend on its file any more; without, PyTorch's memory is the file."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from dragoman import FlaxSpeechEncoderDecoderModel, SpeechEncoderDecoderModel, UntrustedFileError
from dragoman.checkpoint.copied import Copied, check_hashes
from dragoman.checkpoint.tensors import SafetensorsFile, save_safetensors

PROGRAM = """
import os, sys
from dragoman import SpeechEncoderDecoderModel, Transcriber
model = Transcriber(sys.argv[1], device="cpu", copy_weights=True).model
other = SpeechEncoderDecoderModel.from_pretrained(sys.argv[1], copy_weights=True)
other.encoder.save_pretrained(sys.argv[1] + "/part")
part = type(other.encoder).from_pretrained(sys.argv[1] + "/part", copy_weights=True)
for folder in (sys.argv[1], sys.argv[1] + "/part"):
    os.truncate(os.path.join(folder, "model.safetensors"), 100)
print(sum(float(p.sum()) for one in (model, other, part) for p in one.parameters()) != 0)
"""


def test_a_file_may_be_cut_after_loading(tiny_checkpoint, tmp_path):
    for path in tiny_checkpoint.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


@pytest.mark.parametrize("framework", ["np", "pt"])
def test_copies_do_not_change_with_the_file(framework, tmp_path):
    path = tmp_path / "model.safetensors"
    save_safetensors({"a": np.ones(4, np.float32)}, path, "np")
    with SafetensorsFile(path, framework) as file:
        copied = Copied(file).read("a")
    with path.open("r+b") as file:
        file.seek(-16, os.SEEK_END)
        file.write(np.zeros(4, np.float32).tobytes())
    assert copied.tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("model", [SpeechEncoderDecoderModel, FlaxSpeechEncoderDecoderModel])
def test_the_result_is_the_same(model, tiny_checkpoint):
    audio = np.random.default_rng(0).normal(size=(1, 8_000)).astype(np.float32)
    audio = torch.from_numpy(audio) if model is SpeechEncoderDecoderModel else audio
    mapped, copied = (
        model.from_pretrained(tiny_checkpoint, copy_weights=one).generate(audio, max_new_tokens=4)
        for one in (False, True)
    )
    assert np.array_equal(
        np.asarray(getattr(mapped, "sequences", mapped)), np.asarray(getattr(copied, "sequences", copied))
    )


def test_a_known_hash_is_checked(tmp_path):
    content = b"weights"
    blob = tmp_path / hashlib.sha256(content).hexdigest()
    blob.write_bytes(content)
    (tmp_path / "model.safetensors").symlink_to(blob)
    check_hashes([tmp_path / "model.safetensors"])
    blob.write_bytes(b"other")
    with pytest.raises(UntrustedFileError, match=r"is damaged: its SHA-256 is .*force_download=True"):
        check_hashes([tmp_path / "model.safetensors"])
    check_hashes([blob])  # a file of that name elsewhere says nothing
