"""Loops over modules: dropouts that are switched off, and children that are chosen by name."""

from typing import Any

import pytest
import torch
from torch import nn

import dragoman
from dragoman.errors import ConfigError
from dragoman.testing import tiny_config


@pytest.mark.parametrize(("encoder", "decoder"), [(("wav2vec2", {}), "bert"), (("whisper", {"dropout": 0.1}), "gpt2")])
def test_dropouts_are_switched_off_in_a_loop(encoder: tuple[str, dict[str, float]], decoder: str) -> None:
    """Two calls in training mode are then equal, and the configuration says so."""
    config = dragoman.SpeechEncoderDecoderConfig(
        encoder=tiny_config(encoder[0], **encoder[1]),
        decoder=tiny_config(decoder),
        decoder_start_token_id=3,
        pad_token_id=1,
    )
    model = dragoman.SpeechEncoderDecoderModel(config=config).train()
    for field in ("layerdrop", "encoder_layerdrop", "mask_time_prob", "mask_feature_prob"):
        if getattr(model.config.encoder, field, None):
            setattr(model.config.encoder, field, 0.0)
    audio = torch.randn(model.encoder.spec.frontend.input_shape(2, 60 if encoder[1] else 1600))

    def differ() -> bool:
        one, other = (model(audio, decoder_input_ids=torch.tensor([[3, 5], [3, 6]])).logits for _ in range(2))
        return not torch.equal(one, other)

    assert differ()
    dropouts: Any = [module for module in model.modules() if isinstance(module, nn.Dropout)]
    assert len(dropouts) == 2
    for module in dropouts:
        assert module.p > 0
        module.p = 0.0
    assert not differ()
    assert model.config.decoder.to_dict().get("hidden_dropout_prob", 0.0) == 0.0
    with pytest.raises(ConfigError, match="The dropouts of a part have its mode"):
        dropouts[0].eval()
    assert {"encoder.dropout", "decoder.dropout"} <= dict(model.named_modules()).keys()


def test_children_that_only_transformers_has_are_named() -> None:
    encoder = dragoman.SpeechEncoder(tiny_config("hubert"))
    with pytest.warns(UserWarning, match="No child here is called 'feature_extractor'"):
        assert [child for name, child in encoder.named_children() if name in ["feature_extractor"]] == []
    assert [child for name, child in encoder.named_children() if name == "frontend"] == [encoder.frontend]
