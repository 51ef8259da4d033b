"""Shallow fusion: n-gram language models, hot words and neural models as scorers."""

import gzip
import math
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dragoman.errors import ConfigError, GenerationError
from dragoman.generation.decoder import Step, StepDecoder
from dragoman.generation.loop import generate
from dragoman.generation.options import GenerationConfig
from dragoman.generation.scorers.fusion import Fused, Scorer
from dragoman.generation.scorers.hotwords import HotWords
from dragoman.generation.scorers.ngram import NGramModel, read_arpa

END, START, VOCAB = 0, 1, 6
TOKENS = {"a": 2, "b": 3, "c": 4}
ARPA = """\
a comment, which the format allows

\\data\\
ngram 1=6
ngram 2=4
ngram 3=1

\\1-grams:
-1.0\t<unk>
-99\t<s>\t-0.3
-0.7\t</s>
-0.5\ta\t-0.2
-0.6\tb\t-0.4
-0.9\tc

\\2-grams:
-0.2\t<s> a\t-0.1
-0.3\ta b
-0.8\tb </s>
-1.1\tz z

\\3-grams:
-0.05\t<s> a b

\\end\\
"""


@pytest.fixture
def arpa(tmp_path: Path) -> Path:
    path = tmp_path / "model.arpa"
    path.write_text(ARPA)
    return path


def model_of(path: Path) -> NGramModel:
    return NGramModel(path, TOKENS, vocab_size=VOCAB, start=START, end=END)


def by_definition(words: list[str]) -> float:
    """log10 p(last word | previous words), by the definition of back-off."""
    grams = {words: (p, b) for words, p, b in read_by_hand()}
    if tuple(words) in grams:
        return grams[tuple(words)][0]
    if len(words) == 1:
        return grams[("<unk>",)][0]
    return grams.get(tuple(words[:-1]), (0.0, 0.0))[1] + by_definition(words[1:])


def read_by_hand() -> list[tuple[tuple[str, ...], float, float]]:
    entries, order = [], 0
    for line in ARPA.splitlines():
        if line.endswith("-grams:"):
            order = int(line[1])
        elif order and "\t" in line:
            fields = line.split("\t")
            entries.append((tuple(fields[1].split()), float(fields[0]), float(fields[2]) if len(fields) > 2 else 0.0))
    return entries


NAMES = {0: "</s>", 1: "<s>", 2: "a", 3: "b", 4: "c", 5: "nowhere"}


@pytest.mark.parametrize("text", [list(t) for n in range(3) for t in product([2, 3, 4, 5], repeat=n)])
def test_ngram_probabilities_follow_the_backoff_definition(arpa: Path, text: list[int]) -> None:
    model = model_of(arpa)
    step = model.start(np.array([[START]]))
    for token in text:
        step = model.step(np.array([token]), step.state)
    words = ["<s>", *(NAMES[token] for token in text)][-2:]
    for token, name in NAMES.items():
        assert step.logits[0, token] == pytest.approx(by_definition([*words, name]) * math.log(10), abs=1e-5, rel=1e-6)


def test_ngram_rows_are_repeated_and_selected(arpa: Path) -> None:
    model = model_of(arpa)
    state = model.expand(model.start(np.array([[START], [START]])).state, 2)
    step = model.step(np.array([2, 3, 4, 2]), state)
    assert [context[-1] for context in step.state] == [2, 3, 4, 2]
    assert [context[-1] for context in model.select(step.state, np.array([1, 0, 3, 3]))] == [3, 2, 2, 2]


def test_arpa_file_may_be_gzipped(arpa: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.arpa.gz"
    path.write_bytes(gzip.compress(ARPA.encode()))
    assert list(read_arpa(path)) == list(read_arpa(arpa))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "has no such line"),
        ("hello", "has no such line"),
        (ARPA.replace("\\end\\", ""), "ends early"),
        (ARPA.replace("-0.5\ta", "-0.5x\ta"), "Line 12 of .* could not convert"),
        (ARPA.replace("-0.3\ta b", "-0.3\ta b c d e"), "Line 18 .* expected 2 words with one or two numbers"),
        (ARPA.encode("utf-16"), "cannot be read"),
    ],
)
def test_malformed_arpa_file_is_refused(tmp_path: Path, content: str | bytes, message: str) -> None:
    path = tmp_path / "model.arpa"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError, match=message):
        model_of(path)


def test_missing_or_corrupt_arpa_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be read as an ARPA language model: .*No such file"):
        model_of(tmp_path / "none.arpa")
    (tmp_path / "plain.arpa.gz").write_text(ARPA)
    with pytest.raises(ConfigError, match="cannot be read as an ARPA language model"):
        model_of(tmp_path / "plain.arpa.gz")


def test_arpa_file_without_tokens_of_the_tokenizer_is_refused(arpa: Path) -> None:
    with pytest.raises(ConfigError, match="has none of its 1 tokens"):
        # the start and end tokens alone do not count
        NGramModel(arpa, {"q": 2}, vocab_size=VOCAB, start=START, end=END)


def boosts(phrases: dict[tuple[int, ...], float], text: list[int]) -> list[float]:
    """The boost that each token got."""
    words = HotWords(phrases, vocab_size=VOCAB)
    step, found = words.start(np.array([[START]])), []
    for token in text:
        found.append(float(step.logits[0, token]))
        step = words.step(np.array([token]), step.state)
    return found


@pytest.mark.parametrize(
    ("phrases", "text", "expected"),
    [
        ({(2,): 1.5}, [2, 3, 2], [1.5, 0, 1.5]),
        ({(2, 3): 1.0}, [2, 3, 4], [1, 1, 0]),
        ({(2, 3): 1.0}, [2, 4, 3], [1, -1, 0]),  # begun, not completed: subtracted again
        ({(2, 3): 1.0}, [2, 2, 3], [1, 0, 1]),  # begun again: one of the two is subtracted
        ({(2, 3, 4): 1.0, (3, 5): 2.0}, [2, 3, 5, 2], [1, 1, 2, 1]),  # continues as another phrase: minus 2, plus 4
        ({(2, 3): 1.0, (2, 3, 4): 1.0}, [2, 3, 5], [1, 1, 0]),  # the shorter one is complete and keeps its boost
        ({(2, 3): 1.0, (2, 3, 4, 5): 1.0}, [2, 3, 4, 2], [1, 1, 1, 0]),
        ({(2, 3, 5): 1.0, (3,): 2.0}, [2, 3, 4], [1, 3, -2]),  # a phrase inside one that is not completed
        ({(2, 3): 1.0, (2, 4): 3.0}, [2, 3, 2, 4], [3, -1, 3, 3]),  # a shared beginning has the larger boost
    ],
)
def test_hot_word_boosts_per_token(
    phrases: dict[tuple[int, ...], float], text: list[int], expected: list[float]
) -> None:
    assert boosts(phrases, text) == pytest.approx(expected)


def test_boosts_of_incomplete_hot_words_cancel_in_every_sequence() -> None:
    phrases = {(2, 3): 1.0, (3, 3, 4): 0.5, (4,): 2.0, (2, 4, 2, 5): 1.0}
    for text in product([2, 3, 4, 5], repeat=5):
        *before, last = boosts(phrases, [*text, END])
        found = sum(before) + last
        most = sum(boost * len(phrase) for phrase, boost in phrases.items() for _ in range(5))
        occurs = any(text[i : i + len(p)] == p for p in phrases for i in range(5))
        assert (found > 0) == occurs, text
        assert -1e-6 <= found <= most


@pytest.mark.parametrize("phrase", [(), (6,), (-1, 2)])
def test_invalid_hot_words_are_refused(phrase: tuple[int, ...]) -> None:
    with pytest.raises(GenerationError, match="one or more token ids from 0 to 5"):
        HotWords({phrase: 1.0}, vocab_size=VOCAB)


class Table:
    """Decoder whose logits depend on the last token only."""

    def __init__(self, seed: int, vocab: int = VOCAB) -> None:
        self.table = np.random.default_rng(seed).normal(0, 1.5, (vocab, vocab)).astype(np.float32)

    def start(self, prompt: np.ndarray) -> Step[np.ndarray]:
        return self.step(prompt[:, -1], prompt[:, -1])

    def expand(self, state: np.ndarray, copies: int) -> np.ndarray:
        return np.repeat(state, copies)

    def step(self, tokens: np.ndarray, state: np.ndarray) -> Step[np.ndarray]:
        return Step(self.table[tokens], tokens)

    def select(self, state: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return state[rows]


def log_softmax(x: np.ndarray) -> np.ndarray:
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.7])
def test_hypothesis_scores_are_weighted_sums(arpa: Path, weight: float) -> None:
    decoder, neural, ngrams = Table(0), Table(1), model_of(arpa)
    scorers = [Scorer(model=neural, weight=weight, normalize=True), Scorer(model=ngrams, weight=0.5)]
    options = GenerationConfig(
        eos_token_id=END, pad_token_id=START, num_beams=4, num_return_sequences=4, max_new_tokens=5, length_penalty=0.0
    )
    found = generate(Fused(decoder, scorers), np.array([[START]]), options)
    for text, score in zip(found.sequences.tolist(), found.sequences_scores.tolist(), strict=True):
        text = text[: text.index(END) + 1] if END in text else text
        total, step = 0.0, ngrams.start(np.array([[START]]))
        for last, token in pairwise(text):
            total += log_softmax(decoder.table[last])[token] + weight * log_softmax(neural.table[last])[token]
            total += 0.5 * step.logits[0, token]
            step = ngrams.step(np.array([token]), step.state)
        assert score == pytest.approx(total, abs=1e-4)


@pytest.mark.parametrize("options", [{}, {"num_beams": 3}, {"num_beams": 4, "num_beam_groups": 2}, {"do_sample": True}])
def test_hot_words_change_the_result_of_every_strategy(options: dict[str, Any]) -> None:
    hot = HotWords({(5, 4, 5): 20.0}, vocab_size=VOCAB)
    config = GenerationConfig(eos_token_id=END, pad_token_id=START, max_new_tokens=3, **options)
    plain = generate(Table(3), np.array([[START]] * 3), config).sequences.tolist()
    found = generate(Fused(Table(3), [Scorer(model=hot)]), np.array([[START]] * 3), config).sequences.tolist()
    assert plain != found == [[START, 5, 4, 5]] * 3


def test_scorer_may_have_its_own_prompt() -> None:
    scorer = Scorer(model=Table(1), prompt=np.array([[4], [5]]), normalize=True)
    step = Fused(Table(0), [scorer]).start(np.array([[START], [START]]))
    np.testing.assert_allclose(step.bonus, log_softmax(Table(1).table[[4, 5]]), rtol=1e-5)


def test_scorer_with_another_vocabulary_is_refused() -> None:
    fused: StepDecoder[Any] = Fused(Table(0), [Scorer(model=Table(1)), Scorer(model=Table(1, vocab=8))])
    with pytest.raises(GenerationError, match=r"the decoder's, \(1, 6\), but scorer 2 has \(1, 8\)"):
        fused.start(np.array([[START]]))


def test_pytorch_equals_numpy(arpa: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs PyTorch")

    class TorchTable(Table):
        def step(self, tokens: Any, state: Any) -> Step[Any]:
            return Step(torch.from_numpy(self.table)[tokens], tokens)

        def expand(self, state: Any, copies: int) -> Any:
            return state.repeat_interleave(copies)

    options = GenerationConfig(eos_token_id=END, pad_token_id=START, num_beams=3, max_new_tokens=5)
    scorers = [Scorer(model=model_of(arpa), weight=0.7), Scorer(model=HotWords({(2, 3): 1.0}, vocab_size=VOCAB))]
    expected = generate(Fused(Table(5), scorers), np.array([[START]] * 2), options)
    found = generate(Fused(TorchTable(5), scorers), torch.tensor([[START]] * 2), options)
    assert found.sequences.tolist() == expected.sequences.tolist()
    np.testing.assert_allclose(found.sequences_scores, expected.sequences_scores, rtol=1e-5)
