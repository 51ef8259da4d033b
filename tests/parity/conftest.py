"""The oracle: tiny random models of `transformers`, saved to disk by it and loaded by dragoman.

Gaps of `transformers` are closed here, on its side; the docstring of each adaptation says which.
"""

import copy
import gc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file

import dragoman
from dragoman.families import find
from dragoman.testing import TOLERANCES, tiny_config
from dragoman.testing.configs import DECODERS as OUR_DECODERS
from dragoman.testing.configs import VARIANTS

START, PAD, EOS, VOCAB = 0, 1, 2, 30
CLIPS, SAMPLES, SHORTEST = 100, 800, 300
MELS, MEL_FRAMES = 8, 60
FEATURE_FRAMES = 40

LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
# Parts of the names of token embeddings, bridge and cross-attention: in `transformers`, and ours.
LOUD = ("word_embeddings", "wte", "embed_tokens", "enc_to_dec", "crossattention", "encoder_attn")
LOUD += ("embed.tokens", "bridge", "cross_attn")


@dataclass(frozen=True)
class Encoder:
    """A speech encoder of the matrix; `padding` is our mode that equals `transformers` on padded batches."""

    model_type: str
    fields: dict[str, Any]
    padding: str


# In `transformers`, padding affects group norms, adapters and batch norms; there, only our "reference" mode equals it.
ENCODERS = {
    "wav2vec2-group": Encoder("wav2vec2", {}, "reference"),
    "wav2vec2-layer": Encoder("wav2vec2", LARGE, "exact"),
    "wav2vec2-adapter": Encoder("wav2vec2", {**LARGE, "add_adapter": True, "num_adapter_layers": 2}, "reference"),
    "wav2vec2-adapter-proj": Encoder("wav2vec2", {**LARGE, "add_adapter": True, "output_hidden_size": 24}, "reference"),
    "wav2vec2-language-adapter": Encoder("wav2vec2", {**LARGE, "adapter_attn_dim": 8}, "exact"),
    "hubert-group": Encoder("hubert", {"hidden_size": 24}, "reference"),
    "hubert-batch-norm": Encoder(
        "hubert", {"feat_extract_norm": "layer", "conv_pos_batch_norm": True, "hidden_act": "gelu_new"}, "reference"
    ),
    "hubert-no-feature-norm": Encoder("hubert", {**LARGE, "feat_proj_layer_norm": False}, "exact"),
    "wavlm-group": Encoder("wavlm", {}, "reference"),
    "wavlm-layer": Encoder("wavlm", LARGE, "exact"),
    "whisper": Encoder("whisper", {"d_model": 32}, "exact"),
}
KNOWN = {encoder.model_type for encoder in ENCODERS.values()}
# In test_canary.py, test_moonshine.py and test_speech_language_models.py.
KNOWN |= {"canary", "cohere_asr", "glmasr_encoder", "moonshine", "qwen2_audio_encoder", "qwen3_asr_encoder"}
KNOWN |= {"voxtral_encoder"}
# Similar to wav2vec 2.0; compared in test_encoders.py, outside the matrix. Our "exact" mode equals `transformers` for
# these, too:
EXACT = {"unispeech-large", "unispeech-sat-large", "wav2vec2-bert", "wav2vec2-bert-relative"}
EXACT |= {name for name, (model_type, _) in VARIANTS.items() if model_type == "parakeet_encoder"}
MORE_ENCODERS = {
    name: Encoder(model_type, dict(fields), "exact" if name in EXACT else "reference")
    for name, (model_type, fields) in VARIANTS.items()
    if find(model_type).speech and model_type not in KNOWN
}
DECODERS = ("bert", "gpt2", "bart", "mbart", "whisper")
# `transformers` cannot join these to an encoder, or no longer has them; compared in test_seq2seq.py,
# test_canary.py, test_gpt_bigcode.py, test_moonshine.py and test_speech2text2.py.
APART = ("canary", "cohere_asr", "gpt_bigcode", "m2m_100", "moonshine", "mt5")
APART += ("speech_to_text", "speech_to_text_2", "t5")
# Similar to one of DECODERS; joined to one encoder only in the first stage of tests.
MORE_DECODERS: dict[str, tuple[str, dict[str, Any]]] = {
    name: (model_type, dict(fields))
    for name, (model_type, fields) in VARIANTS.items()
    if (model_type, None) in OUR_DECODERS and model_type not in (*DECODERS, *APART)
}
# Every other pair by default, so that each encoder meets half of the decoders and each decoder half of the encoders.
PAIRS = [
    pytest.param((encoder, decoder), id=f"{encoder}-{decoder}", marks=pytest.mark.nightly if (i + j) % 2 else ())
    for i, encoder in enumerate(ENCODERS)
    for j, decoder in enumerate(DECODERS)
]
PAIRS += [pytest.param(("wav2vec2-layer", decoder), id=f"wav2vec2-layer-{decoder}") for decoder in MORE_DECODERS]
PAIRS += [
    pytest.param(pair, id="-".join(pair), marks=pytest.mark.slow if pair[0] == "whisper" else pytest.mark.nightly)
    for pair in product(("hubert-batch-norm", "wavlm-layer", "whisper"), MORE_DECODERS)
]


Speech2TextEncoder = transformers.models.speech_to_text.modeling_speech_to_text.Speech2TextEncoder


class ParakeetEncoder(transformers.ParakeetEncoder):
    """Adds the method, under another name in `transformers`, that a joint model calls for the mask of its memory."""

    def _get_feature_vector_attention_mask(self, frames: int, mask: torch.Tensor) -> torch.Tensor:
        return self._get_output_attention_mask(mask, target_length=frames)


class WhisperEncoder(transformers.models.whisper.modeling_whisper.WhisperEncoder):
    """Adds the method, missing in `transformers`, that `generate` of a joint model calls."""

    def _get_feature_vector_attention_mask(self, frames: int, mask: torch.Tensor) -> None:
        return None


class WhisperDecoder(transformers.WhisperForCausalLM):
    """Takes the memory under the name that the joint model of `transformers` uses, and ignores its mask."""

    def forward(self, encoder_hidden_states: Any = None, encoder_attention_mask: Any = None, **rest: Any) -> Any:
        return super().forward(encoder_outputs=(encoder_hidden_states,), **rest)


@dataclass(frozen=True)
class Pair:
    """One encoder joined to one decoder: the model of `transformers`, its folder, and how to compare."""

    reference: Any
    folder: Path
    encoder: Encoder
    decoder: str

    @property
    def mels(self) -> bool:
        """Whether the encoder takes spectrograms."""
        return self.encoder.model_type == "whisper"

    @property
    def masked(self) -> bool:
        """Whether `transformers` accepts clips of several lengths."""
        return not self.mels and self.decoder != "whisper"

    def load(self, folder: Path | None = None, **options: Any) -> dragoman.SpeechEncoderDecoderModel:
        """Load the folder that `transformers` saved."""
        model = dragoman.SpeechEncoderDecoderModel.from_pretrained(folder or self.folder, **options)
        model.set_padding(self.encoder.padding)
        return model

    def audio(self, clips: int, seed: int) -> dict[str, torch.Tensor]:
        """Random clips, of several lengths if `transformers` accepts them."""
        generator = torch.Generator().manual_seed(seed)
        if self.mels:
            return {"inputs": torch.randn(clips, MELS, MEL_FRAMES, generator=generator)}
        if self.encoder.model_type in ("canary", "cohere_asr", "parakeet_encoder", "speech_to_text", "wav2vec2-bert"):
            features = tiny_config(self.encoder.model_type).speech_spec().frontend.num_features
            shape = clips, FEATURE_FRAMES, features
            tones = 2 * torch.randn(clips, 1, features, generator=generator)
            lengths = torch.randint(12, FEATURE_FRAMES + 1, (clips, 1), generator=generator)
            mask = torch.arange(FEATURE_FRAMES) < lengths
            features = torch.randn(shape, generator=generator) + tones
            if not self.masked:
                return {"inputs": features}
            return {"inputs": features * mask[:, :, None], "attention_mask": mask.long()}
        needed = tiny_config(self.encoder.model_type).speech_spec().shortest_input  # many samples for Moonshine
        times = -(-needed // SHORTEST)
        samples = times * SAMPLES
        waves = torch.randn(clips, samples, generator=generator)
        # each clip has its own loudness and tone; otherwise they are the same noise to the encoder
        pitch = torch.rand(clips, 1, generator=generator)
        waves = waves * torch.rand(clips, 1, generator=generator) + 2 * torch.sin(pitch * torch.arange(samples))
        if not self.masked:
            return {"inputs": waves}
        lengths = torch.randint(times * SHORTEST, samples + 1, (clips, 1), generator=generator)
        mask = torch.arange(samples) < lengths
        return {"inputs": waves * mask, "attention_mask": mask.long()}

    def lesson(self) -> dict[str, torch.Tensor]:
        """Four random clips with labels of two lengths, for training."""
        labels = torch.randint(3, VOCAB, (4, 6), generator=torch.Generator().manual_seed(1))
        labels[1, 3:] = -100
        return {**self.audio(4, 1), "labels": labels}

    def reload_reference(self, folder: Path) -> Any:
        """Load with `transformers` a folder that we saved; no key may be unexpected or missing."""
        by_hand = ("parakeet_encoder", "whisper", "speech_to_text")
        if self.encoder.model_type not in by_hand and self.decoder != "whisper":
            loaded, info = transformers.SpeechEncoderDecoderModel.from_pretrained(folder, output_loading_info=True)
            _check(info)
            _make_contiguous(loaded)
            if not getattr(
                loaded.config.decoder, "use_learned_position_embeddings", True
            ):  # `transformers` leaves its sinusoids on the meta device
                loaded.decoder.model.decoder.embed_positions = self.reference.decoder.model.decoder.embed_positions
            return loaded
        # The auto classes of `transformers` cannot read such a part of a joint model.
        config = transformers.SpeechEncoderDecoderConfig.from_pretrained(folder)
        loaded = join(config)
        missing, unexpected = loaded.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
        assert unexpected == []
        assert set(missing) <= set(loaded.all_tied_weights_keys)
        return loaded

    def reload_encoder(self, folder: Path) -> Any:
        """Load with `transformers` an encoder that we saved; no key may be unexpected or missing."""
        loaded, info = type(self.reference.encoder).from_pretrained(folder, output_loading_info=True)
        _check(info)
        return loaded.eval()


def _check(info: dict[str, Any]) -> None:
    """No key may be unexpected or missing, not even one that `transformers` never uses."""
    assert {name: keys for name, keys in info.items() if keys} == {}


def assert_close(ours: Any, theirs: Any, what: str = "logits") -> None:
    """Compare the shapes and, within the table of tolerances, the values of arrays of either framework."""
    assert tuple(ours.shape) == tuple(theirs.shape)
    assert np.abs(np.asarray(ours) - np.asarray(theirs)).max() <= TOLERANCES[what]


def join(config: Any) -> Any:
    """Build a joint model of `transformers` from its configuration, with the gaps closed."""
    encoder, decoder = None, None
    if config.encoder.model_type == "whisper":
        encoder = WhisperEncoder(config.encoder)
    if config.encoder.model_type == "parakeet_encoder":
        encoder = ParakeetEncoder(config.encoder)
    if config.encoder.model_type == "speech_to_text":
        encoder = Speech2TextEncoder(config.encoder)
    if config.decoder.model_type == "whisper":
        decoder = WhisperDecoder(config.decoder)
    model = transformers.SpeechEncoderDecoderModel(config=config, encoder=encoder, decoder=decoder).eval()
    _make_contiguous(model)
    return model


def _make_contiguous(model: Any) -> None:
    """An adapter's output is transposed, and GPT-2 in `transformers` takes a view of it, which fails."""

    def hook(_module: Any, _inputs: Any, output: Any) -> Any:
        output.last_hidden_state = output.last_hidden_state.contiguous()
        return output

    model.encoder.register_forward_hook(hook)


def randomize(model: torch.nn.Module, seed: int = 0) -> None:
    """Give a model random weights: no zero bias, no unit norm, transcripts that depend on the speech.

    With slightly larger weights, rounding errors would grow from layer to layer.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            noise = torch.randn(tensor.shape, generator=generator)
            if str(name).endswith("cross_attn_gate"):
                tensor.fill_(1.0)  # 0 in a new model
            elif tensor.ndim == 1:
                tensor.add_(0.1 * noise)
            else:
                gain = 2.0 if any(word in str(name) for word in LOUD) else 1.2
                tensor.copy_(noise * gain * (tensor.shape[0] / tensor.numel()) ** 0.5)
        for name, tensor in model.named_buffers():
            if name.endswith("running_mean"):
                tensor.copy_(torch.randn(tensor.shape, generator=generator))
            elif name.endswith("running_var"):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)


def reference_config(model_type: str, **fields: Any) -> Any:
    """Return our tiny configuration as one of `transformers`."""
    return transformers.AutoConfig.for_model(**tiny_config(model_type, **fields).to_dict())


def build_pair(folder: Path, encoder: Encoder, decoder: str, name: str | None = None, **decoder_fields: Any) -> Pair:
    """Build a tiny model with `transformers` and save it."""
    torch.manual_seed(0)
    config = transformers.SpeechEncoderDecoderConfig.from_encoder_decoder_configs(
        reference_config(encoder.model_type, **encoder.fields),
        reference_config(decoder, **{"vocab_size": VOCAB, **decoder_fields}),
        decoder_start_token_id=START,
        pad_token_id=PAD,
        eos_token_id=EOS,
    )
    model = join(config)
    randomize(model)
    model.save_pretrained(folder)
    model.generation_config.encoder_no_repeat_ngram_size = (
        None  # set by Blenderbot; `transformers` warns about it at each call
    )
    return Pair(model, folder, encoder, name or decoder)


def own_pair(folder: Path, encoder: str, decoder: str, fusion: str | None) -> Pair:
    """Build a tiny model with dragoman and save it, for pairs that `transformers` cannot join.

    Models are drawn until the transcripts of one depend on the speech and its gradients are stable in float32.
    """
    parts = {"encoder": tiny_config(encoder), "decoder": tiny_config(decoder, vocab_size=VOCAB)}
    ids = {"decoder_start_token_id": START, "pad_token_id": PAD, "eos_token_id": EOS}
    config = dragoman.SpeechEncoderDecoderConfig(**parts, fusion=fusion, **ids)
    pair = Pair(None, folder, Encoder(encoder, {}, "exact"), decoder)
    for seed in range(40):
        torch.manual_seed(seed)
        model = dragoman.SpeechEncoderDecoderModel(config=config).eval()
        randomize(model, seed)
        texts = (model.generate(**pair.audio(100, 2), num_beams=n, max_new_tokens=12) for n in (1, 5))
        if is_stable(model, pair.lesson()) and all(map(are_varied, texts)):
            break
    model.save_pretrained(folder)
    return pair


def is_stable(model: dragoman.SpeechEncoderDecoderModel, batch: dict[str, torch.Tensor]) -> bool:
    """Whether rounding to float32 changes no gradient by more than half of the tolerance between backends."""
    exact = copy.deepcopy(model).double()
    with torch.enable_grad():
        model(**batch).loss.backward()
        exact(**{name: x.double() if x.is_floating_point() else x for name, x in batch.items()}).loss.backward()
    pairs = zip(model.parameters(), exact.parameters(), strict=True)
    moved = max((x.grad - y.grad).abs().max().item() for x, y in pairs if x.grad is not None and y.grad is not None)
    model.zero_grad()
    return moved <= TOLERANCES["logits"] / 2


def are_varied(texts: torch.Tensor) -> bool:
    """Whether enough transcripts differ for a comparison to mean something."""
    return len({tuple(text) for text in texts.tolist()}) > 5


@pytest.fixture(autouse=True, scope="session")
def _quick() -> None:
    gc.freeze()  # otherwise each collection visits the million objects of transformers, PyTorch and JAX


@pytest.fixture(autouse=True, scope="session")
def _quiet() -> None:
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture(scope="session")
def pair_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Pair]:
    """Build one pair of the matrix by the names of its parts."""
    built: dict[tuple[str, str], Pair] = {}

    def build(encoder: str, decoder: str) -> Pair:
        if (encoder, decoder) not in built:
            folder = tmp_path_factory.mktemp(f"{encoder}-{decoder}")
            model_type, fields = MORE_DECODERS.get(decoder, (decoder, {}))
            built[encoder, decoder] = build_pair(
                folder, {**ENCODERS, **MORE_ENCODERS}[encoder], model_type, name=decoder, **fields
            )
        return built[encoder, decoder]

    return build


@pytest.fixture
def new_pair(tmp_path: Path) -> Callable[..., Pair]:
    """Build a pair whose parts differ from the tiny configurations in some fields."""

    def build(encoder: str, encoder_fields: dict[str, Any], decoder: str, decoder_fields: dict[str, Any]) -> Pair:
        return build_pair(tmp_path / "theirs", Encoder(encoder, encoder_fields, "reference"), decoder, **decoder_fields)

    return build


@pytest.fixture(scope="session", params=PAIRS)
def pair(request: pytest.FixtureRequest, pair_of: Callable[[str, str], Pair]) -> Pair:
    """Every pair of the matrix."""
    return pair_of(*request.param)
