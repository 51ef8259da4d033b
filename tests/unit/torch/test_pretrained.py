"""Methods that code written for `transformers` calls on any model."""

import pytest
import torch
import transformers
from torch import nn

from dragoman import BertLMHeadModel, ConfigError, SpeechEncoderDecoderConfig, SpeechEncoderDecoderModel, Wav2Vec2Model
from dragoman.testing import tiny_config

WAVE = torch.sin(torch.arange(800.0))[None]


@pytest.fixture
def model() -> SpeechEncoderDecoderModel:
    torch.manual_seed(0)
    ids = {"decoder_start_token_id": 3, "pad_token_id": 1, "eos_token_id": 2}
    parts = {"encoder": tiny_config("wav2vec2"), "decoder": tiny_config("bert", tie_word_embeddings=True)}
    return SpeechEncoderDecoderModel(config=SpeechEncoderDecoderConfig(**parts, **ids)).eval()


def test_number_of_parameters_equals_transformers(model: SpeechEncoderDecoderModel) -> None:
    theirs = transformers.BertLMHeadModel(transformers.BertConfig(**model.config.decoder.to_dict()))
    ours = model.decoder
    assert ours.num_parameters() == theirs.num_parameters()
    assert ours.num_parameters(exclude_embeddings=True) == theirs.num_parameters(exclude_embeddings=True)
    assert ours.get_memory_footprint(return_buffers=False) == theirs.get_memory_footprint(return_buffers=False)
    model.freeze_encoder()
    assert model.num_parameters(only_trainable=True) == model.num_parameters() - model.encoder.num_parameters()


def test_can_generate(model: SpeechEncoderDecoderModel) -> None:
    assert [kind.can_generate() for kind in (type(model), BertLMHeadModel, Wav2Vec2Model)] == [True, True, False]
    assert model.supports_gradient_checkpointing


def test_tying_again_changes_nothing(model: SpeechEncoderDecoderModel) -> None:
    before = model.generate(WAVE, max_new_tokens=5)
    model.tie_weights()
    assert torch.equal(model.generate(WAVE, max_new_tokens=5), before)


def test_setting_the_embedding_changes_the_tied_head(model: SpeechEncoderDecoderModel) -> None:
    own = model.get_input_embeddings()
    other = nn.Embedding.from_pretrained(own.weight.detach().flip(0))
    tokens = torch.tensor([[3, 5]])
    before = model(WAVE, decoder_input_ids=tokens).logits
    model.set_input_embeddings(other)
    assert model.get_input_embeddings() is other
    after = model(WAVE, decoder_input_ids=own.weight.shape[0] - 1 - tokens).logits
    bias = model.decoder.head.bias
    torch.testing.assert_close(after - bias, (before - bias).flip(2))


@pytest.mark.parametrize("value", [nn.Embedding(3, 24), nn.Linear(24, 99), None])
def test_embedding_of_another_size_is_refused(model: SpeechEncoderDecoderModel, value: object) -> None:
    with pytest.raises(ConfigError, match=r"must be an nn.Embedding of the shape \[99, 24\]"):
        model.set_input_embeddings(value)  # type: ignore[arg-type]


def test_compute_transition_scores(model: SpeechEncoderDecoderModel) -> None:
    out = model.generate(WAVE, max_new_tokens=4, return_dict_in_generate=True, output_scores=True)
    found = model.compute_transition_scores(out.sequences, out.scores, normalize_logits=True)
    steps = torch.stack(out.scores, 1).log_softmax(-1)
    expected = steps.gather(2, out.sequences[:, 1:, None])[..., 0]
    torch.testing.assert_close(found, expected)


def test_generation_options_on_the_configuration_apply(
    model: SpeechEncoderDecoderModel, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """As was usual before `transformers` 5, which refuses to generate then."""
    model.config.max_length, model.config.num_beams = 6, 2
    assert torch.equal(model.generate(WAVE), model.generate(WAVE, max_length=6, num_beams=2))
    assert model.generate(WAVE, max_length=3).shape[1] == 3
    folder = tmp_path_factory.mktemp("saved")
    model.save_pretrained(folder)
    again = SpeechEncoderDecoderModel.from_pretrained(folder)
    assert (again.generation_config.max_length, again.generation_config.num_beams) == (6, 2)
    assert "num_beams" not in again.config.to_dict()
    assert transformers.AutoConfig.from_pretrained(folder).decoder.vocab_size == 99
