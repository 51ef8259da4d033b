"""Code written for `transformers` works, or an error says what to do instead."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import dragoman
from dragoman import AutoConfig, AutoModelForSpeechSeq2Seq, ConfigError, SpeechEncoderDecoderModel
from dragoman.jax.model import FlaxSpeechEncoderDecoderModel
from dragoman.testing import tiny_config

from .conftest import reference_config

WAVE = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 4000)).astype(np.float32))
load = SpeechEncoderDecoderModel.from_pretrained


@pytest.mark.parametrize(
    "options",
    [
        {"torch_dtype": torch.float32},
        {"attn_implementation": "sdpa", "low_cpu_mem_usage": True, "use_safetensors": True, "trust_remote_code": True},
        {"device_map": "auto"},
        {"device_map": "cpu"},
        {"device_map": {"": "cpu"}, "offload_folder": "offload", "max_memory": None},
        {"resume_download": True, "revision": "main", "force_download": False, "local_files_only": True, "token": None},
        {"use_auth_token": "hf_x", "from_slow": True},
        {"output_loading_info": False, "load_in_8bit": False, "quantization_config": None, "proxies": {"https": "x"}},
    ],
)
def test_loading_options_of_transformers(tiny_checkpoint: Path, options: dict[str, Any]) -> None:
    assert torch.equal(load(tiny_checkpoint, **options).generate(WAVE), load(tiny_checkpoint).generate(WAVE))


@pytest.mark.parametrize(
    ("options", "instead"),
    [
        ({"load_in_8bit": True}, 'dtype="bfloat16" halves'),
        ({"quantization_config": object()}, 'dtype="bfloat16" halves'),
        ({"device_map": {"encoder": "cpu", "decoder": "meta"}}, "on one device, but `device_map` names 2: "),
        ({"device_map": "no such device"}, "must be one that PyTorch has here"),
    ],
)
def test_unsupported_loading_options_name_an_alternative(
    tiny_checkpoint: Path, options: dict[str, Any], instead: str
) -> None:
    with pytest.raises(ConfigError, match=instead):
        load(tiny_checkpoint, **options)


def test_proxies_of_a_download_come_from_the_environment() -> None:
    for loader in (load, dragoman.TextDecoder.from_pretrained, AutoConfig.from_pretrained):
        with pytest.raises(dragoman.ModelNotFoundError, match="Set HTTPS_PROXY there"):
            loader("some/model", proxies={"https": "x"})


def saved_by_transformers(folder: Path) -> None:
    parts = reference_config("wav2vec2", hidden_size=24, num_attention_heads=2), reference_config("bart")
    config = transformers.SpeechEncoderDecoderConfig.from_encoder_decoder_configs(*parts)
    transformers.SpeechEncoderDecoderModel(config=config).save_pretrained(folder)


def test_loading_info_and_other_sizes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The same pair, with the same sets, and the same tensor drawn anew."""
    saved_by_transformers(tmp_path)
    infos = []
    for library in (transformers, dragoman):
        cls = library.SpeechEncoderDecoderModel
        assert not any(cls.from_pretrained(tmp_path, output_loading_info=True)[1].values())
        config = library.SpeechEncoderDecoderConfig.from_pretrained(tmp_path)
        config.decoder.vocab_size = 40
        options = {"config": config, "output_loading_info": True, "ignore_mismatched_sizes": True}
        model, info = cls.from_pretrained(tmp_path, **options)
        assert model.get_input_embeddings().weight.shape[0] == model.get_output_embeddings().weight.shape[0] == 40
        infos.append(info)
    assert infos[0] == infos[1]
    assert "decoder.embed.tokens.weight: [99, 24] instead of [40, 24]" in caplog.text
    weights = model.get_input_embeddings().weight
    assert 0.5 < float(weights.std() / config.decoder.init_std) < 2
    with pytest.raises(dragoman.CheckpointError, match=r"1 of another shape .* ignore_mismatched_sizes=True"):
        load(tmp_path, config=config)


def test_loading_info_and_other_sizes_in_jax(tmp_path: Path) -> None:
    saved_by_transformers(tmp_path)
    model, info = FlaxSpeechEncoderDecoderModel.from_pretrained(
        tmp_path, decoder_vocab_size=40, output_loading_info=True, ignore_mismatched_sizes=True
    )
    assert info["mismatched_keys"] == {("decoder.model.decoder.embed_tokens.weight", (99, 24), (40, 24))}
    assert model.decoder.embed.tokens.weight.shape == (40, 24)


def test_loading_info_of_a_part(tmp_path: Path) -> None:
    """A CTC head and a projection of another size: what is left out is unexpected, what is new is missing."""
    theirs = transformers.Wav2Vec2ForCTC(reference_config("wav2vec2", vocab_size=9))
    theirs.save_pretrained(tmp_path)
    _, expected = transformers.Wav2Vec2Model.from_pretrained(tmp_path, output_loading_info=True)
    _, info = dragoman.SpeechEncoder.from_pretrained(tmp_path, output_loading_info=True)
    assert info == expected
    options = {"output_loading_info": True, "ignore_mismatched_sizes": True, "intermediate_size": 40}
    _, expected = transformers.Wav2Vec2Model.from_pretrained(tmp_path, **options)
    _, info = dragoman.SpeechEncoder.from_pretrained(tmp_path, **options)
    assert info == expected
    assert len(info["mismatched_keys"]) == 6


def test_whisper_from_its_own_configuration(tmp_path: Path) -> None:
    """A line of the official script: the configuration is read first, changed, and passed to the loader."""
    config = tiny_config("whisper")
    built = AutoModelForSpeechSeq2Seq.from_config(config)
    built.save_pretrained(tmp_path)
    own = AutoConfig.from_pretrained(tmp_path)
    own.dropout = 0.25
    loaded = AutoModelForSpeechSeq2Seq.from_pretrained(tmp_path, config=own)
    assert loaded.config.decoder.dropout == loaded.decoder.spec.stack.block.dropout == 0.25
    assert {name: tensor.tolist() for name, tensor in loaded.state_dict().items()} == {
        name: tensor.tolist() for name, tensor in built.state_dict().items()
    }


def test_warm_start_accepts_and_refuses_the_same_options(tiny_checkpoint: Path) -> None:
    model = load(tiny_checkpoint)
    parts = {"encoder_model": model.encoder, "decoder_model": model.decoder}
    SpeechEncoderDecoderModel.from_encoder_decoder_pretrained(**parts, tie_encoder_decoder=False, device_map="cpu")
    with pytest.raises(ConfigError, match="share no weights"):
        SpeechEncoderDecoderModel.from_encoder_decoder_pretrained(**parts, tie_encoder_decoder=True)


CALLS: dict[str, Callable[[SpeechEncoderDecoderModel], Any]] = {
    "none": lambda model: {"logits_processor": None, "stopping_criteria": None, "num_beams": None, "streamer": None},
    "processors": lambda model: {
        "logits_processor": transformers.LogitsProcessorList([transformers.TemperatureLogitsWarper(2.0)]),
        "stopping_criteria": transformers.StoppingCriteriaList([transformers.MaxLengthCriteria(99)]),
    },
    "cache": lambda model: {"cache_implementation": "static", "use_cache": True, "disable_compile": True},
    "options": lambda model: {"generation_config": transformers.GenerationConfig(num_beams=1)},
    "encoded": lambda model: {"encoder_outputs": model.get_encoder()(WAVE)},
    "trainer": lambda model: {"labels": torch.tensor([[5]]), "synced_gpus": False},
}


@pytest.mark.parametrize("call", CALLS)
def test_generate_keywords_of_transformers(tiny_checkpoint: Path, call: str) -> None:
    model = load(tiny_checkpoint)
    given = CALLS[call](model)
    inputs = {} if "encoder_outputs" in given else {"input_values": WAVE}
    assert torch.equal(model.generate(**inputs, **given), model.generate(WAVE))


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_pipeline_of_transformers(tiny_checkpoint: Path) -> None:
    model, processor = load(tiny_checkpoint), dragoman.AutoProcessor.from_pretrained(tiny_checkpoint)
    speak = transformers.pipeline(
        "automatic-speech-recognition",
        model=model,
        tokenizer=processor.tokenizer,
        feature_extractor=processor.feature_extractor,
    )
    inputs = processor(WAVE[0].numpy(), sampling_rate=16_000, return_tensors="pt")
    best = model.generate(**inputs, num_beams=5)  # the default of that pipeline
    assert speak(WAVE[0].numpy())["text"] == processor.decode(best[0], skip_special_tokens=True)


def test_vocabulary_is_padded_to_a_multiple(tiny_checkpoint: Path) -> None:
    model = load(tiny_checkpoint)
    count = model.config.decoder.vocab_size
    assert model.resize_token_embeddings(count + 1, pad_to_multiple_of=64).num_embeddings % 64 == 0
    with pytest.raises(ConfigError, match="`pad_to_multiple_of` must be a whole number from 1"):
        model.resize_token_embeddings(pad_to_multiple_of=0)
    with pytest.raises(ConfigError, match="leave out mean_resizing=False"):
        model.resize_token_embeddings(count, mean_resizing=False)


def test_projection_by_its_name_in_transformers(tiny_checkpoint: Path) -> None:
    model = load(tiny_checkpoint)
    assert model.enc_to_dec_proj is model.bridge.proj
    config = model.config.copy()
    config.encoder.hidden_size = config.decoder.n_embd
    same = dragoman.SpeechEncoderDecoderModel(config=dragoman.SpeechEncoderDecoderConfig.from_dict(config.to_dict()))
    with pytest.raises(AttributeError, match="enc_to_dec_proj"):
        same.enc_to_dec_proj  # noqa: B018


def test_configuration_of_transformers_is_refused_with_a_hint() -> None:
    theirs = transformers.Wav2Vec2Config(), transformers.BertConfig()
    with pytest.raises(ConfigError, match=r"one is a transformers\.models\..*Import its class from dragoman"):
        dragoman.SpeechEncoderDecoderConfig.from_encoder_decoder_configs(*theirs)
    fields = [config.to_dict() for config in theirs]
    assert dragoman.SpeechEncoderDecoderConfig(encoder=fields[0], decoder=fields[1]).decoder.hidden_size == 768


def test_old_way_to_encode_labels_works_and_warns(tiny_checkpoint: Path) -> None:
    processor = dragoman.AutoProcessor.from_pretrained(tiny_checkpoint)
    with pytest.warns(FutureWarning, match=r"pass `text=…`"), processor.as_target_processor():
        labels = processor("the fox", padding=True).input_ids
    padded = processor.pad(labels=[{"input_ids": labels}], return_tensors="np")
    assert labels == processor(text="the fox").input_ids
    assert padded.input_ids.tolist() == [labels]
    assert "input_values" in processor([0.0, 0.1] * 400, sampling_rate=16000)
