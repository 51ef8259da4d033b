"""Write `docs/matrix.md` again, from what the tests compare: `python tests/contract/matrix_table.py`."""

import runpy
from itertools import product
from pathlib import Path

from dragoman.families import FAMILIES

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/matrix.md"
TEXT = """# Which encoder with which decoder

Every pair of this table is built at random, trains a step, is saved, loads again and writes the same numbers, and
generates with beams, whenever the tests run in full (`tests/property/test_matrix.py`). Of those marked ●, the logits,
the loss, and the tokens of greedy and beam search are compared with a model that `transformers` saved
(`tests/parity/`); ○ is one that no test compares as a pair, though each of its halves is compared in others. Text
models without cross-attention, T5, Speech2Text2 and GPT-BigCode cannot be joined by today's `transformers`: their tests
compare them with the models that upstream has. `scripts/matrix` compares JAX with PyTorch for every pair: logits,
gradients, an optimizer step, and the tokens of greedy and beam search for 100 random clips
(`tests/parity/test_jax.py`; [when it was last run](jax.md#the-same-as-pytorch-pair-by-pair)).

"""


def compared() -> set[tuple[str, str]]:
    """Return the families of the pairs that are compared with transformers."""
    names = runpy.run_path(str(ROOT / "tests/parity/conftest.py"))
    encoders = {name: encoder.model_type for name, encoder in (names["ENCODERS"] | names["MORE_ENCODERS"]).items()}
    decoders = {name: model_type for name, (model_type, _) in names["MORE_DECODERS"].items()}
    pairs = [parameter.values[0] for parameter in names["PAIRS"]]
    pairs += product(names["MORE_ENCODERS"], names["DECODERS"])  # in test_encoders.py
    return {(encoders[encoder], decoders.get(decoder, decoder)) for encoder, decoder in pairs}


def written() -> str:
    """Return the page: a row a decoder, a column an encoder."""
    pairs = compared()
    encoders = [family.model_type for family in FAMILIES if family.speech]
    lines = [f"| | {' | '.join(f'`{name}`' for name in encoders)} |", "|---" * (len(encoders) + 1) + "|"]
    for family in FAMILIES:
        if family.text:
            marks = ("●" if (encoder, family.model_type) in pairs else "○" for encoder in encoders)
            lines.append(f"| `{family.model_type}` | {' | '.join(marks)} |")
    return TEXT + "\n".join(lines) + f"\n\n{len(pairs)} pairs of families are compared.\n"


if __name__ == "__main__":
    PAGE.write_text(written())
