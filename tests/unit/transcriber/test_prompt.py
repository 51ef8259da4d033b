"""Prompts: the text before, and the output language."""

from types import SimpleNamespace

import numpy as np
import pytest

from dragoman import GenerationConfig
from dragoman.errors import ConfigError
from dragoman.transcriber import TranscribeOptions, Transcriber
from dragoman.transcriber.language import target_languages, target_token, whisper_task

SOT, EN, CS, TRANSLATE, TRANSCRIBE, BEFORE, NO_TIMES = 257, 258, 259, 261, 262, 263, 265


@pytest.fixture(scope="module")
def whisper(whisper_checkpoint):
    return Transcriber(whisper_checkpoint, device="cpu")


@pytest.fixture
def prompts(whisper, monkeypatch):
    """The prompts passed to the real `generate`."""
    seen = []
    generate = type(whisper.model).generate

    def recorded(model, *args, **options):
        seen.append(options["decoder_input_ids"].tolist())
        return generate(model, *args, **options)

    monkeypatch.setattr(type(whisper.model), "generate", recorded)
    return seen


def transcribed(whisper, sample, **options):
    # Random weights never give an end token.
    with pytest.warns(UserWarning, match="words may be missing"):
        return whisper.transcribe(
            np.tile(sample, 2), **{"language": "en", "beam_size": 1, "max_new_tokens": 3, "temperature": 0, **options}
        )


def test_the_initial_prompt_precedes_every_transcript(whisper, sample, prompts):
    transcribed(whisper, sample, initial_prompt="Anna Karenina")
    words = whisper.processor.tokenizer.encode(" Anna Karenina", add_special_tokens=False)
    assert {tuple(row) for batch in prompts for row in batch} == {(BEFORE, *words, SOT, EN, TRANSCRIBE, NO_TIMES)}
    assert max(map(len, prompts)) > 1


def test_a_prompt_that_is_cut_is_a_warning(whisper, sample):
    room = whisper.model.decoder.spec.num_positions // 2 - 1
    text = " ".join(["Anna"] * room)
    count = len(whisper.processor.tokenizer.encode(" " + text, add_special_tokens=False))
    says = (
        rf"`initial_prompt` has {count} tokens, but there is room for {room}: the first {count - room} are cut, 'Anna"
    )
    with pytest.warns(UserWarning, match=says):
        transcribed(whisper, sample, initial_prompt=text)


def test_windows_are_prompted_with_the_text_before(whisper, sample, prompts):
    transcript = transcribed(whisper, sample, condition_on_previous_text=True, no_speech_threshold=None)
    assert len(transcript.segments) > 4
    assert all(len(batch) == 1 for batch in prompts)
    room = whisper.model.decoder.spec.num_positions // 2 - 1
    said: list[int] = []
    for (prompt,), segment in zip(prompts, transcript.segments, strict=True):
        assert prompt == [*([BEFORE] if said else []), *said[-room:], SOT, EN, TRANSCRIBE, NO_TIMES]
        said += segment.tokens


def test_a_transcript_sampled_at_a_high_temperature_is_no_prompt(whisper, sample, prompts):
    transcribed(whisper, sample, condition_on_previous_text=True, no_speech_threshold=None, temperature=0.8)
    assert {tuple(batch[0]) for batch in prompts} == {(SOT, EN, TRANSCRIBE, NO_TIMES)}


def test_a_model_without_prompts_warns(transcriber, sample):
    with pytest.warns(UserWarning, match="`initial_prompt` and `condition_on_previous_text` have no effect"):
        transcriber.transcribe(sample[:32_000], initial_prompt="Anna", temperature=0)


@pytest.mark.parametrize(
    ("options", "language", "expected"),
    [
        ({}, "cs", "transcribe"),
        ({"task": "translate"}, "cs", "translate"),
        ({"target_language": "english"}, "cs", "translate"),
        ({"target_language": "czech"}, "cs", "transcribe"),
        ({"target_language": "en"}, "en", "transcribe"),
    ],
)
def test_whisper_task_follows_from_the_output_language(options, language, expected):
    assert whisper_task(TranscribeOptions(**options), language) == expected


def test_whisper_writes_no_third_language(whisper, sample):
    with pytest.raises(ConfigError, match=r"Whisper writes the spoken language \(here cs\) or English"):
        whisper.transcribe(sample, language="cs", target_language="de")


def facts(lang_to_id=None):
    return SimpleNamespace(generation=GenerationConfig(lang_to_id=lang_to_id))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"target_language": "de"}, 250003),
        ({"target_language": "Arabic"}, 250001),
        ({"target_language": "CY"}, 250007),
        ({"target_language": "lv", "language": "en"}, 250017),
        ({}, None),
    ],
)
def test_published_translators_use_the_ids_of_their_card(options, expected):
    name = "facebook/wav2vec2-xls-r-300m-en-to-15"
    assert target_token(facts(), None, TranscribeOptions(**options), name) == expected


def test_an_unknown_output_language_lists_those_supported():
    with pytest.raises(ConfigError, match=r"cannot write 'fr'. `target_language` must be one of ar, ca, cy, de, et,"):
        target_token(facts(), None, TranscribeOptions(target_language="fr"), "x/wav2vec2-xls-r-1b-en-to-15")
    with pytest.raises(ConfigError, match="`task` must be one of ar, ca"):
        target_token(facts(), None, TranscribeOptions(task="translate"), "x/wav2vec2-xls-r-1b-en-to-15")
    name = "x/wav2vec2-xls-r-1b-22-to-16"
    assert target_token(facts(), None, TranscribeOptions(task="translate"), name) == 250004


def test_a_checkpoint_may_state_its_languages():
    stated = facts({"<|en|>": 5, "de": 6})
    assert target_languages(stated, None, "anything") == {"en": 5, "de": 6}
    assert target_token(stated, None, TranscribeOptions(language="german"), "anything") == 6


@pytest.mark.filterwarnings("ignore:.*words may be missing")  # random weights: the end token is only ever forced
def test_mbart_writes_the_requested_language(mbart_checkpoint, sample, monkeypatch):
    transcriber = Transcriber(mbart_checkpoint, device="cpu")
    ids = transcriber.processor.tokenizer.lang_code_to_id
    seen = []
    generate = type(transcriber.model).generate

    def recorded(model, *args, **options):
        seen.extend(options["decoder_input_ids"].tolist())
        return generate(model, *args, **options)

    monkeypatch.setattr(type(transcriber.model), "generate", recorded)
    for options, code in (
        ({}, "fr_XX"),  # the checkpoint's own
        ({"target_language": "de"}, "de_DE"),
        ({"target_language": "cs_CZ"}, "cs_CZ"),
        ({"target_language": "german", "language": "en"}, "de_DE"),
        ({"language": "ar"}, "ar_AR"),
        ({"task": "translate"}, "en_XX"),
    ):
        seen.clear()
        transcriber.transcribe(sample[:32_000], temperature=0, beam_size=1, **options)
        assert {tuple(prompt) for prompt in seen} == {(2, ids[code])}
    with pytest.raises(ConfigError, match=r"cannot write 'klingon'. `target_language` must be one of af_ZA, ar_AR"):
        transcriber.transcribe(sample, target_language="klingon")
