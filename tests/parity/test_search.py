"""The search against `generate` of `transformers`, with the same tiny random BART."""

import json
import random
import runpy
import warnings
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from transformers import BartConfig, BartForConditionalGeneration, StoppingCriteriaList
from transformers.modeling_outputs import BaseModelOutput

from dragoman.generation.decoder import Step
from dragoman.generation.loop import generate
from dragoman.generation.options import GenerationConfig
from dragoman.generation.result import compute_transition_scores

from ..seeds import seeds

VOCAB, START, BOS, EOS = 23, 2, 0, 2
MODELS = 6
GOLDEN = Path(__file__).parents[1] / "golden" / "generation"


class State(NamedTuple):
    tokens: torch.Tensor
    utterances: torch.Tensor


class UncachedBart:
    """BART's decoder as a `StepDecoder` without a cache."""

    def __init__(self, model: BartForConditionalGeneration, memory: torch.Tensor) -> None:
        self.model, self.memory = model, memory

    def start(self, prompt: torch.Tensor) -> Step[State]:
        return self._run(State(prompt, torch.arange(len(prompt))))

    def expand(self, state: State, copies: int) -> State:
        return State(*(x.repeat_interleave(copies, dim=0) for x in state))

    def step(self, tokens: torch.Tensor, state: State) -> Step[State]:
        return self._run(State(torch.cat([state.tokens, tokens[:, None]], dim=1), state.utterances))

    def select(self, state: State, rows: torch.Tensor) -> State:
        assert torch.equal(state.utterances[rows], state.utterances)
        return State(state.tokens[rows], state.utterances)

    def _run(self, state: State) -> Step[State]:
        memory = BaseModelOutput(last_hidden_state=self.memory[state.utterances])
        output = self.model(
            encoder_outputs=memory, decoder_input_ids=state.tokens, use_cache=False, output_hidden_states=True
        )
        return Step(output.logits[:, -1], state, decoder_hidden_states=output.decoder_hidden_states)


@cache
def model_and_memory(seed: int) -> tuple[BartForConditionalGeneration, torch.Tensor]:
    torch.manual_seed(seed)
    config = BartConfig(
        vocab_size=VOCAB, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, max_position_embeddings=64,
        init_std=0.7, dropout=0.0, attn_implementation="eager", forced_eos_token_id=None,
    )  # fmt: skip
    # float64, so that the use of a cache makes no difference to the search in float32.
    model = BartForConditionalGeneration(config).eval().double()
    model.final_logits_bias[0, EOS] += 2.0  # so that sequences end
    return model, torch.randn(3, 5, 16, dtype=torch.float64)


def both(seed: int, batch: int, prompt: torch.Tensor, **options: Any) -> tuple[Any, Any]:
    model, memory = model_and_memory(seed % MODELS)
    memory = memory[:batch]
    special = {"pad_token_id": options.pop("pad_token_id", 1), "eos_token_id": options.pop("eos_token_id", EOS)}
    # A field of the model's generation configuration cannot be unset by an argument of None.
    model.generation_config.pad_token_id, model.generation_config.eos_token_id = special.values()
    model.generation_config.forced_eos_token_id = None
    calls = {name: options.pop(name) for name in ("prefix_allowed_tokens_fn", "stopping_criteria") if name in options}
    common = {"return_dict_in_generate": True, "output_scores": True, "output_logits": True, **options}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = model.generate(
            encoder_outputs=BaseModelOutput(last_hidden_state=memory), decoder_input_ids=prompt, **common, **calls
        )
        config = GenerationConfig(**special, **common)
        calls["criteria"] = calls.pop("stopping_criteria", ())
        ours = generate(UncachedBart(model, memory), prompt, config, capacity=64, **calls).to_output()
    return theirs, ours


def compare(theirs: Any, ours: Any, steps: bool = True) -> None:
    assert ours.sequences.tolist() == theirs.sequences.tolist()
    assert list(ours.keys()) == [key for key in theirs if key != "past_key_values"]
    assert len(ours.scores) == len(theirs.scores) == len(ours.logits)
    for step, (a, b) in enumerate(zip(ours.scores, theirs.scores, strict=True) if steps else []):
        assert torch.allclose(a, b, atol=1e-5), f"scores of step {step}"
    for a, b in zip(ours.logits, theirs.logits, strict=True) if steps else []:
        assert torch.allclose(a, b, atol=1e-5)
    if "sequences_scores" in theirs:
        assert torch.allclose(ours.sequences_scores, theirs.sequences_scores, atol=1e-5)
        assert ours.beam_indices.tolist() == theirs.beam_indices.tolist()


def prompt_of(rng: random.Random, batch: int) -> torch.Tensor:
    length = rng.choice([1, 1, 1, 3])
    return torch.tensor([[START] + [rng.randrange(3, VOCAB) for _ in range(length - 1)] for _ in range(batch)])


def processors_of(rng: random.Random, num_beams: int) -> dict[str, Any]:
    """One to three random processors."""
    token = lambda: rng.randrange(3, VOCAB)  # noqa: E731
    words = lambda: [[token() for _ in range(rng.choice([1, 2, 2, 3]))] for _ in range(4)]  # noqa: E731
    known = {
        "repetition_penalty": lambda: rng.choice([0.7, 1.3, 2.5]),
        "no_repeat_ngram_size": lambda: rng.choice([1, 2, 3]),
        "bad_words_ids": lambda: [*words(), [EOS]],
        "sequence_bias": lambda: [[ids, rng.uniform(-3, 3)] for ids in words()],
        "min_length": lambda: rng.randrange(1, 9),
        "min_new_tokens": lambda: rng.randrange(1, 7),
        "forced_bos_token_id": lambda: rng.choice([5, 10]),  # never suppressed
        # Of two forced ends with equal scores, either may come first in beam search.
        "forced_eos_token_id": lambda: rng.choice([EOS, [EOS, 5]]) if num_beams == 1 else EOS,
        "remove_invalid_values": lambda: True,
        "exponential_decay_length_penalty": lambda: (rng.randrange(0, 4), rng.choice([1.2, 0.8])),
        "suppress_tokens": lambda: [t for t in (token(), token(), token()) if t % 5],
        "begin_suppress_tokens": lambda: [EOS, token()],
        "renormalize_logits": lambda: True,
    }
    return {name: known[name]() for name in rng.sample(sorted(known), rng.randrange(1, 4))}


@pytest.mark.parametrize("seed", seeds(20, 500))
def test_greedy(seed: int) -> None:
    rng = random.Random(seed)
    batch = rng.randrange(1, 4)
    compare(*both(seed, batch, prompt_of(rng, batch), max_new_tokens=rng.randrange(1, 12)))


@pytest.mark.parametrize("early_stopping", [False, True, "never"])
@pytest.mark.parametrize("seed", seeds(12, 170))
def test_beams(seed: int, early_stopping: Any) -> None:
    rng = random.Random(seed)
    batch, beams = rng.randrange(1, 4), rng.randrange(2, 6)
    options = {
        "num_beams": beams,
        "early_stopping": early_stopping,
        "length_penalty": rng.choice([1.0, 0.0, -0.7, 2.0]),
        "num_return_sequences": rng.randrange(1, beams + 1),
        "max_new_tokens": rng.randrange(1, 12),
        "eos_token_id": rng.choice([EOS, [EOS, 7], [EOS, 5, 9]]),
        "pad_token_id": rng.choice([0, 1]),
    }
    theirs, ours = both(seed, batch, prompt_of(rng, batch), **options)
    compare(theirs, ours)


@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize("seed", seeds(30, 250))
def test_processors(seed: int, num_beams: int) -> None:
    rng = random.Random(1000 + seed)
    batch = rng.randrange(1, 4)
    options = {"num_beams": num_beams, "max_new_tokens": rng.randrange(3, 10), **processors_of(rng, num_beams)}
    compare(*both(seed, batch, prompt_of(rng, batch), **options))


@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize("seed", seeds(25, 250))
def test_filters_of_sampling(seed: int, num_beams: int) -> None:
    rng = random.Random(2000 + seed)
    known = {
        "temperature": lambda: rng.choice([0.3, 0.8, 2.0]),
        "top_k": lambda: rng.randrange(0, 12),
        "top_p": lambda: rng.choice([0.0, 0.3, 0.8, 0.95]),
        "min_p": lambda: rng.choice([0.02, 0.2]),
        "typical_p": lambda: rng.choice([0.2, 0.6, 0.9]),
        "epsilon_cutoff": lambda: rng.choice([0.01, 0.1]),
        "eta_cutoff": lambda: rng.choice([0.01, 0.2]),
        "renormalize_logits": lambda: True,
    }
    options = {name: known[name]() for name in rng.sample(sorted(known), rng.randrange(1, 4))}
    batch = rng.randrange(1, 4)
    eos = rng.choice([EOS, [EOS, 7]])
    theirs, ours = both(
        seed, batch, prompt_of(rng, batch), num_beams=num_beams, do_sample=True, max_new_tokens=1,
        eos_token_id=eos, **options,
    )  # fmt: skip
    assert torch.allclose(ours.scores[0], theirs.scores[0], atol=1e-5)


@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize("seed", seeds(8, 50))
def test_prefix_allowed_tokens(seed: int, num_beams: int) -> None:
    rng = random.Random(3000 + seed)
    batch = rng.randrange(1, 4)

    def allowed(utterance: int, tokens: torch.Tensor) -> list[int]:
        return [(utterance + int(tokens.sum()) + k * k) % VOCAB for k in range(6)] + [EOS] * (len(tokens) > 4)

    options = {"num_beams": num_beams, "max_new_tokens": 8, "prefix_allowed_tokens_fn": allowed}
    compare(*both(seed, batch, prompt_of(rng, batch), **options))


@pytest.mark.parametrize("num_beams", [1, 4])
@pytest.mark.parametrize("normalize_logits", [False, True])
def test_transition_scores(num_beams: int, normalize_logits: bool) -> None:
    model, _ = model_and_memory(4)
    rng = random.Random(num_beams)
    theirs, ours = both(4, 3, prompt_of(rng, 3), num_beams=num_beams, num_return_sequences=num_beams, max_new_tokens=9)
    expected = model.compute_transition_scores(
        theirs.sequences, theirs.scores, theirs.get("beam_indices"), normalize_logits=normalize_logits
    )
    found = compute_transition_scores(ours.sequences, ours.scores, ours.get("beam_indices"), normalize_logits)
    assert torch.allclose(found, expected, atol=1e-5)
    if num_beams > 1 and not normalize_logits:
        generated = (ours.beam_indices >= 0).sum(dim=1)
        assert torch.allclose(found.sum(dim=1) / generated, ours.sequences_scores, atol=1e-5)


@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize("seed", seeds(8, 50))
def test_stopping_criteria(seed: int, num_beams: int) -> None:
    rng = random.Random(4000 + seed)
    batch, divisor = rng.randrange(1, 4), rng.randrange(5, 12)

    def criterion(input_ids: torch.Tensor, scores: Any) -> torch.Tensor:
        assert len(scores) == input_ids.shape[1] - prompt.shape[1]
        return input_ids.sum(dim=1) % divisor == 0

    prompt = prompt_of(rng, batch)
    options = {"num_beams": num_beams, "num_return_sequences": num_beams, "max_new_tokens": 9}
    theirs, ours = both(seed, batch, prompt, stopping_criteria=StoppingCriteriaList([criterion]), **options)
    # If every candidate of an utterance stops, it continues with excluded beams, whose order is undefined.
    compare(theirs, ours, steps=num_beams == 1)


@pytest.mark.parametrize("num_beams", [1, 3])
def test_max_time(num_beams: int) -> None:
    theirs, ours = both(1, 3, prompt_of(random.Random(0), 3), num_beams=num_beams, max_new_tokens=9, max_time=1e-9)
    compare(theirs, ours)
    assert len(ours.scores) == 1


# --- strategies that `transformers` 5 removed: recorded with 4.55.4 -----------------------------

CASES = json.loads((GOLDEN / "strategies.json").read_text())


@cache
def golden() -> tuple[dict[str, Any], BartForConditionalGeneration]:
    recorder = runpy.run_path(str(GOLDEN / "record.py"))
    return recorder, recorder["tiny_bart"]()


@pytest.mark.parametrize("case", [pytest.param(case, id=f"{case['strategy']}-{case['seed']}") for case in CASES])
def test_recorded_strategies(case: dict[str, Any]) -> None:
    recorder, model = golden()
    memory = recorder["memory_for"](case["batch"], case["seed"])
    options = GenerationConfig(pad_token_id=1, eos_token_id=EOS, **case["options"])
    with torch.no_grad():
        found = generate(UncachedBart(model, memory), torch.full((case["batch"], 1), START), options)
    assert without_padding(found.sequences.tolist()) == without_padding(case["sequences"])
    if case["scores"] is not None:
        assert found.sequences_scores.tolist() == pytest.approx(case["scores"], abs=1e-5)


def without_padding(sequences: list[list[int]]) -> list[list[int]]:
    """The sequences up to their ends (the older release crops and pads differently)."""
    texts = []
    for row in sequences:
        end = next((i for i in range(1, len(row)) if row[i] == EOS), len(row) - 1)
        texts.append(row[: end + 1])
    return texts
