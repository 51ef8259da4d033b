"""Token embeddings: tied heads and resizing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dragoman import (
    ConfigError,
    SpeechEncoderDecoderModel,
)

Speech = Callable[..., torch.Tensor]

LABELS = torch.tensor([[5, 6, 7, 2], [8, 9, 2, -100]])


def test_flag_of_the_decoder_ties_its_head(build: Any, tmp_path: Path) -> None:
    """Saving keeps tied and untied heads; an untied head is not overwritten by the embedding."""
    for tied in True, False:
        model = build(decoder="bart", decoder_tie_word_embeddings=tied)
        model.save_pretrained(tmp_path / str(tied))
        again = SpeechEncoderDecoderModel.from_pretrained(tmp_path / str(tied))
        assert (again.decoder.head.weight is again.decoder.embed.tokens.weight) is tied
        assert again.config.tie_word_embeddings is False
        if not tied:
            assert again.decoder.head.weight.equal(model.decoder.head.weight)
            assert not again.decoder.head.weight.equal(again.decoder.embed.tokens.weight)
        with torch.no_grad():  # a tied head follows its embedding, also after loading
            again.decoder.get_input_embeddings().weight.zero_()
        logits = again.decoder(torch.tensor([[4]])).logits
        assert (logits == 0).all().item() is tied


def test_resizing_through_the_joint_model(build: Any, speech: Speech, tmp_path: Path) -> None:
    """`transformers` raises NotImplementedError."""
    model = build()
    before = model(speech(2), labels=LABELS).logits
    assert model.resize_token_embeddings(103).weight.shape == (103, 24)
    after = model(speech(2), labels=LABELS).logits
    assert after.shape[-1] == 103
    torch.testing.assert_close(after[..., :99], before)
    assert model.config.decoder.vocab_size == 103
    model.save_pretrained(tmp_path)
    again = SpeechEncoderDecoderModel.from_pretrained(tmp_path)
    assert again(speech(2), labels=LABELS).logits.equal(after)
    assert again.get_input_embeddings().weight.shape == (103, 24)


def test_resizing_keeps_tied_and_untied_heads(build: Any, speech: Speech) -> None:
    for decoder in "bert", "gpt2", "bart":
        for tied in True, False:
            model = build(decoder=decoder, decoder_tie_word_embeddings=tied)
            for size in 120, 50:
                model.resize_token_embeddings(size)
                assert model(speech(2), labels=LABELS).logits.shape[-1] == size
                assert model.get_input_embeddings().num_embeddings == size
            assert (model.get_output_embeddings().weight is model.get_input_embeddings().weight) is tied
    with pytest.raises(ConfigError, match="new_num_tokens"):
        model.resize_token_embeddings(0)
