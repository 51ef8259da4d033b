import ctypes
import io
import itertools
import os
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from dragoman import AutoProcessor, SpeechEncoderDecoderConfig, SpeechEncoderDecoderModel
from dragoman.errors import AudioError, ConfigError, ModelNotFoundError, OutOfMemoryError
from dragoman.testing import tiny_config
from dragoman.transcriber import TranscribeOptions, Transcriber


def test_path_bytes_file_and_samples_give_the_same_transcript(transcriber, sample, sample_path):
    by_path = transcriber.transcribe(sample_path)
    assert by_path.text
    with sample_path.open("rb") as file:
        others = [
            transcriber.transcribe(str(sample_path)),
            transcriber.transcribe(sample_path.read_bytes()),
            transcriber.transcribe(file),
            transcriber.transcribe(sample),
            transcriber.transcribe(np.split(sample, [7, 40_000])),
            transcriber.transcribe(block for block in np.split((sample * 32_768).astype(np.int16), [90_000])),
        ]
    assert all(other == by_path for other in others)


def test_the_transcript_records_model_and_options(transcriber, tiny_checkpoint, sample):
    transcript = transcriber.transcribe(sample, beam_size=2, batch_size=1)
    assert transcript.duration == len(sample) / 16_000
    assert transcript.model.name == str(tiny_checkpoint)
    assert transcript.model.commit is None
    assert transcript.parameters["beam_size"] == 2
    assert transcript.parameters["length_penalty"] == 1.0, "the checkpoint's own value is filled in"
    assert transcript.language is None
    assert transcript.text == " ".join(segment.text for segment in transcript.segments)


def test_a_loaded_model_gives_the_same_transcript(transcriber, tiny_checkpoint, sample):
    model = SpeechEncoderDecoderModel.from_pretrained(tiny_checkpoint)
    processor = AutoProcessor.from_pretrained(tiny_checkpoint)
    assert Transcriber(model, processor).transcribe(sample).segments == transcriber.transcribe(sample).segments


def test_segments_are_in_order_and_inside_the_file(transcriber, sample):
    audio = np.concatenate([sample, np.zeros(16_000, np.float32)] * 4)
    transcript = transcriber.transcribe(audio, chunk_length_s=3)
    assert len(transcript.segments) > 8
    assert [segment.id for segment in transcript.segments] == list(range(len(transcript.segments)))
    bounds = [time for segment in transcript.segments for time in (segment.start, segment.end)]
    assert bounds == sorted(bounds)
    assert 0 <= bounds[0] < bounds[-1] <= transcript.duration
    assert all(0 < segment.end - segment.start <= 3 for segment in transcript.segments)


@pytest.mark.parametrize("beam_size", [1, 4])
def test_the_batch_size_changes_nothing(transcriber, sample, beam_size):
    alone, together = (
        transcriber.transcribe(sample, chunk_length_s=2, batch_size=size, beam_size=beam_size).segments
        for size in (1, 8)
    )
    assert len(alone) > 3
    assert [segment.tokens for segment in alone] == [segment.tokens for segment in together]
    for one, other in zip(alone, together, strict=True):
        assert one.avg_logprob == pytest.approx(other.avg_logprob, abs=1e-4)


def test_avg_logprob_is_that_of_the_search(transcriber, sample):
    """Beam search divides the sum of log-probabilities by the length, end token included: the same mean."""
    (segment,) = transcriber.transcribe(
        sample[: 3 * 16_000], beam_size=3, vad_filter=False, temperature=0, no_speech_threshold=None
    ).segments
    inputs = transcriber.processor.feature_extractor(
        [sample[: 3 * 16_000]], sampling_rate=16_000, return_attention_mask=True, return_tensors="pt"
    )
    output = transcriber.model.generate(**inputs, num_beams=3, return_dict_in_generate=True, output_scores=True)
    assert output.sequences[0].tolist() == [2, *segment.tokens, 3]
    assert segment.avg_logprob == pytest.approx(output.sequences_scores.item(), abs=1e-4)


def test_segments_are_yielded_before_the_rest_is_read(transcriber, sample):
    audio = io.BytesIO()
    soundfile.write(audio, np.tile(sample, 8), 16_000, format="WAV")
    segments = transcriber.stream_segments(audio, chunk_length_s=2, batch_size=1, beam_size=1)
    first = next(segments)
    assert segments.position == first.end < 5
    assert segments.duration < 30
    transcript = segments.transcript()
    assert transcript.segments[0] is first
    assert transcript.duration == pytest.approx(8 * len(sample) / 16_000)
    assert segments.position == transcript.segments[-1].end


@pytest.mark.slow
def test_memory_does_not_grow_with_the_recording(transcriber, sample, tmp_path):
    def peak(minutes: int) -> int:
        with soundfile.SoundFile(tmp_path / "long.wav", "w", 16_000, 1) as file:
            for _ in range(minutes * 60 * 16_000 // len(sample)):
                file.write(sample)
        tracemalloc.start()
        for _ in transcriber.stream_segments(tmp_path / "long.wav", beam_size=1, batch_size=2):
            pass
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    short, long = peak(1), peak(5)
    assert long - short < 2**20  # four minutes of samples alone are 15 MiB


@pytest.mark.nightly
def test_memory_stays_flat_for_three_hours(transcriber, sample):
    """As an iterable of blocks, so that it is neither on a disk nor in memory.

    Freed memory that the C library keeps, about 100 MiB, is released before each measurement.
    """
    page, heap = os.sysconf("SC_PAGE_SIZE"), ctypes.CDLL("libc.so.6")

    def resident() -> int:
        heap.malloc_trim(0)
        return int(Path("/proc/self/statm").read_text().split()[1]) * page

    blocks = (sample for _ in range(3 * 3600 * 16_000 // len(sample)))
    segments = transcriber.stream_segments(blocks, beam_size=1, batch_size=4, temperature=0)
    at_hour = {}
    for segment in segments:
        if (hour := int(segment.end // 3600)) not in at_hour:
            at_hour[hour] = resident()
    at_hour[3] = resident()
    assert segments.duration > 3 * 3600 - 10
    assert at_hour[3] - at_hour[1] < 2 * 2**20


def test_silence_has_no_words_and_no_segments(transcriber):
    transcript = transcriber.transcribe(np.zeros(5 * 16_000, np.float32))
    assert (transcript.text, transcript.segments, transcript.duration) == ("", (), 5.0)


def test_without_the_filter_every_second_is_decoded(transcriber, sample):
    audio = np.concatenate([np.zeros(40_000, np.float32), sample, np.zeros(40_000, np.float32)])
    options = {"vad_filter": False, "no_speech_threshold": None, "temperature": 0}
    segments = transcriber.transcribe(audio, chunk_length_s=2, **options).segments
    assert segments[0].start == 0
    assert segments[-1].end == len(audio) / 16_000
    assert all(one.end == other.start for one, other in itertools.pairwise(segments))


@pytest.mark.parametrize("samples", [1, 100, 6_000])
def test_the_shortest_recordings_are_decoded(transcriber, sample, samples):
    options = {"vad_filter": False, "no_speech_threshold": None}
    (segment,) = transcriber.transcribe(sample[20_000 : 20_000 + samples], **options).segments
    assert segment.end == samples / 16_000


def test_reaching_the_length_limit_is_a_warning(transcriber, sample, tmp_path):
    soundfile.write(tmp_path / "talk.wav", sample, 16_000)
    with pytest.warns(UserWarning, match=r"talk\.wav: words may be missing before \d+\.\d\d s: .* limit of 3 tokens"):
        transcript = transcriber.transcribe(tmp_path / "talk.wav", max_new_tokens=3)
    assert all(segment.truncated and len(segment.tokens) == 3 for segment in transcript.segments)


def test_the_length_limit_of_decoders_with_many_positions(tiny_checkpoint, sample, tmp_path):
    """A transcript that has lost the speech ends, although the decoder has room; and a prefix takes positions."""
    shutil.copytree(tiny_checkpoint, tmp_path, dirs_exist_ok=True)
    processor = AutoProcessor.from_pretrained(tiny_checkpoint)
    size = {"vocab_size": len(processor.tokenizer), "max_position_embeddings": 1_000, "tie_word_embeddings": False}
    config = SpeechEncoderDecoderConfig(
        encoder=tiny_config("wav2vec2", conv_stride=(5, 8, 8)),
        decoder=tiny_config("llama", **size),
        fusion="prefix",
        decoder_start_token_id=2,
        eos_token_id=3,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    model = SpeechEncoderDecoderModel(config=config)
    with torch.no_grad():
        model.decoder.head.weight[3] = 0.0  # some other token is always likelier than the end
    model.save_pretrained(tmp_path)
    options = {"beam_size": 1, "temperature": 0, "vad_filter": False, "no_speech_threshold": None}
    for seconds, limit in (2, 448), (10, 500):
        with pytest.warns(UserWarning, match=f"limit of {limit} tokens") as warned:
            (segment,) = Transcriber(tmp_path).transcribe(np.resize(sample, seconds * 16_000), **options).segments
        assert len(segment.tokens) == limit
        assert len(warned) == 1, "a limit that nobody set gives no warning of its own"


def test_a_forced_end_token_counts_as_truncated(transcriber, sample, monkeypatch):
    monkeypatch.setattr(transcriber.model.generation_config, "forced_eos_token_id", 3)
    with pytest.warns(UserWarning, match="words may be missing"):
        transcript = transcriber.transcribe(sample, max_new_tokens=4)
    assert all(segment.truncated for segment in transcript.segments)


def test_the_checkpoints_max_length_is_ignored(transcriber, sample, monkeypatch):
    free = transcriber.transcribe(sample)
    monkeypatch.setattr(transcriber.model.generation_config, "max_length", 4)
    assert transcriber.transcribe(sample).segments == free.segments


def test_options_without_effect_are_a_warning(transcriber, sample):
    with pytest.warns(UserWarning, match=r"^`language` \(fr\) has no effect with this model: it writes"):
        transcriber.transcribe(sample, language="fr", beam_size=1)


def test_the_batch_is_halved_when_memory_runs_out(transcriber, sample, monkeypatch):
    generate = type(transcriber.model).generate
    sizes = []

    def short_of_memory(model, *args, **options):
        sizes.append(len(options["decoder_input_ids"]))
        if sizes[-1] > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 byte.")
        return generate(model, *args, **options)

    expected = transcriber.transcribe(sample, chunk_length_s=2)
    monkeypatch.setattr(type(transcriber.model), "generate", short_of_memory)
    with pytest.warns(UserWarning, match="windows at once do not fit into memory; going on with"):
        transcript = transcriber.transcribe(sample, chunk_length_s=2)
    assert [segment.tokens for segment in transcript.segments] == [segment.tokens for segment in expected.segments]
    assert max(sizes) > 2 >= sizes[-1]


def test_a_single_window_that_does_not_fit_is_an_error(transcriber, sample, monkeypatch):
    def no_memory(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(type(transcriber.model), "generate", no_memory)
    with pytest.raises(OutOfMemoryError, match="A single window of 7 s does not fit into memory with 5 beams"):
        transcriber.transcribe(sample)


def test_other_errors_are_raised(transcriber, sample, monkeypatch):
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(type(transcriber.model), "generate", broken)
    with pytest.raises(RuntimeError, match="mat1"):
        transcriber.transcribe(sample)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beamsize": 3}, r"`beamsize` is not an option of transcription\. Did you mean \"beam_size\"\?"),
        ({"beam_size": 0}, "`beam_size` must be at least 1"),
        ({"vad_speech_pad_ms": 6_000}, "pad_ms"),
    ],
)
def test_wrong_options_are_refused(transcriber, sample, options, message):
    with pytest.raises(ConfigError, match=message):
        transcriber.transcribe(sample, **options)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"threads": 0}, ConfigError, "`threads` must be at least 1"),
        ({"device": "abacus"}, ConfigError, "`device` must be auto, cpu, cuda or cuda:N, but is 'abacus'"),
        ({"device": "cuda:99"}, ConfigError, r"`device` is 'cuda:99', but PyTorch sees \d+ GPUs here"),
        ({"model": "./nowhere"}, ModelNotFoundError, "nowhere"),
    ],
)
def test_wrong_arguments_are_refused(tiny_checkpoint, arguments, error, message):
    with pytest.raises(error, match=message):
        Transcriber(**{"model": tiny_checkpoint, **arguments})


def test_a_model_without_processor_is_refused(transcriber):
    with pytest.raises(ConfigError, match="needs its `processor` too"):
        Transcriber(transcriber.model)


def test_a_model_without_start_token_is_refused(transcriber, sample, monkeypatch):
    monkeypatch.setattr(transcriber.model.config.special_ids, "decoder_start_token_id", None)
    monkeypatch.setattr(transcriber.model.config.special_ids, "bos_token_id", None)
    monkeypatch.setattr(transcriber.model.config.decoder, "bos_token_id", None)
    with pytest.raises(ConfigError, match="has no `decoder_start_token_id`, with which a transcript starts"):
        transcriber.transcribe(sample)


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (Path("nowhere.wav"), "no such file"),
        (b"", "is empty"),
        (np.zeros((2, 16_000), np.float32), "channels"),
        (np.array([np.nan] * 100), "nan"),
        (None, "NoneType"),
        ([np.zeros(16_000, np.float32), np.zeros((2, 16_000), np.float32)], "one-dimensional"),
        (["one.wav", "two.wav"], "takes one recording.*Call it once for each file"),
    ],
)
def test_bad_audio_is_an_audio_error(transcriber, audio, message):
    with pytest.raises(AudioError, match=message):
        transcriber.transcribe(audio)


def test_parameters_are_all_options(transcriber, sample):
    assert transcriber.transcribe(sample).parameters.keys() == TranscribeOptions.__dataclass_fields__.keys()
