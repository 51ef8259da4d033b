"""Programs around tokenizers and processors of `transformers`, with only the import line changed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from transformers.convert_slow_tokenizer import bytes_to_unicode

import dragoman
from dragoman.errors import ConfigError, DragomanError, TokenizerError

VOCAB = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\nquick\nfox\n##es\n"
CTC = {token: i for i, token in enumerate(["<pad>", "<s>", "</s>", "<unk>", "|", *"CEFHIKOQSTUX"])}
TEXTS = ["the quick fox", "foxes"]
CLIPS = [np.sin(np.arange(n, dtype=np.float32) / 7) for n in (900, 600)]
BYTES = sorted(bytes_to_unicode().values())


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Vocabulary files under the names of BERT, CTC models and GPT-2."""
    (tmp_path / "vocab.txt").write_text(VOCAB)
    (tmp_path / "ctc.json").write_text(json.dumps(CTC))
    (tmp_path / "gpt2.json").write_text(
        json.dumps({token: i for i, token in enumerate([*BYTES, "th", "the", "<|endoftext|>"])})
    )
    (tmp_path / "merges.txt").write_text("#version: 0.2\nt h\nth e\n")
    return tmp_path


def bert(library: Any, files: Path) -> Any:
    return library.BertTokenizer(str(files / "vocab.txt"))


def ctc(library: Any, files: Path) -> Any:
    return library.Wav2Vec2CTCTokenizer(
        str(files / "ctc.json"), unk_token="<unk>", pad_token="<pad>", word_delimiter_token="|", do_lower_case=True
    )


def gpt2(library: Any, files: Path) -> Any:
    vocab, merges = str(files / "gpt2.json"), str(files / "merges.txt")
    return library.GPT2TokenizerFast(vocab, merges, pad_token="<|endoftext|>")


def general(library: Any, files: Path) -> Any:
    gpt2(transformers, files).backend_tokenizer.save(str(files / "tokenizer.json"))
    return library.PreTrainedTokenizerFast(tokenizer_file=str(files / "tokenizer.json"), pad_token="<|endoftext|>")


MAKERS = {maker.__name__: maker for maker in (bert, ctc, gpt2, general)}


@pytest.fixture(params=MAKERS)
def maker(request: pytest.FixtureRequest) -> Any:
    return MAKERS[request.param]


def test_tokenizer_from_vocabulary_files_equals_transformers(maker: Any, files: Path, tmp_path: Path) -> None:
    ours, theirs = maker(dragoman, files), maker(transformers, files)
    for text in [*TEXTS, "THE FOX"]:
        assert ours(text).input_ids == theirs(text).input_ids
    assert ours(TEXTS, padding=True).data == dict(theirs(TEXTS, padding=True, return_token_type_ids=False))
    assert ours.vocab == theirs.get_vocab()
    ours.save_pretrained(tmp_path / "saved")
    assert dragoman.AutoTokenizer.from_pretrained(tmp_path / "saved")(TEXTS).data == ours(TEXTS).data


def test_missing_and_unknown_files_are_named(files: Path) -> None:
    with pytest.raises(TokenizerError, match=r"A GPT2Tokenizer is built from vocab\.json and merges\.txt, or read"):
        dragoman.GPT2Tokenizer(files / "gpt2.json")
    with pytest.raises(DragomanError, match=r"absent\.txt"):
        dragoman.BertTokenizer(files / "absent.txt")
    with pytest.raises(TokenizerError, match="no option 'pad_tokn'"):
        dragoman.BertTokenizer(files / "vocab.txt", pad_tokn="x")


def test_class_names_read_files_of_transformers(maker: Any, files: Path, tmp_path: Path) -> None:
    theirs = maker(transformers, files)
    theirs.save_pretrained(tmp_path / "saved")
    auto = dragoman.AutoTokenizer.from_pretrained(tmp_path / "saved")
    for name in {auto.tokenizer_class, type(theirs).__name__} & set(dragoman.__all__):
        tokenizer = getattr(dragoman, name).from_pretrained(tmp_path / "saved")
        assert isinstance(tokenizer, getattr(dragoman, name))
        assert tokenizer.tokenizer_class == auto.tokenizer_class
        assert tokenizer(TEXTS).data == auto(TEXTS).data


def test_class_of_another_kind_is_refused(files: Path, tmp_path: Path) -> None:
    bert(transformers, files).save_pretrained(tmp_path / "saved")
    with pytest.raises(TokenizerError, match="has a BertTokenizer, not a GPT2TokenizerFast"):
        dragoman.GPT2TokenizerFast.from_pretrained(tmp_path / "saved")
    for alias in (dragoman.BertTokenizerFast, dragoman.ElectraTokenizer, dragoman.PreTrainedTokenizerFast):
        tokenizer = alias.from_pretrained(tmp_path / "saved", pad_token="[MASK]")
        assert isinstance(tokenizer, alias)
        assert tokenizer.pad_token_id == 4
    assert not isinstance(tokenizer, dragoman.GPT2Tokenizer)


# ---- parts of `transformers` in our processors


@pytest.mark.parametrize("library", [dragoman, transformers])
def test_processor_takes_tokenizers_of_transformers(library: Any, maker: Any, files: Path, tmp_path: Path) -> None:
    extractor = library.Wav2Vec2FeatureExtractor(return_attention_mask=True)
    tokenizer = maker(transformers, files)
    processor = dragoman.Wav2Vec2Processor(feature_extractor=extractor, tokenizer=tokenizer)
    theirs = transformers.Wav2Vec2Processor(
        transformers.Wav2Vec2FeatureExtractor(return_attention_mask=True), tokenizer
    )
    batches: list[Any] = []
    for each in (processor, theirs):
        one = {"sampling_rate": 16000, "device": "cpu"} if each is processor else {"sampling_rate": 16000}
        features = [{"input_values": each(clip, **one).input_values[0]} for clip in CLIPS]
        labels = [{"input_ids": each(text=text).input_ids} for text in TEXTS]
        batches.append(each.pad(features, labels=labels, padding=True, return_tensors="np"))
        batches[-1]["text"] = each.batch_decode(batches[-1]["labels"])
    assert set(batches[0]) == set(batches[1])
    for name in batches[0]:
        if name == "text":
            assert batches[0][name] == batches[1][name]
        else:
            np.testing.assert_allclose(batches[0][name], batches[1][name], atol=1e-4)
    processor.save_pretrained(tmp_path / "saved")
    again = dragoman.AutoProcessor.from_pretrained(tmp_path / "saved")
    assert type(again) is dragoman.Wav2Vec2Processor
    assert again(text=TEXTS).input_ids == processor(text=TEXTS).input_ids
    assert (
        transformers.AutoProcessor.from_pretrained(tmp_path / "saved")(text=TEXTS).input_ids
        == again(text=TEXTS).input_ids
    )


def test_swapped_parts_of_transformers_are_refused(files: Path) -> None:
    extractor, tokenizer = transformers.Wav2Vec2FeatureExtractor(), bert(transformers, files)
    with pytest.raises(ConfigError, match="in this order, but got a BertTokenizer and a Wav2Vec2FeatureExtractor"):
        dragoman.Wav2Vec2Processor(tokenizer, extractor)
    theirs = transformers.Wav2Vec2Processor(extractor, tokenizer)
    with pytest.raises(ConfigError, match="got a Wav2Vec2FeatureExtractor and a Wav2Vec2Processor"):
        dragoman.Wav2Vec2Processor(extractor, theirs)


# ---- feature extractors

EXTRACTORS = (
    "Wav2Vec2FeatureExtractor",
    "WhisperFeatureExtractor",
    "Speech2TextFeatureExtractor",
    "SeamlessM4TFeatureExtractor",
    "ParakeetFeatureExtractor",
)


@pytest.fixture(params=EXTRACTORS)
def extractors(request: pytest.FixtureRequest, tmp_path: Path) -> list[Any]:
    """The same extractor in dragoman and `transformers`, from a file that the latter saved."""
    getattr(transformers, request.param)().save_pretrained(tmp_path)
    return [getattr(library, request.param).from_pretrained(tmp_path) for library in (dragoman, transformers)]


def test_fields_of_extractors_are_read_in_every_form(extractors: list[Any], tmp_path: Path) -> None:
    ours, theirs = extractors
    assert ours.model_input_names == theirs.model_input_names
    kind = type(ours)
    theirs.to_json_file(tmp_path / "theirs.json")
    ours.to_json_file(tmp_path / "ours.json")
    assert (tmp_path / "ours.json").read_text() == ours.to_json_string()
    for again in (kind.from_dict(theirs.to_dict()), kind.from_json_file(tmp_path / "theirs.json")):
        assert again.to_dict() == ours.to_dict()
    assert json.loads(ours.to_json_string()).items() >= json.loads(theirs.to_json_string()).items()
    assert type(theirs).from_json_file(tmp_path / "ours.json").to_json_string() == theirs.to_json_string()


def test_speech_by_keyword_equals_transformers(extractors: list[Any]) -> None:
    name = extractors[0].model_input_names[0]
    options = {"raw_speech": CLIPS[0], "sampling_rate": 16000, "return_tensors": "np"}
    ours, theirs = extractors
    np.testing.assert_allclose(ours(device="cpu", **options)[name], theirs(**options)[name], atol=1e-3)


def test_unpadded_rows_equal_transformers(extractors: list[Any]) -> None:
    ours, theirs = extractors
    name, options = ours.model_input_names[0], {"sampling_rate": 16000, "padding": False, "return_tensors": "np"}
    try:
        expected = theirs(CLIPS, **options)[name]
    except ValueError:  # Whisper and SeamlessM4T need rows of one shape
        with pytest.raises(DragomanError, match="Rows of different lengths cannot form one tensor"):
            ours(CLIPS, **options)
        return
    found = ours(CLIPS, **options)[name]
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    for row, reference in zip(found, expected, strict=True):
        np.testing.assert_allclose(row, reference, atol=1e-3)


@pytest.mark.parametrize("mask", [None, [[1] * 700, [1] * 600 + [0] * 100]])
def test_normalisation_equals_transformers(mask: Any) -> None:
    rows = [CLIPS[0][:700], np.pad(CLIPS[1], (0, 100))]
    ours, theirs = (
        library.Wav2Vec2FeatureExtractor.zero_mean_unit_var_norm(rows, mask, padding_value=0.5)
        for library in (dragoman, transformers)
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_windows_of_whisper_of_different_lengths_are_padded_with_silence() -> None:
    """`transformers` raises here."""
    extractor = dragoman.WhisperFeatureExtractor()
    clips = [np.sin(np.arange(n, dtype=np.float32) / 7) for n in (16000, 8000)]
    rows = [extractor(clip, sampling_rate=16000, padding="longest").input_features[0] for clip in clips]
    batch = extractor.pad(
        [{"input_features": row} for row in rows], padding=True, return_tensors="np", return_attention_mask=True
    )
    whole = extractor(clips, sampling_rate=16000, padding="longest", return_tensors="np").input_features
    assert batch.input_features.shape == whole.shape == (2, 80, 100)
    assert batch.attention_mask.sum(-1).tolist() == [100, 50]
    differs = np.abs(batch.input_features - whole).max(1)
    assert differs[0].max() == 0
    assert differs[1, :48].max() < 1e-5
    assert differs[1, 52:].max() < 1e-5  # the frames between see the end of the clip and its padding


@pytest.mark.parametrize("name", ["Wav2Vec2FeatureExtractor", "WhisperFeatureExtractor", "Speech2TextFeatureExtractor"])
@pytest.mark.parametrize("options", [{"padding": False}, {"padding": "max_length", "max_length": 9}, {"padding": True}])
def test_pad_makes_the_arrays_of_transformers(name: str, options: dict[str, Any]) -> None:
    """Rows that stay of different lengths are an array of arrays; Whisper takes frames first, too."""
    shape = () if name.startswith("Wav2Vec2") else (3,)
    fields = {"feature_size": 3} if shape else {}
    kinds = [getattr(library, name)(**fields) for library in (transformers, dragoman)]
    rows = [np.random.default_rng(0).standard_normal((length, *shape)).astype(np.float32) for length in (8, 12)]
    batch = {kinds[1].model_input_names[0]: rows}
    theirs, ours = (kind.pad(batch, return_tensors="np", return_attention_mask=True, **options) for kind in kinds)
    assert ours.keys() == theirs.keys()
    for key, expected in theirs.items():
        assert (ours[key].dtype, ours[key].shape) == (expected.dtype, expected.shape)
        assert all(np.array_equal(one, other) for one, other in zip(ours[key], expected, strict=True))


def test_dither_of_filter_banks_has_the_size_of_transformers() -> None:
    row = np.random.default_rng(0).standard_normal(16_000).astype(np.float32) * 1e-4  # some steps of 16 bits
    differences = []
    for library in (transformers, dragoman):
        plain, noisy = (
            library.Speech2TextFeatureExtractor(dither=dither)([row], sampling_rate=16_000)["input_features"][0]
            for dither in (0.0, 4.0)
        )
        differences.append(np.abs(noisy - plain).mean())
    assert differences[0] > 0.05
    assert differences[1] == pytest.approx(differences[0], rel=0.1)
    extractor = dragoman.Speech2TextFeatureExtractor(dither=4.0)
    assert np.array_equal(*(extractor([row], sampling_rate=16_000)["input_features"] for _ in range(2)))


def test_the_processor_of_a_folder_is_no_field_of_the_extractor(tmp_path: Path) -> None:
    for library in (transformers, dragoman):
        (tmp_path / "preprocessor_config.json").write_text('{"processor_class": "Wav2Vec2Processor"}')
        assert "processor_class" not in library.Wav2Vec2FeatureExtractor.from_pretrained(tmp_path).to_json_string()


@pytest.mark.parametrize(
    ("name", "fields"),
    [("Wav2Vec2", {}), ("Hubert", {}), ("SEW", {}), ("Wav2Vec2Conformer", {}), ("Wav2Vec2Bert", {"add_adapter": True})],
)
def test_samples_per_frame_of_a_configuration(name: str, fields: dict[str, Any]) -> None:
    theirs, ours = (getattr(library, f"{name}Config")(**fields) for library in (transformers, dragoman))
    assert ours.inputs_to_logits_ratio == theirs.inputs_to_logits_ratio
