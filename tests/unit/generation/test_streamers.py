from queue import Empty
from threading import Thread
from typing import Any

import numpy as np
import pytest
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from dragoman.errors import GenerationError
from dragoman.generation.streamers import TextIteratorStreamer, TextStreamer

TEXT = "the quick brown fox\njumps over  the lazy dog, 你好 世界 naïve café"


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    """A byte-level BPE tokenizer, so that characters come in parts."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    inner.train_from_iterator([TEXT] * 3, trainers.BpeTrainer(vocab_size=290, initial_alphabet=alphabet))
    return transformers.PreTrainedTokenizerFast(tokenizer_object=inner)


def feed(streamer: Any, ids: list[int]) -> None:
    streamer.put(np.array([ids[:2]]))  # the prompt
    for token in ids[2:]:
        streamer.put(np.array([token]))
    streamer.end()


def test_prints_the_whole_text(tokenizer: Any, capsys: pytest.CaptureFixture[str]) -> None:
    feed(TextStreamer(tokenizer), tokenizer(TEXT).input_ids)
    assert capsys.readouterr().out == TEXT + "\n"


@pytest.mark.parametrize("skip_prompt", [False, True])
def test_pieces_equal_those_of_transformers(tokenizer: Any, skip_prompt: bool) -> None:
    import torch

    ids = tokenizer(TEXT).input_ids
    ours, theirs = [], []
    mine = TextStreamer(tokenizer, skip_prompt=skip_prompt)
    mine.on_finalized_text = lambda text, stream_end=False: ours.append(text)
    reference = transformers.TextStreamer(tokenizer, skip_prompt=skip_prompt)
    reference.on_finalized_text = lambda text, stream_end=False: theirs.append(text)
    feed(mine, ids)
    reference.put(torch.tensor([ids[:2]]))
    for token in ids[2:]:
        reference.put(torch.tensor([token]))
    reference.end()
    assert [piece for piece in ours if piece] == [piece for piece in theirs if piece]


def test_streamer_can_be_used_again(tokenizer: Any, capsys: pytest.CaptureFixture[str]) -> None:
    streamer = TextStreamer(tokenizer, skip_prompt=True)
    for _ in range(2):
        feed(streamer, [*tokenizer("ab").input_ids, *tokenizer("the fox").input_ids][-6:])
    first, second, _ = capsys.readouterr().out.split("\n")
    assert first == second != ""


def test_another_thread_receives_the_pieces(tokenizer: Any) -> None:
    streamer = TextIteratorStreamer(tokenizer, timeout=10)
    thread = Thread(target=feed, args=(streamer, tokenizer(TEXT).input_ids))
    thread.start()
    pieces = list(streamer)
    thread.join()
    assert "".join(pieces) == TEXT
    assert len(pieces) > 5


def test_waiting_times_out(tokenizer: Any) -> None:
    with pytest.raises(Empty):
        next(TextIteratorStreamer(tokenizer, timeout=0.01))


def test_several_utterances_are_refused(tokenizer: Any) -> None:
    with pytest.raises(GenerationError, match="one utterance, but the batch has 2"):
        TextStreamer(tokenizer).put(np.array([[1], [2]]))
