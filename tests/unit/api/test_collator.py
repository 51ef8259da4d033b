"""The data collator of speech and labels."""

import subprocess
import sys
from typing import Any

import jax
import numpy as np
import pytest
import torch
import transformers

from dragoman import (
    AutoTokenizer,
    ConfigError,
    DataCollatorSpeechSeq2SeqWithPadding,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Processor,
    WhisperFeatureExtractor,
    WhisperProcessor,
)

START, END = 2, 3  # [CLS] and [SEP] of the tokenizer


@pytest.fixture
def processor(tiny_checkpoint: Any) -> Wav2Vec2Processor:
    return Wav2Vec2Processor.from_pretrained(tiny_checkpoint)


def example(length: int, labels: Any, **more: Any) -> dict[str, Any]:
    return {"input_values": [0.5] * length, "labels": labels, **more}


def test_audio_and_labels_are_padded_and_the_start_is_cut(processor: Any) -> None:
    collate = DataCollatorSpeechSeq2SeqWithPadding(processor, START, True)
    rows = [example(4, [START, 5, 6, END], text="ab"), example(2, np.array([START, END]))]
    batch = collate(rows)
    assert set(batch) == {"input_values", "attention_mask", "labels"}
    assert batch["labels"].tolist() == [[5, 6, END], [END, -100, -100]]
    assert batch["labels"].dtype == torch.int64
    assert batch["input_values"].tolist() == [[0.5] * 4, [0.5, 0.5, 0.0, 0.0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert rows[0]["labels"] == [START, 5, 6, END]


@pytest.mark.parametrize(
    ("start", "rows", "wanted"),
    [
        pytest.param(START, [[START, 5, END], [6, 7, END]], [[5, END, -100], [6, 7, END]], id="one row begins with it"),
        pytest.param(END, [[5, END], [END]], [[5, END], [END, -100]], id="an empty transcript, the end is the start"),
        pytest.param(END, [[END], [END]], [[END], [END]], id="empty transcripts only"),
        pytest.param(END, [[END, END], [END, 5, END]], [[END, -100], [5, END]], id="written before empty transcripts"),
        pytest.param(END, [[END, 0, 0], [END, -100, -100]], [[END, 0, 0], [END, -100, -100]], id="padded already"),
        pytest.param(START, [[START, START, 5], [5, START]], [[START, 5], [5, START]], id="only one is cut"),
        pytest.param(START, [[], [5]], [[-100], [5]], id="no token"),
    ],
)
def test_labels_row_by_row(processor: Any, start: int, rows: Any, wanted: Any) -> None:
    collate = DataCollatorSpeechSeq2SeqWithPadding(
        processor, decoder_start_token_id=start, forward_attention_mask=False
    )
    assert collate([example(3, row) for row in rows])["labels"].tolist() == wanted
    assert collate([example(3, torch.tensor(row).long()) for row in rows])["labels"].tolist() == wanted


@pytest.mark.parametrize(("name", "kind"), [("np", np.ndarray), ("jax", jax.Array)])
def test_arrays_of_jax_in_few_shapes(processor: Any, name: str, kind: type) -> None:
    collate = DataCollatorSpeechSeq2SeqWithPadding(
        processor, START, True, return_tensors=name, pad_input_to_multiple_of=8, pad_target_to_multiple_of=4
    )
    batch = collate([example(5, [5, END]), example(9, [5, 6, 7, 8, END])])
    assert all(isinstance(array, kind) for array in batch.values())
    assert {key: array.shape for key, array in batch.items()} == {
        "input_values": (2, 16), "attention_mask": (2, 16), "labels": (2, 8)
    }  # fmt: skip


def test_the_mask_is_that_of_the_examples(processor: Any) -> None:
    """By default it is returned as the feature extractor does by itself."""
    rows = [example(4, [END], attention_mask=[1, 1, 1, 0]), example(2, [END], attention_mask=[1, 1])]
    collate = DataCollatorSpeechSeq2SeqWithPadding(processor, START, False)
    assert collate(rows)["attention_mask"].tolist() == [[1, 1, 1, 0], [1, 1, 0, 0]]
    processor.feature_extractor.return_attention_mask = False
    assert "attention_mask" not in collate(rows)
    collate.forward_attention_mask = True
    assert collate(rows)["attention_mask"].tolist() == [[1, 1, 1, 0], [1, 1, 0, 0]]


def test_spectrograms(tiny_checkpoint: Any) -> None:
    extractor = WhisperFeatureExtractor(feature_size=8, chunk_length=1)
    processor = WhisperProcessor(extractor, AutoTokenizer.from_pretrained(tiny_checkpoint))
    clips = [extractor(np.ones(n, np.float32), sampling_rate=16_000).input_features[0] for n in (1600, 3200)]
    collate = DataCollatorSpeechSeq2SeqWithPadding(processor, START, False)
    batch = collate([{"input_features": clip, "labels": [START, 5, END]} for clip in clips])
    assert batch["input_features"].shape == (2, 8, 100)
    assert batch["labels"].tolist() == [[5, END]] * 2


def test_a_processor_of_transformers(tiny_checkpoint: Any) -> None:
    extractor = transformers.Wav2Vec2FeatureExtractor(return_attention_mask=True)
    tokenizer = transformers.BertTokenizer.from_pretrained(tiny_checkpoint)
    theirs = transformers.Wav2Vec2Processor(extractor, tokenizer)
    rows = [example(4, [START, 5, END]), example(2, [START, END])]
    batch = DataCollatorSpeechSeq2SeqWithPadding(theirs, START, True)(rows)
    ours = Wav2Vec2Processor(Wav2Vec2FeatureExtractor(return_attention_mask=True), tokenizer)
    for name, tensor in DataCollatorSpeechSeq2SeqWithPadding(ours, START, True)(rows).items():
        assert batch[name].tolist() == tensor.tolist()


def test_what_cannot_be_collated_is_explained(processor: Any) -> None:
    with pytest.raises(ConfigError, match="`decoder_start_token_id` must be the start id of the model, but is None"):
        DataCollatorSpeechSeq2SeqWithPadding(processor, None)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="`processor` must have a `feature_extractor`"):
        DataCollatorSpeechSeq2SeqWithPadding(processor.tokenizer, START)
    collate = DataCollatorSpeechSeq2SeqWithPadding(processor, START)
    for rows, match in [
        ([], "at least one example"),
        ([{"input_values": [0.5]}], "Example 0 has no 'labels', only input_values"),
        ([example(2, [END]), {"labels": [END]}], "Example 1 has no 'input_values'"),
        ([example(2, [[END]])], r"labels` of example 0 must be a list of token ids, but have the shape \[1, 1\]"),
        ([example(2, [0.5])], "the type float64"),
    ]:
        with pytest.raises(ConfigError, match=match):
            collate(rows)


def test_the_import_needs_no_framework() -> None:
    program = (
        "import sys, dragoman; dragoman.DataCollatorSpeechSeq2SeqWithPadding;"
        "assert not {'torch', 'jax'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
