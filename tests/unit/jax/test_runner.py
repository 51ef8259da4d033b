"""Transcription in JAX: the same transcripts as in PyTorch, in few programs, and without PyTorch."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import torch

from dragoman import FlaxSpeechEncoderDecoderModel, GPT2LMHeadModel, Transcriber
from dragoman._install import install_command
from dragoman.errors import ConfigError
from dragoman.jax.runner import Runner
from dragoman.testing import tiny_config

COMMAND = """
import sys
from importlib.machinery import PathFinder
find = PathFinder.find_spec
PathFinder.find_spec = lambda name, *rest: None if name == "torch" else find(name, *rest)  # as if not installed
from dragoman.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def in_jax(tiny_checkpoint: Path) -> Transcriber:
    return Transcriber(tiny_checkpoint, backend="jax")


@pytest.mark.nightly
def test_transcripts_equal_torch(in_jax: Transcriber, tiny_checkpoint: Path, sample: Any) -> None:
    options = {"chunk_length_s": 2, "batch_size": 2, "beam_size": 3, "word_timestamps": True}
    ours = in_jax.transcribe(sample[:80_000], **options)
    theirs = Transcriber(tiny_checkpoint, device="cpu", backend="torch").transcribe(sample[:80_000], **options)
    assert len(ours.segments) > 2
    assert ours.text == theirs.text
    for mine, other in zip(ours.segments, theirs.segments, strict=True):
        assert mine.tokens == other.tokens
        assert mine.avg_logprob == pytest.approx(other.avg_logprob, abs=1e-4)
        assert mine.words
        assert [word.word for word in mine.words] == [word.word for word in other.words]
        assert mine.start == pytest.approx(other.start, abs=0.11)  # ties of a random model


@pytest.mark.filterwarnings("ignore:.*words may be missing")
def test_neural_language_model(in_jax: Transcriber, sample: Any, tmp_path: Path) -> None:
    vocab = in_jax.model.decoder.spec.vocab_size
    lm = GPT2LMHeadModel(tiny_config("gpt2", vocab_size=vocab, initializer_range=0.5, bos_token_id=2)).eval()
    lm.save_pretrained(tmp_path)
    first = int(lm(torch.tensor([[2]])).logits[0, -1].argmax())
    options = {"beam_size": 1, "temperature": 0, "no_speech_threshold": None}
    swayed = in_jax.transcribe(sample[:40_000], lm=tmp_path, lm_weight=100, **options)
    assert [segment.tokens[0] for segment in swayed.segments] == [first]
    GPT2LMHeadModel(tiny_config("gpt2", vocab_size=99)).save_pretrained(tmp_path / "other")
    with pytest.raises(ConfigError, match="`lm` must have the vocabulary of the model"):
        in_jax.transcribe(sample[:40_000], lm=tmp_path / "other")


def test_backend_follows_from_a_given_model(in_jax: Transcriber) -> None:
    assert isinstance(Transcriber(in_jax.model, in_jax.processor).model, FlaxSpeechEncoderDecoderModel)
    with pytest.raises(ConfigError, match="`backend` is 'torch', but the model is one of 'jax'"):
        Transcriber(in_jax.model, in_jax.processor, backend="torch")


def test_language_probabilities_equal_the_model_call(in_jax: Transcriber, sample: Any) -> None:
    """Whatever is rounded up on the way: 3 rows, 5 tokens."""
    runner = Runner(in_jax.model)
    inputs = in_jax.processor.feature_extractor(
        [sample[:9_000], sample[9_000:25_000], sample[:400]], sampling_rate=16_000, padding=True,
        return_attention_mask=True, return_tensors="np",
    )  # fmt: skip
    encoded = runner.encode(inputs)
    tokens = np.random.default_rng(0).integers(4, 50, (3, 5))
    logits = in_jax.model(**inputs, decoder_input_ids=tokens).logits
    wanted = np.asarray(jax.nn.log_softmax(logits))
    assert np.abs(runner.next_log_probs(encoded, tokens) - wanted[:, -1]).max() < 1e-5
    chosen = np.take_along_axis(wanted[:, :-1], tokens[:, 1:, None], axis=-1)[..., 0]
    assert np.abs(runner.log_probs(encoded, tokens) - chosen).max() < 1e-5
    heads = ((0, 1), (1, 0), (1, 1))
    weights = in_jax.model(**inputs, decoder_input_ids=tokens, output_attentions=True).cross_attentions
    looks = np.stack(list(runner.cross_attention(encoded, tokens, heads)))
    for place, (layer, head) in enumerate(heads):
        theirs = np.asarray(weights[layer])[:, head]
        assert np.abs(looks[:, place, :, : theirs.shape[-1]] - theirs).max() < 1e-5
    some = runner.log_probs(runner.take(encoded, [2, 0]), tokens[[2, 0]])
    assert np.abs(some - chosen[[2, 0]]).max() < 1e-5


def test_windows_share_few_programs_and_compilation_is_logged(
    in_jax: Transcriber, sample: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """19 batches of 1 to 3 windows of up to 1.25 s: sizes 1, 2, 3 of two lengths, and not one program more."""
    random, runner = np.random.default_rng(0), Runner(in_jax.model)
    with caplog.at_level("INFO", logger="dragoman"):
        for number in range(19):
            lengths = random.integers(400, 20_000, 1 + number % 3)
            inputs = in_jax.processor.feature_extractor(
                [sample[:length] for length in lengths], sampling_rate=16_000, padding=True,
                return_attention_mask=True, return_tensors="np",
            )  # fmt: skip
            runner.encode(inputs)
    told = [record.getMessage() for record in caplog.records if "JAX compiles encode for" in record.getMessage()]
    assert len(told) == len(set(told)) <= 6


def test_unsupported_options_are_refused(tiny_checkpoint: Path) -> None:
    with pytest.raises(ConfigError, match="`backend` must be auto, torch, jax or onnx, but is 'tensorflow'"):
        Transcriber(tiny_checkpoint, backend="tensorflow")
    for device in ("cuda:9", "cpu:99", "abacus", "cpu:x"):
        with pytest.raises(ConfigError, match=rf"`device` is '{device}', but JAX sees cpu:0 here"):
            Transcriber(tiny_checkpoint, backend="jax", device=device)
    jax.device_put(0)
    with pytest.raises(ConfigError, match="`threads` must be set before JAX computes"):
        Transcriber(tiny_checkpoint, backend="jax", threads=1)


def run(*words: object) -> subprocess.CompletedProcess[str]:
    words = ("transcribe", *map(str, words))
    return subprocess.run([sys.executable, "-c", COMMAND, *words], capture_output=True, text=True, check=False)


def test_command_needs_no_torch(tiny_checkpoint: Path, sample_path: Path) -> None:
    expected = Transcriber(tiny_checkpoint, device="cpu", backend="torch").transcribe(sample_path)
    done = run(sample_path, "--model", tiny_checkpoint, "--threads", 1)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:-1] == [segment.text for segment in expected.segments]
    done = run(sample_path, "--model", tiny_checkpoint, "--backend", "torch")
    assert install_command("torch") in done.stderr


def test_error_for_a_pickle_says_how_to_convert_it(tiny_checkpoint: Path, sample_path: Path, tmp_path: Path) -> None:
    for file in tiny_checkpoint.iterdir():
        name = "pytorch_model.bin" if file.name == "model.safetensors" else file.name
        shutil.copy(file, tmp_path / name)
    done = run(sample_path, "--model", tmp_path, "--backend", "jax")
    assert done.returncode not in (0, 1), done.returncode
    assert "can only be read with PyTorch. Convert it once" in done.stderr
    assert "Traceback" not in done.stderr
