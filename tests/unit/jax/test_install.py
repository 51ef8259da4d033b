"""JAX without PyTorch: nothing imports it, and the error for a `.bin` file says how to convert it."""

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys
from importlib.machinery import PathFinder
find = PathFinder.find_spec
PathFinder.find_spec = lambda name, *rest: None if name == "torch" else find(name, *rest)  # as if not installed
sys.path.insert(0, {here!r})
import numpy as np
from conftest import build
from dragoman import FlaxSpeechEncoderDecoderModel
from dragoman.errors import MissingDependencyError

folder = {folder!r}
model = build()
model.save_pretrained(folder)
again = FlaxSpeechEncoderDecoderModel.from_pretrained(folder)
assert again.encode(np.zeros((1, 400), np.float32)).last_hidden_state.shape == (1, 10, 32)
from pathlib import Path
Path(folder, "model.safetensors").rename(Path(folder, "pytorch_model.bin"))
try:
    FlaxSpeechEncoderDecoderModel.from_pretrained(folder)
except MissingDependencyError as error:
    assert "Convert it once" in str(error) and "pip install" in str(error), error
    print("refused")
"""


def test_jax_without_torch(tmp_path: Path) -> None:
    program = PROGRAM.format(here=str(Path(__file__).parent), folder=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip() == "refused"
