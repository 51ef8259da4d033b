import numpy as np
import pytest

from dragoman.errors import ConfigError
from dragoman.transcriber import Transcriber

SOT, EN, CS, AR, TRANSLATE, TRANSCRIBE, NO_TIMES = 257, 258, 259, 260, 261, 262, 265


@pytest.fixture(scope="module")
def whisper(whisper_checkpoint):
    return Transcriber(whisper_checkpoint, device="cpu")


@pytest.fixture
def prompts(whisper, monkeypatch):
    """The prompts passed to the real `generate`."""
    seen = []
    generate = type(whisper.model).generate

    def recorded(model, *args, **options):
        seen.extend(options["decoder_input_ids"].tolist())
        return generate(model, *args, **options)

    monkeypatch.setattr(type(whisper.model), "generate", recorded)
    return seen


def transcribed(whisper, sample, **options):
    # Random weights never give an end token.
    with pytest.warns(UserWarning, match="words may be missing"):
        return whisper.transcribe(sample, beam_size=1, max_new_tokens=3, **options)


@pytest.mark.parametrize(("language", "code", "token"), [("en", "en", EN), ("<|cs|>", "cs", CS), ("arabic", "ar", AR)])
@pytest.mark.parametrize(("task", "task_token"), [("transcribe", TRANSCRIBE), ("translate", TRANSLATE)])
def test_language_and_task_are_the_first_tokens(whisper, sample, prompts, language, code, token, task, task_token):
    transcript = transcribed(whisper, sample, language=language, task=task)
    assert transcript.language == code
    assert prompts
    assert all(prompt == [SOT, token, task_token, NO_TIMES] for prompt in prompts)


def test_language_and_task_of_the_checkpoint_apply_unless_the_user_chooses(whisper, sample, prompts, monkeypatch):
    own = whisper.model.generation_config
    monkeypatch.setattr(own, "language", "<|cs|>")
    monkeypatch.setattr(own, "task", "translate")
    for options, chosen in (
        ({}, (CS, TRANSLATE)),
        ({"language": "ar"}, (AR, TRANSLATE)),
        ({"task": "transcribe"}, (CS, TRANSCRIBE)),
    ):
        prompts.clear()
        assert transcribed(whisper, sample, **options).language == {CS: "cs", AR: "ar"}[chosen[0]]
        assert {tuple(prompt) for prompt in prompts} == {(SOT, *chosen, NO_TIMES)}


def test_an_unknown_language_is_refused(whisper, sample):
    with pytest.raises(ConfigError, match="does not know the language 'klingon', only ar, cs, en and"):
        whisper.transcribe(sample, language="klingon")


def test_a_language_missing_from_the_vocabulary_is_refused(whisper, sample):
    with pytest.raises(ConfigError, match="does not know the language 'french'"):
        whisper.transcribe(sample, language="french")


def test_the_language_is_detected_once(whisper, sample, prompts, monkeypatch):
    import torch

    asked = []
    forward = type(whisper.model).forward

    def listening(model, *args, **options):
        output = forward(model, *args, **options)
        if options["decoder_input_ids"].shape == (1, 1):
            asked.append(options["decoder_input_ids"].tolist())
            output.logits[..., AR] = torch.finfo(torch.float32).max
        return output

    monkeypatch.setattr(type(whisper.model), "forward", listening)
    transcript = transcribed(whisper, np.tile(sample, 2))
    assert asked == [[[SOT]]]
    assert transcript.language == "ar"
    assert len(prompts) > 4
    assert {tuple(prompt) for prompt in prompts} == {(SOT, AR, TRANSCRIBE, NO_TIMES)}


def test_the_tokenizer_is_not_changed(whisper, sample):
    before = (whisper.processor.tokenizer.language, whisper.processor.tokenizer.task)
    transcribed(whisper, sample, language="cs")
    assert (whisper.processor.tokenizer.language, whisper.processor.tokenizer.task) == before


@pytest.mark.parametrize("options", [{"language": "fr"}, {"target_language": "german"}])
def test_an_english_only_whisper_refuses_other_languages(whisper, sample, monkeypatch, options):
    monkeypatch.setattr(whisper.model.generation_config, "is_multilingual", False)
    with pytest.raises(ConfigError, match=r"English-only\. Choose a multilingual one, such as openai/whisper-tiny"):
        whisper.transcribe(sample, **options)


def test_an_english_only_whisper_warns_of_translation(whisper, sample, monkeypatch):
    monkeypatch.setattr(whisper.model.generation_config, "is_multilingual", False)
    says = r"`task` \(translate\) has no effect with this model: it is English-only\."
    with pytest.warns(UserWarning, match=says):
        transcript = transcribed(whisper, sample, language="en", task="translate")
    assert transcript.language == "en"


def test_a_window_longer_than_the_models_maximum_is_refused(whisper, sample):
    with pytest.raises(ConfigError, match="`chunk_length_s` must be at most 2 for this model"):
        whisper.transcribe(sample, chunk_length_s=3)


def test_windows_fit_the_model(whisper, sample):
    transcript = transcribed(whisper, np.tile(sample, 2), language="en")
    assert max(segment.end - segment.start for segment in transcript.segments) <= 2
