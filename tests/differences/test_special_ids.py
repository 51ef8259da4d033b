"""Special token ids: one set of ids for training, `generate` and both files, and where they come from."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dragoman import (
    ConfigError,
    GenerationError,
    SpeechEncoderDecoderModel,
)

Speech = Callable[..., torch.Tensor]
VOCAB_SIZE = 9  # of the `tokenizer` in conftest.py

NO_IDS = {"decoder_start_token_id": None, "pad_token_id": None, "eos_token_id": None}

ROW = torch.tensor([[5, 6, 7, 2]])

LABELS = torch.tensor([[5, 6, 7, 2], [8, 9, 2, -100]])


def on_config(model: SpeechEncoderDecoderModel) -> Any:
    return model.config


def on_generation_config(model: SpeechEncoderDecoderModel) -> Any:
    return model.generation_config


def on_decoder(model: SpeechEncoderDecoderModel) -> Any:
    return model.config.decoder


@pytest.mark.parametrize("place", [on_config, on_generation_config, on_decoder])
@pytest.mark.parametrize("saved", [False, True], ids=["set", "set, saved and loaded"])
def test_id_set_anywhere_applies_everywhere(
    build: Any, speech: Speech, tmp_path: Path, place: Callable[[SpeechEncoderDecoderModel], Any], saved: bool
) -> None:
    """`transformers` trains with the ids of `config` and generates with those of `generation_config`."""
    model = build(**NO_IDS)
    place(model).decoder_start_token_id = 7
    place(model).pad_token_id = 8
    place(model).eos_token_id = 9
    if saved:
        model.save_pretrained(tmp_path)
        model = SpeechEncoderDecoderModel.from_pretrained(tmp_path)
    assert model.prepare_decoder_input_ids_from_labels(torch.tensor([[5, -100, 6]])).tolist() == [[7, 5, 8]]
    assert model.generate(speech(), max_new_tokens=3)[0, 0] == 7
    forced = model.generate(speech(2), max_new_tokens=5, sequence_bias={(9,): 1e4})
    assert forced.tolist() == [[7, 9]] * 2


def test_both_files_hold_the_same_ids(build: Any, tmp_path: Path) -> None:
    model = build(**NO_IDS)
    model.config.decoder_start_token_id = 7
    model.generation_config.pad_token_id = 8
    model.config.forced_bos_token_id = 11
    model.save_pretrained(tmp_path)
    config, generation = (
        json.loads((tmp_path / f"{name}.json").read_text()) for name in ("config", "generation_config")
    )
    assert (config["decoder_start_token_id"], config["pad_token_id"]) == (7, 8)
    assert (generation["decoder_start_token_id"], generation["pad_token_id"]) == (7, 8)
    assert generation["forced_bos_token_id"] == 11


def test_configurations_of_a_loaded_model_share_their_ids(build: Any, speech: Speech, tmp_path: Path) -> None:
    build().save_pretrained(tmp_path)
    model = SpeechEncoderDecoderModel.from_pretrained(tmp_path)
    model.config.decoder_start_token_id = 12
    assert model.generation_config.decoder_start_token_id == 12
    model.generation_config.decoder_start_token_id = 13
    assert model.generate(speech(), max_new_tokens=2)[0, 0] == 13
    assert model.prepare_decoder_input_ids_from_labels(ROW)[0, 0] == 13


def test_ids_of_the_decoder_are_the_default(build: Any, speech: Speech) -> None:
    """As for BART and GPT-2; `transformers` generates with their ids, but refuses to train with them."""
    bart = build(decoder="bart", **NO_IDS)
    assert bart(speech(), labels=ROW).loss.isfinite()
    assert bart.generate(speech(), max_new_tokens=2)[0, 0] == bart.config.decoder.decoder_start_token_id == 2
    gpt2 = build(decoder="gpt2", **NO_IDS)
    assert gpt2.generate(speech(), max_new_tokens=2)[0, 0] == gpt2.config.decoder.bos_token_id
    with pytest.raises(ConfigError, match="pad_token_id"):
        gpt2(speech(), labels=ROW)


def test_order_of_the_defaults_of_ids(build: Any) -> None:
    """A start id, else `bos_token_id`; each of the joint configuration first, then of the decoder."""
    none = {"decoder_start_token_id": None, "pad_token_id": None, "eos_token_id": None}
    model = build(decoder="bart", **none, decoder_bos_token_id=4, decoder_decoder_start_token_id=5)
    assert model.config.special_id("decoder_start_token_id") == 5
    assert model.config.special_id("pad_token_id") == 1
    model.config.decoder.decoder_start_token_id = None
    assert model.config.special_id("decoder_start_token_id") == 4
    model.config.bos_token_id = 6
    assert model.config.special_id("decoder_start_token_id") == 6
    model.config.decoder.decoder_start_token_id = 5
    assert model.config.special_id("decoder_start_token_id") == 5
    model.generation_config.decoder_start_token_id = 7
    assert model.config.special_id("decoder_start_token_id") == 7
    assert model.prepare_decoder_input_ids_from_labels(LABELS)[0, 0] == 7


def test_missing_start_id_is_explained(build: Any, speech: Speech) -> None:
    with pytest.raises(GenerationError, match=r"model\.config\.decoder_start_token_id = tokenizer\.cls_token_id"):
        build(**NO_IDS).generate(speech(), max_new_tokens=3)


def test_training_without_start_or_padding_id_is_refused(build: Any, speech: Speech) -> None:
    """`transformers` 5 raises an AttributeError about a missing attribute of the configuration."""
    model = build(decoder_start_token_id=None, pad_token_id=None, eos_token_id=None, decoder_pad_token_id=None)
    with pytest.raises(ConfigError, match="decoder_start_token_id attribute of the model's configuration"):
        model(speech(2), labels=LABELS)
    model.config.decoder_start_token_id = 3
    with pytest.raises(ConfigError, match="pad_token_id attribute of the model's configuration"):
        model(speech(2), labels=LABELS)


def test_start_id_per_row(build: Any, speech: Speech) -> None:
    ids = build().generate(speech(2), decoder_start_token_id=[5, 6], max_new_tokens=3)
    assert ids[:, 0].tolist() == [5, 6]


def test_padding_id_defaults_to_the_end_id(build: Any, speech: Speech) -> None:
    model = build(pad_token_id=None, decoder_pad_token_id=None)
    ids = model.generate(speech(2), max_new_tokens=4, sequence_bias={(2,): 1e4})
    assert ids.tolist() == [[3, 2]] * 2


def test_padding_id_zero_is_used(build: Any, speech: Speech) -> None:
    """By greedy search and sampling; beam search pads with the end id, as `transformers` does."""
    model = build(pad_token_id=0)
    ids = model.generate(speech(2), max_new_tokens=6, prefix_allowed_tokens_fn=lambda i, _: [2] if i % 2 else [9])
    assert ids[1].tolist() == [3, 2, 0, 0, 0, 0, 0]
    assert ids[0].tolist() == [3, 9, 9, 9, 9, 9, 9]


def test_start_token_in_the_labels_is_reported_once(build: Any, speech: Speech, tokenizer: Any) -> None:
    """The tokenizer writes [CLS], the model too; the loss is that of `transformers`, which says nothing."""
    model = build(decoder_vocab_size=VOCAB_SIZE, decoder_start_token_id=2, pad_token_id=0, eos_token_id=3)
    labels = tokenizer(["ein wort", "und"], padding=True, return_tensors="pt").input_ids
    assert (labels[:, 0] == 2).all()
    labels[labels == 0] = -100
    with pytest.warns(UserWarning, match=r"start token twice.*\n?.*DataCollatorSpeechSeq2SeqWithPadding"):
        loss = model(speech(2), labels=labels).loss
    tokens = torch.cat([torch.full((2, 1), 2), labels[:, :-1].clamp(min=0)], dim=1)
    torch.testing.assert_close(loss, model(speech(2), labels=labels, decoder_input_ids=tokens).loss)
    torch.testing.assert_close(model(speech(2), labels=labels).loss, loss)  # no second warning, which would be an error
    with pytest.warns(UserWarning, match="start token twice"):
        build(decoder_start_token_id=5).prepare_decoder_input_ids_from_labels(torch.tensor([[6, 7], [5, 7]]))


@pytest.mark.parametrize("decoder", ["bart", "gpt2", "opt", "bert"])
def test_empty_transcripts_are_learned_where_start_and_end_are_one(build: Any, speech: Speech, decoder: str) -> None:
    fusion = {"fusion": "cross_attention"} if decoder == "opt" else {}
    model = build(decoder=decoder, decoder_start_token_id=2, eos_token_id=2, **fusion)
    for labels in ([[2, -100], [2, -100]], [[2], [2]], [[2, 1], [2, 1]]):  # 1 is the padding
        assert model(speech(2), labels=torch.tensor(labels)).loss > 0.1


def test_labels_of_padding_only_have_no_loss_and_no_warning(build: Any, speech: Speech) -> None:
    """The loss of `transformers` is NaN."""
    assert build()(speech(2), labels=torch.full((2, 3), -100)).loss == 0
