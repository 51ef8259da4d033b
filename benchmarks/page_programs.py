"""Run the programs in docs/page.md with dragoman and, with the original import line, with `transformers`.

    python benchmarks/page_programs.py [--write]

Prints the table in docs/comparison.md; `--write` writes it there. A test compares the page with the results of this
script. The checkpoints are small and have random weights; tests/contract/page_checkpoints.py creates them.
"""

import argparse
import contextlib
import io
import os
import re
import runpy
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
START, END = "<!-- page programs: written by benchmarks/page_programs.py -->", "<!-- end of page programs -->"
Names = dict[str, Any]


@dataclass(frozen=True)
class Program:
    """One program of the page, with a check of its result."""

    title: str
    code: str
    lacks: Callable[[Names], str]  # the problem if the program runs but its result is wrong, otherwise ""


def _causal_and_listening(names: Names) -> str:
    decoder = names["model"].config.decoder
    return (
        ""
        if decoder.is_decoder and decoder.add_cross_attention
        else "the decoder has no cross-attention or is not causal"
    )


def _nothing(names: Names) -> str:
    return ""


def _embedding_loaded(names: Names) -> str:
    """Check whether the trained token embedding of a sequence-to-sequence checkpoint was loaded."""
    from safetensors.torch import load_file

    folder = Path("facebook", "bart-large" if names["model"].config.decoder.model_type == "bart" else "mbart-large-50")
    stored = load_file(folder / "model.safetensors")["model.shared.weight"]
    loaded = names["model"].decoder.get_input_embeddings().weight
    return "" if loaded.equal(stored) else "token embedding and head stay random"


def _german(names: Names) -> str:
    """Check that the output starts with the start token and the German language token."""
    start, language = names["generated_ids"][0, :2].tolist()
    german = names["processor"].tokenizer.convert_tokens_to_ids("de_DE")
    return "" if (start, language) == (2, german) else f"the output starts with {start} and {language}"


def _learned(names: Names) -> str:
    gradient = names["model"].enc_to_dec_proj.weight.grad if "enc_to_dec_proj" in dir(names["model"]) else None
    gradient = names["model"].bridge.proj.weight.grad if gradient is None else gradient
    return "" if gradient.abs().sum() > 0 else "the gradient is zero"


def _starts_as_trained(names: Names) -> str:
    first = names["generated_ids"][0, 0].item()
    return "" if first == names["tokenizer"].cls_token_id else f"the output starts with {first}"


ROWS: tuple[tuple[str, Callable[[Names], str]], ...] = (
    ("random initialisation", _causal_and_listening),
    ("warm start: HuBERT-large, BERT-base", _causal_and_listening),
    ("warm start: HuBERT-large, GPT-2", _causal_and_listening),
    ("warm start: HuBERT-large, BART's decoder", _embedding_loaded),
    ("warm start: HuBERT-large, mBART's decoder", _embedding_loaded),
    ("inference: wav2vec2-xls-r-300m-en-to-15", _german),
    ("training: wav2vec2-base, BERT-base", _learned),
    ("the same, then `generate` and `save_pretrained`", _starts_as_trained),
)


def programs(library: str) -> list[Program]:
    """Return the page's programs with the import line of the given library."""
    blocks = BLOCK.findall((ROOT / "docs/page.md").read_text())
    blocks[-1] = blocks[-2] + blocks[-1]  # it continues the training program
    code = [re.sub(r"^from dragoman import", f"from {library} import", block, flags=re.MULTILINE) for block in blocks]
    return [Program(title, text, lacks) for (title, lacks), text in zip(ROWS, code, strict=True)]


def run(program: Program) -> Names:
    """Run a program in the working directory, which contains the checkpoints, and return its variables."""
    names: Names = {"__name__": "__main__"}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(program.code, program.title, "exec"), names)  # noqa: S102 (our own page)
    return names


def outcome(program: Program) -> str:
    """Return the outcome of a program: "works", the problem, or the error message."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            lacks = program.lacks(run(program))
        except Exception as error:
            first = str(error).strip().split("\n")[0]
            return f"`{type(error).__name__}`: {first}".replace("|", "\\|").replace("<", "&lt;")
    return f"runs, but {lacks}" if lacks else "works"


def table(theirs: list[str], ours: list[str]) -> str:
    """Return the table in docs/comparison.md."""
    import transformers

    head = f"| program | transformers {transformers.__version__} | dragoman |\n|---|---|---|\n"
    rows = zip(ROWS, theirs, ours, strict=True)
    return head + "".join(f"| {title} | {their} | {our} |\n" for (title, _), their, our in rows)


def main() -> None:
    """Create the checkpoints, run every program, and print or write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the table into docs/comparison.md")
    options = parser.parse_args()
    import soundfile
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    speech, rate = soundfile.read(ROOT / "src/dragoman/testing/data/sample_en.flac", dtype="float32")
    with tempfile.TemporaryDirectory() as folder:
        runpy.run_path(str(ROOT / "tests/contract/page_checkpoints.py"))["write"](Path(folder))
        soundfile.write(Path(folder, "speech.wav"), speech[: 3 * rate], rate)
        os.chdir(folder)
        found = table(*([outcome(p) for p in programs(library)] for library in ("transformers", "dragoman")))
        os.chdir(ROOT)
    print(found)
    if options.write:
        page = ROOT / "docs/comparison.md"
        before, rest = page.read_text().split(START)
        page.write_text(f"{before}{START}\n{found}{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
