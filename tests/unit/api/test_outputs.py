from dataclasses import dataclass
from typing import Any

import pytest

from dragoman.api.outputs import ModelOutput


@dataclass
class Output(ModelOutput):
    loss: Any = None
    logits: Any = None
    states: Any = None


def test_reads_by_name_key_and_position() -> None:
    output = Output(loss=1.0, logits="l", states=("s",))
    assert output.logits == output["logits"] == output[1] == "l"
    assert output[:2] == (1.0, "l")
    assert output[-1] == ("s",)


def test_fields_that_are_none_are_absent_but_for_attributes() -> None:
    output = Output(logits="l")
    assert output[0] == "l"
    assert output.to_tuple() == output.values() == ("l",)
    assert output.loss is None
    assert "loss" not in output
    assert output.get("loss", 3) == 3
    assert output.get("logits") == "l"


def test_reads_like_a_dictionary() -> None:
    output = Output(loss=0.5, states=())
    assert dict(output) == {"loss": 0.5, "states": ()}
    assert list(output) == list(output.keys()) == ["loss", "states"]
    assert list(output.items()) == [("loss", 0.5), ("states", ())]
    assert {**output} == dict(output)
    assert len(output) == 2


def test_a_wrong_name_is_answered_with_the_right_ones() -> None:
    with pytest.raises(KeyError, match=r"only logits\. Did you mean"):
        Output(logits=1)["logit"]
