"""Processors of speech language models: spectrograms and prompts of `transformers`, and the texts of recordings."""

import json
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch
import transformers

import dragoman
from dragoman.families.composites import composite_of
from dragoman.testing import synthetic_speech

from .test_speech_language_models import KINDS, TEXT

SECONDS = (0.3, 1.0, 3.71, 29.99, 30.0)


@dataclass(frozen=True)
class Card:
    """What a checkpoint of a kind has besides weights: special tokens, a chat template, fields of its extractor."""

    tokens: Sequence[str]
    template: str
    audio: str
    extractor: Any
    named: dict[str, str] = field(default_factory=dict)
    longer: tuple[float, ...] = ()


CARDS = {
    "glmasr": Card(
        ("<|user|>", "<|assistant|>", "<|begin_of_audio|>", "<|end_of_audio|>", "<|pad|>", "<|endoftext|>"),
        "{% for message in messages %}<|user|>\n{% for part in message.content %}{% if part.type == 'audio' %}"
        "<|begin_of_audio|><|pad|><|end_of_audio|><|user|>\n{% else %}{{ part.text }}{% endif %}{% endfor %}"
        "{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}",
        "<|pad|>",
        transformers.WhisperFeatureExtractor(feature_size=16),
        longer=(31.0, 65.5),
    ),
    "qwen3_asr": Card(
        (
            "<|im_start|>",
            "<|im_end|>",
            "<|audio_start|>",
            "<|audio_end|>",
            "<|audio_pad|>",
            "<asr_text>",
            "<|endoftext|>",
        ),
        "{% set said = namespace(system='') %}{% for message in messages %}{% if message.role == 'system' %}"
        "{% set said.system = message.content[0].text %}{% endif %}{% endfor %}"
        "<|im_start|>system\n{{ said.system }}<|im_end|>\n<|im_start|>user\n"
        "<|audio_start|><|audio_pad|><|audio_end|><|im_end|>\n<|im_start|>assistant\n"
        "{% for message in messages %}{% if message.role == 'assistant' %}{{ message.content[0].text }}{% endif %}"
        "{% endfor %}",
        "<|audio_pad|>",
        transformers.Qwen3ASRFeatureExtractor(feature_size=16),
        {"audio_token": "<|audio_pad|>", "audio_bos_token": "<|audio_start|>", "audio_eos_token": "<|audio_end|>"},
    ),
}


def tokenizer_of(card: Card) -> Any:
    """Return a byte-level tokenizer without merges, with the special tokens of a card."""
    letters = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    backend = tokenizers.Tokenizer(tokenizers.models.BPE({one: i for i, one in enumerate(letters)}, []))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = tokenizers.decoders.ByteLevel()
    backend.add_special_tokens([*card.tokens])
    named = {"extra_special_tokens": card.named} if card.named else {}
    ends = dict.fromkeys(("pad_token", "eos_token"), card.tokens[-1])
    return transformers.PreTrainedTokenizerFast(tokenizer_object=backend, **ends, **named)


@pytest.fixture(scope="module", params=CARDS)
def card(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Card, Any, Path]:
    """A card, the processor of `transformers`, and a folder with a whole random model."""
    card, folder = CARDS[request.param], tmp_path_factory.mktemp(request.param)
    composite = composite_of({"model_type": request.param})
    assert composite is not None
    tokenizer = tokenizer_of(card)
    kind = getattr(transformers, composite.architecture.replace("ForConditionalGeneration", "Processor"))
    processor = kind(card.extractor, tokenizer, chat_template=card.template)
    processor.save_pretrained(folder)
    audio = tokenizer.convert_tokens_to_ids(card.audio)
    config = transformers.AutoConfig.for_model(
        request.param,
        audio_config=KINDS[request.param].audio | {"num_mel_bins": 16, "max_position_embeddings": 1500},
        text_config={
            "model_type": composite.decoder,
            **TEXT,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 1500,
            "eos_token_id": tokenizer.eos_token_id,
        },
        audio_token_id=audio,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    torch.manual_seed(0)
    theirs = getattr(transformers, composite.architecture)(config).eval()
    for tensor in theirs.parameters():
        if tensor.ndim > 1:
            tensor.data.copy_(2 * torch.randn_like(tensor) * (tensor.shape[0] / tensor.numel()) ** 0.5)
    theirs.save_pretrained(folder)
    return card, processor, folder


def batches(longer: Sequence[float]) -> list[list[float]]:
    """Return lengths of clips, alone and together; Qwen3-ASR's processor lets clips of a batch change each other."""
    alone = [[seconds] for seconds in (*SECONDS, *longer)]
    return [*alone, [0.7, 12.0, 3.0], [31.0, 2.0]] if longer else alone


def test_spectrograms(card: tuple[Card, Any, Path]) -> None:
    own, theirs, folder = card
    ours = dragoman.AutoProcessor.from_pretrained(folder)
    for lengths in batches(own.longer):
        clips = [synthetic_speech(seconds, seed=index) for index, seconds in enumerate(lengths)]
        expected = theirs(text=[own.audio] * len(clips), audio=clips, sampling_rate=16000)
        found = ours(clips, sampling_rate=16000, return_tensors="np")
        mask = expected["input_features_mask"].numpy()
        size = expected["input_features"].shape[2]
        rows = iter(expected["input_features"].numpy())
        masks = iter(mask)
        for row, keeps, clip in zip(found["input_features"], found["attention_mask"], clips, strict=True):
            for start in range(0, -(-max(len(clip) // 160, 1) // size) * size, size):
                difference = np.abs(row[:, start : start + size] - next(rows)).max()
                assert difference <= 1e-4
                assert keeps[start : start + size].tolist() == next(masks).tolist()
        assert next(rows, None) is None


def test_prompt_and_texts(card: tuple[Card, Any, Path]) -> None:
    """The model's own prompt is that of the chat template; so are the texts after it."""
    _, theirs, folder = card
    clips = [synthetic_speech(seconds, seed=index) for index, seconds in enumerate((2.0, 1.1, 4.0))]
    model = transformers.AutoModelForMultimodalLM.from_pretrained(folder).eval()
    expected = []
    for clip in clips:
        inputs = theirs.apply_transcription_request([clip])
        row = model.generate(**inputs, max_new_tokens=12, do_sample=False)[0, inputs["input_ids"].shape[1] :]
        expected.append(row.tolist())
    ours = dragoman.SpeechEncoderDecoderModel.from_pretrained(folder)
    processor = dragoman.AutoProcessor.from_pretrained(folder)
    found = ours.generate(**processor(clips, sampling_rate=16000, return_tensors="pt"), max_new_tokens=12)
    end = processor.tokenizer.eos_token_id
    for row, wanted in zip(found[:, 1:].tolist(), expected, strict=True):
        assert row[: len(wanted)] == wanted
        assert set(row[len(wanted) :]) <= {end}
        assert processor.decode(row, skip_special_tokens=True) == theirs.decode(wanted, skip_special_tokens=True)


@pytest.mark.filterwarnings("ignore:.*words may be missing")
def test_transcriber(card: tuple[Card, Any, Path]) -> None:
    """Text alone, of a recording longer than a window."""
    own, _, folder = card
    transcriber = dragoman.Transcriber(folder, device="cpu")
    result = transcriber.transcribe(synthetic_speech(33.0), max_new_tokens=8, temperature=0.0, vad_filter=False)
    assert result.segments
    assert not any(token in result.text for token in own.tokens)


class Answering:
    """A runner whose model answers with given tokens; everything else is the model's own."""

    def __init__(self, runner: Any, answer: Sequence[int]) -> None:
        self._runner, self.answer, self.prompts = runner, answer, []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runner, name)

    def generate(self, encoded: Any, prompt: Any, **options: Any) -> Any:
        self.prompts.append(prompt[0].tolist())
        rows = np.asarray([self.answer] * len(prompt))
        return rows, np.full(rows.shape, -0.1, np.float32)


@pytest.mark.parametrize("card", ["qwen3_asr"], indirect=True)
@pytest.mark.parametrize(("language", "told"), [(None, "language English"), ("fr", ""), ("french", "")])
def test_language_of_qwen3_asr(card: tuple[Card, Any, Path], language: str | None, told: str) -> None:
    """The language that the model tells is no text; one that is chosen is the beginning of the answer."""
    _, theirs, folder = card
    transcriber = dragoman.Transcriber(folder, device="cpu")
    tokenizer = transcriber.processor.tokenizer
    text = f"{told}<asr_text>Good day" if told else "Good day"
    answer = [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    runner = Answering(transcriber._engine.runner, answer)
    transcriber._engine.runner = runner
    result = transcriber.transcribe(synthetic_speech(2.0), language=language, vad_filter=False)
    assert result.text.strip() == "Good day"
    (prompt, *_) = runner.prompts
    inputs = theirs.apply_transcription_request([synthetic_speech(2.0)], language=None if language is None else "fr")
    assert inputs["input_ids"][0].tolist()[-len(prompt) :] == prompt
    assert len(prompt) == (1 if language is None else 1 + len(tokenizer("language French<asr_text>")["input_ids"]))


def test_spectrograms_of_qwen2_audio() -> None:
    """The mask tells the frames of speech; a longer clip is no clip of 30 s."""
    theirs = transformers.WhisperFeatureExtractor(feature_size=16)
    ours = dragoman.Qwen2AudioFeatureExtractor(feature_size=16)
    clips = [synthetic_speech(seconds, seed=index) for index, seconds in enumerate((0.3, 3.71, 30.0))]
    expected = theirs(clips, sampling_rate=16000, return_attention_mask=True, return_tensors="np")
    found = ours(clips, sampling_rate=16000, return_tensors="np")
    assert np.abs(found["input_features"] - expected["input_features"]).max() <= 1e-4
    assert found["attention_mask"].tolist() == expected["attention_mask"].tolist()
    with pytest.raises(dragoman.AudioError, match="takes 30 s at a time"):
        ours(synthetic_speech(31.0), sampling_rate=16000)
    assert ours.to_dict()["feature_extractor_type"] == "WhisperFeatureExtractor"


def test_spectrograms_of_voxtral() -> None:
    """One spectrogram of the whole clip, in windows that count to their end, also beside a longer clip."""
    theirs = transformers.WhisperFeatureExtractor(feature_size=16)
    ours = dragoman.VoxtralFeatureExtractor(feature_size=16)
    clips = [0.1 * synthetic_speech(33.0, seed=1), synthetic_speech(2.0, seed=2)]
    clips[0][:16000] *= 10.0
    found = ours(clips, sampling_rate=16000, return_tensors="np")
    for clip, row, mask in zip(clips, found["input_features"], found["attention_mask"], strict=True):
        whole = theirs(
            clip, sampling_rate=16000, padding=True, truncation=False, pad_to_multiple_of=480000, return_tensors="np"
        )["input_features"][0]
        assert np.abs(row[:, mask == 1] - whole).max() <= 1e-4
    assert found["attention_mask"].sum(1).tolist() == [6000, 3000]


@pytest.mark.parametrize(("language", "chosen"), [(None, ""), ("english", "lang:en")])
def test_prompt_of_voxtral(tmp_path: Path, language: str | None, chosen: str) -> None:
    """The ids that mistral-common 1.13 gives: begin, [INST], [BEGIN_AUDIO], speech, [/INST], language, [TRANSCRIBE]."""
    names = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[BEGIN_AUDIO]", "[TRANSCRIBE]", "[AUDIO]"]
    size = len(names) + 256
    tekken = {
        "config": {"pattern": r"\p{L}+|[^\p{L}]", "default_vocab_size": size, "default_num_special_tokens": len(names)},
        "vocab": [{"token_bytes": b64encode(bytes([byte])).decode()} for byte in range(256)],
        "special_tokens": [{"rank": rank, "token_str": name} for rank, name in enumerate(names)],
    }
    audio = KINDS["voxtral"].audio | {"num_mel_bins": 16, "max_source_positions": 1500}
    text = {"model_type": "llama", **TEXT, "vocab_size": size, "max_position_embeddings": 512, "eos_token_id": 2}
    config = transformers.VoxtralConfig(audio_config=audio, text_config=text, audio_token_id=7, eos_token_id=2)
    transformers.VoxtralForConditionalGeneration(config).save_pretrained(tmp_path)
    (tmp_path / "tekken.json").write_text(json.dumps(tekken))
    transformers.WhisperFeatureExtractor(feature_size=16).save_pretrained(tmp_path)
    transcriber = dragoman.Transcriber(tmp_path, device="cpu")
    assert isinstance(transcriber.processor, dragoman.VoxtralProcessor)
    model = transcriber._engine.facts.config
    assert (model.fusion_prompt, model.decoder_start_token_id) == ([[1, 3, 5], [4]], 6)
    runner = Answering(transcriber._engine.runner, [len(names) + byte for byte in b"Good day"] + [2])
    transcriber._engine.runner = runner
    result = transcriber.transcribe(synthetic_speech(2.0), language=language, vad_filter=False)
    assert result.text.strip() == "Good day"
    assert runner.prompts[0] == [*(len(names) + byte for byte in chosen.encode()), 6]


def test_saved_processor(card: tuple[Card, Any, Path], tmp_path: Path) -> None:
    own, theirs, folder = card
    dragoman.AutoProcessor.from_pretrained(folder).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    again = type(theirs).from_pretrained(tmp_path, chat_template=own.template)
    clip = synthetic_speech(1.0)
    one, other = (p(text=[own.audio], audio=[clip], sampling_rate=16000) for p in (theirs, again))
    assert one["input_ids"].tolist() == other["input_ids"].tolist()
    assert torch.equal(one["input_features"], other["input_features"])
    name = json.loads((tmp_path / "preprocessor_config.json").read_text())["feature_extractor_type"]
    assert name == type(own.extractor).__name__
