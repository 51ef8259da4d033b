"""Hallucination guards: which transcripts are decoded again, which windows are dropped, which transcript is kept."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from dragoman.audio.segment import Window
from dragoman.audio.speech import Span
from dragoman.transcriber import TranscribeOptions, Transcriber, decoding, fallback
from dragoman.transcriber.decoded import Decoded
from dragoman.transcriber.guards import best_of, covers_little, fails, is_looping, is_silence
from dragoman.transcriber.shorter import are_better, shorter_windows, suspicion


def decoded(
    text="A lamp burns in the window.",
    avg_logprob=-0.3,
    no_speech_prob=0.0,
    tokens=(1, 2, 3),
    truncated=False,
    seconds=0.0,
):
    return Decoded(
        text=text,
        tokens=tokens,
        log_probs=(avg_logprob,) * len(tokens),
        truncated=truncated,
        no_speech_prob=no_speech_prob,
        seconds=seconds,
    )


LOOP = "Thank you. " * 20


@pytest.mark.parametrize(
    ("one", "options", "expected"),
    [
        (decoded(), {}, False),
        (decoded(avg_logprob=-1.2), {}, True),
        (decoded(avg_logprob=-1.2), {"logprob_threshold": -2.0}, False),
        (decoded(avg_logprob=-1.2), {"logprob_threshold": None}, False),
        (decoded(LOOP), {}, True),
        (decoded(LOOP), {"compression_ratio_threshold": None}, False),
        (decoded("no " * 6, tokens=(4,) * 30, truncated=True), {}, True),
        (decoded("no " * 6, tokens=(4,) * 30), {}, False),
        (decoded(tokens=tuple(range(30)), truncated=True), {}, False),
    ],
)
def test_fails(one, options, expected):
    assert fails(one, TranscribeOptions(**options)) is expected


@pytest.mark.parametrize(
    ("no_speech_prob", "avg_logprob", "options", "expected"),
    [
        (0.9, -1.5, {}, True),
        (0.9, -0.5, {}, False),  # a confident transcript
        (0.5, -1.5, {}, False),
        (0.5, -1.5, {"no_speech_threshold": 0.4}, True),
        (0.9, -1.5, {"no_speech_threshold": None}, False),
        (0.9, -0.5, {"logprob_threshold": None}, True),
    ],
)
def test_is_silence(no_speech_prob, avg_logprob, options, expected):
    one = decoded(no_speech_prob=no_speech_prob, avg_logprob=avg_logprob)
    assert is_silence(one, TranscribeOptions(**options)) is expected


def test_is_looping():
    assert is_looping([9, 8] + [1, 2, 3] * 5)
    assert not is_looping([9, 8] + [1, 2, 3] * 4)
    assert not is_looping([1, 2, 3] * 5 + [9])
    assert is_looping([7] * 5)
    assert not is_looping([])


def test_best_of_transcripts_that_all_failed():
    options = TranscribeOptions()
    endless = decoded(LOOP, -0.1, tokens=(4,) * 30, truncated=True)
    texts = [endless, decoded("one", -3.0), decoded("two", -2.0), decoded("three", -2.0)]
    assert best_of(texts, options).text == "two"
    assert best_of(texts[:1], options).text == LOOP


def test_a_doubtful_transcript_does_not_win_for_not_repeating():
    options = TranscribeOptions()
    assert best_of([decoded(LOOP, -0.1), decoded("one", -3.0)], options).text == LOOP
    assert best_of([decoded(LOOP, -2.0), decoded("one", -3.0)], options).text == "one"


SAID = "I will not go there again. " * 8


@pytest.mark.parametrize(
    ("one", "length", "expected"),
    [
        (decoded(SAID, -0.2, seconds=16), 16, True),  # said eight times, or a loop: shorter windows tell
        (decoded(SAID, -2.0, seconds=16), 16, True),
        (decoded(SAID, -0.2, seconds=3), 3, False),  # too short to be divided
        (decoded(SAID, -2.0, no_speech_prob=0.9, seconds=16), 16, False),  # dropped anyway
        (decoded("A lamp burns.", -0.2, seconds=20), 20, True),
        (decoded("A lamp burns.", -1.2, seconds=20), 20, False),
        (decoded("A lamp burns in the window of the house, and someone waits.", -0.2, seconds=20), 20, False),
    ],
)
def test_which_windows_are_decoded_again_in_shorter_ones(one, length, expected):
    samples = np.zeros(length * 16_000, np.float32)
    assert (suspicion(one, samples, str, TranscribeOptions()) is not None) is expected
    off = TranscribeOptions(compression_ratio_threshold=None, vad_filter=False)
    assert suspicion(one, samples, str, off) is None


def test_shorter_windows_are_better_if_none_fails():
    options, loop, short = TranscribeOptions(), decoded(SAID, -0.1), decoded("I will not.", -0.4)
    assert are_better([short, short], loop, options)
    assert not are_better([short, loop], loop, options)
    assert not are_better([short, decoded("Go.", -1.3)], loop, options)
    assert are_better([short, decoded("", -1.3, no_speech_prob=0.9)], loop, options)  # a pause
    assert are_better([short, short], short, options)
    assert not are_better([short], decoded("I will not go.", -0.4), options)  # no more text than before


@pytest.mark.parametrize("gap", [None, (2.2, 4.0), (0.1, 4.0), (4.0, 7.6)])
def test_shorter_windows_keep_the_samples_of_their_window(sample, gap):
    samples = sample[: 7 * 16_000 + 9_600]
    window = Window((Span(50_000, 50_000 + len(samples) - 3_000),), before=1_000, after=2_000)
    parts = shorter_windows(window, samples, TranscribeOptions(vad_filter=False), gap)
    assert len(parts) > 1
    assert (parts[0][0].start, parts[-1][0].end) == (window.start, window.end)
    assert (parts[0][0].before, parts[-1][0].after) == (1_000, 2_000)
    assert all(before.end == after.start for (before, _), (after, _) in pairwise(parts))
    assert np.array_equal(np.concatenate([part for _, part in parts]), samples)


def test_samples_after_a_failed_search_are_bounded(transcriber, sample, monkeypatch):
    limits = []
    search = fallback._search

    def recorded(engine, encoded, batch, options, limit, temperature, attempt):
        limits.append(limit)
        return search(engine, encoded, batch, options, limit, temperature, attempt)

    monkeypatch.setattr(fallback, "_search", recorded)
    monkeypatch.setattr(fallback, "_SAMPLED_PER_SECOND", 5)  # the tiny model has 32 positions
    monkeypatch.setattr(fallback, "_MIN_SAMPLED", 4)
    options = {"temperature": (0, 0.5), "beam_size": 1, "no_speech_threshold": None, "logprob_threshold": -0.001}
    transcriber.transcribe(sample[:32_000], **options, vad_filter=False)
    assert limits == [31, 10]


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (decoded("A lamp burns.", -0.2, seconds=20), True),
        (decoded("A lamp burns.", -0.2, seconds=5), False),
        (decoded("A lamp burns.", -1.2, seconds=20), False),  # doubtful anyway
        (decoded("A lamp burns in the window of the house, and someone waits.", -0.2, seconds=20), False),
    ],
)
def test_a_text_that_covers_a_fraction_of_its_window(one, expected):
    assert covers_little(one, TranscribeOptions()) is expected


def test_a_text_that_covers_a_fraction_is_reported(transcriber, sample, monkeypatch):
    monkeypatch.setattr(decoding, "covers_little", lambda *_: True)
    monkeypatch.setattr(decoding, "is_silence", lambda *_: False)
    with pytest.warns(UserWarning, match=r"words may be missing between \d+\.\d\d s and .* has only \d+ characters"):
        transcriber.transcribe(sample, beam_size=1, temperature=0)


@pytest.fixture
def temperatures(monkeypatch):
    """The temperatures at which windows were decoded, and the numbers of the windows."""
    seen = []
    search = fallback._search

    def recorded(engine, encoded, batch, options, limit, temperature, attempt):
        seen.append((temperature, list(batch.numbers)))
        return search(engine, encoded, batch, options, limit, temperature, attempt)

    monkeypatch.setattr(fallback, "_search", recorded)
    return seen


def test_only_failed_windows_are_decoded_again(transcriber, sample, temperatures):
    options = {"chunk_length_s": 2, "batch_size": 8, "beam_size": 1, "no_speech_threshold": None}
    plain = transcriber.transcribe(sample, **options, temperature=0).segments
    between = sorted(segment.avg_logprob for segment in plain)
    threshold = (between[1] + between[2]) / 2  # two of them are below
    temperatures.clear()
    again = transcriber.transcribe(sample, **options, temperature=(0, 0.5), logprob_threshold=threshold).segments
    failed = [segment.id for segment in plain if segment.avg_logprob < threshold]
    assert temperatures == [(0, list(range(len(plain)))), (0.5, failed)]
    for before, after in zip(plain, again, strict=True):
        if before.id in failed:
            assert after.avg_logprob >= before.avg_logprob
            assert (after.temperature == 0.5) == (after.tokens != before.tokens or after.avg_logprob >= threshold)
        else:
            assert (after.tokens, after.temperature) == (before.tokens, 0)


def test_sampling_is_reproducible_and_independent_of_the_batch(transcriber, sample):
    options = {"chunk_length_s": 2, "temperature": 0.9, "best_of": 3, "logprob_threshold": None}
    runs = [
        [segment.tokens for segment in transcriber.transcribe(sample, **options, batch_size=size).segments]
        for size in (1, 3, 8)
    ]
    assert runs[0] == runs[1] == runs[2]
    assert len(set(runs[0])) > 1


def test_windows_without_speech_are_dropped(transcriber, sample):
    """The tiny model has no no-speech token and low log-probabilities: voice activity decides."""
    audio = np.random.default_rng(0).normal(0, 0.1, 32_000).astype(np.float32)
    options = {"vad_filter": False, "temperature": 0}
    assert transcriber.transcribe(audio, **options).segments == ()
    (noise,) = transcriber.transcribe(audio, **options, no_speech_threshold=None).segments
    assert noise.no_speech_prob > 0.9
    (speech,) = transcriber.transcribe(sample[:64_000], **options).segments
    assert speech.no_speech_prob < 0.1


def test_no_speech_probability_is_that_of_whispers_token(whisper_checkpoint, sample):
    whisper = Transcriber(whisper_checkpoint, device="cpu")
    options = {"language": "en", "temperature": 0, "max_new_tokens": 3, "no_speech_threshold": None}
    with pytest.warns(UserWarning, match="words may be missing"):
        segments = whisper.transcribe(sample[:32_000], **options).segments
    inputs = whisper.processor.feature_extractor(sample[:32_000], sampling_rate=16_000, return_tensors="pt")
    first = whisper.model(**inputs, decoder_input_ids=torch.tensor([[257]]))
    expected = first.logits[0, 0].softmax(-1)[264].item()
    assert segments[0].no_speech_prob == pytest.approx(expected, abs=0.02)
