"""Word timestamps, confidence and alternatives, with tiny random models."""

import math
from dataclasses import replace

import numpy as np
import pytest

from dragoman.errors import CheckpointError, ConfigError
from dragoman.transcriber import Transcriber
from dragoman.transcriber.aligner import frame_times
from dragoman.transcriber.result import Timings

OPTIONS = {"word_timestamps": True, "chunk_length_s": 2, "beam_size": 2}


@pytest.fixture(scope="module")
def timed(transcriber, sample):
    return transcriber.transcribe(sample, **OPTIONS)


def test_words_join_to_the_text_and_are_in_order(timed, sample):
    assert len(timed.segments) > 3
    for segment in timed.segments:
        assert "".join(word.word for word in segment.words) == segment.text
        assert (segment.start, segment.end) == (segment.words[0].start, segment.words[-1].end)
    times = [time for word in timed.words for time in (word.start, word.end)]
    assert times == sorted(times)
    assert 0 <= times[0] <= times[-1] <= len(sample) / 16_000
    assert all(0 < word.probability <= 1 for word in timed.words)
    assert timed.text == " ".join(segment.text for segment in timed.segments)


def test_word_timestamps_change_no_word(timed, transcriber, sample):
    plain = transcriber.transcribe(sample, **OPTIONS | {"word_timestamps": False})
    assert timed.text == plain.text
    assert [t for s in timed.segments for t in s.tokens] == [t for s in plain.segments for t in s.tokens]
    assert not plain.words


@pytest.mark.parametrize("beam_size", [1, 3])
def test_the_batch_size_changes_no_timestamp(transcriber, sample, beam_size):
    alone, together = (
        transcriber.transcribe(sample, **OPTIONS | {"batch_size": size, "beam_size": beam_size}) for size in (1, 8)
    )
    assert [w.word for w in alone.words] == [w.word for w in together.words]
    for one, other in zip(alone.words, together.words, strict=True):
        assert (one.start, one.end) == pytest.approx((other.start, other.end), abs=0.11)  # ties of a random model
        assert one.probability == pytest.approx(other.probability, abs=1e-3)


def test_confidence_is_the_geometric_mean_of_the_probabilities(timed):
    for segment in timed.segments:
        assert segment.confidence == pytest.approx(math.exp(segment.avg_logprob))
    assert replace(timed.segments[0], avg_logprob=None).confidence is None


def test_alternatives_are_distinct_and_in_order(transcriber, sample):
    best = transcriber.transcribe(sample, chunk_length_s=2, beam_size=4)
    several = transcriber.transcribe(sample, chunk_length_s=2, beam_size=4, num_return_sequences=3, batch_size=2)
    assert [s.tokens for s in several.segments] == [s.tokens for s in best.segments]
    for segment, single in zip(several.segments, best.segments, strict=True):
        assert single.alternatives == ()
        assert len({segment.tokens, *(one.tokens for one in segment.alternatives)}) == 3
        scores = [segment.avg_logprob, *(one.avg_logprob for one in segment.alternatives)]
        assert scores == sorted(scores, reverse=True)
        assert all(one.confidence == pytest.approx(math.exp(one.avg_logprob)) for one in segment.alternatives)
        assert segment.to_dict()["alternatives"][0]["text"] == segment.alternatives[0].text


def test_a_window_with_alternatives_stays_whole(transcriber, sample):
    transcript = transcriber.transcribe(sample, num_return_sequences=2, word_timestamps=True)
    assert len(transcript.segments) == 1
    assert transcript.words
    assert len(transcript.segments[0].alternatives) == 1


def test_more_alternatives_than_beams_are_refused(transcriber, sample):
    with pytest.raises(ConfigError, match=r"`num_return_sequences` must be at most `beam_size` \(2\), but is 3"):
        transcriber.transcribe(sample, beam_size=2, num_return_sequences=3)


def test_frame_times_of_wav2vec2(transcriber):
    """Frames are 320 samples apart; with wav2vec 2.0's kernels the first one is centred at 199.5."""
    engine = transcriber._engine
    assert engine.facts.speech.hop == 320
    field = engine.facts.speech.frontend.receptive_field
    count, times = frame_times(engine, 16_000, 1000)
    assert count == (16_000 - field) // 320 + 1
    assert times[:3] == pytest.approx([max(0, ((field - 1) / 2 - 160 + n * 320) / 16_000) for n in range(3)])
    assert frame_times(engine, 10, 5) == (1, pytest.approx([max(0, min(10, (field - 1) / 2 - 160)) / 16_000]))


def test_frame_times_of_whisper(whisper_checkpoint):
    engine = Transcriber(whisper_checkpoint, device="cpu")._engine
    count, times = frame_times(engine, 16_000, 100)
    assert count == 50
    assert times[[0, 1, 49]] == pytest.approx([0.0, 0.01, 0.97])


def test_word_timestamps_of_whisper(whisper_checkpoint, sample):
    whisper = Transcriber(whisper_checkpoint, device="cpu")
    with pytest.warns(UserWarning, match="words may be missing"):
        transcript = whisper.transcribe(sample, language="en", beam_size=2, max_new_tokens=6, word_timestamps=True)
    assert transcript.words
    assert transcript.words[-1].end <= transcript.duration


def test_heads_of_the_checkpoint_are_used(transcriber, sample, monkeypatch):
    asked = []
    attend = type(transcriber._engine.runner).cross_attention

    def recorded(runner, encoded, tokens, heads):
        asked.append(heads)
        weights = np.stack(list(attend(runner, encoded, tokens, heads)))
        assert weights.shape[:3] == (len(tokens), len(heads), tokens.shape[1])
        assert np.allclose(weights.sum(axis=-1), 1, atol=1e-5)
        return weights

    monkeypatch.setattr(type(transcriber._engine.runner), "cross_attention", recorded)
    transcriber.transcribe(sample, word_timestamps=True)
    default, asked[:] = set(asked), []
    monkeypatch.setattr(transcriber.model.generation_config, "alignment_heads", [[0, 1]])
    transcriber.transcribe(sample, word_timestamps=True)
    stack = transcriber.model.decoder.spec.stack
    assert default == {tuple((stack.num_layers - 1, head) for head in range(stack.block.self_attn.num_heads))}
    assert set(asked) == {((0, 1),)}


def test_silence_has_no_words(transcriber):
    transcript = transcriber.transcribe(np.zeros(32_000, np.float32), word_timestamps=True, vad_filter=False)
    assert transcript.words[-1].end <= 2.0 if transcript.words else not transcript.text


def test_timings_do_not_count_in_comparisons(timed):
    assert timed.timings.decoding > 0
    assert timed.timings.reading > 0
    assert timed.timings.total == timed.timings.decoding + timed.timings.reading
    assert replace(timed, timings=Timings(reading=1, decoding=2)) == timed
    assert "timings" not in timed.to_dict()


@pytest.mark.parametrize("samples", [1, 50, 400, 1_000])
def test_timestamps_of_the_shortest_recordings(transcriber, sample, samples):
    audio = sample[20_000 : 20_000 + samples]
    words = transcriber.transcribe(audio, word_timestamps=True, vad_filter=False, no_speech_threshold=None).words
    assert all(0 <= word.start <= word.end <= round(samples / 16_000, 3) + 0.001 for word in words)


def test_timestamps_of_a_transcript_that_fills_the_decoder(whisper_checkpoint, sample):
    whisper = Transcriber(whisper_checkpoint, device="cpu")
    with pytest.warns(UserWarning, match="words may be missing"):
        transcript = whisper.transcribe(
            sample[:20_000], language="en", beam_size=1, temperature=0, word_timestamps=True, logprob_threshold=None,
            compression_ratio_threshold=None,
        )  # fmt: skip
    assert transcript.words
    assert "".join(w.word for w in transcript.segments[0].words) == transcript.segments[0].text


def test_invalid_heads_are_refused_before_any_work(transcriber, sample, monkeypatch):
    monkeypatch.setattr(transcriber.model.generation_config, "alignment_heads", [[99, 0]])
    with pytest.raises(CheckpointError, match="`alignment_heads` must be pairs"):
        transcriber.stream_segments(sample, word_timestamps=True)
