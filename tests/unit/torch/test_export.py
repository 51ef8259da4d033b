"""Every family becomes graphs that agree with PyTorch at sizes other than those of tracing."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dragoman import SpeechEncoderDecoderConfig, SpeechEncoderDecoderModel
from dragoman.cli import main
from dragoman.errors import CheckpointError, ConfigError
from dragoman.onnx.graphs import FOLDER
from dragoman.testing import tiny_config
from dragoman.testing.configs import DECODERS, ENCODERS
from dragoman.torch.export.checking import TOLERANCE, check
from dragoman.torch.export.folder import export

# One for each kind of part is in the default run: positions, rotations, windows, buckets, prefixes.
QUICK = {("wavlm", "gpt2", None), ("wav2vec2-bert", "roberta", None), ("speech_to_text", "gemma2", "prefix")}
PAIRS = [
    *((encoder, "bert", None) for encoder in ENCODERS if encoder != "qwen3_asr_encoder"),
    *(("wav2vec2", decoder, fusion) for decoder, fusion in DECODERS),
]


def model_of(encoder: str, decoder: str, fusion: str | None = None) -> SpeechEncoderDecoderModel:
    torch.manual_seed(0)
    ids = {"decoder_start_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
    config = SpeechEncoderDecoderConfig(
        encoder=tiny_config(encoder), decoder=tiny_config(decoder), **ids, **({"fusion": fusion} if fusion else {})
    )
    return SpeechEncoderDecoderModel(config=config)


@pytest.mark.parametrize(
    ("encoder", "decoder", "fusion"),
    [*sorted(QUICK, key=str), *(pytest.param(*pair, marks=pytest.mark.nightly) for pair in PAIRS)],
)
def test_graphs_agree_with_pytorch(encoder: str, decoder: str, fusion: str | None, tmp_path: Path) -> None:
    apart = export(model_of(encoder, decoder, fusion), tmp_path / "graphs")
    assert 0 < apart.largest < 1e-5


def test_windows_of_any_number_have_no_graph(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cuts a clip of any length into windows"):
        export(model_of("qwen3_asr_encoder", "bert"), tmp_path)


@pytest.mark.slow
def test_a_lora_is_folded_in(tmp_path: Path) -> None:
    model = model_of("wav2vec2", "bert")
    model.add_lora(rank=2, targets="all-linear")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("lora_b"):
                parameter.normal_(std=0.1)
    export(model, tmp_path)
    assert check(model, tmp_path, "float32").largest < 1e-5
    with pytest.raises(CheckpointError, match="differ from PyTorch"):
        check(model_of("wav2vec2", "bert"), tmp_path, "float32")  # without it


@pytest.mark.slow
def test_graphs_that_differ_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TOLERANCE, "float32", 1e-12)
    with pytest.raises(CheckpointError, match="No graphs were written"):
        export(model_of("wav2vec2", "bert"), tmp_path / "refused")
    assert list((tmp_path / "refused").iterdir()) == []


def test_only_float32_is_exported(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="float32 on the CPU"):
        export(model_of("wav2vec2", "bert").to(torch.float16), tmp_path)
    with pytest.raises(ConfigError, match="compute_type"):
        export(model_of("wav2vec2", "bert"), tmp_path, "int3")


@pytest.fixture(scope="module")
def exported(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("command") / "exported"
    assert main(["export", str(tiny_checkpoint), "-o", str(folder)]) == 0
    return folder


def test_exported_folder_transcribes_alike(
    exported: Path, sample_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = []
    for engine in "torch", "onnx":
        assert main(["transcribe", str(sample_path), "--model", str(exported), "--engine", engine]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] != ""


@pytest.mark.slow
def test_command_adds_graphs_to_a_folder_in_place(tiny_checkpoint: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in tiny_checkpoint.iterdir() if path.is_file()}
    folder = tmp_path / "model"
    folder.mkdir()
    for name, content in before.items():
        (folder / name).write_bytes(content)
    assert main(["export", str(folder), "-o", str(folder)]) == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
    assert (folder / FOLDER / "decoder.onnx").is_file()


def test_command_needs_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export"]) == 2
    assert "-o FOLDER" in capsys.readouterr().err


ALONE = """
import sys
import numpy as np
from dragoman import Transcriber
transcriber = Transcriber({folder!r}, backend="onnx")
print(transcriber.transcribe({audio!r}, word_timestamps=True).text)
assert not {{"torch", "jax", "flax", "onnx", "transformers"}} & sys.modules.keys(), sys.modules.keys()
"""


def test_graphs_need_no_framework(exported: Path, sample_path: Path) -> None:
    program = ALONE.format(folder=str(exported), audio=str(sample_path))
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_graphs_hold_nothing_of_training(tmp_path):
    import onnx

    whisper = tiny_config("whisper")
    model = SpeechEncoderDecoderModel(config=SpeechEncoderDecoderConfig(encoder=whisper, decoder=whisper))
    export(model, tmp_path)
    for path in (tmp_path / "onnx").glob("*.onnx"):
        graph = onnx.load(path, load_external_data=False).graph
        assert "Dropout" not in {node.op_type for node in graph.node}, path.name
