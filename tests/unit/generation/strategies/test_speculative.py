"""Speculative decoding gives the result of greedy search, however good the draft model is."""

from typing import Any

import numpy as np
import pytest

from dragoman.errors import GenerationError
from dragoman.generation.decoder import Step
from dragoman.generation.loop import generate
from dragoman.generation.options import GenerationConfig

VOCAB, END, PAD, START = 11, 0, 1, 2


class Scripted:
    """Logits that depend on the utterance and all tokens read; a fraction `noise` of the contexts has other ones."""

    def __init__(self, noise: float = 0.0, xp: Any = np, vocab: int = VOCAB) -> None:
        self.noise, self.xp, self.vocab, self.steps = noise, xp, vocab, 0

    def start(self, prompt: Any) -> Step[np.ndarray]:
        return self._last(np.asarray(prompt))

    def expand(self, state: np.ndarray, copies: int) -> np.ndarray:
        return np.repeat(state, copies, axis=0)

    def step(self, tokens: Any, state: np.ndarray) -> Step[np.ndarray]:
        return self._last(np.concatenate([state, np.asarray(tokens)[:, None]], axis=1))

    def select(self, state: np.ndarray, rows: Any) -> np.ndarray:
        return state[np.asarray(rows)]

    def read(self, tokens: Any, state: np.ndarray) -> Step[np.ndarray]:
        tokens = np.asarray(tokens)
        assert tokens.shape[1] > 0
        steps = [self._logits(np.concatenate([state, tokens[:, : n + 1]], axis=1)) for n in range(tokens.shape[1])]
        self.steps += 1
        return Step(self._array(np.stack(steps, axis=1)), np.concatenate([state, tokens], axis=1))

    def rewind(self, state: np.ndarray, tokens: int) -> np.ndarray:
        assert 0 < tokens < state.shape[1]
        return state[:, :-tokens]

    def _last(self, state: np.ndarray) -> Step[np.ndarray]:
        self.steps += 1
        return Step(self._array(self._logits(state)), state)

    def _logits(self, state: np.ndarray) -> np.ndarray:
        rows = []
        for utterance, tokens in enumerate(state.tolist()):
            rng = np.random.default_rng([utterance, *tokens])
            logits = rng.normal(0, 3, self.vocab)
            rows.append(rng.normal(0, 3, self.vocab) if rng.random() < self.noise else logits)
        return np.stack(rows).astype(np.float32)

    def _array(self, x: np.ndarray) -> Any:
        return x if self.xp is np else self.xp.from_numpy(x)


def options_of(**options: Any) -> GenerationConfig:
    return GenerationConfig(**{"eos_token_id": END, "pad_token_id": PAD, "max_new_tokens": 30, **options})


@pytest.mark.parametrize("noise", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_assistant_tokens": 1},
        {"num_assistant_tokens": 4, "assistant_confidence_threshold": 0.0},
        {"assistant_confidence_threshold": 1.0},
        {"repetition_penalty": 1.5, "no_repeat_ngram_size": 2, "min_new_tokens": 12},
        {"eos_token_id": None},
        {"max_new_tokens": 1},
        {"max_new_tokens": 2, "eos_token_id": None},
        {"forced_eos_token_id": 5, "forced_bos_token_id": 7},
    ],
)
def test_result_equals_greedy_search(noise: float, batch: int, options: dict[str, Any]) -> None:
    config = options_of(return_dict_in_generate=True, output_scores=True, **options)
    prompt = np.full((batch, 1), START)
    expected = generate(Scripted(), prompt, config)
    found = generate(Scripted(), prompt, config, draft=Scripted(noise))
    assert found.sequences.tolist() == expected.sequences.tolist()
    assert found.ended.tolist() == expected.ended.tolist()
    scores = np.stack(found.scores), np.stack(expected.scores)
    # After the end token, scores are undefined.
    running = np.cumsum(found.sequences == config.eos_token_id, axis=1)[:, :-1].T == 0
    np.testing.assert_allclose(scores[0][running], scores[1][running], rtol=1e-6)


def test_good_draft_saves_steps_and_bad_draft_costs_none() -> None:
    config, prompt = options_of(eos_token_id=None), np.full((1, 1), START)
    steps = {}
    for noise in (None, 0.0, 0.1, 1.0):
        decoder = Scripted()
        generate(decoder, prompt, config, draft=None if noise is None else Scripted(noise))
        steps[noise] = decoder.steps
    assert steps[None] == 30
    assert steps[0.0] < steps[0.1] < 30
    assert steps[1.0] <= 30
    assert steps[0.0] <= 15


def test_streamer_receives_the_same_tokens() -> None:
    class Recorder:
        def __init__(self) -> None:
            self.received = list[Any]()

        def put(self, value: np.ndarray) -> None:
            self.received.append(value.tolist())

        def end(self) -> None:
            self.received.append("end")

    alone, helped, prompt = Recorder(), Recorder(), np.full((1, 1), START)
    generate(Scripted(), prompt, options_of(), streamer=alone)
    generate(Scripted(), prompt, options_of(), streamer=helped, draft=Scripted(0.3))
    assert helped.received == alone.received


def test_pytorch_equals_numpy() -> None:
    torch = pytest.importorskip("torch", reason="needs PyTorch")
    expected = generate(Scripted(), np.full((3, 1), START), options_of()).sequences.tolist()
    prompt = torch.full((3, 1), START)
    found = generate(Scripted(xp=torch), prompt, options_of(), draft=Scripted(0.3, xp=torch))
    assert found.sequences.tolist() == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_beams": 2}, "cannot be combined with `num_beams`"),
        ({"do_sample": True}, "cannot be combined"),
        ({"penalty_alpha": 0.5}, "cannot be combined"),
        ({"output_attentions": True}, "cannot return `output_logits`"),
    ],
)
def test_unsupported_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(GenerationError, match=message):
        generate(Scripted(), np.full((1, 1), START), options_of(**options), draft=Scripted())
