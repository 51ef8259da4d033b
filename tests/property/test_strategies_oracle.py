"""Diverse, contrastive and speculative search against plain Python on tiny vocabularies: 2,000 cases each in all.

Decoder, cases and helpers are those of `test_search_oracle.py`. In JAX diverse and contrastive search are compiled
(the latter is compared in tests/unit/jax), and speculative search is NumPy's, around a compiled decoder.
"""

import math
import random
from typing import Any, NamedTuple

import numpy as np
import pytest

from dragoman.generation.arrays import ops_of
from dragoman.generation.beams import BeamState
from dragoman.generation.decoder import Step
from dragoman.generation.loop import generate
from dragoman.generation.options import GenerationConfig
from dragoman.generation.plan import plan_of
from dragoman.generation.result import GenerationResult
from dragoman.generation.run import Run
from dragoman.generation.stopping import stops_of
from dragoman.generation.strategies import beam_search

from ..seeds import seeds
from .test_search_oracle import (
    FACTOR,
    HASHES,
    LIBRARIES,
    Case,
    TableDecoder,
    case_of,
    check_greedy,
    check_log_probs,
    log_softmax,
    logits_after,
    run,
    texts_of,
)

# --- diverse beam search ----------------------------------------------------------------------------------------------


def diverse_oracle(
    table: np.ndarray, prompt: list[int], eos: list[int], o: dict[str, Any]
) -> list[tuple[float, list[int]]]:
    """The finished hypotheses of all groups, best first."""
    groups, penalty, early = o["num_beam_groups"], o["length_penalty"], o["early_stopping"]
    beams, limit = o["num_beams"] // groups, len(prompt) + o["max_new_tokens"]
    running: list[list[tuple[float, list[int]]]] = [[(0.0, list(prompt))] for _ in range(groups)]
    finished: list[list[tuple[float, list[int]]]] = [[] for _ in range(groups)]
    going = set(range(groups))
    while going:
        taken: list[int] = []
        for group in sorted(going):
            candidates = []
            for total, tokens in running[group]:
                for token, score in enumerate(log_softmax(logits_after(table, tokens))):
                    lost = o["diversity_penalty"] * taken.count(token)
                    candidates.append((total + score - lost, [*tokens, token]))
            candidates = sorted(candidates, key=lambda c: -c[0])[: max(2, 1 + len(eos)) * beams]
            generated = len(candidates[0][1]) - len(prompt)
            ended = [len(c[1]) == limit or c[1][-1] in eos for c in candidates]
            new = [(c[0] / generated**penalty, c[1]) for c, e in zip(candidates[:beams], ended, strict=False) if e]
            finished[group] = sorted(finished[group] + new, key=lambda f: -f[0])[:beams]
            alive = [c for c in candidates if c[1][-1] not in eos][:beams]
            taken += [c[1][-1] for c in alive]
            running[group] = alive
            full = len(finished[group]) == beams
            length = o["max_new_tokens"] if early == "never" and penalty > 0 else generated
            beaten = full and alive[0][0] / length**penalty <= finished[group][-1][0]
            if len(alive[0][1]) == limit or beaten or (early is True and full):
                going.remove(group)
    return sorted((text for group in finished for text in group), key=lambda f: -f[0])


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("seed", seeds(8, 100))
def test_diverse_beams(library: str, seed: int) -> None:
    """20 cases each."""
    rng = random.Random(seed)
    groups = rng.choice([2, 3])
    case = case_of(seed, 20, groups * rng.choice([1, 2]), with_processors=False)
    case.options.update(num_beam_groups=groups, diversity_penalty=rng.choice([0.3, 1.0, 5.0]))
    count = case.options["num_beams"]
    result = run(case, library, num_return_sequences=count)
    for i, found in enumerate(check_diverse(case, result)):
        for own, (_, text) in zip(result.token_log_probs.tolist()[i * count :], found, strict=False):
            check_log_probs(case.table[i], case.prompt.shape[1], text, own)


def check_diverse(case: Any, result: GenerationResult) -> list[list[tuple[float, list[int]]]]:
    """Compare all hypotheses with the oracle's; return those of each utterance."""
    texts, scores = texts_of(result, case.prompt.shape[1], case.eos), result.sequences_scores.tolist()
    count, checked = case.options["num_beams"], []
    for i, (table, prompt) in enumerate(zip(case.table, case.prompt, strict=True)):
        expected = diverse_oracle(table, prompt.tolist(), case.eos, case.options)
        found = list(zip(scores, texts, strict=True))[i * count : i * count + len(expected)]
        assert [score for score, _ in found] == pytest.approx([score for score, _ in expected], abs=1e-5, rel=1e-6)
        assert sorted(text for _, text in found) == sorted(text for _, text in expected)
        checked.append(found)
    return checked


def run_groups_jitted(case: Any) -> GenerationResult:
    """A minimal driver for JAX with groups of beams: one `while_loop` under `jit`."""
    jax = pytest.importorskip("jax", reason="needs JAX")
    options = GenerationConfig(
        eos_token_id=case.eos, pad_token_id=1, num_return_sequences=case.options["num_beams"], **case.options
    )
    plan = plan_of(options, case.prompt.shape[1], None)

    def run_of(prompt: Any) -> Run:
        return Run(ops_of(prompt), plan, options, [], None, stops_of(options, plan.prompt_length, (), None), None)

    def search(table: Any, prompt: Any) -> list[BeamState]:
        decoder, ops = TableDecoder(table), ops_of(prompt)
        group, rules, states = beam_search.begin(run_of(prompt), prompt)
        states = [state._replace(length=jax.numpy.asarray(state.length)) for state in states]
        first = decoder.start(prompt)

        def step(carry: Any) -> Any:
            states, memory, logits, _ = carry
            states, rows, chosen, done = beam_search.advance(group, rules, states, ops.log_softmax(logits))
            logits, memory, *_ = decoder.step(chosen.reshape(-1), decoder.select(memory, rows.reshape(-1)))
            return states, memory, logits, done

        logits = first.logits.repeat(plan.num_beams, axis=0)
        carry = states, decoder.expand(first.state, plan.num_beams), logits, jax.numpy.zeros((), bool)
        return jax.lax.while_loop(lambda carry: ~carry[3], step, carry)[0]  # type: ignore[no-any-return]

    found = jax.device_get(jax.jit(search)(jax.numpy.asarray(case.table), jax.numpy.asarray(case.prompt)))
    found = [state._replace(length=int(state.length)) for state in found]
    return beam_search.best(run_of(case.prompt), found)


@pytest.mark.parametrize(
    "seed", [pytest.param(seed, marks=pytest.mark.nightly if seed > 1 else ()) for seed in range(10)]
)
def test_diverse_beams_compiled(seed: int) -> None:
    """200 cases each, in one program."""
    rng = random.Random(seed)
    groups = rng.choice([2, 3])
    case = case_of(seed, 200, groups * rng.choice([1, 2]), with_processors=False)
    case.options.update(num_beam_groups=groups, diversity_penalty=rng.choice([0.3, 1.0, 5.0]))
    check_diverse(case, run_groups_jitted(case))


# --- contrastive search -----------------------------------------------------------------------------------------------


class StatefulDecoder(TableDecoder):  # type: ignore[misc,valid-type]
    """Also returns a hidden state for each token read: `states[hash]`, from `[HASHES, width]`."""

    def __init__(self, table: Any, states: Any) -> None:
        super().__init__(table)
        self.states = states

    def start(self, prompt: Any) -> Step[Any]:
        hashes, place = [], self.xp.zeros_like(prompt[:, 0])
        for column in range(prompt.shape[1]):
            place = (place * FACTOR + prompt[:, column] + 1) % HASHES
            hashes.append(place)
        step = super().start(prompt)
        return step._replace(decoder_hidden_states=(self.states[self.xp.stack(hashes, axis=1)],))

    def step(self, tokens: Any, state: Any) -> Step[Any]:
        step = super().step(tokens, state)
        return step._replace(decoder_hidden_states=(self.states[step.state.hashes][:, None],))


def state_after(states: np.ndarray, tokens: list[int]) -> np.ndarray:
    place = 0
    for token in tokens:
        place = (place * FACTOR + token + 1) % HASHES
    found: np.ndarray = states[place] / np.linalg.norm(states[place])
    return found


def contrastive_oracle(
    table: np.ndarray, states: np.ndarray, prompt: list[int], eos: list[int], o: dict[str, Any]
) -> list[int]:
    tokens, alpha = list(prompt), o["penalty_alpha"]
    while len(tokens) < len(prompt) + o["max_new_tokens"]:
        before = [state_after(states, tokens[:n]) for n in range(1, len(tokens) + 1)]
        shares = [math.exp(p) for p in log_softmax(logits_after(table, tokens))]
        best = sorted(range(len(shares)), key=lambda t: -shares[t])[: o["top_k"]]

        def value(token: int, before: Any = before, shares: Any = shares) -> float:
            new = state_after(states, [*tokens, token])
            return (1 - alpha) * shares[token] - alpha * max(float(new @ old) for old in before)

        tokens.append(max(best, key=value))
        if tokens[-1] in eos:
            break
    return tokens


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("seed", seeds(8, 100))
def test_contrastive_search(library: str, seed: int) -> None:
    """20 cases each."""
    rng = random.Random(seed)
    case = case_of(seed, 20, 1, with_processors=False)
    states = np.random.default_rng(seed).normal(size=(HASHES, 4)).astype(np.float32)
    case.options.update(penalty_alpha=rng.choice([0.2, 0.6, 0.9]), top_k=rng.choice([2, 3, 5]))
    array = LIBRARIES[library]
    options = GenerationConfig(eos_token_id=case.eos, pad_token_id=1, **case.options)
    result = generate(StatefulDecoder(array(case.table), array(states)), array(case.prompt), options)
    for table, prompt, text in zip(
        case.table, case.prompt, texts_of(result, case.prompt.shape[1], case.eos), strict=True
    ):
        assert text == contrastive_oracle(table, states, prompt.tolist(), case.eos, case.options)


# --- speculative decoding ---------------------------------------------------------------------------------------------


class Past(NamedTuple):
    utterances: Any
    hashes: Any  # after each token read, [rows, tokens]


class RewindableTable:
    """A `TableDecoder` that can read several tokens at once and discard the last ones."""

    def __init__(self, table: Any) -> None:
        self.table, self.steps = table, 0

    def start(self, prompt: Any) -> Step[Past]:
        step = self.read(prompt, Past(np.arange(len(prompt)), np.zeros((len(prompt), 0), np.int64)))
        return step._replace(logits=step.logits[:, -1])

    def step(self, tokens: Any, state: Past) -> Step[Past]:
        step = self.read(tokens[:, None], state)
        return step._replace(logits=step.logits[:, -1])

    def read(self, tokens: Any, state: Past) -> Step[Past]:
        self.steps += 1
        hashes = state.hashes
        for column in range(tokens.shape[1]):
            last = hashes[:, -1] if hashes.shape[1] else np.zeros(len(tokens), np.int64)
            hashes = np.concatenate([hashes, ((last * FACTOR + tokens[:, column] + 1) % HASHES)[:, None]], axis=1)
        new = hashes[:, state.hashes.shape[1] :]
        return Step(self.table[state.utterances[:, None], new], Past(state.utterances, hashes))

    def rewind(self, state: Past, tokens: int) -> Past:
        return Past(state.utterances, state.hashes[:, : state.hashes.shape[1] - tokens])

    def expand(self, state: Past, copies: int) -> Past:
        raise AssertionError("greedy search has one row an utterance")

    def select(self, state: Past, rows: Any) -> Past:
        raise AssertionError("greedy search keeps its rows")


@pytest.mark.parametrize("with_processors", [False, True])
@pytest.mark.parametrize("seed", seeds(15, 100))
def test_speculative_decoding_equals_greedy_search(seed: int, with_processors: bool) -> None:
    """20 cases each; the draft is the same table with more or less noise."""
    rng = random.Random(seed)
    case = case_of(seed, 20, 1, with_processors)
    disturbed = case.table + rng.choice([0.0, 0.3, 1.0, 5.0]) * np.random.default_rng(seed + 1).normal(
        size=case.table.shape
    ).astype(np.float32)
    options = GenerationConfig(
        eos_token_id=case.eos, pad_token_id=1, num_assistant_tokens=rng.choice([1, 2, 5]),
        assistant_confidence_threshold=rng.choice([0.0, 0.4]), **case.options,
    )  # fmt: skip
    for batch in (slice(0, 8), slice(8, 9), slice(9, 20)):
        decoder = RewindableTable(case.table[batch])
        result = generate(decoder, case.prompt[batch], options, draft=RewindableTable(disturbed[batch]))
        part = Case(case.table[batch], case.prompt[batch], case.eos, case.options)
        check_greedy(part, result)
        assert decoder.steps <= case.options["max_new_tokens"] + 1
