"""Processors against `transformers`: files in both directions, and equal batches."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from transformers.convert_slow_tokenizer import bytes_to_unicode

import dragoman

VOCAB = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\nquick\nfox\n##es\n"
CTC = {token: i for i, token in enumerate(["<pad>", "<s>", "</s>", "<unk>", "|", *"CEFHIKOQSTUX"])}
TEXTS = ["THE QUICK FOX", "FOXES"]
CLIPS = [np.sin(np.arange(n, dtype=np.float32) / 7) for n in (900, 600)]


@pytest.fixture(params=["bert", "ctc", "whisper"])
def theirs(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """A processor of `transformers`."""
    if request.param == "bert":
        (tmp_path / "vocab.txt").write_text(VOCAB)
        tokenizer = transformers.BertTokenizer.from_pretrained(tmp_path)
        extractor = transformers.Wav2Vec2FeatureExtractor(return_attention_mask=True)
        return transformers.Wav2Vec2Processor(extractor, tokenizer)
    if request.param == "ctc":
        (tmp_path / "vocab.json").write_text(json.dumps(CTC))
        tokenizer = transformers.Wav2Vec2CTCTokenizer.from_pretrained(tmp_path)
        extractor = transformers.Wav2Vec2FeatureExtractor(return_attention_mask=True, do_normalize=False)
        return transformers.Wav2Vec2Processor(extractor, tokenizer)
    tokens = [*sorted(bytes_to_unicode().values()), "<|endoftext|>"]
    tokens += ["<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|startofprev|>", "<|notimestamps|>"]
    tokenizer = transformers.WhisperTokenizer(
        vocab={token: i for i, token in enumerate(tokens)},
        merges=[],
        pad_token="<|endoftext|>",
        additional_special_tokens=tokens[257:],
    )
    return transformers.WhisperProcessor(transformers.WhisperFeatureExtractor(chunk_length=1), tokenizer)


def same(mine: Any, reference: Any) -> None:
    assert set(mine) == set(reference)
    for name in reference:
        np.testing.assert_allclose(np.asarray(mine[name]), np.asarray(reference[name]), atol=1e-4)


def prepare_alike(ours: Any, theirs: Any) -> None:
    arguments: dict[str, Any] = {"sampling_rate": 16000, "return_tensors": "np"}
    padding = {} if "Whisper" in type(theirs).__name__ else {"padding": True}
    same(ours(CLIPS, **padding, **arguments), theirs(CLIPS, **padding, **arguments))
    same(ours(CLIPS[0], text=TEXTS[0], **arguments), theirs(CLIPS[0], text=TEXTS[0], **arguments))
    encoded = theirs(text=TEXTS, padding=True, return_tensors="np")
    encoded.pop("token_type_ids", None)  # of BERT; unused in labels and by decoders
    same(ours(text=TEXTS, padding=True, return_tensors="np"), encoded)
    ids = encoded["input_ids"]
    assert ours.batch_decode(ids) == theirs.batch_decode(ids)


def test_processor_of_transformers_is_read(theirs: Any, tmp_path: Path) -> None:
    theirs.save_pretrained(tmp_path / "saved")
    ours = dragoman.AutoProcessor.from_pretrained(tmp_path / "saved")
    assert type(ours).__name__ == type(theirs).__name__
    prepare_alike(ours, theirs)


def test_transformers_reads_our_processor(theirs: Any, tmp_path: Path) -> None:
    theirs.save_pretrained(tmp_path / "theirs")
    ours = dragoman.AutoProcessor.from_pretrained(tmp_path / "theirs")
    ours.save_pretrained(tmp_path / "ours")
    again = transformers.AutoProcessor.from_pretrained(tmp_path / "ours")
    assert type(again) is type(theirs)
    prepare_alike(ours, again)
    assert again.tokenizer.get_vocab() == theirs.tokenizer.get_vocab()


@pytest.mark.parametrize("theirs", ["bert", "ctc"], indirect=True)  # Whisper's windows all have one length
def test_padded_batches_equal_transformers(theirs: Any, tmp_path: Path) -> None:
    theirs.save_pretrained(tmp_path)
    ours = dragoman.AutoProcessor.from_pretrained(tmp_path)
    batches = []
    for processor in (ours, theirs):
        features = [{"input_values": processor(clip, sampling_rate=16000).input_values[0]} for clip in CLIPS]
        labels = [{"input_ids": processor(text=text).input_ids} for text in TEXTS]
        batches.append(processor.pad(features, labels=labels, padding=True, return_tensors="np"))
    same(*batches)
