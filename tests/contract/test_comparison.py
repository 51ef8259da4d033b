"""The statements of docs/comparison.md about `transformers`, checked against the installed release.

Its statements about dragoman are checked in tests/differences, the page's programs in test_page_programs.py.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from transformers import SpeechEncoderDecoderConfig, SpeechEncoderDecoderModel

from dragoman.testing import tiny_config

PAGE = (Path(__file__).parents[2] / "docs/comparison.md").read_text()
AUDIO = torch.randn(2, 1600, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([[4, 5, 2], [5, 6, 2]])
pytestmark = [pytest.mark.filterwarnings("ignore")]  # warnings of `transformers`


def theirs(model_type: str, **fields: Any) -> Any:
    """Return a tiny configuration of `transformers`, with only the flags of this family."""
    known = tiny_config(model_type, **fields).to_dict()
    flags = ("is_decoder", "add_cross_attention")
    return transformers.AutoConfig.for_model(**{name: known[name] for name in known if name not in flags})


def build(encoder: Any = None, decoder: Any = None) -> Any:
    torch.manual_seed(0)
    config = SpeechEncoderDecoderConfig.from_encoder_decoder_configs(
        encoder or theirs("wav2vec2"), decoder or theirs("bert"), decoder_start_token_id=3, pad_token_id=1
    )
    return SpeechEncoderDecoderModel(config=config).eval()


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """A speech checkpoint and a text checkpoint."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    transformers.Wav2Vec2Model(theirs("wav2vec2")).save_pretrained(tmp_path / "speech")
    transformers.BertModel(theirs("bert")).save_pretrained(tmp_path / "text")
    return tmp_path / "speech", tmp_path / "text"


def test_page_names_the_installed_release() -> None:
    assert set(re.findall(r"transformers (\d[\d.]*\d)", PAGE)) == {transformers.__version__}


def test_training_and_generate_use_different_ids(folders: tuple[Path, Path], tmp_path: Path) -> None:
    model = SpeechEncoderDecoderModel.from_encoder_decoder_pretrained(*folders)
    model.config.decoder_start_token_id, model.config.pad_token_id = 3, 1
    assert model(AUDIO, labels=LABELS).loss.isfinite()
    model.save_pretrained(tmp_path / "saved")
    for stuck in model, SpeechEncoderDecoderModel.from_pretrained(tmp_path / "saved"):
        with pytest.raises(ValueError, match="has to be defined"):
            stuck.generate(AUDIO)


@pytest.mark.parametrize("decoder", ["bart", "mbart"])
def test_shared_embedding_of_a_decoder_stays_random(folders: tuple[Path, Path], tmp_path: Path, decoder: str) -> None:
    name = {"bart": "BartForConditionalGeneration", "mbart": "MBartForConditionalGeneration"}[decoder]
    whole = getattr(transformers, name)(theirs(decoder))
    whole.save_pretrained(tmp_path / decoder)
    model = SpeechEncoderDecoderModel.from_encoder_decoder_pretrained(folders[0], tmp_path / decoder)
    layer = "model.decoder.layers.0.fc1.weight"
    assert model.decoder.state_dict()[layer].equal(whole.state_dict()[layer])
    assert not model.decoder.get_input_embeddings().weight.equal(whole.get_input_embeddings().weight)


def test_gpt2_cannot_be_a_decoder(folders: tuple[Path, Path], tmp_path: Path) -> None:
    transformers.GPT2LMHeadModel(theirs("gpt2")).save_pretrained(tmp_path / "gpt2")
    with pytest.raises(AttributeError, match="is_decoder"):
        SpeechEncoderDecoderModel.from_encoder_decoder_pretrained(folders[0], tmp_path / "gpt2")


def test_decoder_configuration_without_flags(folders: tuple[Path, Path]) -> None:
    model = SpeechEncoderDecoderModel.from_encoder_decoder_pretrained(*folders, decoder_config=theirs("bert")).eval()
    assert not [name for name in model.decoder.state_dict() if "crossattention" in name]
    first = [model(AUDIO[:1], decoder_input_ids=torch.tensor([[4, 5, last]])).logits[0, 0] for last in (6, 9)]
    assert not first[0].equal(first[1])


def test_padding_changes_the_results_of_group_norm() -> None:
    model = build()
    mask = (torch.arange(1600) < torch.tensor([[1600], [800]])).long()
    alone = model.encoder(AUDIO[1:, :800]).last_hidden_state[0]
    batch = model.encoder(AUDIO * mask, mask).last_hidden_state[1, : len(alone)]
    assert (batch - alone).abs().max() > 1e-3


def test_clip_shorter_than_a_frame_attends_to_padding() -> None:
    model = build()
    mask = (torch.arange(1600) < torch.tensor([[1600], [20]])).long()
    frames = model.encoder(AUDIO, mask).last_hidden_state.shape[1]
    assert model.encoder._get_feature_vector_attention_mask(frames, mask)[1].all()


def test_adapter_of_another_width_fails_in_the_first_step() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        build(theirs("wav2vec2", add_adapter=True, output_hidden_size=16))(AUDIO, labels=LABELS)


def test_memory_is_copied_for_every_beam(monkeypatch: pytest.MonkeyPatch) -> None:
    model, rows = build(), []
    forward: Callable[..., Any] = model.decoder.forward

    def seen(*args: Any, **options: Any) -> Any:
        rows.append(options["encoder_hidden_states"].shape[0])
        return forward(*args, **options)

    monkeypatch.setattr(model.decoder, "forward", seen)
    model.generation_config.decoder_start_token_id, model.generation_config.pad_token_id = 3, 1
    model.generate(AUDIO, num_beams=4, max_new_tokens=3)
    assert set(rows) == {2 * 4}


def test_joined_model_is_partly_in_training_mode(folders: tuple[Path, Path]) -> None:
    model = SpeechEncoderDecoderModel.from_encoder_decoder_pretrained(*folders)
    assert (model.training, model.encoder.training, model.decoder.training) == (True, False, False)


def test_configuration_of_the_caller_is_changed() -> None:
    config = theirs("bert")
    assert not config.is_decoder
    SpeechEncoderDecoderConfig.from_encoder_decoder_configs(theirs("wav2vec2"), config)
    assert config.is_decoder


def test_labels_with_the_start_token_are_counted_and_labels_without_targets_give_nan() -> None:
    model, labels = build(), torch.tensor([[3, 5, 2], [3, 6, 2]])
    shifted = torch.tensor([[3, 3, 5], [3, 3, 6]])
    torch.testing.assert_close(
        model(AUDIO, labels=labels).loss,
        torch.nn.functional.cross_entropy(
            model(AUDIO, decoder_input_ids=shifted).logits.flatten(0, 1), labels.flatten()
        ),
    )
    assert model(AUDIO, labels=torch.full_like(labels, -100)).loss.isnan()


def test_tokenizers_of_transformers_give_types_and_take_any_token_and_file(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nfox\n")
    tokenizer = transformers.BertTokenizer.from_pretrained(tmp_path)
    assert tokenizer("fox").token_type_ids == [0, 0, 0]
    tokenizer.pad_token = "<pad>"
    assert tokenizer.pad_token_id == tokenizer.unk_token_id
    tokenizer.save_pretrained(tmp_path / "saved")
    assert transformers.GPT2Tokenizer.from_pretrained(tmp_path / "saved")("fox").input_ids != tokenizer("fox").input_ids


def test_windows_of_different_lengths_are_not_padded() -> None:
    extractor = transformers.WhisperFeatureExtractor()
    rows = [{"input_features": np.zeros((80, frames), np.float32)} for frames in (30, 29)]
    with pytest.raises(ValueError, match="Unable to convert output"):
        extractor.pad(rows, padding=True, return_tensors="np")
