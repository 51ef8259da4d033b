"""Compiled generation: rounded shapes, number of programs, and options that run step by step."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
import pytest
import torch

from dragoman import GPT2LMHeadModel, SpeechEncoderDecoderModel
from dragoman.errors import AudioError, GenerationError
from dragoman.generation.scorers.fusion import Scorer
from dragoman.generation.scorers.hotwords import HotWords
from dragoman.jax import compiled
from dragoman.jax.buckets import rounded
from dragoman.jax.steps import LanguageModel
from dragoman.testing import tiny_config
from dragoman.torch.cached import CachedDecoder

from .conftest import build

COMPILED: list[str] = []
jax.monitoring.register_event_duration_secs_listener(
    lambda name, *_, **__: COMPILED.append(name) if "backend_compile" in name else None
)


@contextmanager
def compilations(most: int) -> Iterator[None]:
    COMPILED.clear()
    yield
    assert len(COMPILED) <= most


def waves(rows: int, samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, samples)).astype(np.float32)


def test_sizes_are_rounded_up() -> None:
    assert [rounded(n, 2) for n in range(1, 10)] == [1, 2, 3, 4, 6, 6, 8, 8, 12]
    assert [rounded(n, 4, 16384) for n in (1, 16384, 16385, 20480, 32768, 32769)] == [
        16384, 16384, 20480, 20480, 32768, 40960,
    ]  # fmt: skip
    for size in range(1, 3000):
        assert size <= rounded(size, 4) <= max(1.25 * size, 8)
        assert rounded(rounded(size, 4), 4) == rounded(size, 4)


def test_varied_workload_compiles_once_per_bucket(model: Any) -> None:
    options = {"max_new_tokens": 20, "num_beams": 2}
    model.warm_up(4, 2400, **options)
    with compilations(0):
        for seed, (rows, samples) in enumerate([(4, 2400), (4, 2300), (4, 2100), (4, 2500)]):
            speech = waves(rows, samples, seed)
            mask = np.arange(samples) < np.asarray([[samples], [900], [1500], [700]])
            assert model.generate(speech, attention_mask=mask, **options).shape[0] == rows
    with compilations(4):
        for rows in (5, 6):
            model.generate(waves(rows, 2400), **options)
    with compilations(0):
        model.generate(waves(5, 2200), **options)


def test_cache_grows_with_long_sequences(model: Any) -> None:
    """With a prompt, up to all 64 positions; the same as from the step-by-step decoder."""
    speech, prompt = waves(2, 900), np.asarray([[0, 5, 6], [0, 7, 8]])
    options = {"decoder_input_ids": prompt, "max_length": 60, "eos_token_id": None}
    found = np.asarray(model.generate(speech, **options))
    assert found.shape == (2, 60)
    stepwise = model.generate(speech, **options, logits_processor=[lambda tokens, scores: scores])
    assert np.array_equal(found, stepwise)


@pytest.mark.parametrize(
    "new",
    [
        pytest.param({"max_length": 62, "eos_token_id": None}, id="long", marks=pytest.mark.nightly),
        pytest.param({"max_new_tokens": 8}, id="ends"),
    ],
)
def test_compiled_contrastive_search_equals_steps_and_torch(
    model: Any, theirs: Any, monkeypatch: pytest.MonkeyPatch, new: dict[str, Any]
) -> None:
    """From prompts of two lengths, with a cache that has to grow on the way."""
    monkeypatch.setattr(compiled, "_FIRST_CAPACITY", 16)
    speech, prompt, counts = waves(3, 900), np.asarray([[1, 0, 5], [0, 7, 8], [0, 7, 9]]), np.ones((3, 3), int)
    counts[0, 0] = 0
    options = {"penalty_alpha": 0.6, "top_k": 4, "repetition_penalty": 1.2, **new}
    given = {"decoder_input_ids": prompt, "decoder_attention_mask": counts}
    found = np.asarray(model.generate(speech, **given, **options))
    stepwise = model.generate(speech, **given, **options, logits_processor=[lambda tokens, scores: scores])
    assert np.array_equal(found, stepwise)
    tensors = {name: torch.from_numpy(value) for name, value in given.items()}
    assert found.tolist() == theirs.generate(torch.from_numpy(speech), **tensors, **options).tolist()
    greedy = model.generate(speech, **given, **options | {"penalty_alpha": None})
    assert not np.array_equal(found, greedy), "the option must matter"
    model.warm_up(3, 900, **options | {"max_length": 30})
    with compilations(0):
        model.generate(speech, **options | {"max_length": 30})


@pytest.mark.parametrize("num_beams", [1, 2])
def test_forced_tokens_equal_steps_and_torch(model: Any, theirs: Any, num_beams: int) -> None:
    speech = waves(2, 900)
    options = {"forced_decoder_ids": [[1, None], [2, 7], [4, 9]], "max_new_tokens": 5, "num_beams": num_beams}
    options["suppress_tokens"] = [model.config.eos_token_id]
    found = np.asarray(model.generate(speech, **options))
    assert found[:, [2, 4]].tolist() == [[7, 9]] * 2
    stepwise = model.generate(speech, **options, logits_processor=[lambda tokens, scores: scores])
    assert np.array_equal(found, stepwise)
    assert found.tolist() == theirs.generate(torch.from_numpy(speech), **options).tolist()


def test_rows_of_a_batch_are_independent(model: Any) -> None:
    speech = waves(3, 900)
    options = {"max_new_tokens": 8, "eos_token_id": None}
    first = np.asarray(model.generate(speech, **options))
    other = np.asarray(model.generate(speech[[2, 1, 2]], **options))
    assert np.array_equal(first[[2, 1, 2]], other)


def test_sampling_follows_the_seed_or_key(model: Any) -> None:
    def texts(**seed: Any) -> list[list[int]]:
        return np.asarray(model.generate(waves(2, 900), max_new_tokens=8, do_sample=True, **seed)).tolist()

    assert texts(seed=1) == texts(seed=1)
    assert texts(prng_key=jax.random.key(1)) == texts(prng_key=jax.random.key(1))
    assert len({str(texts(prng_key=jax.random.key(n))) for n in range(4)}) == 4


def test_given_encoder_outputs(model: Any) -> None:
    speech, mask = waves(2, 900), np.arange(900) < np.asarray([[900], [500]])
    encoded = model.encode(speech, mask)
    expected = model.generate(speech, attention_mask=mask, max_new_tokens=8)
    assert np.array_equal(expected, model.generate(encoder_outputs=encoded, max_new_tokens=8))
    with pytest.raises(AudioError, match="for each of these frames, but has 300"):
        model.decode(np.zeros((2, 1), int), encoded.to_tuple(), encoder_attention_mask=np.ones((2, 300), int))


@pytest.fixture(scope="module")
def theirs(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The same model in PyTorch."""
    folder = tmp_path_factory.mktemp("model")
    model.save_pretrained(folder)
    return SpeechEncoderDecoderModel.from_pretrained(folder)


class Letters:
    """A tokenizer with one letter per token, and a streamer that records what it receives."""

    def __init__(self) -> None:
        self.received: list[Any] = []

    def decode(self, ids: list[int]) -> str:
        return "".join(chr(97 + number % 26) for number in ids)

    def put(self, tokens: Any) -> None:
        self.received.append(np.asarray(tokens).tolist())

    def end(self) -> None:
        self.received.append("end")


@pytest.mark.parametrize(
    "options",
    [
        {"penalty_alpha": 0.6, "top_k": 4, "logits_processor": [lambda tokens, scores: scores]},
        pytest.param({"force_words_ids": [[40, 41]], "num_beams": 3}, marks=pytest.mark.slow),
        {"stop_strings": ["a", "e", "i"], "tokenizer": Letters()},
        {"max_time": 1e-9},
        {"stopping_criteria": [lambda tokens, scores: tokens.shape[1] >= 4]},
        {"prefix_allowed_tokens_fn": lambda row, tokens: [30 + row, 40 + len(tokens)]},
    ],
    ids=lambda options: next(iter(options)),
)
def test_step_by_step_options_equal_torch(model: Any, theirs: Any, options: dict[str, Any]) -> None:
    speech = waves(2, 900)
    length = {"max_new_tokens": 8, "min_new_tokens": 8}
    expected = theirs.generate(torch.from_numpy(speech), **length, **options).tolist()
    assert np.asarray(model.generate(speech, **length, **options)).tolist() == expected
    if "prefix" not in next(iter(options)):
        assert expected != theirs.generate(torch.from_numpy(speech), **length).tolist(), "the option must matter"


@pytest.mark.slow
def test_draft_and_streamer_keep_the_result(model: Any) -> None:
    speech, recorder = waves(2, 900), Letters()
    options = {"max_new_tokens": 8, "eos_token_id": None}
    texts = np.asarray(model.generate(speech, **options))
    assert np.array_equal(model.generate(speech, **options, assistant_model=model), texts)
    assert np.array_equal(model.generate(speech, **options, assistant_model=build(seed=1)), texts)
    assert np.array_equal(model.generate(speech, **options, streamer=recorder), texts)
    assert recorder.received[-1] == "end"
    assert len(recorder.received) == 1 + 8 + 1


def test_draft_of_the_other_backend_is_refused(model: Any, theirs: Any) -> None:
    with pytest.raises(GenerationError, match="must run in the same framework"):
        model.generate(waves(1, 900), assistant_model=theirs)


def test_parameters_can_be_passed(model: Any) -> None:
    speech, other = waves(2, 900), build(seed=1).params
    options = {"max_new_tokens": 8, "eos_token_id": None}
    mine, before = (np.asarray(model.generate(speech, params=tree, **options)) for tree in (other, None))
    assert not np.array_equal(mine, before)
    stepwise = model.generate(speech, params=other, **options, logits_processor=[lambda tokens, scores: scores])
    assert np.array_equal(stepwise, mine)


def test_warm_up_refuses_step_by_step_options(model: Any) -> None:
    with pytest.raises(GenerationError, match="step by step"):
        model.warm_up(1, 900, max_time=1.0)
    with pytest.raises(GenerationError, match="`batch` must be at least 1, but is 0"):
        model.warm_up(0, 900)
    with pytest.raises(AudioError, match="at least"):
        model.warm_up(1, 10)


def test_invalid_requests_are_refused(model: Any) -> None:
    with pytest.raises(GenerationError, match="num_beams"):
        model.generate(waves(1, 900), num_beams=0)
    with pytest.raises(GenerationError, match="Only options"):
        model.generate(waves(1, 900), number_of_beams=2)
    with pytest.raises(GenerationError, match="no room"):
        model.generate(waves(1, 900), max_length=1)
    with pytest.raises(GenerationError, match="pass one of them"):
        model.generate(waves(1, 900), do_sample=True, seed=1, prng_key=jax.random.key(1))
    with pytest.raises(GenerationError, match="Pass `tokenizer=`"):
        model.generate(waves(1, 900), stop_strings="a")


@pytest.mark.parametrize("num_beams", [1, 3])
def test_scorers_and_log_probabilities(model: Any, num_beams: int) -> None:
    speech = waves(2, 900)
    scorer = Scorer(model=HotWords({(7, 9, 8): 50.0}, vocab_size=model.config.decoder.vocab_size))
    options = {"num_beams": num_beams, "max_new_tokens": 6, "eos_token_id": None}
    found = model.generate(speech, **options, scorers=[scorer], token_log_probs=True, return_dict_in_generate=True)
    assert np.asarray(found.sequences)[:, 1:4].tolist() == [[7, 9, 8]] * 2
    with pytest.warns(FutureWarning, match="`voices` is called `scorers` now"):
        assert np.array_equal(model.generate(speech, **options, voices=[scorer]), found.sequences)
    logits = jax.nn.log_softmax(model(speech, decoder_input_ids=found.sequences[:, :-1]).logits)
    expected = np.take_along_axis(np.asarray(logits), np.asarray(found.sequences)[:, 1:, None], axis=-1)[..., 0]
    assert np.asarray(found.token_log_probs) == pytest.approx(expected, abs=1e-4)


@pytest.fixture(scope="module")
def scorers(tmp_path_factory: pytest.TempPathFactory, model: Any) -> tuple[Any, LanguageModel]:
    """A language model of the same vocabulary in PyTorch and in JAX."""
    folder = tmp_path_factory.mktemp("lm")
    torch.manual_seed(1)
    config = tiny_config("gpt2", vocab_size=model.config.decoder.vocab_size, initializer_range=0.5, n_positions=100)
    in_torch = GPT2LMHeadModel(config).eval()
    in_torch.save_pretrained(folder)
    return in_torch, LanguageModel.load(folder)


def test_cache_of_a_language_model_grows(scorers: tuple[Any, LanguageModel]) -> None:
    in_torch, in_jax = scorers
    tokens = np.random.default_rng(0).integers(5, 60, (2, 70))
    step = in_jax.start(tokens[:, :3])
    for column in tokens.T[3:]:
        step = in_jax.step(column, step.state)
    with torch.inference_mode():
        expected = in_torch(torch.from_numpy(tokens)).logits[:, -1].numpy()
    assert step.logits == pytest.approx(expected, abs=1e-4)
    with pytest.raises(GenerationError, match="positions for 100 tokens, but the sequence has 101"):
        in_jax.start(np.zeros((1, 101), np.int32))


@pytest.mark.parametrize("num_beams", [1, 3])
def test_language_model_scores_equal_torch(
    model: Any, theirs: Any, scorers: tuple[Any, LanguageModel], num_beams: int
) -> None:
    speech = waves(2, 900)
    options = {"num_beams": num_beams, "max_new_tokens": 8, "min_new_tokens": 8}
    how = {"weight": 0.5, "normalize": True, "prompt": np.array([[2]])}
    in_torch = CachedDecoder(scorers[0], None, None, 100)
    expected = theirs.generate(torch.from_numpy(speech), scorers=[Scorer(model=in_torch, **how)], **options)
    found = np.asarray(model.generate(speech, scorers=[Scorer(model=scorers[1], **how)], **options))
    assert found.tolist() == expected.tolist()
    assert found.tolist() != np.asarray(model.generate(speech, **options)).tolist(), "it must matter"
