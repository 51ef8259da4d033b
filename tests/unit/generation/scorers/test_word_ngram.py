"""A word n-gram model over subword tokens: the scores of any sequence add up to the definition."""

import math
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from dragoman.errors import ConfigError
from dragoman.generation.scorers.word_ngram import WordNGramModel, word_starts

END = 0
ENTRIES = {
    ("<unk>",): (-2.0, 0.0),
    ("<s>",): (-99.0, -0.3),
    ("</s>",): (-0.9, 0.0),
    ("the",): (-0.5, -0.2),
    ("cat",): (-0.6, -0.4),
    ("cats",): (-1.2, -0.1),
    ("Rome",): (-1.5, 0.0),
    ("<s>", "the"): (-0.2, -0.1),
    ("the", "cat"): (-0.3, -0.05),
    ("cat", "</s>"): (-0.1, 0.0),
    ("<s>", "the", "cat"): (-0.05, 0.0),
    ("the", "cat", "</s>"): (-0.02, 0.0),
}
# Four kinds of tokenizers: words separated by spaces, `##` and `@@` where a word continues, single letters.
KINDS = {
    "spaces": [
        "",
        " the",
        " cat",
        "s",
        ",",
        " The",
        " CAT",
        " Rome",
        "!",
        " -",
        " r",
        "ome",
        " ",
        "the",
        "(",
        "\u3000",
    ],
    "wordpiece": ["", "the", "cat", "##s", ",", "The", "Rome", "##,", "r", "##ome", "-"],
    "bpe": ["", "the", "cat", "cat@@", "s", ",", "R@@", "Ro@@", "me", "ome", "zzz"],
    "letters": ["", "t", "h", "e", "c", "a", "s", "|", ",", "R", "o", "m"],
}


def write(kind: str, tokens: Sequence[int]) -> str:
    pieces = [KINDS[kind][token] for token in tokens]
    if kind == "spaces":
        return "".join(pieces).strip()
    if kind == "letters":
        return "".join(pieces).replace("|", " ").strip()
    if kind == "wordpiece":
        return " ".join(filter(None, pieces)).replace(" ##", "").strip()
    return " ".join(filter(None, pieces)).replace("@@ ", "").removesuffix("@@").strip()


@pytest.fixture
def arpa(tmp_path: Path) -> Path:
    path = tmp_path / "words.arpa"
    path.write_text(arpa_of(ENTRIES))
    return path


def arpa_of(entries: dict[tuple[str, ...], tuple[float, float]]) -> str:
    lines = ["\\data\\"]
    for order in (1, 2, 3):
        lines.append(f"\n\\{order}-grams:")
        lines += [f"{p}\t{' '.join(words)}\t{b}" for words, (p, b) in entries.items() if len(words) == order]
    return "\n".join([*lines, "", "\\end\\", ""])


def by_definition(words: Sequence[str]) -> float:
    """log10 p(last word | previous words)."""
    if tuple(words) in ENTRIES:
        return ENTRIES[tuple(words)][0]
    return ENTRIES.get(tuple(words[:-1]), (0.0, 0.0))[1] + by_definition(words[1:])


def score(text: str) -> float:
    """The natural logarithm of the probability of a text, by the definition."""
    words = ["<s>"]
    for word in text.split():
        bare = word.strip(",!-(#")
        if bare:
            words.append(next((form for form in (bare, bare.lower()) if (form,) in ENTRIES), "<unk>"))
    words.append("</s>")
    return sum(by_definition(words[max(n - 2, 0) : n + 1]) for n in range(1, len(words))) * math.log(10)


def model_of(path: Path, kind: str) -> WordNGramModel:
    def decode(tokens: Sequence[int]) -> str:
        return write(kind, tokens)

    size = len(KINDS[kind])
    return WordNGramModel(path, starts=word_starts(decode, size), decode=decode, vocab_size=size, end=END)


@pytest.mark.parametrize("kind", KINDS)
def test_scores_add_up_to_the_word_model(kind: str, arpa: Path) -> None:
    model, rng = model_of(arpa, kind), random.Random(0)
    for _ in range(300):
        tokens = [rng.randrange(1, len(KINDS[kind])) for _ in range(rng.randrange(9))]
        step, total = model.start(np.array([[5]])), 0.0
        for token in tokens:
            total += step.logits[0, token]
            step = model.step(np.array([token]), step.state)
        total += step.logits[0, END]
        assert total == pytest.approx(score(write(kind, tokens)), rel=1e-5), write(kind, tokens)


def test_rows_are_repeated_and_selected(arpa: Path) -> None:
    model = model_of(arpa, "spaces")
    state = model.expand(model.start(np.array([[5], [5]])).state, 2)
    step = model.step(np.array([1, 2, 5, 1]), state)
    picked = model.select(step.state, np.array([1, 0]))
    assert [one.tokens for one in picked] == [(2,), (1,)]
    assert step.logits.dtype == np.float32


def test_unknown_word_without_unk_gets_the_probability_of_the_rarest(tmp_path: Path) -> None:
    path = tmp_path / "words.arpa"
    path.write_text(arpa_of({words: entry for words, entry in ENTRIES.items() if words != ("<unk>",)}))
    model = model_of(path, "spaces")
    step = model.step(np.array([10]), model.start(np.array([[5]])).state)  # " r"
    assert step.logits[0, 1] == pytest.approx((-0.3 - 1.5) * math.log(10))


def test_model_without_words_or_letters_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "words.arpa"
    path.write_text(arpa_of({words: entry for words, entry in ENTRIES.items() if words[0][0] == "<"}))
    with pytest.raises(ConfigError, match="must be a language model over words, but has none"):
        model_of(path, "spaces")
    with pytest.raises(ConfigError, match="tokens that consist of letters"):
        word_starts(lambda tokens: "1" * len(tokens), 3)
