import numpy as np
import pytest
import torch

from dragoman import AutoProcessor, SpeechEncoderDecoderModel, Transcriber
from dragoman.errors import ConfigError
from dragoman.torch.export.folder import export
from dragoman.torch.runner import Runner
from dragoman.torch.short_windows import encode_part, encode_short, encode_silence
from dragoman.transcriber.short_windows import ShortWindows

TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}
OPTIONS = {"vad_filter": False, "max_new_tokens": 8, "temperature": 0.0, "language": "en", "short_windows": True}


@pytest.fixture(scope="module")
def model(whisper_checkpoint):
    return SpeechEncoderDecoderModel.from_pretrained(whisper_checkpoint).eval()


@pytest.fixture(scope="module")
def processor(whisper_checkpoint):
    return AutoProcessor.from_pretrained(whisper_checkpoint)


@pytest.fixture(scope="module")
def exported(whisper_checkpoint, model, processor, tmp_path_factory):
    folder = tmp_path_factory.mktemp("graphs")
    export(SpeechEncoderDecoderModel.from_pretrained(whisper_checkpoint), folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture
def clips(sample):
    """Five of different length and loudness, two of them too long to be short."""
    return [sample[:6000], 0.1 * sample[:7000], sample[3000:30_000], sample[4000:9000], sample[:31_000]]


@torch.inference_mode()
def test_a_part_is_as_in_the_whole_if_the_rest_is_known(model):
    """With the true keys and values of the other frames, the states are those of the whole window."""
    features = torch.randn(2, 8, 202)
    attn = model.encoder.spec.stack.block.self_attn
    nothing = [torch.zeros(2, attn.kv_heads, 0, attn.head_dim)] * (2 * model.encoder.spec.stack.num_layers)
    whole, known = encode_part(model.encoder, features, nothing)
    part, _ = encode_part(model.encoder, features[:, :, :62], [one[:, :, 30:] for one in known])
    torch.testing.assert_close(part, whole[:, :30], **TOLERANCE)
    full = model.encoder.encode(features[:, :, :200]).last_hidden_state
    assert whole.shape == full.shape


@torch.inference_mode()
def test_silence_alone_is_exact(model):
    """A window of silence has the states of `encode`, but at its end, where the convolutions see more silence."""
    silence = encode_silence(model.encoder, torch.full((1, 8, 202), -1.0))
    short = encode_short(model.encoder, torch.full((2, 8, 62), -1.0), silence)
    torch.testing.assert_close(short, silence.states.expand(2, -1, -1), **TOLERANCE)


def test_a_batch_changes_nothing(model, processor, clips):
    windows = ShortWindows(Runner(model), processor.feature_extractor)

    def states(some):
        inputs = processor.feature_extractor(some, sampling_rate=16_000, return_tensors="np")
        return windows.encode(inputs, [len(one) for one in some]).last_hidden_state.numpy()

    together = states(clips)
    assert together.shape[1] == 100
    for row, clip in enumerate(clips):
        np.testing.assert_allclose(together[row], states([clip])[0], rtol=1e-4, atol=1e-5)


def test_long_windows_are_encoded_as_always(model, processor, clips):
    windows, runner = ShortWindows(Runner(model), processor.feature_extractor), Runner(model)
    inputs = processor.feature_extractor(clips, sampling_rate=16_000, return_tensors="np")
    short = windows.encode(inputs, [len(clip) for clip in clips]).last_hidden_state.numpy()
    exact = runner.encode(inputs).last_hidden_state.numpy()
    apart = np.abs(short - exact).max((1, 2))
    assert (apart[[2, 4]] < 1e-5).all()
    assert (apart[[0, 1, 3]] > 1e-5).all(), "nothing was short"


def test_graphs_give_the_states_of_pytorch(model, processor, exported, clips):
    from dragoman.onnx.model import OnnxSpeechEncoderDecoderModel
    from dragoman.onnx.runner import Runner as OnnxRunner

    inputs = processor.feature_extractor(clips, sampling_rate=16_000, return_tensors="np")
    lengths = [len(clip) for clip in clips]
    found = [
        ShortWindows(runner, processor.feature_extractor).encode(inputs, lengths).last_hidden_state
        for runner in (Runner(model), OnnxRunner(OnnxSpeechEncoderDecoderModel(exported)))
    ]
    np.testing.assert_allclose(found[0].numpy(), found[1], rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:.*words may be missing")
@pytest.mark.parametrize("backend", ["torch", "onnx"])
@pytest.mark.parametrize("sure", [-99.0, -5.35])
def test_transcripts_do_not_depend_on_the_batch(whisper_checkpoint, exported, clips, backend, sure, monkeypatch):
    monkeypatch.setattr("dragoman.transcriber.fallback._SURE", sure)
    whisper = Transcriber({"torch": whisper_checkpoint, "onnx": exported}[backend], backend=backend)
    texts = [[one.text for one in whisper.transcribe_many(clips, batch_size=size, **OPTIONS)] for size in (1, 3, 8)]
    assert texts[0] == texts[1] == texts[2] == [whisper.transcribe(clip, **OPTIONS).text for clip in clips]
    assert all(texts[0])


@pytest.mark.filterwarnings("ignore:.*words may be missing")
def test_unlikely_transcripts_are_those_of_whole_windows(model, processor, clips, monkeypatch):
    whisper, counts = Transcriber(model, processor), {"encode": 0, "encode_short": 0}
    runner = whisper.engine.runner
    for name, function in [(name, getattr(runner, name)) for name in counts]:

        def counted(*arguments, name=name, function=function):
            counts[name] += 1
            return function(*arguments)

        setattr(runner, name, counted)
    exact = whisper.transcribe(clips[0], **{**OPTIONS, "short_windows": False}).segments[0]
    assert counts == {"encode": 1, "encode_short": 0}
    again = whisper.transcribe(clips[0], **OPTIONS).segments[0]  # a random model is never sure
    assert counts == {"encode": 2, "encode_short": 1}
    assert again == exact
    monkeypatch.setattr("dragoman.transcriber.fallback._SURE", -99.0)
    short = whisper.transcribe(clips[0], **OPTIONS).segments[0]
    assert counts == {"encode": 2, "encode_short": 2}
    assert short.avg_logprob != exact.avg_logprob
    whisper.transcribe(clips[0], **{**OPTIONS, "logprob_threshold": 1.0, "temperature": (0.0, 0.2)})
    assert counts == {"encode": 3, "encode_short": 3}, "sampling is from whole windows"


def test_models_without_short_windows_are_refused(transcriber, sample):
    with pytest.raises(ConfigError, match="short_windows"):
        transcriber.transcribe(sample, short_windows=True)


def test_graphs_of_an_older_version_are_refused(exported, sample, tmp_path):
    import shutil

    old = tmp_path / "old"
    shutil.copytree(exported, old)
    (old / "onnx" / "short.onnx").unlink()
    whisper = Transcriber(old, backend="onnx")
    with pytest.raises(ConfigError, match="dragoman export"):
        whisper.transcribe(sample[:6000], **OPTIONS)
