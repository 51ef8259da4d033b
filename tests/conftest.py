"""Fixtures of several folders: a tiny checkpoint that transcribes (nonsense), and the sample recording."""

import json
import os
import tempfile
from pathlib import Path

# Tests compile much and compute little: XLA compiles fast instead of well, and each program once per process (caches of
# JAX are not safe to share between processes that write them). Set before JAX starts, for subprocesses too.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1",
)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] += "/" + os.environ["PYTEST_XDIST_WORKER"]
else:
    programs = tempfile.TemporaryDirectory(prefix="jax-programs-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = programs.name

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import settings

from dragoman import SpeechEncoderDecoderConfig, SpeechEncoderDecoderModel, Wav2Vec2FeatureExtractor
from dragoman.testing import tiny_config

# No time limit for single examples, which may wait on a busy machine.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

DATA = Path(__file__).parents[1] / "src/dragoman/testing/data"
LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *LETTERS, *(f"##{letter}" for letter in LETTERS)]


@pytest.fixture(scope="session")
def sample_path() -> Path:
    """Nearly eight seconds of synthetic speech; its transcript is in the `.txt` of the same name."""
    return DATA / "sample_en.flac"


@pytest.fixture(scope="session")
def sample(sample_path: Path) -> np.ndarray:
    """The sample as float32 at 16 kHz."""
    return soundfile.read(sample_path, dtype="float32")[0]


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model, whose transcripts depend on the speech and end after eight tokens, with its processor."""
    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    torch.manual_seed(0)
    config = SpeechEncoderDecoderConfig(
        encoder=tiny_config("wav2vec2", conv_stride=(5, 8, 8), initializer_range=0.2),
        decoder=tiny_config("gpt2", vocab_size=len(WORDS), n_positions=32, initializer_range=0.2),
        decoder_start_token_id=2,
        eos_token_id=3,
        pad_token_id=0,
    )
    model = SpeechEncoderDecoderModel(config=config)
    with torch.no_grad():  # from the eighth on, positions point in the direction of the end token's embedding
        end = torch.tensor([1.0, -1.0] * 12)
        model.decoder.embed.positions.weight.sub_(0.5 * end)[8:] = 20 * end
        model.decoder.embed.tokens.weight[3] = 0.2 * end
    model.save_pretrained(folder)
    Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    return folder
