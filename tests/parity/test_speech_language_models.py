"""Whole speech language models, which `transformers` saved: logits, texts, loss, saving, halves, JAX."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import save_file

from dragoman import (
    AutoConfig,
    FlaxSpeechEncoderDecoderModel,
    SpeechEncoder,
    SpeechEncoderDecoderConfig,
    SpeechEncoderDecoderModel,
    TextDecoder,
)
from dragoman.families.composites import composite_of
from dragoman.model.state import model_sections
from dragoman.testing import tiny_config

from .conftest import assert_close

AUDIO, VOCAB = 5, 40
BEFORE, AFTER = [7, 8, 9], [10, 11, 12]
IDS = {"pad_token_id": 0, "eos_token_id": [2, 3]}
TEXT = {
    "vocab_size": VOCAB,
    "hidden_size": 24,
    "intermediate_size": 30,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "eos_token_id": [2, 3],
}


def stacked_by_four(frames: int) -> int:
    return ((frames - 1) // 2 + 1) // 4


@dataclass(frozen=True)
class Kind:
    """A kind of model: the fields of its tiny configuration, spectrograms, and the positions that frames become."""

    audio: dict[str, Any]
    frames: int
    windows: int
    positions: Any
    mask: str | None = "input_features_mask"
    zeros: bool = False
    whole: bool = False


def halved_twice(frames: int) -> int:
    return ((frames - 1) // 2 + 1) // 2


def thirteen_a_second(frames: int) -> int:
    return frames // 100 * 13 + -(-(frames % 100) // 8)


KINDS = {
    "glmasr": Kind(dict(tiny_config("glmasr_encoder").to_dict()), 64, 3, stacked_by_four),
    "qwen3_asr": Kind(dict(tiny_config("qwen3_asr_encoder").to_dict()), 500, 1, thirteen_a_second, zeros=True),
    "qwen2_audio": Kind(
        dict(tiny_config("qwen2_audio_encoder").to_dict()), 60, 1, halved_twice, mask="feature_attention_mask"
    ),
    "voxtral": Kind(dict(tiny_config("voxtral_encoder").to_dict()), 64, 3, stacked_by_four, mask=None, whole=True),
}


QWEN3 = {"vocab_size": 151936, "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8}
# What the config.json of published checkpoints says.
PUBLISHED: dict[str, dict[str, Any]] = {
    "zai-org/GLM-ASR-Nano-2512": {
        "model_type": "glmasr",
        "audio_config": {"hidden_size": 1280, "num_hidden_layers": 32, "num_attention_heads": 20, "num_mel_bins": 128},
        "text_config": {"hidden_size": 2048, "num_hidden_layers": 28, "vocab_size": 59264, "num_key_value_heads": 4},
    },
    "Qwen/Qwen3-ASR-0.6B-hf": {
        "model_type": "qwen3_asr",
        "audio_config": {
            "d_model": 896,
            "encoder_layers": 18,
            "encoder_attention_heads": 14,
            "encoder_ffn_dim": 3584,
            "output_dim": 1024,
        },
        "text_config": QWEN3 | {"hidden_size": 1024, "intermediate_size": 3072},
    },
    "Qwen/Qwen3-ASR-1.7B-hf": {
        "model_type": "qwen3_asr",
        "audio_config": {"output_dim": 2048},
        "text_config": QWEN3 | {"hidden_size": 2048, "intermediate_size": 6144},
    },
    "Qwen/Qwen2-Audio-7B": {
        "model_type": "qwen2_audio",
        "audio_config": {"model_type": "qwen2_audio_encoder"},
        "text_config": {"model_type": "qwen2", "vocab_size": 156032, "intermediate_size": 11008},
    },
    "mistralai/Voxtral-Mini-3B-2507": {
        "model_type": "voxtral",
        "audio_config": {"model_type": "voxtral_encoder", "head_dim": 64, "num_key_value_heads": 20},
        "text_config": {"model_type": "llama", "num_attention_heads": 32},
    },
    "mistralai/Voxtral-Small-24B-2507": {
        "model_type": "voxtral",
        "audio_config": {},
        "text_config": {"hidden_size": 5120, "num_hidden_layers": 40, "intermediate_size": 32768},
    },
    "zai-org/GLM-ASR-Nano-2512, all defaults": {"model_type": "glmasr", "audio_config": {}, "text_config": {}},
}


@dataclass(frozen=True)
class Both:
    """Their model, its folder, and ours."""

    kind: Kind
    theirs: Any
    folder: Path
    ours: SpeechEncoderDecoderModel

    def clips(self, count: int, windows: int = 1) -> dict[str, torch.Tensor]:
        """Return spectrograms of several lengths; beyond them there is noise, or what theirs needs."""
        generator = torch.Generator().manual_seed(count)
        size = self.kind.frames * windows
        shortest = size if self.kind.whole else size - self.kind.frames + 8
        mask = torch.arange(size) < torch.randint(shortest, size + 1, (count, 1), generator=generator)
        bands = self.ours.encoder.spec.frontend.num_mels
        features = torch.randn(count, bands, size, generator=generator)
        tones = torch.sin(torch.rand(count, bands, 1, generator=generator) * torch.arange(size))
        features += 2 * tones
        if self.kind.zeros:
            features *= mask[:, None]
        return {"input_features": features, "attention_mask": mask.long()}

    def given(self, clips: dict[str, torch.Tensor], texts: Sequence[Sequence[int]] | None = None) -> dict[str, Any]:
        """Return what their model takes for the same clips, with texts after the prompt."""
        features, mask = clips["input_features"], clips["attention_mask"]
        counts = [self.kind.positions(int(length)) for length in mask.sum(1)]
        texts = [()] * len(counts) if texts is None else texts
        rows = [[*BEFORE, *[AUDIO] * count, *AFTER, *text] for count, text in zip(counts, texts, strict=True)]
        longest = max(map(len, rows))
        size = self.kind.frames if self.kind.windows > 1 else features.shape[2]
        return {
            "input_ids": torch.tensor([[0] * (longest - len(row)) + row for row in rows]),
            "attention_mask": torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows]),
            "input_features": features.unflatten(2, (-1, size)).transpose(1, 2).flatten(0, 1),
            **({} if self.kind.mask is None else {self.kind.mask: mask.reshape(-1, size)}),
        }


@pytest.fixture(scope="module", params=KINDS)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Both:
    kind, folder = KINDS[request.param], tmp_path_factory.mktemp(request.param)
    composite = composite_of({"model_type": request.param})
    assert composite is not None
    torch.manual_seed(0)
    text = {"model_type": composite.decoder, **TEXT}
    config = transformers.AutoConfig.for_model(
        request.param, audio_config=kind.audio, text_config=text, audio_token_id=AUDIO, **IDS
    )
    theirs = getattr(transformers, composite.architecture)(config).eval()
    with torch.no_grad():
        for name, tensor in theirs.named_parameters():
            noise = torch.randn_like(tensor)
            if tensor.ndim == 1:
                tensor.add_(0.1 * noise)
            else:
                gain = 3.0 if "conv" in name or "projector" in name else 1.5
                tensor.copy_(noise * gain * (tensor.shape[0] / tensor.numel()) ** 0.5)
    theirs.save_pretrained(folder)
    prompt = {"fusion_prompt": [BEFORE, AFTER[:-1]], "decoder_start_token_id": AFTER[-1], "pad_token_id": 0}
    return Both(kind, theirs, folder, SpeechEncoderDecoderModel.from_pretrained(folder, **prompt))


def test_logits(both: Both) -> None:
    assert both.ours.load_report.fresh == []
    assert both.ours.load_report.dropped == {}
    clips, texts = both.clips(8), torch.randint(13, VOCAB, (8, 6), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = both.theirs(**both.given(clips, texts.tolist())).logits[:, -7:]
        found = both.ours(**clips, decoder_input_ids=torch.cat([torch.full((8, 1), AFTER[-1]), texts], 1)).logits
    assert_close(found, expected)


def test_the_loss_is_of_the_text_alone(both: Both) -> None:
    clips, labels = both.clips(4), torch.randint(13, VOCAB, (4, 6), generator=torch.Generator().manual_seed(0))
    given = both.given(clips, labels.tolist())
    theirs = given["input_ids"].clone()
    theirs[:, :-6] = -100
    assert_close(both.ours(**clips, labels=labels).loss, both.theirs(**given, labels=theirs).loss, "loss")


@pytest.mark.parametrize("num_beams", [1, 4])
@pytest.mark.parametrize("count", [8, pytest.param(100, marks=pytest.mark.nightly)])
def test_texts(both: Both, num_beams: int, count: int) -> None:
    clips = both.clips(count)
    options = {"num_beams": num_beams, "max_new_tokens": 10, "pad_token_id": 0}
    found = both.ours.generate(**clips, **options)[:, 1:]
    given = both.given(clips)
    expected = both.theirs.generate(**given, do_sample=False, **options)[:, given["input_ids"].shape[1] :]
    assert found.tolist() == expected.tolist()
    assert len({tuple(text) for text in found.tolist()}) > count // 5, "texts must depend on the speech to prove much"


def test_longer_clips(both: Both) -> None:
    """Several windows, whose positions follow each other."""
    if both.kind.windows == 1:
        pytest.skip("`transformers` takes one window")
    clips = both.clips(5, both.kind.windows)
    given = both.given(clips)
    expected = both.theirs.generate(**given, do_sample=False, max_new_tokens=8, pad_token_id=0)
    found = both.ours.generate(**clips, max_new_tokens=8, pad_token_id=0)
    assert found[:, 1:].tolist() == expected[:, given["input_ids"].shape[1] :].tolist()


def test_batch_equals_single(both: Both) -> None:
    clips = both.clips(6)
    found = both.ours.generate(**clips, max_new_tokens=8, num_beams=3)
    for row, text in enumerate(found.tolist()):
        alone = {name: tensor[row : row + 1] for name, tensor in clips.items()}
        own = both.ours.generate(**alone, max_new_tokens=8, num_beams=3)[0].tolist()
        assert text[: len(own)] == own
        assert set(text[len(own) :]) <= {2}, "beams end with the first end token where padding is token 0"


def test_transformers_loads_the_saved_folder(both: Both, tmp_path: Path) -> None:
    both.ours.save_pretrained(tmp_path)
    again, info = type(both.theirs).from_pretrained(tmp_path, output_loading_info=True)
    assert {name: keys for name, keys in info.items() if keys} == {}
    assert all(torch.equal(tensor, both.theirs.state_dict()[name]) for name, tensor in again.state_dict().items())
    before, after = (json.loads((folder / "config.json").read_text()) for folder in (both.folder, tmp_path))
    parts = "audio_config", "text_config"
    for old, new in ((before, after), *((before[part], after[part]) for part in parts)):
        kept = {name: value for name, value in old.items() if value is not None} | dict.fromkeys(parts)
        assert {name for name in kept if name not in parts and new.get(name, False) != kept[name]} <= {
            "transformers_version",
            "tie_word_embeddings",
        }
    ours = SpeechEncoderDecoderModel.from_pretrained(tmp_path)
    clips = both.clips(3)
    assert torch.equal(ours.generate(**clips, max_new_tokens=5), both.ours.generate(**clips, max_new_tokens=5))


IN_JAX = ["qwen2_audio", "qwen3_asr"]  # the others have no more parts, and a compilation takes seconds


@pytest.mark.parametrize(
    "both", [pytest.param(name, marks=[] if name in IN_JAX else pytest.mark.nightly) for name in KINDS], indirect=True
)
def test_in_jax(both: Both, tmp_path: Path) -> None:
    both.ours.save_pretrained(tmp_path)
    model = FlaxSpeechEncoderDecoderModel.from_pretrained(tmp_path)
    clips = both.clips(4, min(both.kind.windows, 2))
    arrays = {name: tensor.numpy() for name, tensor in clips.items()}
    tokens = torch.randint(13, VOCAB, (4, 6), generator=torch.Generator().manual_seed(0))
    assert_close(
        model(**arrays, decoder_input_ids=tokens.numpy()).logits, both.ours(**clips, decoder_input_ids=tokens).logits
    )
    options = {"num_beams": 3, "max_new_tokens": 8}
    found = np.asarray(model.generate(**arrays, **options).sequences).tolist()
    assert found == both.ours.generate(**clips, **options).tolist()
    model.save_pretrained(tmp_path / "jax")
    _, info = type(both.theirs).from_pretrained(tmp_path / "jax", output_loading_info=True)
    assert {name: keys for name, keys in info.items() if keys} == {}


def test_halves(both: Both, tmp_path: Path) -> None:
    """Each part alone, and the encoder with another decoder: a step of training, saved, loaded, generating."""
    clips = both.clips(2)
    encoder = SpeechEncoder.from_pretrained(both.folder)
    found = encoder(clips["input_features"], clips["attention_mask"])
    assert torch.equal(found.last_hidden_state, both.ours.encoder(**clips).last_hidden_state)
    text = TextDecoder.from_pretrained(both.folder, is_decoder=True)
    assert torch.equal(text.embed.tokens.weight, both.ours.decoder.embed.tokens.weight)
    torch.manual_seed(0)
    TextDecoder(tiny_config("bart", is_decoder=True, add_cross_attention=True)).save_pretrained(tmp_path / "bart")
    model = SpeechEncoderDecoderModel.from_encoder_decoder_pretrained(both.folder, tmp_path / "bart")
    labels = torch.randint(4, 90, (2, 5))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    with torch.enable_grad():
        before = model(**clips, labels=labels).loss
        before.backward()
    optimizer.step()
    assert model(**clips, labels=labels).loss < before
    model.save_pretrained(tmp_path / "joined")
    again = SpeechEncoderDecoderModel.from_pretrained(tmp_path / "joined")
    options = {"num_beams": 2, "max_new_tokens": 4}
    assert torch.equal(again.generate(**clips, **options), model.generate(**clips, **options))


def test_other_spelling(both: Both, tmp_path: Path) -> None:
    """A model that `transformers` 5 made has `model.` before its names, and none in files: both are read."""
    both.theirs.save_pretrained(tmp_path, save_original_format=False)
    again = SpeechEncoderDecoderModel.from_pretrained(tmp_path, fusion_prompt=[[], []])
    assert all(map(torch.equal, again.parameters(), both.ours.parameters()))


def test_configuration(both: Both) -> None:
    config = AutoConfig.from_pretrained(both.folder)
    assert isinstance(config, SpeechEncoderDecoderConfig)
    assert config.fusion == "prefix"
    assert config.composite is not None
    assert AUDIO in (config.composite.get("audio_token_id"), config.composite.get("audio_token_index"))


def test_lora_and_a_changed_bridge(both: Both, tmp_path: Path) -> None:
    """A folded LoRA leaves the model what it was; one whose bridge is another is saved as a joint model."""
    model = SpeechEncoderDecoderModel.from_pretrained(both.folder, fusion_prompt=[BEFORE, []], decoder_start_token_id=9)
    model.add_lora(rank=2)
    model.save_pretrained(tmp_path / "lora")
    kind = json.loads((tmp_path / "lora" / "config.json").read_text())["model_type"]
    assert kind == json.loads((both.folder / "config.json").read_text())["model_type"]
    config = model.config.copy(fusion_bridge=None)
    other = SpeechEncoderDecoderModel(config=config)
    other.save_pretrained(tmp_path / "other")
    assert json.loads((tmp_path / "other" / "config.json").read_text())["model_type"] == "speech-encoder-decoder"


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_layout(name: str) -> None:
    """Every tensor of the published size has its place here, and every one here is in the file."""
    data = PUBLISHED[name]
    composite = composite_of(data)
    assert composite is not None
    config = SpeechEncoderDecoderConfig.from_dict(composite.joint(data))
    model = SpeechEncoderDecoderModel(config=config, empty=True)
    with torch.device("meta"):
        theirs = getattr(transformers, composite.architecture)(transformers.AutoConfig.for_model(**data))
    shapes: dict[str, tuple[int, ...]] = {}
    for incoming, tensor in theirs.state_dict().items():
        (joint,) = composite.keymap.ours(composite.keymap.canonical_name(incoming))
        section = next(one for one in model_sections(model) if joint.startswith(one.theirs))
        own = section.keymap.canonical_name(joint.removeprefix(section.theirs))
        assert section.keymap.rule_for(own) is not None, incoming
        shapes |= {section.ours + ours: tuple(array.shape) for ours, array in section.keymap.read(own, tensor)}
    assert shapes == {name: tuple(tensor.shape) for name, tensor in model.named_parameters()}


@pytest.mark.parametrize("both", ["qwen3_asr"], indirect=True)
def test_original_files_of_qwen3_asr(both: Both, tmp_path: Path) -> None:
    """Everything below `thinker`, the projection inside the encoder, and three equal positions of each token."""
    data = json.loads((both.folder / "config.json").read_text())
    inner = {name: data[name] for name in ("audio_config", "text_config", "audio_token_id", "tie_word_embeddings")}
    inner["audio_config"]["model_type"] = "qwen3_asr_audio_encoder"
    inner["text_config"] |= {"model_type": "qwen3_asr_text", "rope_theta": 10_000.0}
    inner["text_config"]["rope_scaling"] = {"mrope_section": [1, 1, 1], "rope_type": "default", "type": "default"}
    del inner["text_config"]["rope_parameters"]
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen3_asr", "thinker_config": inner}))
    spelled = {
        "model.multi_modal_projector.linear_": "thinker.audio_tower.proj",
        "model.language_model.": "thinker.model.",
        "model.": "thinker.",
        "lm_head.": "thinker.lm_head.",
    }
    tensors = {}
    for name, tensor in both.theirs.state_dict().items():
        start = next(one for one in spelled if name.startswith(one))
        tensors[spelled[start] + name.removeprefix(start)] = tensor.clone()
    save_file(tensors, tmp_path / "model.safetensors")
    again = SpeechEncoderDecoderModel.from_pretrained(
        tmp_path, fusion_prompt=[BEFORE, AFTER[:-1]], decoder_start_token_id=AFTER[-1], **IDS
    )
    clips = both.clips(3)
    assert torch.equal(again.generate(**clips, max_new_tokens=5), both.ours.generate(**clips, max_new_tokens=5))
    again.save_pretrained(tmp_path / "saved")
    _, info = type(both.theirs).from_pretrained(tmp_path / "saved", output_loading_info=True)
    assert {name: keys for name, keys in info.items() if keys} == {}
