"""Against `transformers`: the same arrays, except where its results depend on the padding."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dragoman.audio.features.log_mel import log_mel_spectrogram, mel_filter_bank
from dragoman.audio.features.wav2vec2 import Wav2Vec2FeatureExtractor
from dragoman.audio.features.whisper import WhisperFeatureExtractor
from dragoman.errors import AudioError, ConfigError, DragomanError, ModelNotFoundError

RATE = 16_000


@pytest.fixture(autouse=True)
def _quiet_transformers() -> Iterator[None]:
    transformers.logging.set_verbosity_error()
    yield
    transformers.logging.set_verbosity_warning()


def noise(samples: int, seed: int = 0, loudness: float = 0.1) -> np.ndarray:
    return (loudness * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def clips(*lengths: int) -> list[np.ndarray]:
    return [noise(length, seed) + np.float32(0.01 * seed) for seed, length in enumerate(lengths)]


def assert_same(ours: Any, theirs: Any, **tolerance: float) -> None:
    assert set(ours) == set(theirs)
    for key, expected in theirs.items():
        assert len(ours[key]) == len(expected)
        for mine, other in zip(ours[key], expected, strict=True):
            assert np.asarray(mine).dtype == np.asarray(other).dtype, key
            np.testing.assert_allclose(np.asarray(mine), np.asarray(other), **({"rtol": 0, "atol": 0} | tolerance))


# --- wav2vec 2.0 -----------------------------------------------------------------------------------------------------


@settings(max_examples=200)
@given(
    lengths=st.lists(st.integers(1, 400), min_size=1, max_size=5),
    fields=st.fixed_dictionaries(
        {
            "do_normalize": st.booleans(),
            "return_attention_mask": st.booleans(),
            "padding_side": st.sampled_from(["right", "left"]),
            "padding_value": st.sampled_from([0.0, -1.5]),
        }
    ),
    call=st.fixed_dictionaries(
        {
            "padding": st.sampled_from([True, False, "longest", "max_length", "do_not_pad"]),
            "max_length": st.sampled_from([50, 401, 1000]),
            "truncation": st.booleans(),
            "pad_to_multiple_of": st.sampled_from([None, 1, 7, 128]),
            "return_attention_mask": st.sampled_from([None, True, False]),
        }
    ),
    single=st.booleans(),
)
def test_wav2vec2_with_reference_padding_is_bit_identical(
    lengths: list[int], fields: dict[str, Any], call: dict[str, Any], single: bool
) -> None:
    speech = clips(*lengths)[0] if single else clips(*lengths)
    # Longer than `max_length` and not cut: `transformers` fails with its own mask.
    assume(call["padding"] != "max_length" or call["truncation"] or max(lengths) <= call["max_length"])
    ours = Wav2Vec2FeatureExtractor(**fields, reference_padding=True)(speech, sampling_rate=RATE, **call)
    assert_same(ours, transformers.Wav2Vec2FeatureExtractor(**fields)(speech, sampling_rate=RATE, **call))


@pytest.mark.parametrize("padding", [True, False])
def test_wav2vec2_with_a_mask_is_bit_identical_by_default(padding: bool) -> None:
    speech = clips(16_000, 700, 9_001)
    call = {"sampling_rate": RATE, "padding": padding, "return_attention_mask": True}
    ours = Wav2Vec2FeatureExtractor()(speech, return_tensors="np" if padding else None, **call)
    assert_same(ours, transformers.Wav2Vec2FeatureExtractor()(speech, return_tensors="np" if padding else None, **call))


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("mask", [True, False])
def test_wav2vec2_rows_do_not_depend_on_the_batch(side: str, mask: bool) -> None:
    extractor = Wav2Vec2FeatureExtractor(padding_side=side, return_attention_mask=mask)
    speech = clips(4_000, 700, 2_501)
    batch = extractor(speech, padding=True, sampling_rate=RATE, return_tensors="np")
    for index, clip in enumerate(speech):
        alone = extractor(clip, sampling_rate=RATE, return_tensors="np").input_values[0]
        row = batch.input_values[index]
        samples, padding = (
            (row[: len(clip)], row[len(clip) :]) if side == "right" else (row[-len(clip) :], row[: -len(clip)])
        )
        np.testing.assert_array_equal(samples, alone)
        assert not padding.any()
    theirs = transformers.Wav2Vec2FeatureExtractor(padding_side=side)(speech, padding=True, sampling_rate=RATE)
    assert np.abs(batch.input_values[1] - theirs["input_values"][1]).max() > 0.1  # it depends on the batch there


def test_wav2vec2_inputs_of_all_kinds() -> None:
    torch = pytest.importorskip("torch", reason="needs PyTorch")
    extractor = Wav2Vec2FeatureExtractor()
    clip = noise(500)
    expected = extractor(clip, sampling_rate=RATE, return_tensors="np").input_values
    for speech in (
        clip.tolist(),
        [clip],
        [clip.tolist()],
        (clip,),
        clip[None],
        torch.from_numpy(clip),
        [torch.from_numpy(clip)],
    ):
        np.testing.assert_array_equal(extractor(speech, sampling_rate=RATE, return_tensors="np").input_values, expected)
    np.testing.assert_allclose(extractor(clip.astype(np.float64), sampling_rate=RATE).input_values[0], expected[0])
    scaled = extractor((clip * 32768).round().astype(np.int16), sampling_rate=RATE).input_values[0]
    np.testing.assert_allclose(scaled, expected[0], atol=1e-3)
    tensors = extractor([clip, clip], sampling_rate=RATE, return_tensors="pt", return_attention_mask=True)
    assert tensors["input_values"].shape == (2, 500)
    assert tensors["attention_mask"].dtype == torch.int32


def test_wav2vec2_pad_joins_extracted_rows() -> None:
    fields = {"return_attention_mask": True}
    ours, theirs = Wav2Vec2FeatureExtractor(**fields), transformers.Wav2Vec2FeatureExtractor(**fields)
    rows = [{"input_values": clip, "attention_mask": np.ones(len(clip), np.int32)} for clip in clips(300, 40, 77)]
    for call in (
        {},
        {"padding": "max_length", "max_length": 320},
        {"pad_to_multiple_of": 128},
        {"truncation": True, "max_length": 50},
    ):
        assert_same(ours.pad([dict(row) for row in rows], **call), theirs.pad([dict(row) for row in rows], **call))
    columns = {"input_values": clips(300, 40), "labels": [np.arange(3), np.arange(3)]}
    assert_same(ours.pad(dict(columns)), theirs.pad(dict(columns)))
    assert ours.pad(rows, return_tensors="pt")["input_values"].shape == (3, 300)


ALIKE: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
    (noise(9), {"sampling_rate": 8_000}, AudioError, "16000 Hz.*8000 Hz.*as_waveform"),
    ([], {}, AudioError, "No audio"),
    (np.zeros(0), {}, AudioError, "no samples"),
    ([noise(9), noise(0)], {}, AudioError, "Waveform 1 of 2 holds no samples"),
    (np.zeros((2, 2, 9)), {}, AudioError, "mono-channel"),
    (np.zeros((900, 2)), {}, AudioError, r"\[samples, channels\]"),
    ([np.zeros((2, 9))], {}, AudioError, "mono"),
    (np.array([0, np.nan]), {}, AudioError, "sample 1 .* nan"),
    (["a"], {}, AudioError, "numbers"),
    ("a.wav", {}, AudioError, "floats or integers"),
    (noise(900), {"padding": "lnogest"}, ConfigError, "'lnogest'"),
    (noise(900), {"padding": True, "pad_to_multiple_of": 0}, ConfigError, "at least 1"),
    (noise(900), {"return_tensors": "tf"}, ConfigError, "return_tensors"),
]
OF_WAV2VEC2: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
    (clips(9, 8), {"return_tensors": "pt"}, AudioError, "padding=True"),
    (noise(9), {"truncation": True}, ConfigError, "max_length"),
    (noise(9), {"truncation": True, "max_length": 0}, ConfigError, "at least 1"),
    (noise(9), {"padding": "max_length"}, ConfigError, "max_length"),
]


@pytest.mark.parametrize(
    ("extractor", "speech", "call", "error", "cause"),
    [(Wav2Vec2FeatureExtractor(), *case) for case in ALIKE + OF_WAV2VEC2]
    + [(WhisperFeatureExtractor(), *case) for case in ALIKE],
)
def test_wrong_calls(extractor: Any, speech: Any, call: dict[str, Any], error: type[Exception], cause: str) -> None:
    with pytest.raises(error, match=cause) as caught:
        extractor(speech, **{"sampling_rate": RATE, **call})
    assert isinstance(caught.value, ValueError)  # what transformers raises


@pytest.mark.parametrize(
    "features", [[], [{"labels": 1}], {"labels": [1]}, {"input_values": []}, {"input_values": [1.0, 2.0]}, None]
)
def test_wrong_features_to_pad(features: Any) -> None:
    with pytest.raises(AudioError, match="`pad` needs"):
        Wav2Vec2FeatureExtractor().pad(features)


def test_keys_with_different_batch_sizes_are_refused() -> None:
    with pytest.raises(AudioError, match="one row for each example"):
        Wav2Vec2FeatureExtractor().pad({"input_values": clips(5, 5), "labels": [[1]]})


def test_a_missing_sampling_rate_gives_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    Wav2Vec2FeatureExtractor()(noise(9))
    assert "sampling_rate" in caplog.text


# --- Whisper ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_mels", [80, 128])
@pytest.mark.parametrize("rate", [16_000, 22_050])
@pytest.mark.filterwarnings("ignore:At least one mel filter")
def test_mel_filters_equal_those_of_transformers(num_mels: int, rate: int) -> None:
    theirs = transformers.WhisperFeatureExtractor(feature_size=num_mels, sampling_rate=rate).mel_filters
    ours = mel_filter_bank(num_bins=201, num_mels=num_mels, sampling_rate=rate)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-15)


@pytest.mark.parametrize("feature_size", [80, 128])
@pytest.mark.parametrize("samples", [1, 201, 16_000, 123_457, 479_600, 479_999, 480_000])
def test_log_mel_equals_that_of_transformers(feature_size: int, samples: int) -> None:
    theirs = transformers.WhisperFeatureExtractor(feature_size=feature_size)
    ours = WhisperFeatureExtractor(feature_size=feature_size)
    speech = noise(samples)
    call = {"sampling_rate": RATE, "return_tensors": "np", "return_attention_mask": True}
    assert_same(ours(speech, **call), theirs(speech, **call), atol=2e-5)
    # Against its own computation in float64, which its float32 one differs from as well.
    padded = np.pad(speech, (0, 480_000 - samples))
    exact = theirs._np_extract_fbank_features(padded[None], "cpu")
    np.testing.assert_allclose(ours(speech, **call).input_features, exact, rtol=0, atol=5e-6)


@pytest.mark.parametrize("loudness", [0.0, 1e-5, 1.0])
def test_log_mel_of_silence_and_of_noise(loudness: float) -> None:
    speech = noise(48_000, loudness=loudness).clip(-1, 1)
    call = {"sampling_rate": RATE, "return_tensors": "np"}
    assert_same(
        WhisperFeatureExtractor()(speech, **call), transformers.WhisperFeatureExtractor()(speech, **call), atol=2e-5
    )


@pytest.mark.parametrize(
    "call",
    [
        {"padding": "longest"},
        {"padding": "longest", "pad_to_multiple_of": 3_000},
        {"padding": "max_length", "max_length": 32_000},
        {"padding": "longest", "truncation": True, "max_length": 10_000},
        {"padding": "longest", "truncation": False},
        {"do_normalize": True},
        {"padding": "longest", "do_normalize": True},
    ],
)
@pytest.mark.parametrize(
    "fields", [{}, {"padding_value": 0.25}, {"padding_side": "left"}, {"chunk_length": 2, "hop_length": 200}]
)
def test_whisper_calls_agree(call: dict[str, Any], fields: dict[str, Any]) -> None:
    if call.get("do_normalize") and fields.get("padding_side") == "left":
        pytest.skip("`transformers` includes the padding in the statistics")
    speech = clips(16_000, 7_000, 24_123)
    call = {"sampling_rate": RATE, "return_attention_mask": True, "return_tensors": "np", **call}
    assert_same(
        WhisperFeatureExtractor(**fields)(speech, **call),
        transformers.WhisperFeatureExtractor(**fields)(speech, **call),
        atol=5e-5,
    )


def test_whisper_truncates_only_on_request() -> None:
    extractor, speech = WhisperFeatureExtractor(chunk_length=2), noise(3 * RATE)
    for padding in ("max_length", "longest", False):
        with pytest.raises(AudioError, match=r"lasts 3\.00 s, but the model takes 2 s"):
            extractor(speech, sampling_rate=RATE, padding=padding)
    assert extractor(speech, sampling_rate=RATE, truncation=True).input_features.shape == (1, 80, 200)
    assert extractor(speech, sampling_rate=RATE, truncation=False).input_features.shape == (1, 80, 300)


def test_whisper_features_without_padding() -> None:
    features = WhisperFeatureExtractor()(clips(16_000, 8_000), sampling_rate=RATE, padding=False).input_features
    assert [row.shape for row in features] == [(80, 100), (80, 50)]
    with pytest.raises(AudioError, match="shorter than one frame"):
        WhisperFeatureExtractor()(noise(159), sampling_rate=RATE, padding=False)
    with pytest.raises(AudioError, match="padding=True"):
        WhisperFeatureExtractor()(clips(16_000, 8_000), sampling_rate=RATE, padding=False, return_tensors="np")


def test_whisper_refuses_integers_stored_as_floats() -> None:
    with pytest.raises(AudioError, match="32768"):
        WhisperFeatureExtractor()(noise(900) * 32768, sampling_rate=RATE)


def test_dither_repeats_and_reaches_the_padding() -> None:
    extractor, speech = WhisperFeatureExtractor(dither=1e-3), noise(8_000)
    first, second = (extractor(speech, sampling_rate=RATE).input_features for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert first[0, :, 2_000:].std() > 0.01
    assert WhisperFeatureExtractor()(speech, sampling_rate=RATE).input_features[0, :, 2_000:].std() == 0


@settings(max_examples=30)
@given(samples=st.integers(1, 3_000), silence=st.integers(0, 3_000))
def test_silence_at_the_end_costs_nothing_and_changes_nothing(samples: int, silence: int) -> None:
    filters = mel_filter_bank(num_bins=201, num_mels=80, sampling_rate=RATE)
    speech = noise(samples)
    whole = log_mel_spectrogram(np.pad(speech, (0, silence)), filters=filters, hop_length=160)
    short = log_mel_spectrogram(speech, filters=filters, hop_length=160, length=samples + silence)
    np.testing.assert_allclose(short, whole, rtol=0, atol=1e-6)  # products of other sizes round differently


def test_whisper_pad_stacks_features() -> None:
    rows = [{"input_features": np.full((80, 30), value, np.float32), "labels": [1, 2]} for value in (0.0, 1.0)]
    assert_same(WhisperFeatureExtractor().pad(rows), transformers.WhisperFeatureExtractor().pad(rows))
    rows[1]["input_features"] = np.zeros((80, 29), np.float32)
    with pytest.raises(AudioError, match="cannot form one tensor"):
        WhisperFeatureExtractor().pad(rows, padding=False, return_tensors="pt")
    assert WhisperFeatureExtractor().pad(rows, return_tensors="np").input_features.shape == (2, 80, 30)


# --- files -----------------------------------------------------------------------------------------------------------

PAIRS = [
    (Wav2Vec2FeatureExtractor, transformers.Wav2Vec2FeatureExtractor, {}),
    (
        Wav2Vec2FeatureExtractor,
        transformers.Wav2Vec2FeatureExtractor,
        {"return_attention_mask": True, "padding_side": "left"},
    ),
    (WhisperFeatureExtractor, transformers.WhisperFeatureExtractor, {}),
    (
        WhisperFeatureExtractor,
        transformers.WhisperFeatureExtractor,
        {"feature_size": 128, "processor_class": "WhisperProcessor"},
    ),
]


@pytest.mark.parametrize(("ours", "theirs", "fields"), PAIRS)
def test_files_are_the_same_both_ways(ours: Any, theirs: Any, fields: dict[str, Any], tmp_path: Path) -> None:
    theirs(**fields).save_pretrained(tmp_path / "theirs")
    [path] = ours.from_pretrained(tmp_path / "theirs").save_pretrained(tmp_path / "ours")
    assert Path(path).read_bytes() == (tmp_path / "theirs/preprocessor_config.json").read_bytes()
    assert theirs.from_pretrained(tmp_path / "ours").to_dict() == theirs(**fields).to_dict()
    assert ours.from_dict(ours(**fields).to_dict()).to_dict() == ours(**fields).to_dict()
    assert ours.from_pretrained(path, padding_value=-1.0).padding_value == -1.0


def test_reference_padding_survives_saving(tmp_path: Path) -> None:
    Wav2Vec2FeatureExtractor(reference_padding=True).save_pretrained(tmp_path)
    assert Wav2Vec2FeatureExtractor.from_pretrained(tmp_path).reference_padding
    Wav2Vec2FeatureExtractor().save_pretrained(tmp_path)
    assert not Wav2Vec2FeatureExtractor.from_pretrained(tmp_path).reference_padding


def test_newer_checkpoints_nest_the_fields(tmp_path: Path) -> None:
    fields = Wav2Vec2FeatureExtractor(padding_value=2.0).to_dict()
    (tmp_path / "processor_config.json").write_text(json.dumps({"processor_class": "X", "feature_extractor": fields}))
    assert Wav2Vec2FeatureExtractor.from_pretrained(tmp_path).padding_value == 2.0
    (tmp_path / "processor_config.json").write_text(json.dumps({"processor_class": "X"}))
    Wav2Vec2FeatureExtractor(padding_value=3.0).save_pretrained(tmp_path)
    assert Wav2Vec2FeatureExtractor.from_pretrained(tmp_path).padding_value == 3.0


def test_unknown_fields_are_kept_and_private_ones_dropped(tmp_path: Path) -> None:
    fields = {
        "do_normalize": False,
        "_attn_implementation_internal": "x",
        "processor_class": "P",
        "note": "n",
    }  # no type: old files lack it
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(fields))
    saved = Wav2Vec2FeatureExtractor.from_pretrained(tmp_path).to_dict()
    assert saved["note"] == "n"
    assert "processor_class" not in saved  # it is about the folder
    assert not saved["do_normalize"]
    assert "_attn_implementation_internal" not in saved


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("\ud800".encode("utf-8", "surrogatepass"), "not valid JSON"),
        ("[1]", "JSON object, but holds a list"),
        ('{"feature_extractor_type": "WhisperFeatureExtractor"}', "fields of WhisperFeatureExtractor"),
        (
            '{"sampling_rate": "16000", "feature_size": -1}',
            "`feature_size` must be .*`sampling_rate` must be|`sampling_rate`.*",
        ),
        ('{"padding_value": null}', "`padding_value` must be a number"),
        ('{"padding_side": "top"}', "`padding_side` must be"),
    ],
)
def test_bad_files(content: str | bytes, cause: str, tmp_path: Path) -> None:
    path = tmp_path / "preprocessor_config.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError, match=cause):
        Wav2Vec2FeatureExtractor.from_pretrained(tmp_path)


@pytest.mark.parametrize("field", ["n_fft", "feature_size", "chunk_length", "hop_length"])
@pytest.mark.parametrize("value", [0, -1, 10**9, 1.5, True, "80", None])
def test_hostile_sizes_are_refused_before_allocation(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"`{field}` must be a whole number"):
        WhisperFeatureExtractor(**{field: value})


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"There is no folder '.*nowhere'"):
        WhisperFeatureExtractor.from_pretrained(tmp_path / "nowhere")
    with pytest.raises(ModelNotFoundError, match=r"no preprocessor_config\.json"):
        WhisperFeatureExtractor.from_pretrained(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(DragomanError, match=r"file.* cannot be written"):
        WhisperFeatureExtractor().save_pretrained(tmp_path / "file")


def test_repr_shows_the_fields() -> None:
    assert "sampling_rate=16000" in repr(Wav2Vec2FeatureExtractor())
    assert "n_fft=400" in repr(WhisperFeatureExtractor())
