"""Regenerate `docs/matrix.md` from the pairs that the tests compare: `python tests/contract/matrix_table.py`."""

import runpy
from itertools import product
from pathlib import Path

from dragoman.families import FAMILIES
from dragoman.testing import configs

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/matrix.md"
TEXT = """# Encoder-decoder pairs

The full test run covers every pair in this table (`tests/property/test_matrix.py`): the model is built with random
weights, trained for one step, saved and loaded again with identical outputs, and generates with beam search.

- ● marks pairs whose logits, loss, and tokens of greedy and beam search are also compared with a model saved by
  `transformers` (`tests/parity/`; Speech2Text2 with a model saved by release 4.40, one of the last to include it).
- ◐ marks pairs that `transformers` cannot join, because the text model has no cross-attention or is T5. Its text model
  receives the states of our encoder instead, and must produce the same output as ours.
- ○ marks pairs that are not compared with `transformers`, though their encoder and their decoder are, in other tests.

`scripts/matrix` compares JAX with PyTorch for every pair: logits, gradients, an optimizer step, and the tokens of
greedy and beam search for 100 random clips (`tests/parity/test_jax.py`; [latest
run](jax.md#jax-and-pytorch-pair-by-pair)).

<div class="matrix" markdown="1">

"""


def compared() -> set[tuple[str, str]]:
    """Return the (encoder, decoder) families of the pairs that are compared with `transformers`."""
    names = runpy.run_path(str(ROOT / "tests/parity/conftest.py"))
    encoders = {name: encoder.model_type for name, encoder in (names["ENCODERS"] | names["MORE_ENCODERS"]).items()}
    decoders = {name: model_type for name, (model_type, _) in names["MORE_DECODERS"].items()}
    pairs = [parameter.values[0] for parameter in names["PAIRS"]]
    pairs += product(names["MORE_ENCODERS"], names["DECODERS"])  # in test_encoders.py
    found = {(encoders[encoder], decoders.get(decoder, decoder)) for encoder, decoder in pairs}
    return found | {("wav2vec2", "speech_to_text_2")}  # in test_speech2text2.py


def compared_by_hand() -> set[tuple[str, str]]:
    """Return the pairs whose text models `transformers` has but cannot join to a speech encoder."""
    prefixed = {decoder for decoder, fusion in configs.DECODERS if fusion == "prefix"}  # in test_prefix.py
    return {("wav2vec2", decoder) for decoder in prefixed | {"t5", "mt5", "m2m_100"}}  # in test_seq2seq.py


def written() -> str:
    """Return the page: one row per decoder, one column per encoder."""
    pairs, halves = compared(), compared_by_hand()
    encoders = [family.model_type for family in FAMILIES if family.speech]
    lines = [f"| | {' | '.join(f'`{name}`' for name in encoders)} |", "|---" * (len(encoders) + 1) + "|"]
    for family in FAMILIES:
        if family.text:
            row = [(encoder, family.model_type) for encoder in encoders]
            marks = ("●" if pair in pairs else "◐" if pair in halves else "○" for pair in row)
            lines.append(f"| `{family.model_type}` | {' | '.join(marks)} |")
    return TEXT + "\n".join(lines) + f"\n\n</div>\n\n{len(pairs)} pairs are marked ●, {len(halves)} ◐.\n"


if __name__ == "__main__":
    PAGE.write_text(written())
