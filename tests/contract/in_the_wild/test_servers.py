"""Servers, demonstrations and evaluations: a thread pool over one model, many beams, n-best lists, error rates."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import accelerate
import jiwer
import pytest
import torch
from torch import Tensor

SETTINGS: list[dict[str, Any]] = [
    {"num_beams": 11, "no_repeat_ngram_size": 4, "length_penalty": 0.8, "early_stopping": True},
    {"num_beams": 20, "num_return_sequences": 5, "length_penalty": 2.0},
    {"num_beams": 4, "num_return_sequences": 4, "repetition_penalty": 1.3},
    {"num_beams": 1},
]


def recognise(model: Any, speech: dict[str, Tensor], settings: dict[str, Any]) -> tuple[Any, ...]:
    found = model.generate(
        speech["input_values"],
        attention_mask=speech["attention_mask"],
        max_length=9,
        do_sample=False,
        return_dict_in_generate=True,
        output_scores=True,
        **settings,
    )
    scores = found.sequences_scores if settings["num_beams"] > 1 else torch.zeros(1)
    return found.sequences.tolist(), scores, len(found.scores)


@pytest.mark.parametrize("decoder", ["bart", "bert"])
def test_many_beams(pair: Any, speech: Any, same: Any, decoder: str) -> None:
    found = []
    for _, model in pair("wav2vec2", decoder):
        found.append([recognise(model, speech, settings) for settings in SETTINGS])
    same(found)


def test_threads_over_one_model(pair: Any, speech: Any, same: Any) -> None:
    """Requests of different lengths and settings at once give what each gives alone."""
    *_, (_, model) = pair("wav2vec2", "bart")
    requests = [
        ({name: array[:, : 1600 - 100 * i] for name, array in speech.items()}, SETTINGS[i % len(SETTINGS)])
        for i in range(8)
    ]
    alone = [recognise(model, *request) for request in requests]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda request: recognise(model, *request), requests))
    same([alone, together])


def test_a_prefix_and_a_generation_config_of_the_call(pair: Any, speech: Any, same: Any) -> None:
    """The way of a Vietnamese recogniser: tokens to begin with, and an own GenerationConfig, per request."""
    found = []
    for library, model in pair("wav2vec2", "bart"):
        own = library.GenerationConfig(decoder_start_token_id=3, pad_token_id=1, eos_token_id=2, max_length=9)
        own.num_beams, own.return_dict_in_generate = 5, True
        tokens = model.generate(
            speech["input_values"],
            attention_mask=speech["attention_mask"],
            decoder_input_ids=torch.tensor([[3, 7], [3, 7]]),
            generation_config=own,
        )
        found.append(tokens.sequences.tolist())
    same(found)


def test_an_evaluation_with_error_rates(pair: Any, speech: Any, labels: Any, same: Any) -> None:
    found = []
    for _, model in pair("wav2vec2", "bart"):
        hypotheses, references, losses = [], [], []
        with torch.inference_mode():
            for row in range(2):
                batch = {name: array[row : row + 1] for name, array in speech.items()}
                target = labels[row : row + 1]
                losses.append(model(**batch, labels=target).loss.item())
                ids = model.generate(**batch, max_new_tokens=6, num_beams=2)
                ids = torch.where(ids == -100, torch.tensor(1), ids)
                hypotheses.append(" ".join(str(token) for token in ids[0, 1:].tolist()))
                references.append(" ".join(str(token) for token in target[0].tolist() if token != -100))
        found.append((jiwer.wer(references, hypotheses), jiwer.cer(references, hypotheses), torch.tensor(losses)))
    same(found)


def test_outputs_are_moved_and_gathered_as_dictionaries(pair: Any, speech: Any, labels: Any, same: Any) -> None:
    """As wrappers do it: made anew from pairs, or from a dictionary, with the class of the output."""
    found = []
    for _, model in pair("wav2vec2", "bart"):
        with torch.no_grad():
            output = model(**speech, labels=labels)
        generated = model.generate(**speech, max_new_tokens=3, return_dict_in_generate=True, output_scores=True)
        encoded = model.encoder(**speech)
        moved = accelerate.utils.convert_to_fp32(accelerate.utils.send_to_device(output, "cpu"))
        gathered = type(output)((name, value) for name, value in output.items() if name != "past_key_values")
        parts = tuple(value for name, value in output.items() if name not in ("loss", "past_key_values"))
        found.append(
            (
                [isinstance(one, dict) for one in (output, generated, encoded, moved, gathered)],
                [type(one) is type(output) for one in (moved, gathered)],
                [moved["loss"], gathered.logits, gathered[0], *parts],
                [generated["sequences"].tolist(), generated.scores[0], encoded[0]],
            )
        )
    same(found)
    assert all(found[0][0])
