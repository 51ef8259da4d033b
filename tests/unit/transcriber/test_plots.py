import numpy as np
import pytest

from dragoman.errors import DragomanError
from dragoman.transcriber.decoded import Alignment
from dragoman.transcriber.plots import plot_window
from dragoman.transcriber.result import Segment, Word
from dragoman.transcriber.segmenting import Examined

WORDS = (
    Word(word="a$b", start=3.0, end=3.4, probability=0.9),
    Word(word=" نعم", start=3.5, end=4.0, probability=0.2),
    Word(word=" 你好", start=4.0, end=4.1, probability=0.6),
)


def examined(words=WORDS, alignment=True, samples=32_000):
    rng = np.random.default_rng(0)
    text = "".join(word.word for word in words) or "a_{b} $x$"
    matrix = rng.random((3, 100), np.float32)
    return Examined(
        start=2.5,
        samples=rng.standard_normal(samples).astype(np.float32),
        segments=(Segment(id=0, start=2.6, end=4.1, text=text, words=words),),
        tokens=("a$b", "نعم"),
        log_probs=(-0.5, -0.1),
        alignment=Alignment(begins=np.array([0.0, 1.0, 1.5]), matrix=matrix) if alignment else None,
    )


def test_a_plot_shows_the_words(tmp_path):
    path = plot_window(examined(), tmp_path / "new" / "picture.svg")
    assert path == tmp_path / "new" / "picture.svg"
    drawn = path.read_text()
    assert drawn.count("<!-- ") > 5  # matplotlib writes each label it draws into a comment
    assert "<!-- 90% -->" in drawn or "90%" in drawn
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("window", [examined(words=()), examined(alignment=False), examined(samples=10)])
def test_plots_without_words_or_alignment(window, tmp_path):
    assert plot_window(window, tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_a_plot_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DragomanError, match=r"picture\.png cannot be written"):
        plot_window(examined(), tmp_path / "file" / "picture.png")
