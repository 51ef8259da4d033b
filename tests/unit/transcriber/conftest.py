import io
import json

import pytest
import sentencepiece
import torch
from tokenizers import pre_tokenizers

from dragoman import (
    AutoTokenizer,
    SpeechEncoderDecoderConfig,
    SpeechEncoderDecoderModel,
    Wav2Vec2FeatureExtractor,
    WhisperFeatureExtractor,
)
from dragoman.testing import tiny_config
from dragoman.transcriber import Transcriber

SPECIAL = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|cs|>", "<|ar|>", "<|translate|>", "<|transcribe|>",
           "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"]  # fmt: skip


@pytest.fixture(scope="session")
def transcriber(tiny_checkpoint) -> Transcriber:
    return Transcriber(tiny_checkpoint, device="cpu")


@pytest.fixture(scope="session")
def whisper_checkpoint(tmp_path_factory):
    """A tiny multilingual Whisper that takes two seconds at a time, with a byte-level tokenizer."""
    folder = tmp_path_factory.mktemp("checkpoint") / "whisper"
    vocabulary = sorted(pre_tokenizers.ByteLevel.alphabet())
    added = {token: len(vocabulary) + i for i, token in enumerate(SPECIAL)}
    ids = {
        "pad_token_id": added["<|endoftext|>"],
        "bos_token_id": added["<|endoftext|>"],
        "eos_token_id": added["<|endoftext|>"],
        "decoder_start_token_id": added["<|startoftranscript|>"],
    }
    whisper = tiny_config("whisper", vocab_size=len(vocabulary) + len(SPECIAL), max_source_positions=100, **ids)
    torch.manual_seed(0)  # whichever tests ran before
    model = SpeechEncoderDecoderModel(config=SpeechEncoderDecoderConfig(encoder=whisper, decoder=whisper, **ids))
    model.generation_config.is_multilingual = True
    model.generation_config.lang_to_id = {token: added[token] for token in ("<|en|>", "<|cs|>", "<|ar|>")}
    model.save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=8, chunk_length=2).save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(vocabulary)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "added_tokens.json").write_text(json.dumps(added))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "WhisperTokenizer", "eos_token": "<|endoftext|>"})
    )
    return folder


@pytest.fixture(scope="session")
def mbart_checkpoint(tmp_path_factory):
    """A tiny speech translator with mBART-50's languages, French by default."""
    folder = tmp_path_factory.mktemp("checkpoint") / "mbart"
    folder.mkdir()
    pieces = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["hello world the quick brown fox"] * 20),
        model_writer=pieces,
        vocab_size=30,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    (folder / "sentencepiece.bpe.model").write_bytes(pieces.getvalue())
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "MBart50Tokenizer"}))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    torch.manual_seed(0)
    config = SpeechEncoderDecoderConfig(
        encoder=tiny_config("wav2vec2"),
        decoder=tiny_config("mbart", vocab_size=len(tokenizer)),
        decoder_start_token_id=2,
        eos_token_id=2,
        pad_token_id=1,
        forced_bos_token_id=tokenizer.lang_code_to_id["fr_XX"],
    )
    SpeechEncoderDecoderModel(config=config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(folder)
    return folder
