import copy
import dataclasses
import json
import pickle
from dataclasses import dataclass
from typing import Any

import pytest

from dragoman.api.outputs import ModelOutput
from dragoman.errors import ConfigError


@dataclass(init=False, eq=False)
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
    assert output.to_tuple() == tuple(output.values()) == ("l",)
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


def test_it_is_a_dictionary_that_follows_its_attributes() -> None:
    output = Output(loss=1.0, logits="l")
    assert isinstance(output, dict)
    output.loss = 2.0
    assert output["loss"] == output[0] == 2.0
    output["states"] = "s"
    assert output.states == output.to_tuple()[-1] == "s"
    output.loss = None
    assert dict(output) == {"logits": "l", "states": "s"}
    assert json.loads(json.dumps(output)) == dict(output)


@pytest.mark.parametrize(
    "again",
    [
        copy.copy,
        copy.deepcopy,
        lambda o: pickle.loads(pickle.dumps(o)),  # noqa: S301
        dataclasses.replace,
        lambda o: Output(o),
    ],
)
def test_copies(again: Any) -> None:
    output = Output(logits="l", states=("s",))
    found = again(output)
    assert type(found) is Output
    assert (found.to_tuple(), found.logits, found.loss) == (output.to_tuple(), "l", None)


def test_fields_are_neither_taken_out_nor_invented() -> None:
    output = Output(loss=1.0)
    for act in (lambda: output.pop("loss"), lambda: output.update(loss=2), lambda: output.clear()):
        with pytest.raises(ConfigError, match="Set it to None"):
            act()
    with pytest.raises(KeyError, match="Did you mean"):
        output["los"] = 1
    with pytest.raises(TypeError, match="Output has no los"):
        Output(los=1)
    assert output.to_tuple() == (1.0,)
