"""Loading: complete errors, all layouts, options, and unchanged arguments.

Spellings are tested in test_spellings.py, files of pickles in test_pickles.py, memory in test_memory.py.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from dragoman import (
    CheckpointError,
    ConfigError,
    ModelNotFoundError,
    SpeechEncoder,
    SpeechEncoderDecoderConfig,
    SpeechEncoderDecoderModel,
    TextDecoder,
    UntrustedFileError,
)
from dragoman.testing import tiny_config
from dragoman.torch.backend import own_tensors

Build = Callable[..., SpeechEncoderDecoderModel]
load = SpeechEncoderDecoderModel.from_pretrained
warm_start = SpeechEncoderDecoderModel.from_encoder_decoder_pretrained


def assert_same(one: torch.nn.Module, other: torch.nn.Module) -> None:
    ours, theirs = one.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def change(folder: Path, edit: Callable[[dict[str, torch.Tensor]], None]) -> None:
    """Edit the tensors of a saved model."""
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "model.safetensors")


class TestErrors:
    def test_all_problems_are_in_one_error(self, build: Build, tmp_path: Path) -> None:
        build().save_pretrained(tmp_path)

        def edit(tensors: dict[str, torch.Tensor]) -> None:
            for layer in 0, 1:
                del tensors[f"encoder.encoder.layers.{layer}.attention.q_proj.weight"]
                tensors[f"decoder.model.decoder.layers.{layer}.fc1.weight"] = torch.zeros(3, 3)
            del tensors["enc_to_dec_proj.bias"]
            tensors |= {"encoder.unknown": torch.zeros(1), "unknown": torch.zeros(1)}

        change(tmp_path, edit)
        with pytest.raises(CheckpointError) as caught:
            load(tmp_path)
        message = str(caught.value)
        assert "3 missing (encoder.stack.layers.{0-1}.self_attn.q_proj.weight; bridge.proj.bias)" in message
        assert "2 unexpected (encoder.unknown; unknown)" in message
        assert "decoder.stack.layers.{0-1}.ffn.in_proj.weight: [3, 3] instead of [30, 24]" in message
        assert str(tmp_path) in message

    def test_allow_new_covers_only_the_named_tensors(self, build: Build, tmp_path: Path) -> None:
        saved = build()
        saved.save_pretrained(tmp_path)

        def edit(tensors: dict[str, torch.Tensor]) -> None:
            del tensors["decoder.model.decoder.embed_positions.weight"]
            del tensors["enc_to_dec_proj.bias"]

        change(tmp_path, edit)
        with pytest.raises(CheckpointError, match=r"1 missing \(bridge\.proj\.bias\)"):
            load(tmp_path, allow_new=["decoder.embed.*"])
        model = load(tmp_path, allow_new=["decoder.embed.positions.weight", "bridge.*"])
        assert model.load_report.fresh == ["decoder.embed.positions.weight", "bridge.proj.bias"]
        assert not any(tensor.is_meta for tensor in model.state_dict().values())
        assert model.decoder.embed.positions.weight.std() > 0
        everything = load(tmp_path, allow_new=["*"])
        assert everything.load_report.fresh == model.load_report.fresh
        assert torch.equal(model.decoder.embed.tokens.weight, saved.decoder.embed.tokens.weight)

    def test_fused_tensor_of_wrong_length_is_refused(self, build: Build, tmp_path: Path) -> None:
        build(decoder="gpt2").save_pretrained(tmp_path)
        name = "decoder.transformer.h.0.attn.c_attn.bias"
        change(tmp_path, lambda tensors: tensors.update({name: torch.zeros(73)}))
        with pytest.raises(CheckpointError, match=r"q_proj\.bias: \[25\] instead of \[24\]"):
            load(tmp_path)

    @pytest.mark.parametrize("encoder", ["wav2vec2", "whisper"])
    def test_part_is_not_loaded_as_a_joint_model(self, tmp_path: Path, encoder: str) -> None:
        SpeechEncoder(tiny_config(encoder)).save_pretrained(tmp_path)
        with pytest.raises((ConfigError, CheckpointError)) as caught:
            load(tmp_path)
        if encoder == "wav2vec2":
            assert "from_encoder_decoder_pretrained" in str(caught.value)

    def test_joint_model_is_not_loaded_as_a_part(self, build: Build, tmp_path: Path) -> None:
        build().save_pretrained(tmp_path)
        for part in SpeechEncoder, TextDecoder:
            with pytest.raises(ConfigError, match="holds a whole speech encoder-decoder"):
                part.from_pretrained(tmp_path)

    def test_missing_files_are_named(self, build: Build, tmp_path: Path) -> None:
        with pytest.raises(ModelNotFoundError):
            load(tmp_path / "nowhere")
        build().save_pretrained(tmp_path)
        (tmp_path / "config.json").unlink()
        with pytest.raises(ModelNotFoundError, match=r"has weights but no config\.json"):
            load(tmp_path)

    def test_corrupt_file_is_refused(self, build: Build, tmp_path: Path) -> None:
        build().save_pretrained(tmp_path)
        weights = tmp_path / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-100])
        with pytest.raises(UntrustedFileError, match=r"model\.safetensors"):
            load(tmp_path)


class TestLayouts:
    @pytest.mark.parametrize("decoder", ["bert", "gpt2", "mbart", "whisper"])
    def test_shards(self, build: Build, tmp_path: Path, decoder: str) -> None:
        saved = build(decoder=decoder)
        saved.save_pretrained(tmp_path, max_shard_size="50kB")
        index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
        files = sorted(path.name for path in tmp_path.glob("model-*.safetensors"))
        assert len(files) > 2
        assert set(index["weight_map"].values()) == set(files)
        assert_same(load(tmp_path), saved)

    @pytest.mark.parametrize("shards", [1, 3])
    @pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
    def test_pickles(self, build: Build, tmp_path: Path, shards: int, zipped: bool) -> None:
        saved = build(encoder="hubert", decoder="bert")
        saved.save_pretrained(tmp_path)
        tensors = load_file(tmp_path / "model.safetensors")
        (tmp_path / "model.safetensors").unlink()
        names = sorted(tensors)
        if shards == 1:
            torch.save(tensors, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
        else:
            files = {name: f"pytorch_model-{i % shards + 1:05d}-of-{shards:05d}.bin" for i, name in enumerate(names)}
            for file in set(files.values()):
                part = {name: tensors[name] for name in names if files[name] == file}
                torch.save(part, tmp_path / file, _use_new_zipfile_serialization=zipped)
            (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": files}))
        assert_same(load(tmp_path), saved)
        with pytest.raises(ModelNotFoundError, match="No weights"):
            load(tmp_path, use_safetensors=True)

    def test_file_is_opened_once(self, build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A `.bin` of before 2020 cannot be memory-mapped, so each opening reads all of it."""
        build().save_pretrained(tmp_path)
        tensors = load_file(tmp_path / "model.safetensors")
        (tmp_path / "model.safetensors").unlink()
        torch.save(tensors, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=False)
        reads: list[Any] = []
        read = torch.load
        monkeypatch.setattr(torch, "load", lambda *args, **options: reads.append(args) or read(*args, **options))
        load(tmp_path)
        assert len(reads) == 1

    def test_safetensors_take_precedence(self, build: Build, tmp_path: Path) -> None:
        saved = build()
        saved.save_pretrained(tmp_path)
        (tmp_path / "pytorch_model.bin").write_bytes(b"not read")
        assert_same(load(tmp_path), saved)
        with pytest.raises(UntrustedFileError):
            load(tmp_path, use_safetensors=False)

    def test_saving_twice_gives_the_same_bytes(self, build: Build, tmp_path: Path) -> None:
        build().save_pretrained(tmp_path / "first")
        load(tmp_path / "first").save_pretrained(tmp_path / "second")
        load(tmp_path / "second").save_pretrained(tmp_path / "third")
        for path in (tmp_path / "second").iterdir():
            again = (tmp_path / "third" / path.name).read_bytes()
            # Only the name of the folder it was loaded from differs.
            assert path.read_bytes().replace(b"first", b"second") == again, path.name

    def test_saving_over_the_loaded_folder(self, build: Build, tmp_path: Path) -> None:
        """The weights are still mapped from the file that is replaced."""
        saved = build()
        saved.save_pretrained(tmp_path)
        loaded = load(tmp_path)
        with torch.no_grad():
            loaded.bridge.proj.bias.add_(1.0)
        loaded.save_pretrained(tmp_path)
        assert_same(load(tmp_path), loaded)
        assert_same(loaded.encoder, saved.encoder)

    def test_training_does_not_change_the_file(self, build: Build, tmp_path: Path) -> None:
        build().save_pretrained(tmp_path)
        before = (tmp_path / "model.safetensors").read_bytes()
        model = load(tmp_path)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()
        assert (tmp_path / "model.safetensors").read_bytes() == before


class TestSaving:
    def test_only_the_main_process_writes(self, build: Build, tmp_path: Path) -> None:
        model = build()
        model.save_pretrained(tmp_path / "none", is_main_process=False)
        model.encoder.save_pretrained(tmp_path / "none", False)
        assert not (tmp_path / "none").exists()

    def test_state_dict_argument_is_saved(self, build: Build, tmp_path: Path) -> None:
        model = build()
        gathered = {name: tensor + 1 for name, tensor in model.state_dict().items()}
        model.save_pretrained(tmp_path, state_dict=gathered, save_function=torch.save)
        assert all(map(torch.equal, load(tmp_path).state_dict().values(), gathered.values()))
        own = {n.removeprefix("decoder."): t for n, t in gathered.items() if n.startswith("decoder.")}
        model.decoder.save_pretrained(tmp_path / "part", state_dict=own)
        assert all(map(torch.equal, TextDecoder.from_pretrained(tmp_path / "part").state_dict().values(), own.values()))
        for wrong in ({}, {f"module.{name}": tensor for name, tensor in gathered.items()}, {**gathered, "more": 1}):
            with pytest.raises(ConfigError, match=r"`state_dict` must hold the tensors of this model, but \d+ are"):
                model.save_pretrained(tmp_path / "wrong", state_dict=wrong)
        assert not (tmp_path / "wrong").exists()

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"max_shard_sise": "1GB"}, 'Did you mean "max_shard_size"'),
            ({"variant": "fp16"}, "`variant` is not an option of `save_pretrained`"),
        ],
    )
    def test_unsupported_options_are_refused(
        self, build: Build, tmp_path: Path, options: dict[str, Any], words: str
    ) -> None:
        for one in build(), build().encoder:
            with pytest.raises(ConfigError, match=words):
                one.save_pretrained(tmp_path / "out", **options)
            one.save_pretrained(tmp_path, push_to_hub=False, safe_serialization=True, token=None)


class TestArguments:
    @pytest.mark.parametrize("device", ["cuda:77", "teapot", 3.5])
    def test_missing_device_is_refused(self, build: Build, tmp_path: Path, device: Any) -> None:
        build().save_pretrained(tmp_path)
        with pytest.raises(ConfigError, match=f"`device` must be one that PyTorch has here, but .*{device}"):
            load(tmp_path, device=device)

    def test_configuration_of_the_caller_is_not_changed(self, build: Build, tmp_path: Path) -> None:
        model = build()
        model.save_pretrained(tmp_path)
        given = model.config.copy()
        before = given.to_dict()
        loaded = load(tmp_path, config=given, encoder_layerdrop=0.7, dtype="float16")
        assert given.to_dict() == before
        assert given.name_or_path == ""
        assert loaded.config is not given
        assert loaded.config.encoder.layerdrop == 0.7
        with pytest.raises(ConfigError, match="`config` must be a configuration of dragoman, but is a dict"):
            load(tmp_path, config=before)

    def test_configuration_of_a_part_is_not_changed(self, tmp_path: Path) -> None:
        TextDecoder(tiny_config("bert")).save_pretrained(tmp_path)
        SpeechEncoder(tiny_config("wav2vec2")).save_pretrained(tmp_path / "speech")
        given = tiny_config("bert")
        before = given.to_dict()
        part = TextDecoder.from_pretrained(tmp_path, config=given, is_decoder=True)
        assert part.config.is_decoder
        model = warm_start(tmp_path / "speech", tmp_path, decoder_config=given)
        assert model.config.decoder.add_cross_attention
        assert given.to_dict() == before
        assert given.name_or_path == ""

    def test_flags_of_transformers_are_accepted(self, tmp_path: Path) -> None:
        TextDecoder(tiny_config("bert")).save_pretrained(tmp_path)
        SpeechEncoder(tiny_config("wav2vec2")).save_pretrained(tmp_path / "speech")
        model = warm_start(tmp_path / "speech", tmp_path, decoder_is_decoder=True, decoder_add_cross_attention=True)
        assert model.config.decoder.is_decoder

    def test_fields_with_a_given_part_are_refused(self) -> None:
        encoder = SpeechEncoder(tiny_config("wav2vec2"))
        decoder = TextDecoder(tiny_config("bart"))
        with pytest.raises(ConfigError, match="`encoder_layerdrop` cannot change a ready-made encoder"):
            warm_start(encoder_model=encoder, decoder_model=decoder, encoder_layerdrop=0.5)
        assert warm_start(encoder_model=encoder, decoder_model=decoder).encoder is encoder

    def test_ids_apply_to_training_and_generation_and_are_saved(self, build: Build, tmp_path: Path) -> None:
        model = build(decoder="bert", decoder_start_token_id=None, pad_token_id=None, eos_token_id=None)
        model.config.decoder_start_token_id = 5
        model.generation_config.pad_token_id = 6
        model.config.eos_token_id = 7
        assert (model.generation_config.decoder_start_token_id, model.config.pad_token_id) == (5, 6)
        audio = torch.randn(2, 400)
        assert torch.isfinite(model(audio, labels=torch.tensor([[8, 9], [8, -100]])).loss)
        assert model.generate(audio, max_new_tokens=2)[:, 0].tolist() == [5, 5]
        model.save_pretrained(tmp_path)
        for file in "config.json", "generation_config.json":
            data = json.loads((tmp_path / file).read_text())
            assert [data[f"{name}_token_id"] for name in ("decoder_start", "pad", "eos")] == [5, 6, 7], file
        again = load(tmp_path)
        assert again.config.eos_token_id == again.generation_config.eos_token_id == 7
        again.generation_config.eos_token_id = 3
        assert again.config.eos_token_id == 3

    def test_device_and_dtype_of_fresh_tensors(self, tmp_path: Path) -> None:
        TextDecoder(tiny_config("gpt2")).save_pretrained(tmp_path)
        part = TextDecoder.from_pretrained(tmp_path, add_cross_attention=True, dtype="float16")
        assert {tensor.dtype for tensor in part.parameters()} == {torch.float16}
        assert part.config.dtype == "float16"
        assert part.config.extra.get("torch_dtype") is None

    def test_buffers_keep_their_dtype(self, tmp_path: Path) -> None:
        encoder = SpeechEncoder(tiny_config("hubert", conv_pos_batch_norm=True))
        encoder.save_pretrained(tmp_path)
        loaded = SpeechEncoder.from_pretrained(tmp_path, dtype="float16")
        kinds = {name: buffer.dtype for name, buffer in loaded.named_buffers()}
        assert kinds == {
            "positions.batch_norm.running_mean": torch.float16,
            "positions.batch_norm.running_var": torch.float16,
            "positions.batch_norm.num_batches_tracked": torch.int64,
        }


def test_report_is_complete(build: Build, tmp_path: Path) -> None:
    build(encoder="hubert", decoder="gpt2").save_pretrained(tmp_path)
    report = load(tmp_path).load_report
    model = SpeechEncoderDecoderModel(config=SpeechEncoderDecoderConfig.from_pretrained(tmp_path))
    assert sorted(report.loaded) == sorted(own_tensors(model))
    assert len(set(report.loaded)) == len(report.loaded)
    assert report.dropped == {}
    assert re.fullmatch(rf"\d+ tensors loaded from {re.escape(str(tmp_path))}", report.summary())


@pytest.mark.parametrize("nonsense", [{"labels_smoothing": 1}, {"encoder": 3}, {"num_beam": 2}])
def test_unknown_keywords_of_a_warm_start_are_refused(tmp_path: Path, nonsense: dict[str, Any]) -> None:
    with pytest.raises(
        ConfigError, match="is neither an option of loading or of `generate` nor a field of the configuration"
    ):
        warm_start(tmp_path, tmp_path, **nonsense)
