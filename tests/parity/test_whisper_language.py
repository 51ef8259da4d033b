"""Language, task and timestamps of a Whisper, beside its own `generate` in `transformers`."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import dragoman
from dragoman import GenerationError, SpeechEncoderDecoderConfig, SpeechEncoderDecoderModel
from dragoman.testing import tiny_config

START, ENGLISH, HINDI, GERMAN, TRANSCRIBE, TRANSLATE, NO_TIMES = 10, 11, 12, 13, 14, 15, 16
LANGUAGES = {"lang_to_id": {"<|en|>": ENGLISH, "<|hi|>": HINDI, "<|de|>": GERMAN}}
MULTILINGUAL = {
    **LANGUAGES,
    "task_to_id": {"transcribe": TRANSCRIBE, "translate": TRANSLATE},
    "is_multilingual": True,
    "no_timestamps_token_id": NO_TIMES,
}
IDS = {"decoder_start_token_id": START, "pad_token_id": 1, "eos_token_id": 2}
DETECT = {"forced_decoder_ids": [[1, None], [2, TRANSCRIBE]]}
CALLS: list[tuple[dict[str, Any], dict[str, Any]]] = [  # what the file says, and the call
    ({}, {}),
    ({}, {"language": "hindi"}),
    ({}, {"language": "<|hi|>", "task": "translate"}),
    ({}, {"language": "de", "return_timestamps": None}),
    ({}, {"task": "translate"}),
    ({}, {"language": ["en", "Hindi", "<|de|>"]}),
    ({"language": "hindi", "task": "transcribe"}, {}),
    ({"language": "hi", "task": "transcribe"}, {"language": "english", "task": "translate"}),
    ({"language": "hi"}, {"language": None}),
    (DETECT, {}),
    (DETECT, {"language": "de"}),
    ({"forced_decoder_ids": [[1, HINDI], [2, TRANSLATE], [3, NO_TIMES]]}, {}),
    ({"forced_decoder_ids": [[1, HINDI], [2, TRANSLATE], [3, NO_TIMES]]}, {"task": "transcribe"}),
    ({"is_multilingual": False, "lang_to_id": None, "task_to_id": None}, {}),
]


def write(folder: Path, options: dict[str, Any]) -> Path:
    file = folder / "generation_config.json"
    kept = {name: value for name, value in {**IDS, **MULTILINGUAL, **options}.items() if value is not None}
    file.write_text(json.dumps({**kept, "max_length": 12, "suppress_tokens": [2]}))
    return folder


def speech() -> torch.Tensor:
    return 3 * torch.randn(3, 8, 60, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Whisper, saved by `transformers`, whose best language depends on the speech."""
    torch.manual_seed(0)
    fields = tiny_config("whisper", vocab_size=40, **IDS).to_dict()
    model = transformers.WhisperForConditionalGeneration(transformers.WhisperConfig(**fields)).eval()
    with torch.no_grad():
        for tensor in model.parameters():
            if tensor.ndim > 1:
                tensor.copy_(1.6 * torch.randn_like(tensor) * (tensor.shape[0] / tensor.numel()) ** 0.5)
    place = tmp_path_factory.mktemp("whisper")
    model.save_pretrained(place)
    return place


@pytest.mark.parametrize("case", range(len(CALLS)))
def test_first_tokens_and_transcripts(folder: Path, case: int) -> None:
    stated, call = CALLS[case]
    write(folder, stated)
    theirs = transformers.WhisperForConditionalGeneration.from_pretrained(folder)
    ours = SpeechEncoderDecoderModel.from_pretrained(folder)
    # otherwise `transformers` cuts the first tokens off, and goes on until the end of a 30-second window
    wanted = theirs.generate(speech(), force_unique_generate_call=True, **call).tolist()
    found = ours.generate(speech(), **call).tolist()
    assert found == wanted
    assert all(row[0] == START for row in found)
    assert len({tuple(row) for row in found}) > 1


@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize("initial", [None, 3])
def test_timestamps(folder: Path, initial: int | None, num_beams: int) -> None:
    stated = {"return_timestamps": True, "max_initial_timestamp_index": initial, "suppress_tokens": [5]}
    write(folder, {})
    file = folder / "generation_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | stated))
    theirs = transformers.WhisperForConditionalGeneration.from_pretrained(folder)
    model = SpeechEncoderDecoderModel.from_pretrained(folder)
    call: dict[str, Any] = {"language": "de", "num_beams": num_beams}
    wanted = theirs.generate(speech(), force_unique_generate_call=True, **call)
    rows = model.generate(speech(), **call)
    assert rows.tolist() == wanted.tolist()
    assert rows[:, :3].tolist() == [[START, GERMAN, TRANSCRIBE]] * 3
    assert (rows[:, 3] > NO_TIMES).all()
    assert (rows[:, 4:] <= NO_TIMES).any()


def test_timestamps_in_compiled_programs_of_jax(folder: Path) -> None:
    write(folder, {"forced_decoder_ids": None, "lang_to_id": None, "task_to_id": None})
    call = {"return_timestamps": True, "max_new_tokens": 6}
    wanted = SpeechEncoderDecoderModel.from_pretrained(folder).generate(speech(), **call).tolist()
    found = dragoman.FlaxSpeechEncoderDecoderModel.from_pretrained(folder).generate(speech().numpy(), **call)
    assert np.asarray(found.sequences).tolist() == wanted


@pytest.mark.parametrize("backend", ["SpeechEncoderDecoderModel", "FlaxSpeechEncoderDecoderModel"])
def test_both_backends(folder: Path, backend: str) -> None:
    model = getattr(dragoman, backend).from_pretrained(write(folder, {}))
    audio = speech().numpy() if backend.startswith("Flax") else speech()
    torch_model = SpeechEncoderDecoderModel.from_pretrained(folder)
    detected = np.asarray(torch_model.generate(speech(), max_new_tokens=2))[:, :3].tolist()
    found = model.generate(audio, max_new_tokens=2)
    assert np.asarray(getattr(found, "sequences", found))[:, :3].tolist() == detected
    assert {row[1] for row in detected} <= {ENGLISH, HINDI, GERMAN}


def test_set_on_the_object_and_saved(folder: Path, tmp_path: Path) -> None:
    model = SpeechEncoderDecoderModel.from_pretrained(write(folder, {"language": "hindi"}))
    model.generation_config.language = "german"
    model.generation_config.task = "translate"
    assert model.generate(speech())[:, :4].tolist() == [[START, GERMAN, TRANSLATE, NO_TIMES]] * 3
    model.save_pretrained(tmp_path)
    again = transformers.WhisperForConditionalGeneration.from_pretrained(tmp_path).generation_config
    assert (again.language, again.task, again.lang_to_id) == ("german", "translate", LANGUAGES["lang_to_id"])
    again = SpeechEncoderDecoderModel.from_pretrained(tmp_path)
    assert again.generate(speech())[:, 1:3].tolist() == [[GERMAN, TRANSLATE]] * 3


@pytest.mark.parametrize(
    ("stated", "call", "message"),
    [
        ({}, {"language": "klingon"}, "'klingon', which this model does not know. It must be one of de, en, hi"),
        ({}, {"language": "french"}, "does not know"),
        ({}, {"language": "germann"}, 'Did you mean "german"'),
        ({}, {"language": ["en", "de"]}, "2 languages, but there are 3 utterances"),
        ({}, {"task": "summarise"}, "must be 'transcribe' or 'translate'"),
        ({"is_multilingual": False}, {"language": "en"}, "English-only"),
        ({"is_multilingual": False}, {"task": "transcribe"}, "English-only"),
        ({"no_timestamps_token_id": None}, {"return_timestamps": True}, "needs `no_timestamps_token_id`"),
        ({"lang_to_id": None}, {"language": "en"}, "`lang_to_id` .* is not set"),
        ({"task_to_id": None}, {"task": "translate"}, "`task_to_id` .* is not set"),
        ({}, {"language": "en", "decoder_input_ids": torch.tensor([[START]] * 3)}, "Pass one or the other"),
        ({"lang_to_id": {"<|en|>": 99}}, {}, "lang_to_id"),
    ],
)
def test_what_the_model_cannot_do_is_refused(
    folder: Path, stated: dict[str, Any], call: dict[str, Any], message: str
) -> None:
    model = SpeechEncoderDecoderModel.from_pretrained(write(folder, stated))
    with pytest.raises((GenerationError, dragoman.ConfigError), match=message):
        model.generate(speech(), **call)
    if "decoder_input_ids" not in call and stated != {"lang_to_id": {"<|en|>": 99}}:
        with pytest.raises((ValueError, AttributeError)):
            transformers.WhisperForConditionalGeneration.from_pretrained(folder).generate(speech(), **call)


def test_whisper_decoder_with_another_encoder() -> None:
    parts = {"encoder": tiny_config("wav2vec2"), "decoder": tiny_config("whisper", vocab_size=40, **IDS)}
    model = SpeechEncoderDecoderModel(config=SpeechEncoderDecoderConfig(**parts)).eval()
    model.generation_config.update(**MULTILINGUAL)
    rows = model.generate(torch.randn(2, 800), language=["hi", "de"], task="translate", max_new_tokens=2)
    assert rows[:, :4].tolist() == [[START, one, TRANSLATE, NO_TIMES] for one in (HINDI, GERMAN)]


def test_output_language_of_other_decoders(tmp_path: Path) -> None:
    """Their language is one forced token; without a table of languages it is refused, as all of `transformers` does."""
    parts = {"encoder": tiny_config("wav2vec2"), "decoder": tiny_config("mbart", decoder_start_token_id=2)}
    model = SpeechEncoderDecoderModel(config=SpeechEncoderDecoderConfig(**parts)).eval()
    with pytest.raises(GenerationError, match="do not tell the tokens of languages"):
        model.generate(torch.randn(1, 800), language="de", max_new_tokens=2)
    model.generation_config.lang_to_id = {"de_DE": 7, "en_XX": 8}
    for name in "german", "de", "de_DE", "DE-de":
        assert model.generate(torch.randn(1, 800), language=name, max_new_tokens=2)[0, 1] == 7
    model.generation_config.language = "english"
    assert model.generate(torch.randn(1, 800), max_new_tokens=2)[0, 1] == 8
    model.save_pretrained(tmp_path)
    again = SpeechEncoderDecoderModel.from_pretrained(tmp_path)
    assert again.generate(torch.randn(1, 800), max_new_tokens=2)[0, 1] == 8
    with pytest.raises(GenerationError, match="multilingual Whisper, which this decoder is not"):
        model.generate(torch.randn(1, 800), task="translate", max_new_tokens=2)
    with pytest.raises(GenerationError, match="timestamps of a Whisper, which this decoder is not"):
        model.generate(torch.randn(1, 800), return_timestamps=True, max_new_tokens=2)
    with pytest.raises(GenerationError, match="does not know"):
        model.generate(torch.randn(1, 800), language="hindi", max_new_tokens=2)
