"""Whole Canary and Cohere Transcribe models, which `transformers` saved: logits, loss, texts, saving, JAX, prompts.

Files of Cohere Transcribe have other names than the model in memory; `transformers` writes the former, we the latter.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from dragoman import FlaxSpeechEncoderDecoderModel, SpeechEncoder, SpeechEncoderDecoderModel, TextDecoder
from dragoman.errors import ConfigError
from dragoman.testing import tiny_config

from .conftest import assert_close, randomize

MODELS = {
    "canary": ("canary", "Canary", {}),
    "canary-grouped": ("canary", "Canary", {"num_key_value_heads": 2, "head_dim": 6, "attention_bias": False}),
    "cohere_asr": ("cohere_asr", "CohereAsr", {}),
    "cohere_asr-tied": ("cohere_asr", "CohereAsr", {"tie_word_embeddings": True, "hidden_act": "gelu"}),
}
PROMPT = [7, 4, 16, 62, 62, 5, 9, 11, 13]


@pytest.fixture(scope="module", params=MODELS)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Theirs, its folder and ours, whose texts depend on the speech."""
    model_type, name, fields = MODELS[request.param]
    folder = tmp_path_factory.mktemp(model_type)
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(**tiny_config(model_type, **fields).to_dict())
    theirs = getattr(transformers, f"{name}ForConditionalGeneration")(config).eval()
    randomize(theirs, seed=3)
    theirs.save_pretrained(folder)
    return theirs, folder, SpeechEncoderDecoderModel.from_pretrained(folder)


def facts(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration without what depends on who wrote the file."""
    config = {name: facts(value) if isinstance(value, dict) else value for name, value in config.items()}
    return {name: config[name] for name in config.keys() - {"_name_or_path", "transformers_version", "dtype"}}


def speech(rows: int, frames: int, *, padded: bool = True) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(frames)
    lengths = torch.randint(20 if padded else frames, frames + 1, (rows, 1), generator=generator)
    mask = (torch.arange(frames) < lengths).long()
    features = 3 * torch.randn(rows, 1, 16, generator=generator) + torch.randn(rows, frames, 16, generator=generator)
    return {"input_features": features * mask[:, :, None], "attention_mask": mask}


@pytest.mark.parametrize("frames", [40, 77])
def test_logits_and_loss(both: Any, frames: int) -> None:
    theirs, _, ours = both
    assert ours.load_report.fresh == []
    assert ours.load_report.dropped == {}
    batch = speech(4, frames)
    tokens = torch.randint(3, 99, (4, 7), generator=torch.Generator().manual_seed(frames))
    assert_close(ours(**batch, decoder_input_ids=tokens).logits, theirs(**batch, decoder_input_ids=tokens).logits)
    labels = tokens.clone()
    labels[1, 4:] = -100
    found, expected = (model(**batch, decoder_input_ids=tokens, labels=labels).loss for model in (ours, theirs))
    assert_close(found, expected, "loss")
    for row in range(4):
        clip = {name: tensor[row : row + 1] for name, tensor in batch.items()}
        alone = clip["input_features"][:, : int(clip["attention_mask"].sum())]
        one = ours(input_features=alone, decoder_input_ids=tokens[row : row + 1]).logits
        assert_close(one[0], ours(**batch, decoder_input_ids=tokens).logits[row], "batch")


@pytest.mark.filterwarnings("ignore:.*words may be missing")
@pytest.mark.parametrize("num_beams", [1, 5])
def test_texts(both: Any, num_beams: int) -> None:
    theirs, _, ours = both
    options = {"num_beams": num_beams, "max_new_tokens": 12}
    prompts = torch.tensor([PROMPT]).expand(50, -1)
    found: set[tuple[int, ...]] = set()
    for frames in (40, 77):
        batch = speech(50, frames)
        for begin in ({}, {"decoder_input_ids": prompts}):
            texts = ours.generate(**batch, **begin, **options).tolist()
            assert texts == theirs.generate(**batch, **begin, **options).tolist()
            found |= {tuple(text) for text in texts}
    assert len(found) > 10, "texts must depend on the speech to prove much"


def test_transformers_loads_the_saved_folder(both: Any, tmp_path: Path) -> None:
    theirs, _, ours = both
    ours.save_pretrained(tmp_path)
    again, info = type(theirs).from_pretrained(tmp_path, output_loading_info=True)
    assert {name: keys for name, keys in info.items() if keys} == {}
    assert all(torch.equal(tensor, theirs.state_dict()[name]) for name, tensor in again.state_dict().items())
    assert facts(again.config.to_dict()) == facts(theirs.config.to_dict())
    batch = speech(2, 40) | {"decoder_input_ids": torch.tensor([PROMPT, PROMPT])}
    assert_close(SpeechEncoderDecoderModel.from_pretrained(tmp_path)(**batch).logits, ours(**batch).logits, "cached")


def test_in_jax(both: Any) -> None:
    _, folder, ours = both
    model = FlaxSpeechEncoderDecoderModel.from_pretrained(folder)
    batch = speech(4, 77)
    tokens = torch.randint(3, 99, (4, 9), generator=torch.Generator().manual_seed(0))
    arrays = {name: tensor.numpy() for name, tensor in batch.items()}
    expected = ours(**batch, decoder_input_ids=tokens).logits
    assert_close(model(**arrays, decoder_input_ids=tokens.numpy()).logits, expected)
    options = {"num_beams": 3, "max_new_tokens": 8}
    assert np.asarray(model.generate(**arrays, **options)).tolist() == ours.generate(**batch, **options).tolist()


def test_its_halves_serve_others(both: Any, tmp_path: Path) -> None:
    theirs, folder, _ = both
    batch = speech(3, 77)
    expected = theirs.model.encoder(**batch)
    valid = expected.attention_mask.bool()
    assert_close(SpeechEncoder.from_pretrained(folder)(**batch).last_hidden_state[valid], expected[0][valid])
    TextDecoder.from_pretrained(folder).save_pretrained(tmp_path / "decoder")
    SpeechEncoder(tiny_config("wav2vec2")).save_pretrained(tmp_path / "encoder")
    joined = SpeechEncoderDecoderModel.from_encoder_decoder_pretrained(tmp_path / "encoder", tmp_path / "decoder")
    joined.save_pretrained(tmp_path / "joined")
    again = SpeechEncoderDecoderModel.from_pretrained(tmp_path / "joined")
    waves = {"input_values": torch.randn(2, 900), "decoder_input_ids": torch.tensor([PROMPT, PROMPT])}
    assert_close(again(**waves).logits, joined(**waves).logits, "cached")


def test_what_is_not_supported_is_refused() -> None:
    other = {"encoder_config": {"model_type": "wav2vec2"}}
    with pytest.raises(ConfigError, match="is a parakeet_encoder, but `encoder_config` has"):
        tiny_config("canary", **other)
    with pytest.raises(ConfigError, match="another width than its decoder"):
        tiny_config("cohere_asr", encoder_config={"hidden_size": 32}).text_spec()
