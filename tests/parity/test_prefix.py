"""Speech as a prefix of models without cross-attention: the results of `transformers` after the same embeddings.

`transformers` cannot join such models, but accepts embeddings instead of tokens, so its text model gets our prefix.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from dragoman import SpeechEncoderDecoderConfig, SpeechEncoderDecoderModel
from dragoman.jax.model import FlaxSpeechEncoderDecoderModel
from dragoman.testing import TOLERANCES, configs, tiny_config

from .conftest import EOS, LARGE, PAD, START, VOCAB, randomize

FAMILIES = [decoder for decoder, fusion in configs.DECODERS if fusion == "prefix"]
STEPS = 10


@dataclass(frozen=True)
class Joined:
    """Our model, its decoder in `transformers`, clips of several lengths, and the prefix."""

    ours: SpeechEncoderDecoderModel
    theirs: Any
    audio: dict[str, torch.Tensor]
    embeds: torch.Tensor
    mask: torch.Tensor

    def written(self, num_beams: int) -> torch.Tensor:
        """Return the sequences of `transformers` after the prefix and the first token."""
        options = {"max_new_tokens": STEPS, "do_sample": False, "pad_token_id": PAD, "eos_token_id": EOS}
        return self.theirs.generate(inputs_embeds=self.embeds, attention_mask=self.mask, num_beams=num_beams, **options)


def clips() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    lengths = torch.randint(300, 801, (20, 1), generator=generator)
    mask = torch.arange(800) < lengths
    waves = torch.randn(20, 800, generator=generator) + 2 * torch.sin(
        torch.rand(20, 1, generator=generator) * torch.arange(800)
    )
    return {"input_values": waves * mask, "attention_mask": mask.long()}


@pytest.fixture(scope="module", params=FAMILIES)
def joined(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Joined:
    # with a tied head and scaled embeddings, a tiny model would repeat one token
    decoder = tiny_config(request.param, vocab_size=VOCAB, tie_word_embeddings=False)
    config = SpeechEncoderDecoderConfig(
        encoder=tiny_config("wav2vec2", **LARGE),
        decoder=decoder,
        fusion="prefix",
        fusion_stacking=4,
        decoder_start_token_id=START,
        pad_token_id=PAD,
        eos_token_id=EOS,
    )
    torch.manual_seed(0)
    ours = SpeechEncoderDecoderModel(config=config).eval()
    randomize(ours)
    folder = tmp_path_factory.mktemp("text")
    ours.decoder.save_pretrained(folder)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    audio = clips()
    with torch.no_grad():
        memory = ours.memory_for(ours.encode(audio["input_values"], audio["attention_mask"]))
        start = theirs.get_input_embeddings()(torch.full((20, 1), START))
        factor = getattr(theirs.config, "embedding_multiplier", 1.0)  # Granite's, which ours has for tokens alone
        embeds = torch.cat([memory.states / factor, start], 1)
    mask = torch.cat([memory.mask, torch.ones(20, 1, dtype=torch.bool)], 1).long()
    return Joined(ours, theirs, audio, embeds, mask)


@pytest.mark.parametrize("num_beams", [1, 3])
def test_generate(joined: Joined, num_beams: int) -> None:
    expected = joined.written(num_beams)
    assert len({tuple(text) for text in expected.tolist()}) > 5, "texts must depend on the speech to prove much"
    found = joined.ours.generate(**joined.audio, num_beams=num_beams, max_new_tokens=STEPS)
    assert torch.equal(found[:, 1:], expected)


def test_logits(joined: Joined) -> None:
    tokens = joined.written(1)
    text = torch.cat([torch.full((20, 1), START), tokens[:, :-1]], 1)
    embeds = torch.cat([joined.embeds, joined.theirs.get_input_embeddings()(tokens[:, :-1])], 1)
    mask = torch.cat([joined.mask, torch.ones_like(tokens[:, :-1])], 1)
    places = (mask.cumsum(1) - 1).clamp(min=0)
    expected = joined.theirs(inputs_embeds=embeds, attention_mask=mask, position_ids=places).logits
    found = joined.ours(**joined.audio, decoder_input_ids=text).logits
    assert (found - expected[:, -text.shape[1] :]).abs().max() <= TOLERANCES["logits"]


@pytest.mark.nightly  # it compiles searches: a quarter of an hour
@pytest.mark.parametrize("num_beams", [1, 3])
def test_jax_equals_torch(joined: Joined, num_beams: int, tmp_path: Path) -> None:
    joined.ours.save_pretrained(tmp_path)
    flax = FlaxSpeechEncoderDecoderModel.from_pretrained(tmp_path)
    arrays = {name: tensor.numpy() for name, tensor in joined.audio.items()}
    found = np.asarray(flax.generate(**arrays, num_beams=num_beams, max_new_tokens=STEPS))
    assert found[:, 1:].tolist() == joined.written(num_beams).tolist()
