"""The search against plain Python on tiny vocabularies, over NumPy, PyTorch and JAX.

The decoder is a table of random logits, indexed by the utterance and a hash of the tokens read so far. One case is one
utterance; a batch holds many, so these tests also show that the rows of a batch are independent.
"""

import itertools
import math
import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest

from dragoman.generation.arrays import has_possible, ops_of
from dragoman.generation.beams import BeamRule, advance_beams, begin_beams, best_candidates, drawn_candidates
from dragoman.generation.chain import build_filters, build_processors
from dragoman.generation.decoder import Step
from dragoman.generation.loop import generate
from dragoman.generation.noise import fold, gumbel, sample_keys, utterance_keys
from dragoman.generation.options import GenerationConfig
from dragoman.generation.plan import plan_of
from dragoman.generation.result import GenerationResult
from dragoman.generation.rows import advance_rows, begin_rows
from dragoman.generation.sampling import draw

from ..seeds import seeds

HASHES, FACTOR, START = 1009, 31, 1


def numpy_array(x: Any) -> Any:
    return np.asarray(x)


def torch_array(x: Any) -> Any:
    return pytest.importorskip("torch", reason="needs PyTorch").from_numpy(np.asarray(x).copy())


LIBRARIES = {"numpy": numpy_array, "torch": torch_array}


# --- the decoder ------------------------------------------------------------------------------------------------------


class State(NamedTuple):
    utterances: Any
    hashes: Any


class TableDecoder:
    """Logits `table[utterance, hash of the tokens]`, float32 `[utterances, HASHES, vocab]`, of any array library."""

    def __init__(self, table: Any) -> None:
        self.table, self.xp = table, ops_of(table).xp

    def start(self, prompt: Any) -> Step[State]:
        state = State(self.xp.arange(prompt.shape[0]), self.xp.zeros_like(prompt[:, 0]))
        for place in range(prompt.shape[1]):
            state = self._read(prompt[:, place], state)
        return self._step(state)

    def expand(self, state: State, copies: int) -> State:
        return State(*(self.xp.repeat(x, copies, axis=0) for x in state))

    def step(self, tokens: Any, state: State) -> Step[State]:
        return self._step(self._read(tokens, state))

    def select(self, state: State, rows: Any) -> State:
        return State(state.utterances, state.hashes[rows])

    def _read(self, tokens: Any, state: State) -> State:
        return State(state.utterances, (state.hashes * FACTOR + tokens + 1) % HASHES)

    def _step(self, state: State) -> Step[State]:
        return Step(self.table[state.utterances, state.hashes], state)


def logits_after(table: np.ndarray, tokens: Sequence[int]) -> list[float]:
    """The logits of one utterance, in plain Python; `table` is `[HASHES, vocab]`."""
    place = 0
    for token in tokens:
        place = (place * FACTOR + token + 1) % HASHES
    return [float(x) for x in table[place]]


# --- the oracle -------------------------------------------------------------------------------------------------------


def log_softmax(scores: Sequence[float]) -> list[float]:
    greatest = max(scores)
    total = math.log(sum(math.exp(s - greatest) for s in scores))
    return [s - greatest - total for s in scores]


def processed(
    scores: list[float], tokens: list[int], prompt_length: int, eos: list[int], o: dict[str, Any]
) -> list[float]:
    """Apply the processors in the order of `transformers`."""
    never = -math.inf
    for ids, bias in o.get("sequence_bias", []):
        if tokens[len(tokens) - len(ids) + 1 :] == ids[:-1]:
            scores[ids[-1]] += bias
    if penalty := o.get("repetition_penalty"):
        for token in set(tokens):
            scores[token] = scores[token] * penalty if scores[token] < 0 else scores[token] / penalty
    if n := o.get("no_repeat_ngram_size"):
        seen = {tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)}
        scores = [never if (*tokens[len(tokens) - n + 1 :], t) in seen else s for t, s in enumerate(scores)]
    for ids in o.get("bad_words_ids", []):
        if ids not in [[e] for e in eos] and tokens[len(tokens) - len(ids) + 1 :] == ids[:-1]:
            scores[ids[-1]] = never
    if len(tokens) - prompt_length < o.get("min_new_tokens", 0):
        scores = [never if t in eos else s for t, s in enumerate(scores)]
    if len(tokens) == 1 and "forced_bos_token_id" in o:
        scores = [0.0 if t == o["forced_bos_token_id"] else never for t in range(len(scores))]
    if len(tokens) == prompt_length + o["max_new_tokens"] - 1 and "forced_eos_token_id" in o:
        scores = [0.0 if t == o["forced_eos_token_id"] else never for t in range(len(scores))]
    if decay := o.get("exponential_decay_length_penalty"):
        past = len(tokens) - prompt_length - decay[0]
        for end in eos if past > 0 else []:
            scores[end] += abs(scores[end]) * (decay[1] ** past - 1) if math.isfinite(scores[end]) else 0.0
    suppressed = list(o.get("suppress_tokens", []))
    if len(tokens) == prompt_length + ("forced_bos_token_id" in o and prompt_length == 1):
        suppressed += o.get("begin_suppress_tokens", [])
    scores = [never if t in suppressed else s for t, s in enumerate(scores)]
    return log_softmax(scores) if o.get("renormalize_logits") else scores


def greedy_oracle(table: np.ndarray, prompt: list[int], eos: list[int], o: dict[str, Any]) -> list[int]:
    tokens = list(prompt)
    while len(tokens) < len(prompt) + o["max_new_tokens"]:
        scores = processed(logits_after(table, tokens), tokens, len(prompt), eos, o)
        tokens.append(max(range(len(scores)), key=scores.__getitem__))
        if tokens[-1] in eos:
            break
    return tokens


def beam_oracle(
    table: np.ndarray, prompt: list[int], eos: list[int], o: dict[str, Any]
) -> list[tuple[float, list[int]]]:
    """The finished hypotheses of one utterance, best first."""
    beams, penalty, early = o["num_beams"], o["length_penalty"], o["early_stopping"]
    limit = len(prompt) + o["max_new_tokens"]
    running, finished = [(0.0, list(prompt))], list[tuple[float, list[int]]]()
    while True:
        candidates = []
        for total, tokens in running:
            scores = log_softmax(logits_after(table, tokens))
            scores = processed(scores, tokens, len(prompt), eos, o)
            candidates += [(total + s, [*tokens, t]) for t, s in enumerate(scores)]
        candidates = sorted(candidates, key=lambda c: -c[0])[: max(2, 1 + len(eos)) * beams]
        ended = [len(c[1]) == limit or c[1][-1] in eos for c in candidates]
        generated = len(candidates[0][1]) - len(prompt)
        if not (early is True and len(finished) == beams):
            new = [(c[0] / generated**penalty, c[1]) for c, e in zip(candidates[:beams], ended, strict=False) if e]
            finished = sorted(finished + new, key=lambda f: -f[0])[:beams]
        running = [c for c, e in zip(candidates, ended, strict=True) if not e][:beams]
        if not running or (early is True and len(finished) == beams):
            return finished
        length = o["max_new_tokens"] if early == "never" and penalty > 0 else generated
        if len(finished) == beams and running[0][0] / length**penalty <= finished[-1][0]:
            return finished


def beam_sample_oracle(
    table: np.ndarray, prompt: list[int], noise: Callable[[int], np.ndarray], eos: list[int], o: dict[str, Any]
) -> list[tuple[float, list[int]]]:
    """Beam sampling with given Gumbel noise for each length, `[beams * vocab]`."""
    beams, limit = o["num_beams"], len(prompt) + o["max_new_tokens"]
    running = [(0.0, list(prompt))] + [(-1e9, list(prompt))] * (beams - 1)
    finished = list[tuple[float, list[int]]]()
    while True:
        candidates = []
        for total, tokens in running:
            scores = log_softmax(logits_after(table, tokens))
            candidates += [(total + s, [*tokens, t]) for t, s in enumerate(scores)]
        shares = log_softmax([c[0] for c in candidates])
        order = np.argsort(-(np.asarray(shares) + noise(len(running[0][1]))), kind="stable")
        candidates = [candidates[i] for i in order[: max(2, 1 + len(eos)) * beams]]
        ended = [len(c[1]) == limit or c[1][-1] in eos for c in candidates]
        generated = len(candidates[0][1]) - len(prompt)
        new = [(c[0] / generated, c[1]) for c, e in zip(candidates[:beams], ended, strict=False) if e]
        finished = sorted(finished + new, key=lambda f: -f[0])[:beams]
        running = sorted((c for c, e in zip(candidates, ended, strict=True) if not e), key=lambda c: -c[0])[:beams]
        if not running or (len(finished) == beams and running[0][0] / generated <= finished[-1][0]):
            return finished


# --- the cases --------------------------------------------------------------------------------------------------------


class Case(NamedTuple):
    table: np.ndarray
    prompt: np.ndarray
    eos: list[int]
    options: dict[str, Any]


def case_of(seed: int, utterances: int, num_beams: int, with_processors: bool) -> Case:
    rng = random.Random(seed)
    eos = [0] if rng.random() < 0.7 else [0, 2]
    # Enough tokens for all candidates to come from the one beam of the first step.
    vocab = max(2, 1 + len(eos)) * num_beams + rng.randrange(2, 8) + 4 * with_processors
    table = np.random.default_rng(seed).normal(0, 1.5, (utterances, HASHES, vocab)).astype(np.float32)
    prompt = np.full((utterances, rng.choice([1, 1, 3])), START)
    prompt[:, 1:] = np.random.default_rng(seed).integers(3, vocab, prompt[:, 1:].shape)
    options: dict[str, Any] = {"max_new_tokens": rng.randrange(1, 10)}
    if num_beams > 1:
        options["num_beams"] = num_beams
        options["length_penalty"] = rng.choice([1.0, 0.0, -1.0, 0.6, 2.0])
        options["early_stopping"] = rng.choice([False, True, "never"])
    if with_processors:
        options |= processors_of(rng, vocab)
        options["max_new_tokens"] += options.get("min_new_tokens", 0)
    return Case(table, prompt, eos, options)


def processors_of(rng: random.Random, vocab: int) -> dict[str, Any]:
    token = lambda: rng.randrange(3, vocab)  # noqa: E731
    words = lambda: [[token() for _ in range(n)] for n in (1, 2, 2, 3)]  # noqa: E731
    known = {
        "sequence_bias": lambda: [[ids, rng.uniform(-3, 3)] for ids in words() if ids[0] != ids[-1]],
        "repetition_penalty": lambda: rng.choice([0.7, 1.5]),
        "no_repeat_ngram_size": lambda: rng.choice([1, 2, 3]),
        "bad_words_ids": lambda: [[0], *words()],
        "min_new_tokens": lambda: rng.randrange(1, 5),
        "forced_bos_token_id": lambda: 5,  # never suppressed
        "forced_eos_token_id": lambda: 0,
        "exponential_decay_length_penalty": lambda: (rng.randrange(3), rng.choice([0.8, 1.3])),
        "suppress_tokens": lambda: [t for t in (token(), token()) if t % 5],
        "begin_suppress_tokens": lambda: [0, token()],
        "renormalize_logits": lambda: True,
    }
    return {name: known[name]() for name in rng.sample(sorted(known), rng.randrange(1, 4))}


def run(case: Case, library: str, **options: Any) -> GenerationResult:
    array = LIBRARIES[library]
    special = {"eos_token_id": case.eos, "pad_token_id": 1}
    config = GenerationConfig(**special, **case.options, **options)
    return generate(
        TableDecoder(array(case.table)), array(case.prompt), config, token_log_probs=not config.force_words_ids
    )


def texts_of(result: GenerationResult, prompt_length: int, eos: list[int]) -> list[list[int]]:
    """The sequences, each up to its end."""
    texts = []
    for row in result.sequences.tolist():
        end = next((i for i in range(prompt_length, len(row)) if row[i] in eos), len(row) - 1)
        texts.append(row[: end + 1])
    return texts


def check_log_probs(table: np.ndarray, prompt_length: int, text: list[int], found: list[float]) -> None:
    """The decoder's log-probabilities are those before processing, and 0 after the end."""
    places = range(prompt_length, len(text))
    expected = [log_softmax(logits_after(table, text[:place]))[text[place]] for place in places]
    assert found[: len(expected)] == pytest.approx(expected, abs=1e-5)
    assert not any(found[len(expected) :])


def check_greedy(case: Case, result: GenerationResult) -> None:
    texts = texts_of(result, case.prompt.shape[1], case.eos)
    if result.token_log_probs is not None:
        for table, text, found in zip(case.table, texts, result.token_log_probs.tolist(), strict=True):
            check_log_probs(table, case.prompt.shape[1], text, found)
    for table, prompt, text, ended in zip(case.table, case.prompt, texts, result.ended.tolist(), strict=True):
        assert text == greedy_oracle(table, prompt.tolist(), case.eos, case.options)
        assert ended == (text[-1] in case.eos)


def check_beams(case: Case, result: GenerationResult) -> None:
    beams = case.options["num_beams"]
    texts = texts_of(result, case.prompt.shape[1], case.eos)
    scores = result.sequences_scores.tolist()
    for i, (table, prompt) in enumerate(zip(case.table, case.prompt, strict=True)):
        expected = beam_oracle(table, prompt.tolist(), case.eos, case.options)
        expected = [e for e in expected if e[0] > -math.inf]  # impossible sequences have no defined order
        found = list(zip(scores, texts, strict=True))[i * beams : i * beams + len(expected)]
        assert [text for _, text in found] == [text for _, text in expected]
        assert [score for score, _ in found] == pytest.approx([score for score, _ in expected], abs=1e-5, rel=1e-6)
        if result.token_log_probs is not None:
            log_probs = result.token_log_probs.tolist()[i * beams : i * beams + len(expected)]
            for (_, text), own in zip(found, log_probs, strict=True):
                check_log_probs(table, len(prompt), text, own)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("with_processors", [False, True])
class TestAgainstOracle:
    """Each seed is a batch of 20 cases."""

    @pytest.mark.parametrize("seed", seeds(15, 50))
    def test_greedy(self, library: str, with_processors: bool, seed: int) -> None:
        case = case_of(seed, 20, 1, with_processors)
        check_greedy(case, run(case, library))

    @pytest.mark.parametrize("seed", seeds(15, 50))
    def test_beams(self, library: str, with_processors: bool, seed: int) -> None:
        case = case_of(seed, 20, 2 + seed % 4, with_processors)
        check_beams(case, run(case, library, num_return_sequences=case.options["num_beams"]))


def best_of_all(table: np.ndarray, vocab: int, new: int, fits: Callable[[list[int]], bool]) -> tuple[float, list[int]]:
    """The best sequence by exhaustive search."""
    best = (-math.inf, list[int]())
    for tail in itertools.product(range(vocab), repeat=new):
        length = tail.index(0) + 1 if 0 in tail else new
        tokens = [START, *tail[:length]]
        if fits(tokens[1:]):
            total = sum(log_softmax(logits_after(table, tokens[:n]))[tokens[n]] for n in range(1, length + 1))
            best = max(best, (total, tokens))
    return best


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("seed", seeds(15, 100))
def test_enough_beams_find_the_best_sequence(library: str, seed: int) -> None:
    """20 cases each: a beam for every possible sequence, scored by the sum of log-probabilities."""
    vocab, new = 4, 3
    table = np.random.default_rng(seed).normal(0, 2, (20, HASHES, vocab)).astype(np.float32)
    options = {"max_new_tokens": new, "num_beams": 16, "length_penalty": 0.0, "early_stopping": "never"}
    result = run(Case(table, np.full((20, 1), START), [0], options), library)
    for one, text, score in zip(table, texts_of(result, 1, [0]), result.sequences_scores.tolist(), strict=True):
        best, tokens = best_of_all(one, vocab, new, lambda text: True)
        assert text == tokens
        assert score == pytest.approx(best, abs=1e-5)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("seed", seeds(10, 100))
def test_enough_beams_find_the_best_sequence_with_given_words(library: str, seed: int) -> None:
    """20 cases each."""
    rng = random.Random(seed)
    vocab, new = 4, 4
    words = rng.choice([[[2]], [[2, 3]], [[1], [2]], [[[1, 2], [3]]], [[3, 3]], [[2], [[1, 1], [3]]]])
    table = np.random.default_rng(seed).normal(0, 2, (20, HASHES, vocab)).astype(np.float32)
    options = {"max_new_tokens": new, "num_beams": 90, "length_penalty": 0.0, "early_stopping": "never"}
    result = run(Case(table, np.full((20, 1), START), [0], options), library, force_words_ids=words)
    for one, text, score in zip(table, texts_of(result, 1, [0]), result.sequences_scores.tolist(), strict=True):
        best, tokens = best_of_all(one, vocab, new, lambda text: has_words(text, words))
        assert text == tokens
        assert score == pytest.approx(best, abs=1e-5)


def has_words(text: list[int], words: list[Any]) -> bool:
    """Whether the words occur without overlap; a word that is begun is either continued or dropped."""
    tokens, waiting = [t for t in text if t], [word if isinstance(word[0], list) else [word] for word in words]
    while tokens and waiting:
        begun = [(word, choice) for word in waiting for choice in word if choice[0] == tokens[0]]
        whole = [(word, choice) for word, choice in begun if choice == tokens[: len(choice)]]
        if whole:
            waiting.remove(whole[0][0])
            tokens = tokens[len(whole[0][1]) :]
        else:
            # as many tokens as fit are used up, and the one that does not fit
            fits = max((n for _, c in begun for n in range(len(c) + 1) if c[:n] == tokens[:n]), default=0)
            tokens = tokens[fits + (fits > 0) or 1 :]
    return not waiting


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("seed", seeds(15, 100))
def test_beam_sampling(library: str, seed: int) -> None:
    """20 cases each, with the same noise as the search."""
    case = case_of(seed, 20, 2 + seed % 3, with_processors=False)
    case.options.update(length_penalty=1.0, early_stopping=False)
    beams, size = case.options["num_beams"], case.options["num_beams"] * case.table.shape[2]
    options = GenerationConfig(
        **case.options, eos_token_id=case.eos, pad_token_id=1, do_sample=True, top_k=0, num_return_sequences=beams
    )
    array = LIBRARIES[library]
    seeds = [seed * 100 + i for i in range(20)]
    result = generate(TableDecoder(array(case.table)), array(case.prompt), options, seed=seeds)
    texts, scores = texts_of(result, case.prompt.shape[1], case.eos), result.sequences_scores.tolist()
    ops = ops_of(case.table)
    for i, (table, prompt) in enumerate(zip(case.table, case.prompt, strict=True)):
        key = utterance_keys(ops, [seeds[i]], case.table[:1])
        noise = lambda length, key=key: gumbel(ops, fold(ops, key, length), size)[0]  # noqa: E731
        expected = [e for e in beam_sample_oracle(table, prompt.tolist(), noise, case.eos, case.options) if e[0] > -1e8]
        found = list(zip(scores, texts, strict=True))[i * beams : i * beams + len(expected)]
        assert [text for _, text in found] == [text for _, text in expected]
        assert [score for score, _ in found] == pytest.approx([score for score, _ in expected], abs=1e-5, rel=1e-6)


# --- JAX: the same functions inside `jit` and `while_loop` ------------------------------------------------------------


def run_jitted(case: Case, **options: Any) -> GenerationResult:
    """A minimal driver for JAX."""
    jax = pytest.importorskip("jax", reason="needs JAX")
    config = GenerationConfig(eos_token_id=case.eos, pad_token_id=1, **case.options, **options)
    rule = BeamRule(
        length_penalty=config.length_penalty,
        early_stopping=config.early_stopping,
        keep_history=True,
        first_row=0,
        rows_per_utterance=config.num_beams,
    )

    def search(table: Any, prompt: Any) -> GenerationResult:
        ops, decoder = ops_of(prompt), TableDecoder(table)
        plan = plan_of(config, prompt.shape[1], None)
        first = decoder.start(prompt)
        chain = build_processors(ops, config, plan, first.logits) + build_filters(ops, config, plan)
        utterances = utterance_keys(ops, range(len(prompt)), prompt)
        keys = sample_keys(ops, utterances, 1)

        def scores_of(tokens: Any, length: Any, scores: Any) -> Any:
            for processor in chain:
                scores = processor(tokens, length, scores)
            return scores

        def one_row(carry: Any) -> Any:
            state, memory, logits = carry
            scores = scores_of(state.tokens, state.length, logits)
            chosen = draw(ops, fold(ops, keys, state.length), scores) if config.do_sample else scores.argmax(-1)
            state = advance_rows(ops, plan, state, chosen, has_possible(ops, scores))
            logits, memory, *_ = decoder.step(state.tokens[:, state.length - 1], memory)
            return state, memory, logits

        def one_beam(carry: Any) -> Any:
            state, memory, logits = carry
            tokens = state.tokens.reshape(-1, plan.max_length)
            scores = scores_of(tokens, state.length, ops.log_softmax(logits))
            if config.do_sample:
                found = drawn_candidates(ops, plan, state.scores, scores, fold(ops, utterances, state.length))
            else:
                found = best_candidates(ops, plan, state.scores, scores)
            state, rows, chosen = advance_beams(
                ops, plan, rule, state, found, has_possible(ops, scores.reshape(len(state.scores), -1))
            )
            memory = decoder.select(memory, rows.reshape(-1))
            logits, memory, *_ = decoder.step(chosen.reshape(-1), memory)
            return state, memory, logits

        if plan.num_beams == 1:
            going = lambda c: (c[0].length < plan.max_length) & ~c[0].ended.all()  # noqa: E731
            carry = (begin_rows(ops, plan, prompt), first.state, first.logits)
            state, *_ = jax.lax.while_loop(going, one_row, carry)
            return state.tokens, state.ended, None
        memory = decoder.expand(first.state, plan.num_beams)
        carry = (begin_beams(ops, plan, rule, prompt), memory, first.logits.repeat(plan.num_beams, axis=0))
        state, *_ = jax.lax.while_loop(lambda c: ~c[0].done, one_beam, carry)
        return state.best_tokens.reshape(-1, plan.max_length), state.finished.reshape(-1), state.best_scores.reshape(-1)

    tokens, ended, scores = jax.jit(search)(jax.numpy.asarray(case.table), jax.numpy.asarray(case.prompt))
    return GenerationResult(sequences=tokens, ended=ended, sequences_scores=scores)


JITTED = [(seed, with_processors) for seed in range(2) for with_processors in (False, True)]
MORE_JITTED = [(seed, with_processors) for seed in range(2, 20) for with_processors in (False, True)]


class TestJitted:
    """Each seed is a batch of 100 cases; compiling takes most of the time."""

    @pytest.mark.parametrize(("seed", "with_processors"), JITTED)
    def test_greedy(self, seed: int, with_processors: bool) -> None:
        case = case_of(seed, 100, 1, with_processors)
        check_greedy(case, run_jitted(case))

    @pytest.mark.parametrize(("seed", "with_processors"), JITTED)
    def test_beams(self, seed: int, with_processors: bool) -> None:
        case = case_of(seed, 100, 2 + seed % 4, with_processors)
        check_beams(case, run_jitted(case))

    @pytest.mark.nightly
    @pytest.mark.parametrize(("seed", "with_processors"), MORE_JITTED)
    def test_more_greedy(self, seed: int, with_processors: bool) -> None:
        self.test_greedy(seed, with_processors)

    @pytest.mark.nightly
    @pytest.mark.parametrize(("seed", "with_processors"), MORE_JITTED)
    def test_more_beams(self, seed: int, with_processors: bool) -> None:
        self.test_beams(seed, with_processors)

    @pytest.mark.parametrize("num_beams", [1, 3])
    def test_sampling_equals_other_libraries(self, num_beams: int) -> None:
        case = case_of(5, 100, num_beams, with_processors=False)
        case.options.update(do_sample=True, top_p=0.9, max_new_tokens=8)
        config = GenerationConfig(eos_token_id=case.eos, pad_token_id=1, **case.options)
        expected = generate(TableDecoder(case.table), case.prompt, config, seed=range(100))
        found = run_jitted(case).sequences[::num_beams, : expected.sequences.shape[1]]
        assert found.tolist() == expected.sequences.tolist()
