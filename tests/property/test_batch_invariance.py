"""Batch = single: the result for a clip does not depend on the other clips, their order, or the place of its padding.

Every clip is run alone once, then all of them in random batches; each row has its own kind of padding, filled with loud
noise so that any effect of it would show.
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
    "moonshine": ("moonshine", {}, "bert"),
    "parakeet_encoder": ("parakeet_encoder", {}, "bert"),
    "speech_to_text": ("speech_to_text", {}, "bert"),
}
LONGEST, TOKENS = 6000, 12
LONGEST_FEATURES = 160  # frames, of the encoders that take filter banks
# Scale of the weights. Every network amplifies rounding errors: CALM no more than a trained one, LOUD so much that any
# effect of padding becomes large.
LOUD = {"": 1.2, "cross_attn": 2.5, "bridge": 2.5}
CALM = {"": 0.6, "cross_attn": 1.3, "bridge": 1.5, "adapter": 1.3, "decoder.embed": 0.7}


@dataclass(frozen=True)
class Alone:
    """A clip and its result alone."""

    wave: torch.Tensor
    tokens: torch.Tensor
    logits: torch.Tensor

    @property
    def decided(self) -> bool:
        """Whether no choice of a token was close enough for rounding in a batch to change it."""
        first, second = self.logits[:-1].topk(2).values.unbind(-1)
        return bool((first - second).min() > 2 * TOLERANCES["batch"])


def build(name: str, gains: dict[str, float]) -> SpeechEncoderDecoderModel:
    """Build a tiny model whose transcripts depend on the speech."""
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
                gain = [gain for word, gain in gains.items() if word in str(part)][-1]
                parameter.copy_(torch.randn_like(parameter) * gain * (parameter.shape[0] / parameter.numel()) ** 0.5)
    return model


def clip(random: Random, spec: SpeechEncoderSpec) -> torch.Tensor:
    """One clip in five is barely longer than the shortest possible; the others have any length."""
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
    """Return the places of the samples in a row: padding right, left, on both sides, or scattered."""
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
    """Run clips as one batch; return the largest difference in the logits."""
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
    assert len(texts) > utterances**0.5, "the transcripts must depend on the speech for this test to mean anything"
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
def test_batch_equals_single_clips(name: str) -> None:
    check(build(name, CALM), utterances=60, rounds=1, tolerance=TOLERANCES["batch"])


@pytest.mark.parametrize("name", MODELS)
def test_padding_has_no_effect(name: str) -> None:
    """In float64, with weights that amplify the smallest effect of padding."""
    check(build(name, LOUD).double(), utterances=20, rounds=1, tolerance=1e-10)


@pytest.mark.nightly
@pytest.mark.parametrize("name", MODELS)
def test_a_thousand_clips_in_three_orders(name: str) -> None:
    check(build(name, CALM), utterances=1000, rounds=3, tolerance=TOLERANCES["batch"])
