"""Load reports: errors that list everything, and readable summaries."""

import pytest

from dragoman.checkpoint.report import LoadReport
from dragoman.errors import CheckpointError


def error_of(report: LoadReport) -> str:
    with pytest.raises(CheckpointError) as caught:
        report.raise_if_unfit()
    return str(caught.value)


def test_a_fitting_checkpoint_raises_nothing() -> None:
    LoadReport(loaded=["a"], fresh=["b"], dropped={"c": "a head"}).raise_if_unfit()


def test_everything_is_in_one_error() -> None:
    report = LoadReport(
        source="folder",
        missing=["embed.weight", "norm.bias"],
        unexpected=["unknown"],
        misshapen={"head.weight": ((3, 4), (5, 4))},
    )
    message = error_of(report)
    for part in (
        "folder",
        "2 missing (embed.weight; norm.bias)",
        "1 unexpected (unknown)",
        "1 of another shape (head.weight: [3, 4] instead of [5, 4])",
        "allow_new=",
    ):
        assert part in message
    assert "\n" not in message


def test_a_checkpoint_of_another_part_is_recognised() -> None:
    names = [f"decoder.stack.layers.{i}.ffn.in_proj.weight" for i in range(4)]
    words = "It has no layer of the decoder"
    assert words in error_of(LoadReport(missing=names, unexpected=["classifier.bias"], loaded=["decoder.embed.weight"]))
    assert words not in error_of(LoadReport(missing=names[1:], loaded=names[:1]))
    assert words not in error_of(LoadReport(missing=names, unexpected=["a.weight", "b.weight", "c.weight"]))
    own = [name.removeprefix("decoder.") for name in names]
    assert "It has no layer of the requested part" in error_of(LoadReport(missing=own))


def test_layers_are_listed_in_ranges() -> None:
    names = [f"layers.{i}.{kind}" for i in (0, 1, 2, 5, 11) for kind in ("weight", "bias")]
    assert "10 missing (layers.{0-2,5,11}.weight; layers.{0-2,5,11}.bias)" in error_of(LoadReport(missing=names))
    assert "(layers.3.weight)" in error_of(LoadReport(missing=["layers.3.weight"]))
    assert "(3; 4.5.x)" in error_of(LoadReport(missing=["3", "4.5.x"]))


def test_the_layers_of_misshapen_tensors_too() -> None:
    report = LoadReport(misshapen={f"layers.{i}.weight": ((2,), (i,)) for i in (3, 3, 4)})
    assert "layers.3.weight: [2] instead of [3]; layers.4.weight: [2] instead of [4]" in error_of(report)
    same = LoadReport(misshapen={f"layers.{i}.weight": ((2,), (1,)) for i in range(24)})
    assert "24 of another shape (layers.{0-23}.weight: [2] instead of [1])" in error_of(same)


def test_unusual_names_are_listed_briefly() -> None:
    report = LoadReport(unexpected=["²", "layers.²", "9" * 5_000, "..", "", "{}", *(f"x{i}" for i in range(10_000))])
    message = error_of(report)
    assert "10006 unexpected" in message
    assert "and 9906 more kinds" in message


def test_every_name_is_in_the_error() -> None:
    names = [f"block{i}.weight" for i in range(100)]
    message = error_of(LoadReport(missing=names))
    assert all(name in message for name in names)


def test_merging_adds_the_prefix_of_the_part() -> None:
    encoder = LoadReport(source="a", loaded=["x"], missing=["m"], fresh=["f"], unexpected=["encoder.u"])
    decoder = LoadReport(source="b", dropped={"decoder.d": "tied"}, misshapen={"s": ((1,), (2,))})
    merged = LoadReport().merged("encoder.", encoder).merged("decoder.", decoder)
    assert merged == LoadReport(
        source="a and b",
        loaded=["encoder.x"],
        missing=["encoder.m"],
        fresh=["encoder.f"],
        unexpected=["encoder.u"],
        dropped={"decoder.d": "tied"},
        misshapen={"decoder.s": ((1,), (2,))},
    )
    assert encoder.loaded == ["x"]  # the parts' own reports stay as they were
    assert LoadReport(source="a").merged("p.", LoadReport(source="a")).source == "a"


def test_a_summary_lists_new_tensors_and_reasons() -> None:
    report = LoadReport(
        source="folder",
        loaded=["a", "b"],
        fresh=["stack.layers.0.cross_attn.weight", "stack.layers.1.cross_attn.weight"],
        dropped={"lm_head.weight": "tied to the token embedding", "pooler.weight": "a decoder does not pool"},
    )
    assert report.summary().splitlines() == [
        "2 tensors loaded from folder",
        "2 tensors are new and need training: stack.layers.{0-1}.cross_attn.weight",
        "1 tensor left out, tied to the token embedding: lm_head.weight",
        "1 tensor left out, a decoder does not pool: pooler.weight",
    ]
    assert LoadReport(loaded=["a"]).summary() == "1 tensor loaded"
    assert "1 tensor is new and needs training: mask" in LoadReport(fresh=["mask"]).summary()
