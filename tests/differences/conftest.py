"""Where dragoman deliberately behaves differently from `transformers`, which the docstrings of these tests mention.

The models are tiny and random, with weights so large that transcripts depend on the speech.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import dragoman
from dragoman.testing import tiny_config

LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
IDS = {"decoder_start_token_id": 3, "pad_token_id": 1, "eos_token_id": 2}
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "ein", "wort", "und", "##e")
WRITERS = {
    "wav2vec2": transformers.Wav2Vec2ForCTC,
    "hubert": transformers.HubertForCTC,
    "bert": transformers.BertForPreTraining,
    "gpt2": transformers.GPT2LMHeadModel,
    "bart": transformers.BartForConditionalGeneration,
    "mbart": transformers.MBartForConditionalGeneration,
}
Build = Callable[..., dragoman.SpeechEncoderDecoderModel]


def randomize(module: torch.nn.Module, seed: int = 0) -> None:
    """Give a module random weights large enough for transcripts to depend on the speech."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim == 1:
                parameter.add_(0.1 * noise)
            else:
                parameter.copy_(noise * 1.5 * (parameter.shape[0] / parameter.numel()) ** 0.5)


@pytest.fixture
def build() -> Build:
    """Build a model of two tiny families; `encoder_…` and `decoder_…` are fields of the parts."""

    def build(encoder: str = "wav2vec2", decoder: str = "bert", **fields: Any) -> dragoman.SpeechEncoderDecoderModel:
        parts: dict[str, dict[str, Any]] = {"encoder": {}, "decoder": {}}
        joint = dict(IDS)
        for name, value in fields.items():
            part, _, field = name.partition("_")
            if part in parts and name not in IDS:
                parts[part][field] = value
            else:
                joint[name] = value
        torch.manual_seed(0)
        model = dragoman.SpeechEncoderDecoderModel(
            config=dragoman.SpeechEncoderDecoderConfig(
                encoder=tiny_config(encoder, **parts["encoder"]),
                decoder=tiny_config(decoder, **parts["decoder"]),
                **{name: value for name, value in joint.items() if value is not None},
            )
        )
        randomize(model)
        return model.eval()

    return build


@pytest.fixture
def speech() -> Callable[..., torch.Tensor]:
    """Return clips of different loudness and pitch, `[clips, samples]`."""

    def speech(clips: int = 1, samples: int = 1600, seed: int = 0) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        pitch = torch.rand(clips, 1, generator=generator)
        noise = torch.randn(clips, samples, generator=generator) * torch.rand(clips, 1, generator=generator)
        return noise + 2 * torch.sin(pitch * torch.arange(samples))

    return speech


@pytest.fixture
def tokenizer(tmp_path: Path) -> Any:
    """A WordPiece tokenizer of nine tokens; its files are in `tmp_path / "text"`."""
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    (tmp_path / "text" / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    return dragoman.AutoTokenizer.from_pretrained(tmp_path / "text")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint of each of six families, written by `transformers`."""
    folder = tmp_path_factory.mktemp("checkpoints")
    transformers.utils.logging.disable_progress_bar()
    for name, writer in WRITERS.items():
        torch.manual_seed(0)
        writer(transformers.AutoConfig.for_model(**tiny_config(name).to_dict())).save_pretrained(folder / name)
    return folder
