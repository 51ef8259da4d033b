import dataclasses

import pytest

from dragoman.transcriber.result import Segment, compression_ratio, join_texts


@pytest.mark.parametrize(
    ("texts", "joined"),
    [
        ([], ""),
        (["", "  "], ""),
        ([" Hello,", "world. "], "Hello, world."),
        (["one", "", "two"], "one two"),
        (["你好。", "再见"], "你好。再见"),
        (["สวัสดี", "ครับ"], "สวัสดีครับ"),
        (["안녕", "세계"], "안녕 세계"),
        (["你好", "John"], "你好 John"),
        (["مرحبا", "بك"], "مرحبا بك"),
    ],
)
def test_join_texts(texts, joined):
    assert join_texts(texts) == joined


def test_compression_ratio():
    speech = "The quick brown fox jumps over the lazy dog while seven wizards box."
    assert compression_ratio(speech) < 1.3
    assert compression_ratio("and then " * 40) > 10
    assert compression_ratio("") == 0


def test_segments_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Segment(id=0, start=0, end=1, text="x").text = "y"
