"""Feature extraction, tokenizers and processors: normalisation, checks, files."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from dragoman import (
    AudioError,
    AutoFeatureExtractor,
    AutoProcessor,
    AutoTokenizer,
    ModelNotFoundError,
    SpeechEncoderDecoderModel,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Processor,
)
from dragoman.testing import tiny_config

Speech = Callable[..., torch.Tensor]
VOCAB_SIZE = 9  # of the `tokenizer` in conftest.py


def test_clips_are_normalised_without_padding() -> None:
    """`transformers` includes padding in the statistics if the checkpoint uses no mask, as most base models."""
    clips = [np.random.default_rng(i).standard_normal(n).astype("float32") + 1 for i, n in enumerate((900, 400))]
    for mask in True, False:
        extract = Wav2Vec2FeatureExtractor(return_attention_mask=mask)
        batch = extract(clips, padding=True, sampling_rate=16_000, return_tensors="np").input_values
        for row, clip in zip(batch, clips, strict=True):
            alone = extract(clip, sampling_rate=16_000, return_tensors="np").input_values[0]
            np.testing.assert_allclose(row[: len(clip)], alone, atol=1e-6)
            assert (row[len(clip) :] == 0).all()
    theirs = transformers.Wav2Vec2FeatureExtractor(return_attention_mask=False)
    ours = Wav2Vec2FeatureExtractor(return_attention_mask=False, reference_padding=True)
    options = {"padding": True, "sampling_rate": 16_000, "return_tensors": "np"}
    np.testing.assert_allclose(ours(clips, **options).input_values, theirs(clips, **options).input_values, atol=1e-6)


def test_features_do_not_depend_on_the_batch() -> None:
    """Including silent and constant clips, with any padding."""
    clips = [np.zeros(700, "float32"), np.full(500, 0.3, "float32"), np.linspace(-1, 1, 900, dtype="float32")]
    for mask in True, False:
        extract = Wav2Vec2FeatureExtractor(return_attention_mask=mask)
        batch = extract(clips, padding=True, pad_to_multiple_of=256, sampling_rate=16_000, return_tensors="np")
        assert np.isfinite(batch.input_values).all()
        for row, clip in zip(batch.input_values, clips, strict=True):
            alone = extract(clip, sampling_rate=16_000, return_tensors="np").input_values[0]
            np.testing.assert_allclose(row[: len(clip)], alone, atol=1e-6)


def test_stereo_is_refused() -> None:
    with pytest.raises(AudioError, match=r"channel|stereo|mono"):
        Wav2Vec2FeatureExtractor()(np.zeros((1, 2, 16_000), dtype="float32"), sampling_rate=16_000)
    with pytest.raises(AudioError, match=r"channel|stereo|mono|soundfile"):
        Wav2Vec2FeatureExtractor()(np.zeros((16_000, 2), dtype="float32"), sampling_rate=16_000)


def test_other_sampling_rate_is_refused_and_missing_one_logged(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(AudioError, match=r"44100.*16000|16000.*44100"):
        Wav2Vec2FeatureExtractor()(np.zeros(900, dtype="float32"), sampling_rate=44_100)
    with caplog.at_level(logging.WARNING, logger="dragoman"):
        Wav2Vec2FeatureExtractor()(np.zeros(900, dtype="float32"))
    assert "sampling_rate" in caplog.text


def test_saved_warm_start_is_a_complete_folder(build: Any, speech: Speech, tokenizer: Any, tmp_path: Path) -> None:
    """`transformers` saves no processor files, and its AutoProcessor refuses this type of model."""
    half = build(decoder_vocab_size=VOCAB_SIZE)
    model = SpeechEncoderDecoderModel.from_encoder_decoder_pretrained(
        encoder_model=half.encoder,
        decoder_model=half.decoder,
        tokenizer=tokenizer,
        feature_extractor=Wav2Vec2FeatureExtractor(),
    )
    assert model.config.decoder_start_token_id == tokenizer.cls_token_id
    assert model.config.eos_token_id == tokenizer.sep_token_id
    model.save_pretrained(tmp_path / "whole")
    processor = AutoProcessor.from_pretrained(tmp_path / "whole")
    assert isinstance(processor, Wav2Vec2Processor)
    again = SpeechEncoderDecoderModel.from_pretrained(tmp_path / "whole")
    batch = processor(speech()[0].numpy(), text="ein wort", sampling_rate=16_000, return_tensors="pt")
    assert batch.labels.tolist() == [[2, 5, 6, 3]]
    with pytest.warns(UserWarning, match="DataCollatorSpeechSeq2SeqWithPadding"):
        assert again(batch.input_values, labels=batch.labels).loss.isfinite()
    words = processor.batch_decode(again.generate(batch.input_values, max_new_tokens=8), skip_special_tokens=True)
    assert "[" not in words[0]


def test_repeated_tokens_are_not_merged(tokenizer: Any) -> None:
    """A CTC tokenizer would merge them."""
    assert tokenizer.batch_decode(torch.tensor([[2, 6, 6, 6, 3, 0]]), skip_special_tokens=True) == ["wort wort wort"]


@pytest.mark.parametrize("tokenizer_class", [None, "mbart50", "speech_to_text_2", "BertTokenizerFast"])
def test_tokenizer_of_a_joint_model_is_found(tokenizer: Any, tmp_path: Path, tokenizer_class: str | None) -> None:
    """`transformers` raises a KeyError, or says "does not exist or is not currently imported"."""
    folder = tmp_path / "text"
    decoder = tiny_config("bert", vocab_size=VOCAB_SIZE).to_dict()
    config = {"model_type": "speech-encoder-decoder", "encoder": tiny_config("hubert").to_dict(), "decoder": decoder}
    if tokenizer_class is not None:
        config["tokenizer_class"] = tokenizer_class  # tokenizer_config.json takes precedence
    else:
        (folder / "tokenizer_config.json").unlink()
    (folder / "config.json").write_text(json.dumps(config))
    assert AutoTokenizer.from_pretrained(folder)("ein wort").input_ids == [2, 5, 6, 3]


def test_missing_processing_files_are_named(build: Any, tmp_path: Path) -> None:
    build().save_pretrained(tmp_path)
    with pytest.raises(ModelNotFoundError, match=r"preprocessor_config\.json"):
        AutoFeatureExtractor.from_pretrained(tmp_path)
    with pytest.raises(ModelNotFoundError, match=r"tokenizer\.json.*vocab\.txt"):
        AutoTokenizer.from_pretrained(tmp_path)
