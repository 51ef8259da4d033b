"""Write `docs/matrix.md` again, from what the tests compare: `python tests/contract/matrix_table.py`."""

import runpy
from itertools import product
from pathlib import Path

from dragoman.families import FAMILIES
from dragoman.testing import configs

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/matrix.md"
TEXT = """# Which encoder with which decoder

Every pair of this table is built at random, trains a step, is saved, loads again and writes the same numbers, and
generates with beams, whenever the tests run in full (`tests/property/test_matrix.py`). Of those marked ●, the logits,
the loss, and the tokens of greedy and beam search are compared with a model that `transformers` saved
(`tests/parity/`; Speech2Text2's with one that release 4.40 saved, among the last that had it). Text models without
cross-attention and T5 cannot be joined by `transformers` at all: of those marked ◐ its text model gets what our encoder
heard, and has to write the same as ours. ○ is a pair that no test compares, though each of its halves is compared in
others. `scripts/matrix` compares JAX with PyTorch for every pair: logits, gradients, an optimizer step, and the tokens
of greedy and beam search for 100 random clips (`tests/parity/test_jax.py`;
[when it was last run](jax.md#the-same-as-pytorch-pair-by-pair)).

"""


def compared() -> set[tuple[str, str]]:
    """Return the families of the pairs that are compared with transformers."""
    names = runpy.run_path(str(ROOT / "tests/parity/conftest.py"))
    encoders = {name: encoder.model_type for name, encoder in (names["ENCODERS"] | names["MORE_ENCODERS"]).items()}
    decoders = {name: model_type for name, (model_type, _) in names["MORE_DECODERS"].items()}
    pairs = [parameter.values[0] for parameter in names["PAIRS"]]
    pairs += product(names["MORE_ENCODERS"], names["DECODERS"])  # in test_encoders.py
    found = {(encoders[encoder], decoders.get(decoder, decoder)) for encoder, decoder in pairs}
    return found | {("wav2vec2", "speech_to_text_2")}  # in test_speech2text2.py


def compared_by_hand() -> set[tuple[str, str]]:
    """Return the families of the pairs whose text models transformers has, though it cannot join them."""
    prefixed = {decoder for decoder, fusion in configs.DECODERS if fusion == "prefix"}  # in test_prefix.py
    return {("wav2vec2", decoder) for decoder in prefixed | {"t5", "mt5"}}  # in test_t5.py


def written() -> str:
    """Return the page: a row a decoder, a column an encoder."""
    pairs, halves = compared(), compared_by_hand()
    encoders = [family.model_type for family in FAMILIES if family.speech]
    lines = [f"| | {' | '.join(f'`{name}`' for name in encoders)} |", "|---" * (len(encoders) + 1) + "|"]
    for family in FAMILIES:
        if family.text:
            row = [(encoder, family.model_type) for encoder in encoders]
            marks = ("●" if pair in pairs else "◐" if pair in halves else "○" for pair in row)
            lines.append(f"| `{family.model_type}` | {' | '.join(marks)} |")
    return TEXT + "\n".join(lines) + f"\n\n{len(pairs)} pairs of families are compared ●, {len(halves)} ◐.\n"


if __name__ == "__main__":
    PAGE.write_text(written())
