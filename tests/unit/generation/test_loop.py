"""The driver: its calls of the decoder, records and results (tests/parity and tests/property test the search)."""

from typing import Any, NamedTuple

import numpy as np
import pytest

from dragoman.errors import GenerationError
from dragoman.generation.decoder import Step
from dragoman.generation.loop import generate
from dragoman.generation.options import GenerationConfig
from dragoman.generation.result import (
    GenerateBeamEncoderDecoderOutput,
    GenerateEncoderDecoderOutput,
    compute_transition_scores,
)

VOCAB, END, PAD, START = 9, 0, 1, 2


class State(NamedTuple):
    utterances: np.ndarray
    tokens: np.ndarray


class HashDecoder:
    """Decoder whose logits depend on the utterance and every token read; records the calls it gets."""

    def __init__(self, seeds: list[int], vocab: int = VOCAB) -> None:
        self.seeds, self.vocab, self.calls = seeds, vocab, list[str]()

    def start(self, prompt: np.ndarray) -> Step[State]:
        self.calls.append("start")
        return self._step(State(np.arange(len(prompt)), prompt))

    def expand(self, state: State, copies: int) -> State:
        self.calls.append("expand")
        return State(*(np.repeat(x, copies, axis=0) for x in state))

    def step(self, tokens: np.ndarray, state: State) -> Step[State]:
        assert tokens.shape == state.utterances.shape
        self.calls.append("step")
        return self._step(State(state.utterances, np.concatenate([state.tokens, tokens[:, None]], axis=1)))

    def select(self, state: State, rows: np.ndarray) -> State:
        self.calls.append("select")
        np.testing.assert_array_equal(state.utterances[rows], state.utterances)
        return State(state.utterances, state.tokens[rows])

    def _step(self, state: State) -> Step[State]:
        logits = np.stack(
            [
                np.random.default_rng([self.seeds[u], *tokens]).normal(0, 1.5, self.vocab)
                for u, tokens in zip(state.utterances, state.tokens.tolist(), strict=True)
            ]
        )
        attentions = (state.tokens.astype(np.float32),)
        states = (np.cos(state.tokens[:, :, None] * np.arange(1, 5) + np.cumsum(state.tokens, axis=1)[:, :, None]),)
        return Step(logits, state, attentions, attentions, states)


def run(seeds: list[int], **options: Any) -> Any:
    extra = {name: options.pop(name) for name in ("seed", "capacity", "decode", "streamer") if name in options}
    config = GenerationConfig(eos_token_id=END, pad_token_id=PAD, **{"max_new_tokens": 8, **options})
    return generate(HashDecoder(seeds), np.full((len(seeds), 1), START), config, **extra)


def tokens_of(sequences: np.ndarray) -> list[list[int]]:
    return [[t for t in row[1:] if t not in (END, PAD)] for row in sequences.tolist()]


STRATEGIES = [
    {},
    {"do_sample": True, "top_k": 5},
    {"do_sample": True, "num_return_sequences": 3},
    {"num_beams": 3},
    {"num_beams": 3, "num_return_sequences": 2, "early_stopping": True},
    {"num_beams": 3, "do_sample": True, "num_return_sequences": 3},
    {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 1.0, "num_return_sequences": 3},
    {"num_beams": 3, "force_words_ids": [[5], [[6, 7], [8]]], "num_return_sequences": 2},
    {"penalty_alpha": 0.5, "top_k": 3},
]


@pytest.mark.parametrize("options", STRATEGIES)
def test_rows_do_not_depend_on_the_batch_or_its_order(options: dict[str, Any]) -> None:
    utterances = list(range(10, 22))
    seed = lambda which: {"seed": which} if options.get("do_sample") else {}  # noqa: E731
    together = tokens_of(run(utterances, **options, **seed(utterances)).sequences)
    copies = options.get("num_return_sequences", 1)
    order = np.random.default_rng(0).permutation(len(utterances))
    shuffled = [utterances[i] for i in order]
    for place, text in enumerate(tokens_of(run(shuffled, **options, **seed(shuffled)).sequences)):
        assert text == together[order[place // copies] * copies + place % copies]
    for i, utterance in enumerate(utterances):
        alone = tokens_of(run([utterance], **options, **seed([utterance])).sequences)
        assert alone == together[i * copies : (i + 1) * copies]


def test_seed_determines_the_samples() -> None:
    def of(seed: int) -> list[list[int]]:
        return run([3] * 6, do_sample=True, seed=seed).sequences.tolist()

    assert of(1) == of(1)
    assert of(1) != of(2)
    assert len({tuple(row) for row in of(1)}) > 1  # equal utterances of a batch get different samples
    samples = run([3], do_sample=True, num_return_sequences=6).sequences.tolist()
    assert len({tuple(row) for row in samples}) > 1


def test_samples_follow_the_distribution() -> None:
    """The first two tokens of 20,000 samples against the products of their probabilities; fixed seed."""
    decoder, count = HashDecoder([4], vocab=4), 20_000
    config = GenerationConfig(eos_token_id=END, pad_token_id=PAD, do_sample=True, max_new_tokens=2, top_k=0)
    prompt = np.full((1, 1), START)
    found = generate(decoder, prompt, config.replace(num_return_sequences=count), seed=7).sequences
    soft = lambda x: np.exp(x) / np.exp(x).sum()  # noqa: E731
    first = soft(decoder.start(prompt).logits[0])
    for a in range(4):
        after = soft(decoder.start(np.array([[START, a]])).logits[0])
        for b in range(4):
            share = first[a] * (float(b == PAD) if a == END else after[b])
            times = int(((found[:, 1] == a) & (found[:, 2] == b)).sum())
            assert abs(times - count * share) < 4.5 * (count * share * (1 - share)) ** 0.5 + 1e-9


def test_number_of_decoder_calls() -> None:
    decoder = HashDecoder([0])
    config = GenerationConfig(eos_token_id=END, pad_token_id=PAD, max_new_tokens=4, min_new_tokens=4)
    generate(decoder, np.full((1, 1), START), config)
    assert decoder.calls == ["start", "step", "step", "step"]
    beams = HashDecoder([0])
    generate(beams, np.full((1, 1), START), config.replace(num_beams=2))
    assert beams.calls == ["start", "expand", "step", "select", "step", "select", "step"]


@pytest.mark.parametrize("num_beams", [1, 3])
def test_outputs_of_steps_are_recorded_only_if_requested(num_beams: int) -> None:
    bare = run([1, 2], num_beams=num_beams)
    assert (
        bare.scores is bare.logits is bare.cross_attentions is bare.decoder_hidden_states is bare.beam_indices is None
    )
    full = run(
        [1, 2], num_beams=num_beams, return_dict_in_generate=True, output_scores=True, output_logits=True,
        output_attentions=True, output_hidden_states=True,
    )  # fmt: skip
    steps = len(full.scores)
    for recorded in (full.logits, full.decoder_attentions, full.cross_attentions, full.decoder_hidden_states):
        assert len(recorded) == steps
    assert all(scores.shape == (2 * num_beams, VOCAB) for scores in full.scores)
    assert all(scores.dtype == np.float32 for scores in full.scores)
    assert [layers[0].shape[0] for layers in full.cross_attentions] == [2 * num_beams] * steps
    np.testing.assert_array_equal(full.sequences, bare.sequences)


def test_outputs_have_the_order_of_transformers() -> None:
    greedy = run([1], return_dict_in_generate=True, output_scores=True).to_output(("e",), ("h",))
    assert isinstance(greedy, GenerateEncoderDecoderOutput)
    assert list(greedy.keys()) == ["sequences", "scores", "encoder_attentions", "encoder_hidden_states"]
    beams = run([1], num_beams=2, return_dict_in_generate=True, output_scores=True).to_output()
    assert isinstance(beams, GenerateBeamEncoderDecoderOutput)
    assert list(beams.keys()) == ["sequences", "sequences_scores", "scores", "beam_indices"]
    assert beams[0] is beams.sequences
    without = run([1], num_beams=2, return_dict_in_generate=True).to_output()
    assert list(without.keys()) == ["sequences", "beam_indices"]


def test_ended_is_false_for_sequences_cut_off_by_the_length() -> None:
    ended = run(list(range(30)), max_new_tokens=3)
    for row, end in zip(ended.sequences.tolist(), ended.ended.tolist(), strict=True):
        assert end == (END in row)
    assert 0 < ended.ended.sum() < 30
    beams = run(list(range(30)), max_new_tokens=3, num_beams=2, num_return_sequences=2)
    for row, end in zip(beams.sequences.tolist(), beams.ended.tolist(), strict=True):
        assert end == (END in row)
    assert 0 < beams.ended.sum() < 60


def test_sequences_without_end_token_have_the_maximum_length() -> None:
    config = GenerationConfig(num_beams=3, num_return_sequences=3)
    result = generate(HashDecoder([1, 2]), np.full((2, 1), START), config, capacity=6)
    assert result.sequences.shape == (6, 6)
    assert (result.sequences >= 0).all()
    assert not result.ended.any()


def test_transition_scores_add_up_to_the_hypothesis_scores() -> None:
    result = run(
        [1, 2, 3], num_beams=4, num_return_sequences=4, length_penalty=0.7, return_dict_in_generate=True,
        output_scores=True,
    )  # fmt: skip
    parts = compute_transition_scores(result.sequences, result.scores, result.beam_indices)
    generated = (result.beam_indices >= 0).sum(axis=1)
    np.testing.assert_allclose(parts.sum(axis=1) / generated**0.7, result.sequences_scores, rtol=1e-5)


@pytest.mark.parametrize("shape", [(0, 1), (2, 0), (3,), (1, 1, 1)])
def test_prompt_of_wrong_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(GenerationError, match=r"\[batch, tokens\] with at least one of each"):
        generate(HashDecoder([1]), np.zeros(shape, dtype=np.int64), GenerationConfig(max_new_tokens=3))


def test_options_are_checked_again_before_use() -> None:
    config = GenerationConfig(max_new_tokens=3)
    config.num_return_sequences = 2
    with pytest.raises(GenerationError, match="greedy search"):
        generate(HashDecoder([1]), np.full((1, 1), START), config)


def test_prefix_function_that_allows_no_token_is_refused() -> None:
    config = GenerationConfig(max_new_tokens=3)
    with pytest.raises(GenerationError, match=r"returned none for utterance 1 after \[2\]"):
        generate(
            HashDecoder([1, 2]), np.full((2, 1), START), config, prefix_allowed_tokens_fn=lambda u, t: [] if u else [3]
        )


# --- stopping and streaming -------------------------------------------------------------------------------------------


def letters(ids: list[int]) -> str:
    return "".join("abcdefghi"[i] for i in ids)


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"do_sample": True, "num_return_sequences": 2}])
def test_stop_string_ends_a_sequence_with_its_last_token(options: dict[str, Any]) -> None:
    utterances = list(range(40))
    plain = run(utterances, min_new_tokens=8, decode=letters, **options)
    result = run(utterances, min_new_tokens=8, stop_strings=["ef", "g"], decode=letters, **options)
    stopped = 0
    for row, ended in zip(result.sequences.tolist(), result.ended.tolist(), strict=True):
        text = letters(row[1:])
        ends = [text.index(s) + len(s) for s in ("ef", "g") if s in text]
        assert ended == bool(ends)
        assert set(text[min(ends, default=8) :]) <= {letters([PAD])}
        stopped += ended
    assert 10 < stopped < len(result.sequences)
    assert not plain.ended.any()


def test_stop_strings_need_a_tokenizer() -> None:
    with pytest.raises(GenerationError, match=r"`stop_strings` \('x'\) .* Pass `tokenizer=`"):
        run([1], stop_strings="x")


@pytest.mark.parametrize("num_beams", [1, 3])
def test_max_time_cuts_sequences_off(num_beams: int) -> None:
    result = run(list(range(20)), num_beams=num_beams, max_time=1e-9)
    assert result.sequences.shape[1] == 2
    assert result.ended.tolist() == [row[1] == END for row in result.sequences.tolist()]


class Recorder:
    def __init__(self) -> None:
        self.received = list[Any]()

    def put(self, value: np.ndarray) -> None:
        self.received.append(value.tolist())

    def end(self) -> None:
        self.received.append("end")


def test_streamer_receives_all_tokens_in_order() -> None:
    recorder = Recorder()
    result = run([1, 2], streamer=recorder)
    columns = result.sequences.T.tolist()
    assert recorder.received == [[[START], [START]], *columns[1:], "end"]


@pytest.mark.parametrize("options", [{"num_beams": 2}, {"do_sample": True, "num_return_sequences": 2}])
def test_streamer_with_several_sequences_per_utterance_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(GenerationError, match="one sequence per utterance"):
        run([1], streamer=Recorder(), **options)


def test_streamer_ends_when_generation_fails() -> None:
    class Broken(HashDecoder):
        def step(self, tokens: np.ndarray, state: State) -> Step[State]:
            raise RuntimeError("out of tubes")

    recorder, config = Recorder(), GenerationConfig(max_new_tokens=5)
    with pytest.raises(RuntimeError, match="out of tubes"):
        generate(Broken([1]), np.full((1, 1), START), config, streamer=recorder)
    assert recorder.received[-1] == "end"


def test_prompt_of_floats_is_refused() -> None:
    with pytest.raises(GenerationError, match="token ids, whole numbers, but holds float64"):
        generate(HashDecoder([1]), np.ones((1, 1)), GenerationConfig(max_new_tokens=3))
