"""Speech that a decoder skips or repeats, with the default model: real sentences, said once or many times."""

from dataclasses import replace

import numpy as np
import pytest

from dragoman.transcriber import Transcriber, fallback

pytestmark = pytest.mark.network

RATE = 16_000


@pytest.fixture(scope="module")
def whisper():
    return Transcriber(device="cpu")


@pytest.fixture(scope="module")
def sentence(sample):
    return sample[round(0.3 * RATE) : round(3.75 * RATE)]


def test_a_sentence_said_eight_times_is_written_eight_times(whisper, sentence):
    """The window of 27.6 s alone gives a confident loop at a plausible rate: "interpreter" 13 times."""
    transcript = whisper.transcribe(np.tile(sentence, 8), beam_size=1)
    assert transcript.text.count("A good interpreter listens in one language and speaks in another.") == 8
    assert transcript.text.count("interpreter") == 8
    assert all(segment.temperature == 0 for segment in transcript.segments)


def skipping(monkeypatch, text_of, sentence):
    """Let the first search of every recording skip a sentence, as decoders do now and then."""
    search, seen = fallback._search, []

    def skips(*arguments):
        for one in search(*arguments):
            seen.append(one.text)
            if len(seen) > 1 or sentence not in one.text:
                yield one
                continue
            kept = next(n for n in range(len(one.tokens)) if sentence in text_of(one.tokens[: n + 1])) + 1
            start = next(n for n in range(kept, 0, -1) if sentence in text_of(one.tokens[n - 1 : kept])) - 1
            tokens = one.tokens[:start] + one.tokens[kept:]
            yield replace(one, tokens=tokens, log_probs=one.log_probs[: len(tokens) + 1], text=text_of(tokens))

    monkeypatch.setattr(fallback, "_search", skips)
    return seen


@pytest.mark.parametrize("word_timestamps", [False, True])
@pytest.mark.parametrize(
    "skipped",
    ["A good interpreter listens in one language and speaks in another.", "but the meaning must stay the same."],
)
def test_speech_without_words_is_decoded_again(whisper, sample, monkeypatch, word_timestamps, skipped):
    seen = skipping(monkeypatch, whisper._engine.text, skipped)
    transcript = whisper.transcribe(sample, beam_size=1, word_timestamps=word_timestamps)
    assert len(seen) > 1
    assert transcript.text.count("A good interpreter listens in one language and speaks in another.") == 1
    assert transcript.text.endswith("the meaning must stay the same.")
    assert [segment.start for segment in transcript.segments] == sorted(s.start for s in transcript.segments)
    assert all(segment.end - segment.start < 7 for segment in transcript.segments)
    assert any(segment.words for segment in transcript.segments) is word_timestamps
