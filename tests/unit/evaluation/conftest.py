"""Random references and hypotheses."""

import random

import pytest

LATIN = "the a cat sat. on, mat! don't Mr. 1,000 uh é e\u0301 naïve Straße ЖУК -- … ñ n\u0303 ﬁne Ａ 👍🏽"
OTHERS = "مرحبا بالعالم كِتَابٌ لا إله \u200f\u061f 你好 世界 今天天气 日本語 हिन्दी नमस्ते ไทย"
WORDS = [*LATIN.split(), *OTHERS.split()]


def random_pairs(count, seed=0):
    rng = random.Random(seed)
    references, hypotheses = [], []
    for _ in range(count):
        words = [rng.choice(WORDS) for _ in range(rng.choice([0, 1, 2, 3, 5, 8]))]
        other = [rng.choice(WORDS) if rng.random() < 0.3 else word for word in words if rng.random() < 0.9]
        if rng.random() < 0.2:
            other.insert(rng.randint(0, len(other)), rng.choice(WORDS))
        references.append(rng.choice([" ", "", "  "]).join(words) if rng.random() < 0.1 else " ".join(words))
        hypotheses.append(" ".join(other))
    return references, hypotheses


@pytest.fixture(scope="session")
def pairs():
    """A function that returns references and hypotheses in several scripts, some of them empty."""
    return random_pairs
