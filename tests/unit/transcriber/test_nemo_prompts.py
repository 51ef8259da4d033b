"""Recordings through Canary and Cohere Transcribe: the prompt states languages, and words have times."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders
from tokenizers.models import WordLevel

import dragoman
from dragoman import SpeechEncoderDecoderConfig, SpeechEncoderDecoderModel, Transcriber
from dragoman.errors import ConfigError, TokenizerError
from dragoman.testing import tiny_config
from dragoman.torch.export.folder import export

CODES = ("en", "de", "fr", "bg", "ja")
CONTROL = ["startofcontext", "startoftranscript", "emo:undefined", "pnc", "nopnc", "noitn", "notimestamp", "nodiarize"]
SPECIAL = ["<unk>", "<pad>", "<eos>", "<bos>", "▁", *(f"<|{word}|>" for word in (*CONTROL, *CODES))]
WORDS = [f"▁word{i}" for i in range(40)]
PROMPT = ["<|startofcontext|>", "<|startoftranscript|>", "<|emo:undefined|>"]
END = ["<|noitn|>", "<|notimestamp|>", "<|nodiarize|>"]


def checkpoint(model_type: str, folder: Path) -> Path:
    torch.manual_seed(0)
    ids = {"pad_token_id": 1, "eos_token_id": 2, "bos_token_id": 3, "decoder_start_token_id": 5}
    tiny = tiny_config(model_type, vocab_size=len(SPECIAL) + len(WORDS), initializer_range=0.5, **ids)
    tiny.encoder_config |= {"num_mel_bins": 80}
    config = SpeechEncoderDecoderConfig(encoder=tiny, decoder=tiny, **ids)
    SpeechEncoderDecoderModel(config=config).save_pretrained(folder)
    tokens = {token: index for index, token in enumerate([*SPECIAL, *WORDS])}
    tokenizer = Tokenizer(WordLevel(tokens, unk_token="<unk>"))
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "TokenizersBackend"}))
    extractor = {"canary": dragoman.ParakeetFeatureExtractor, "cohere_asr": dragoman.CohereAsrFeatureExtractor}
    extractor[model_type](feature_size=80).save_pretrained(folder)
    return folder


def spied(transcriber: Any, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The prompts of later transcripts."""
    seen: list[list[str]] = []
    runner, names = transcriber._engine.runner, [*SPECIAL, *WORDS]
    generate = type(runner).generate

    def record(self: Any, encoded: Any, prompt: Any, *args: Any, **kwargs: Any) -> Any:
        seen.extend([names[i] for i in row] for row in np.asarray(prompt).tolist())
        return generate(self, encoded, prompt, *args, **kwargs)

    monkeypatch.setattr(type(runner), "generate", record)
    return seen


@pytest.mark.filterwarnings("ignore:.*words may be missing")
@pytest.mark.parametrize("model_type", ["canary", "cohere_asr"])
def test_languages_are_a_prompt(
    model_type: str, tmp_path: Path, sample: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    transcriber = Transcriber(checkpoint(model_type, tmp_path), device="cpu")
    seen = spied(transcriber, monkeypatch)
    found = transcriber.transcribe(sample, language="German", beam_size=1, word_timestamps=True, chunk_length_s=4)
    assert found.language == "de"
    begin = ["▁", *PROMPT] if model_type == "cohere_asr" else PROMPT
    assert len(seen) >= 2
    assert all(row == [*begin, "<|de|>", "<|de|>", "<|pnc|>", *END] for row in seen)
    words = [word for segment in found.segments for word in segment.words]
    assert words
    assert all(0 <= word.start <= word.end <= len(sample) / 16_000 for word in words)
    with pytest.raises(ConfigError, match="has to be told it: "):
        transcriber.transcribe(sample, beam_size=1)
    with pytest.raises(ConfigError, match="`language` is 'swahili'"):
        transcriber.transcribe(sample, language="swahili", beam_size=1)
    if model_type == "cohere_asr":
        with pytest.raises(ConfigError, match=r"writes the spoken language \(here de\), so it cannot write en"):
            transcriber.transcribe(sample, language="de", task="translate", beam_size=1)
        return
    del seen[:]
    transcriber.transcribe(sample[:40_000], language="fr", task="translate", beam_size=1)
    transcriber.transcribe(sample[:40_000], language="fr", target_language="german", punctuation=False, beam_size=1)
    assert seen[0][3:6] == ["<|fr|>", "<|en|>", "<|pnc|>"]
    assert seen[-1][5] == "<|nopnc|>"
    assert seen[-1][3:5] == ["<|fr|>", "<|de|>"]


@pytest.mark.filterwarnings("ignore:.*words may be missing")
@pytest.mark.nightly
def test_8_bits_and_onnx(tmp_path: Path, sample: np.ndarray) -> None:
    folder = checkpoint("cohere_asr", tmp_path / "model")
    options: dict[str, Any] = {"language": "en", "beam_size": 2}
    expected = Transcriber(folder, device="cpu").transcribe(sample[:40_000], **options).text
    assert expected
    assert Transcriber(folder, device="cpu", compute_type="int8").transcribe(sample[:40_000], **options).text
    export(SpeechEncoderDecoderModel.from_pretrained(folder), tmp_path / "graphs", "float32")
    dragoman.AutoProcessor.from_pretrained(folder).save_pretrained(tmp_path / "graphs")
    found = Transcriber(tmp_path / "graphs", device="cpu", backend="onnx").transcribe(sample[:40_000], **options).text
    assert found == expected


def test_processors_give_the_prompts_of_generate(tmp_path: Path, sample: np.ndarray) -> None:
    processor = dragoman.AutoProcessor.from_pretrained(checkpoint("canary", tmp_path))
    assert isinstance(processor, dragoman.CanaryProcessor)
    expected = [*PROMPT, "<|fr|>", "<|en|>", "<|nopnc|>", *END]
    ids = processor.get_decoder_prompt_ids("fr", "en", punctuation=False)
    assert processor.tokenizer.convert_ids_to_tokens(ids) == expected
    clips = [sample[:16_000], sample[:8_000]]
    options: dict[str, Any] = {"sampling_rate": 16_000, "return_tensors": "pt"}
    batch = processor.apply_transcription_request(clips, ["fr", "de"], **options)
    assert [processor.tokenizer.convert_ids_to_tokens(row)[3:5] for row in batch["decoder_input_ids"].tolist()] == [
        ["<|fr|>"] * 2, ["<|de|>"] * 2
    ]  # fmt: skip
    texts = SpeechEncoderDecoderModel.from_pretrained(tmp_path).generate(**batch, max_new_tokens=3)
    assert texts.shape[1] <= 13
    with pytest.raises(ConfigError, match="There are 2 clips, but 3 source and 2 target languages"):
        processor.apply_transcription_request(clips, ["fr", "de", "en"], **options)
    cohere = dragoman.CohereAsrProcessor(dragoman.CohereAsrFeatureExtractor(), processor.tokenizer)
    ids = cohere.get_decoder_prompt_ids("ja", punctuation=False)
    assert cohere.tokenizer.convert_ids_to_tokens(ids) == ["▁", *PROMPT, "<|ja|>", "<|ja|>", "<|nopnc|>", *END]
    with pytest.raises(TokenizerError, match=r"lacks <\|ar\|>, <\|ar\|>"):
        cohere.get_decoder_prompt_ids("arabic")
