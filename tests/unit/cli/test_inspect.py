import pytest

from dragoman import SpeechEncoderDecoderConfig, SpeechEncoderDecoderModel
from dragoman.cli import main
from dragoman.cli.inspect import parameter_table, problems, tree
from dragoman.errors import TokenizerError
from dragoman.testing import tiny_config

NO_PROCESSOR = TokenizerError("There is no tokenizer in the folder.")


@pytest.fixture(scope="module")
def model():
    config = SpeechEncoderDecoderConfig(
        encoder=tiny_config("wav2vec2"),
        decoder=tiny_config("bert"),
        decoder_start_token_id=0,
        eos_token_id=2,
        pad_token_id=1,
    )
    return SpeechEncoderDecoderModel(config=config)


def numbers(lines: list[str]) -> dict[str, int]:
    return {words[0]: int(words[-1].replace(",", "")) for words in (line.split() for line in lines)}


def test_sizes_in_the_tree_add_up(model):
    lines = list(tree(model))
    counts = numbers([line for line in lines if not line.startswith("    ")])
    total = sum(parameter.numel() for parameter in model.parameters())
    assert counts["SpeechEncoderDecoderModel"] == total
    assert counts["encoder:"] + counts["bridge:"] + counts["decoder:"] == total
    assert "(wav2vec2)" in lines[1]
    assert any("2 x " in line for line in lines), "layers share a line"


def test_the_table_lists_every_parameter_once(model):
    lines = list(parameter_table(model))
    heads = [line for line in lines if not line.startswith(" ")]
    assert sum(int(line.split()[3].replace(",", "")) for line in heads) == sum(p.numel() for p in model.parameters())
    rows = [line.split(" x ") for line in lines if line.startswith(" ")]
    assert sum(int(row[1]) if len(row) > 1 else 1 for row in rows) == len(list(model.parameters()))
    assert any("layers.{i}." in row[0] and "[24, 24]" in row[0] and "float32" in row[0] for row in rows)


def test_a_missing_processor_is_a_problem(model):
    (only,) = problems(model, NO_PROCESSOR)
    assert (
        only == "Audio cannot be prepared, and tokens cannot be turned into text: There is no tokenizer in the folder."
    )


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("decoder_start_token_id", None, "`decoder_start_token_id` is not set: generate has no token to start with"),
        ("eos_token_id", None, "`eos_token_id` is not set: sequences end only at the length limit"),
        ("pad_token_id", 99, "`pad_token_id` is 99, but the decoder has only the ids 0 to 98."),
        ("eos_token_id", [2, 120], "`eos_token_id` is 120"),
    ],
)
def test_invalid_ids_are_problems(name, value, says):
    ids = {"decoder_start_token_id": 0, "eos_token_id": 2, "pad_token_id": 1, name: value}
    decoder = tiny_config("gpt2", bos_token_id=None, eos_token_id=None)
    model = SpeechEncoderDecoderModel(
        config=SpeechEncoderDecoderConfig(encoder=tiny_config("wav2vec2"), decoder=decoder, **ids)
    )
    assert any(line.startswith(says) for line in problems(model, NO_PROCESSOR))


@pytest.mark.network
def test_names_of_whisper_are_understood(capsys):
    assert main(["inspect", "tiny.en"]) == 0
    assert "(whisper)" in capsys.readouterr().out
    assert main(["inspect", "small.en", "--local_files_only"]) == 3
    assert "openai/whisper-small.en" in capsys.readouterr().err
