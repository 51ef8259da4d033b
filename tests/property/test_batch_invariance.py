"""Batch = single: what a clip gives does not depend on its neighbours, their order, or where its padding lies.

Every clip is run alone, once; then all of them again in random batches, each row with padding of its own kind, filled
with loud noise so that hearing it would show.
"""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from dragoman import SpeechEncoderDecoderConfig, SpeechEncoderDecoderModel
from dragoman.spec import FeatureFrontendSpec, SpeechEncoderSpec, SubsampleFrontendSpec
from dragoman.testing import TOLERANCES, tiny_config

Random = np.random.Generator
LAYER_NORM = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
ADAPTER = {"add_adapter": True, "num_adapter_layers": 2}
MODELS = {
    "group norm": ("wav2vec2", {}, "bert"),
    "group norm, adapter": ("wav2vec2", {**ADAPTER, "output_hidden_size": 16}, "bart"),
    "layer norm": ("hubert", LAYER_NORM, "gpt2"),
    "layer norm, adapter": ("wav2vec2", {**LAYER_NORM, **ADAPTER}, "mbart"),
    "unispeech": ("unispeech", {}, "bert"),
    "unispeech-sat": ("unispeech-sat", LAYER_NORM, "bert"),
    "data2vec-audio": ("data2vec-audio", ADAPTER, "bert"),
    "sew": ("sew", {}, "bert"),
    "sew-d": ("sew-d", {}, "bert"),
    "conformer, distances": ("wav2vec2-conformer", {}, "bert"),
    "conformer, rotary": ("wav2vec2-conformer", {**ADAPTER, "position_embeddings_type": "rotary"}, "bert"),
    "wav2vec2-bert": ("wav2vec2-bert", {**ADAPTER, "use_intermediate_ffn_before_adapter": True}, "bert"),
    "speech_to_text": ("speech_to_text", {}, "bert"),
}
LONGEST, TOKENS = 6000, 12
LONGEST_FEATURES = 160  # frames, of the encoders that take filter banks
# How loud the weights of a matrix are. Every network enlarges rounding errors as it goes; with the second row no more
# than a trained one does, with the first so much that anything heard through the padding is large.
LOUD = {"": 1.2, "cross_attn": 2.5, "bridge": 2.5}
CALM = {"": 0.6, "cross_attn": 1.3, "bridge": 1.5, "adapter": 1.3, "decoder.embed": 0.7}


@dataclass(frozen=True)
class Alone:
    """A clip, and what it gives by itself."""

    wave: torch.Tensor
    tokens: torch.Tensor
    logits: torch.Tensor

    @property
    def decided(self) -> bool:
        """Whether no token was chosen by a hair, which rounding may split otherwise in a batch."""
        first, second = self.logits[:-1].topk(2).values.unbind(-1)
        return bool((first - second).min() > 2 * TOLERANCES["batch"])


def build(name: str, gains: dict[str, float]) -> SpeechEncoderDecoderModel:
    """Build a tiny model whose texts depend on the speech."""
    encoder, fields, decoder = MODELS[name]
    flags = {"is_decoder": True, "add_cross_attention": True}
    ids = {"decoder_start_token_id": 3, "pad_token_id": 1, "eos_token_id": 2}
    config = SpeechEncoderDecoderConfig(
        encoder=tiny_config(encoder, **fields), decoder=tiny_config(decoder, **flags), **ids
    )
    torch.manual_seed(0)
    model = SpeechEncoderDecoderModel(config=config).eval()
    with torch.no_grad():
        for part, parameter in model.named_parameters():
            if parameter.ndim > 1:
                gain = [gain for word, gain in gains.items() if word in part][-1]
                parameter.copy_(torch.randn_like(parameter) * gain * (parameter.shape[0] / parameter.numel()) ** 0.5)
    return model


def clip(random: Random, spec: SpeechEncoderSpec) -> torch.Tensor:
    """One clip in five is little longer than the shortest possible; the others are of any length."""
    shortest, few = spec.shortest_input, random.random() < 0.2
    if isinstance(spec.frontend, FeatureFrontendSpec | SubsampleFrontendSpec):
        frames = shortest + int(random.integers(4)) if few else int(random.integers(shortest, LONGEST_FEATURES))
        tones = 2 * random.standard_normal(spec.frontend.num_features)
        noise = random.standard_normal((frames, spec.frontend.num_features))
        return torch.tensor(tones + noise, dtype=torch.float32)
    samples = shortest + int(random.integers(60)) if few else int(random.integers(shortest, LONGEST))
    time = np.arange(samples)
    tone = 2 * np.sin(random.uniform(0.01, 1) * time) + random.uniform(0, 2) * np.sin(random.uniform(0.01, 1) * time)
    return torch.tensor(random.uniform(0.1, 1) * (tone + random.standard_normal(samples)), dtype=torch.float32)


def places(samples: int, width: int, random: Random) -> np.ndarray:
    """Return where the samples of a row lie: padding on the right, on the left, on both sides, or in holes."""
    start = (0, width - samples, (width - samples) // 2)
    kind = random.integers(4)
    return np.sort(random.permutation(width)[:samples]) if kind == 3 else start[kind] + np.arange(samples)


def batch_of(waves: list[torch.Tensor], random: Random) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a padded batch and its mask."""
    width = max(len(wave) for wave in waves) + int(random.choice([0, 1, 39, 500]))
    shape = len(waves), width, *waves[0].shape[1:]
    batch = torch.tensor(random.standard_normal(shape) * 9, dtype=waves[0].dtype)
    mask = torch.zeros(len(waves), width, dtype=torch.long)
    for row, wave in enumerate(waves):
        where = torch.as_tensor(places(len(wave), width, random))
        batch[row, where], mask[row, where] = wave, 1
    return batch, mask


@torch.no_grad()
def run_alone(model: SpeechEncoderDecoderModel, wave: torch.Tensor) -> Alone:
    memory = model.encoder(wave[None])
    tokens = model.generate(encoder_outputs=memory, max_new_tokens=TOKENS)
    return Alone(wave, tokens[0], model(encoder_outputs=memory, decoder_input_ids=tokens).logits[0])


@torch.no_grad()
def compare(model: SpeechEncoderDecoderModel, clips: list[Alone], random: Random) -> float:
    """Run clips as one batch; return the largest difference of a logit."""
    waves, mask = batch_of([one.wave for one in clips], random)
    memory = model.encoder(waves, mask)
    texts = model.generate(encoder_outputs=memory, max_new_tokens=TOKENS).tolist()
    tokens = torch.nn.utils.rnn.pad_sequence([one.tokens for one in clips], batch_first=True, padding_value=1)
    logits = model(encoder_outputs=memory, decoder_input_ids=tokens).logits
    for row, one in enumerate(clips):
        alone = one.tokens.tolist()
        if one.decided or logits.dtype == torch.float64:
            assert texts[row][: len(alone)] == alone
            assert set(texts[row][len(alone) :]) <= {1}
    return max((logits[i, : len(one.tokens)] - one.logits).abs().max().item() for i, one in enumerate(clips))


def check(model: SpeechEncoderDecoderModel, utterances: int, rounds: int, tolerance: float) -> None:
    random = np.random.default_rng(0)
    clips = [run_alone(model, clip(random, model.encoder.spec).to(model.dtype)) for _ in range(utterances)]
    texts = {tuple(one.tokens.tolist()) for one in clips}
    assert len(texts) > utterances**0.5, "the texts must depend on the speech to prove anything"
    assert sum(one.decided for one in clips) >= 0.98 * utterances
    for _ in range(rounds):
        order = [clips[i] for i in random.permutation(utterances)]
        while order:
            size = int(random.integers(1, 17))
            assert compare(model, order[:size], random) <= tolerance
            order = order[size:]


@pytest.mark.parametrize(
    "name", [name if "norm" in name else pytest.param(name, marks=pytest.mark.slow) for name in MODELS]
)
def test_a_batch_gives_what_its_clips_give_alone(name: str) -> None:
    check(build(name, CALM), utterances=60, rounds=1, tolerance=TOLERANCES["batch"])


@pytest.mark.parametrize("name", MODELS)
def test_nothing_is_heard_through_the_padding(name: str) -> None:
    """Without rounding to speak of, and with weights that make the smallest leak loud."""
    check(build(name, LOUD).double(), utterances=20, rounds=1, tolerance=1e-10)


@pytest.mark.nightly
@pytest.mark.parametrize("name", MODELS)
def test_a_thousand_clips_in_three_orders(name: str) -> None:
    check(build(name, CALM), utterances=1000, rounds=3, tolerance=TOLERANCES["batch"])
