"""Recordings through encoders of filter banks, and of waveforms with one norm: windows, masks, the shortest clips."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import dragoman
from dragoman import SpeechEncoderDecoderConfig, SpeechEncoderDecoderModel, Transcriber
from dragoman.testing import tiny_config

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefghijklmnopqrstuvwxyz"]
ENCODERS = {
    "wav2vec2-bert": ({"feature_projection_input_dim": 160}, "SeamlessM4TFeatureExtractor"),
    "moonshine": ({}, "Wav2Vec2FeatureExtractor"),
    "parakeet_encoder": ({"num_mel_bins": 80}, "ParakeetFeatureExtractor"),
    "speech_to_text": ({"input_feat_per_channel": 80}, "Speech2TextFeatureExtractor"),
}


@pytest.mark.filterwarnings("ignore:.*words may be missing")  # a random model does not know when to stop
@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_recording_is_transcribed(encoder: str, tmp_path: Path, sample: np.ndarray) -> None:
    fields, extractor = ENCODERS[encoder]
    torch.manual_seed(0)
    config = SpeechEncoderDecoderConfig(
        encoder=tiny_config(encoder, **fields),
        decoder=tiny_config("gpt2", vocab_size=len(WORDS), initializer_range=0.3, add_cross_attention=True),
        decoder_start_token_id=2,
        eos_token_id=3,
        pad_token_id=0,
    )
    SpeechEncoderDecoderModel(config=config).save_pretrained(tmp_path)
    getattr(dragoman, extractor)().save_pretrained(tmp_path)
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    transcriber = Transcriber(tmp_path, device="cpu")
    whole = transcriber.transcribe(sample, chunk_length_s=2, beam_size=1)
    assert len(whole.segments) > 1
    assert transcriber.transcribe(sample, chunk_length_s=2, beam_size=1, batch_size=1).text == whole.text
    transcriber.transcribe(sample[:50], beam_size=1)  # shorter than a frame
