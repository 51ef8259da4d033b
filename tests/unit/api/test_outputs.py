from dataclasses import dataclass
from typing import Any

import pytest

from dragoman.api.outputs import ModelOutput


@dataclass
class Output(ModelOutput):
    loss: Any = None
    logits: Any = None
    states: Any = None


def test_access_by_name_key_and_position() -> None:
    output = Output(loss=1.0, logits="l", states=("s",))
    assert output.logits == output["logits"] == output[1] == "l"
    assert output[:2] == (1.0, "l")
    assert output[-1] == ("s",)


def test_none_fields_are_attributes_only() -> None:
    output = Output(logits="l")
    assert output[0] == "l"
    assert output.to_tuple() == output.values() == ("l",)
    assert output.loss is None
    assert "loss" not in output
    assert output.get("loss", 3) == 3
    assert output.get("logits") == "l"


def test_access_like_a_dictionary() -> None:
    output = Output(loss=0.5, states=())
    assert dict(output) == {"loss": 0.5, "states": ()}
    assert list(output) == list(output.keys()) == ["loss", "states"]
    assert list(output.items()) == [("loss", 0.5), ("states", ())]
    assert {**output} == dict(output)
    assert len(output) == 2


def test_misspelt_name_suggests_the_right_one() -> None:
    with pytest.raises(KeyError, match=r"only logits\. Did you mean"):
        Output(logits=1)["logit"]
