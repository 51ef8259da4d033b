"""Labels that begin with the start token: the loss of `transformers`, in both backends, compiled or not.

`pair_of` is in conftest.py: random models that `transformers` built and saved.
"""

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import torch
import transformers

from dragoman import FlaxSpeechEncoderDecoderModel, TextDecoder
from dragoman.families import FAMILIES
from dragoman.testing import tiny_config

from .conftest import assert_close, reference_config

START, END = 0, 2
# start id -> labels; -100 is padding, as a row that is only the end token is an empty transcript
EVERY_ROW = [[START, 9, 8, 7], [START, 6, END, -100], [START, END, -100, -100], [START, 5, 4, END]]
SOME_ROWS = [[START, 9, 8, 7], [6, 5, END, -100], [START, END, -100, -100], [5, 4, 3, END]]
EMPTY = [[END, -100, -100, -100]] * 4
BATCHES = {
    "every row begins with the start": (START, EVERY_ROW),
    "some rows begin with it": (START, SOME_ROWS),
    "start and end are one token": (END, [[END, 9, 8, END], [7, END, -100, -100], [END] * 4, [END, -100, -100, -100]]),
    "rows hold only the end, which is the start": (END, EMPTY),
    "rows hold one token, the start": (END, [[END]] * 4),
}
DECODERS = ["bert", "gpt2", "bart", "mbart", "xglm", "marian", "roberta"]


@pytest.fixture(autouse=True)
def _no_warning() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*see the start token twice")
        yield


def loss_of_transformers(pair: Any, start: int, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    before, pair.reference.config.decoder_start_token_id = pair.reference.config.decoder_start_token_id, start
    try:
        return pair.reference(**batch).loss
    finally:
        pair.reference.config.decoder_start_token_id = before


@pytest.mark.parametrize("decoder", DECODERS)
def test_loss(pair_of: Callable[[str, str], Any], decoder: str) -> None:
    pair = pair_of("wav2vec2-layer", decoder)
    model = pair.load()
    audio = pair.audio(4, 1)
    for start, labels in BATCHES.values():
        batch = {**audio, "labels": torch.tensor(labels)}
        model.config.decoder_start_token_id = start
        wanted = loss_of_transformers(pair, start, batch)
        assert wanted > 0.1
        assert_close(model(**batch).loss, wanted, "loss")
        tokens = model.prepare_decoder_input_ids_from_labels(batch["labels"])
        assert_close(model(**batch, decoder_input_ids=tokens).loss, wanted, "loss")


def test_loss_of_a_compiled_model(pair_of: Callable[[str, str], Any]) -> None:
    pair = pair_of("wav2vec2-layer", "bert")
    batch = {**pair.audio(4, 1), "labels": torch.tensor(EVERY_ROW)}
    torch.compiler.reset()
    compiled = torch.compile(pair.load(), backend="eager")
    assert_close(compiled(**batch).loss, loss_of_transformers(pair, START, batch), "loss")


def test_loss_in_jax(pair_of: Callable[[str, str], Any]) -> None:
    pair = pair_of("wav2vec2-layer", "bart")
    model = FlaxSpeechEncoderDecoderModel.from_pretrained(pair.folder)
    audio = pair.audio(4, 1)
    arrays = {name: x.numpy() for name, x in audio.items()}
    for start in (START, END):
        model.config.decoder_start_token_id = start
        jitted = jax.jit(lambda labels: model(**arrays, labels=labels).loss)
        for labels in [labels for given, labels in BATCHES.values() if given == start and len(labels[0]) > 1]:
            wanted = loss_of_transformers(pair, start, {**audio, "labels": torch.tensor(labels)})
            for loss in (model(**arrays, labels=np.array(labels)).loss, jitted(np.array(labels))):
                assert_close(loss, wanted, "loss")


PLAIN = [
    family.model_type
    for family in FAMILIES
    if family.text is not None
    and hasattr(transformers, family.text.classes[0])
    and "CausalLM" in family.text.classes[0]
]


@pytest.mark.parametrize("model_type", PLAIN)
def test_loss_of_a_decoder_alone(model_type: str, tmp_path: Path) -> None:
    """In BART-like decoders the caller has shifted the labels already, in the others the decoder shifts them."""
    torch.manual_seed(0)
    fields = {"is_decoder": True, "add_cross_attention": False}
    known = {name: value for name, value in fields.items() if name in tiny_config(model_type).to_dict()}
    theirs = transformers.AutoModelForCausalLM.from_config(reference_config(model_type, **known)).eval()
    theirs.save_pretrained(tmp_path)
    ours = TextDecoder.from_pretrained(tmp_path, **known)
    tokens = torch.tensor([[9, 8, 7, 6, END], [5, 4, 3, 3, END]])
    labels = tokens.clone()
    labels[1, 3:] = -100
    assert_close(ours(tokens, labels=labels).loss, theirs(tokens, labels=labels).loss, "loss")
