from dataclasses import fields

import numpy as np
import pytest

from dragoman.errors import ConfigError
from dragoman.transcriber.options import TranscribeOptions


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beam_size": 0}, "`beam_size` must be at least 1, but is 0."),
        ({"batch_size": -1}, "`batch_size` must be at least 1, but is -1."),
        ({"max_new_tokens": 0}, "`max_new_tokens` must be at least 1, but is 0."),
        ({"no_repeat_ngram_size": -1}, "`no_repeat_ngram_size` must be at least 0"),
        ({"repetition_penalty": 0}, "`repetition_penalty` must be above 0"),
        ({"repetition_penalty": float("nan")}, "`repetition_penalty` must be above 0"),
        ({"chunk_length_s": 0.5}, "`chunk_length_s` must be at least 1 second, but is 0.5."),
        ({"vad_threshold": 1.5}, "`vad_threshold` must be between 0 and 1, but is 1.5."),
        ({"vad_max_speech_duration_s": 0}, "`vad_max_speech_duration_s` must be at least 1 second, but is 0."),
        ({"vad_min_silence_duration_ms": -5}, "`vad_min_silence_duration_ms` must be at least 0"),
        ({"beam_size": "5"}, "`beam_size` must be a whole number, but is '5'."),
        ({"beam_size": 2.5}, "`beam_size` must be a whole number, but is 2.5."),
        ({"batch_size": None}, "`batch_size` must be a whole number, but is None."),
        ({"max_new_tokens": True}, "`max_new_tokens` must be a whole number or None, but is True."),
        ({"vad_threshold": "half"}, "`vad_threshold` must be a number, but is 'half'."),
        ({"language": 3}, "`language` must be a string or None, but is 3."),
        ({"temperature": "0"}, "`temperature` must be one or more numbers of at least 0, but is 0."),
        ({"task": "summarise"}, "`task` must be 'transcribe' or 'translate', but is 'summarise'."),
    ],
)
def test_invalid_options_are_refused(options, message):
    with pytest.raises(ConfigError) as caught:
        TranscribeOptions(**options)
    assert message in str(caught.value)


def test_numpy_numbers_are_accepted():
    options = TranscribeOptions(beam_size=np.int64(2), lm_weight=np.float32(0.5), temperature=np.float64(0))
    assert options.temperatures == (0,)


def test_all_problems_are_reported_at_once():
    with pytest.raises(ConfigError, match=r"beam_size.*batch_size.*vad_threshold"):
        TranscribeOptions(beam_size=0, batch_size=0, vad_threshold=2)


def test_every_option_is_documented_once():
    for field in fields(TranscribeOptions):
        assert field.metadata["text"].endswith(".")
        assert field.metadata["group"]
        assert f"    {field.name}: {field.metadata['text']}\n" in TranscribeOptions.__doc__
        assert (field.default is None) or not field.metadata["unset"]
