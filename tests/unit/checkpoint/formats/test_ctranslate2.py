"""CTranslate2's container, written here from a tiny Whisper of `transformers` and read by dragoman."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import AddedToken, Tokenizer, models
from transformers import WhisperConfig, WhisperForConditionalGeneration

from dragoman.checkpoint.formats import FORMATS
from dragoman.checkpoint.formats.ctranslate2 import Ct2File
from dragoman.checkpoint.formats.ctranslate2_config import whisper_config
from dragoman.checkpoint.formats.ctranslate2_whisper import WhisperTensors
from dragoman.checkpoint.tensors import TensorFile
from dragoman.errors import CheckpointError, ModelNotFoundError, UntrustedFileError

Array = np.ndarray[Any, Any]
TYPES = ("float32", "int8", "int16", "int32", "float16", "bfloat16")
SIZES = {
    "vocab_size": 70, "num_mel_bins": 8, "d_model": 16, "encoder_layers": 2, "decoder_layers": 3, "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 20, "encoder_attention_heads": 2, "decoder_attention_heads": 4, "max_source_positions": 30,
    "max_target_positions": 12,
}  # fmt: skip


IDS = {f"{name}_token_id": 1 for name in ("pad", "bos", "eos", "decoder_start")}


def tiny_whisper() -> WhisperForConditionalGeneration:
    torch.manual_seed(0)
    return WhisperForConditionalGeneration(WhisperConfig(**SIZES, **IDS)).eval()


def text(name: str) -> bytes:
    return struct.pack("<H", len(name.encode()) + 1) + name.encode() + b"\0"


def variable(name: str, shape: tuple[int, ...], kind: str, data: bytes) -> bytes:
    head = text(name) + struct.pack(f"<B{len(shape)}I", len(shape), *shape)
    return head + struct.pack("<BI", TYPES.index(kind), len(data)) + data


def encoded(name: str, array: Array, kind: str) -> list[bytes]:
    """Return a variable as CTranslate2 stores it when a model is converted to `kind`, with its scale if it has one."""
    if array.dtype.kind == "i":
        return [variable(name, array.shape, array.dtype.name, array.tobytes())]
    if kind in ("int8", "int16") and name.endswith("/weight"):
        largest = np.abs(array).reshape(len(array), -1).max(axis=1) if kind == "int8" else np.abs(array).max()
        largest = np.where(largest == 0, 127, largest)
        scale = np.asarray((127 if kind == "int8" else 1024) / largest, np.float32)
        whole = np.rint(array * scale.reshape(-1, *[1] * (array.ndim - 1))).astype(kind)
        scale_parts = variable(name + "_scale", scale.shape, "float32", scale.tobytes())
        return [variable(name, array.shape, kind, whole.tobytes()), scale_parts]
    if kind == "bfloat16":
        bits = torch.from_numpy(array).bfloat16().view(torch.int16).numpy()
        return [variable(name, array.shape, kind, bits.tobytes())]
    stored = "float16" if kind == "float16" else "float32"
    return [variable(name, array.shape, stored, array.astype(stored).tobytes())]


def container(
    variables: dict[str, Array],
    aliases: dict[str, str],
    kind: str = "float32",
    version: int = 6,
    spec: str = "WhisperSpec",
) -> bytes:
    parts = [part for name in sorted(variables) for part in encoded(name, variables[name], kind)]
    out = struct.pack("<I", version) + text(spec) + struct.pack("<II", 3, len(parts)) + b"".join(parts)
    return out + struct.pack("<I", len(aliases)) + b"".join(text(name) + text(to) for name, to in aliases.items())


def converted(model: WhisperForConditionalGeneration) -> tuple[dict[str, Array], dict[str, str]]:
    """Return a model's tensors and settings under CTranslate2's names."""
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    out: dict[str, Array] = {}

    def linear(theirs: str, *ours: str) -> None:
        out[f"{theirs}/weight"] = np.concatenate([state[f"{name}.weight"] for name in ours])
        biases = [state.get(f"{name}.bias", np.zeros(len(state[f"{name}.weight"]), np.float32)) for name in ours]
        out[f"{theirs}/bias"] = np.concatenate(biases)

    def norm(theirs: str, ours: str) -> None:
        out[f"{theirs}/gamma"], out[f"{theirs}/beta"] = state[f"{ours}.weight"], state[f"{ours}.bias"]

    for side, layers in (("encoder", model.config.encoder_layers), ("decoder", model.config.decoder_layers)):
        for i in range(layers):
            ours, theirs = f"model.{side}.layers.{i}", f"{side}/layer_{i}"
            linear(f"{theirs}/self_attention/linear_0", *(f"{ours}.self_attn.{x}_proj" for x in "qkv"))
            linear(f"{theirs}/self_attention/linear_1", f"{ours}.self_attn.out_proj")
            norm(f"{theirs}/self_attention/layer_norm", f"{ours}.self_attn_layer_norm")
            if side == "decoder":
                linear(f"{theirs}/attention/linear_0", f"{ours}.encoder_attn.q_proj")
                linear(f"{theirs}/attention/linear_1", *(f"{ours}.encoder_attn.{x}_proj" for x in "kv"))
                linear(f"{theirs}/attention/linear_2", f"{ours}.encoder_attn.out_proj")
                norm(f"{theirs}/attention/layer_norm", f"{ours}.encoder_attn_layer_norm")
            linear(f"{theirs}/ffn/linear_0", f"{ours}.fc1")
            linear(f"{theirs}/ffn/linear_1", f"{ours}.fc2")
            norm(f"{theirs}/ffn/layer_norm", f"{ours}.final_layer_norm")
        norm(f"{side}/layer_norm", f"model.{side}.layer_norm")
        out[f"{side}/position_encodings/encodings"] = state[f"model.{side}.embed_positions.weight"]
        out[f"{side}/num_heads"] = np.int16(getattr(model.config, f"{side}_attention_heads")).reshape(())
    linear("encoder/conv1", "model.encoder.conv1")
    linear("encoder/conv2", "model.encoder.conv2")
    out["decoder/embeddings/weight"] = state["model.decoder.embed_tokens.weight"]
    settings = {"activation": 3, "alibi": 0, "pre_norm": 1, "scale_embeddings": 0, "start_from_zero_embedding": 0}
    out |= {f"decoder/{name}": np.int8(value).reshape(()) for name, value in settings.items()}
    out |= {f"decoder/{name}": np.int16(1).reshape(()) for name in ("alignment_heads", "alignment_layer")}
    return out, {"decoder/projection/weight": "decoder/embeddings/weight"}


@pytest.fixture(scope="module")
def model() -> WhisperForConditionalGeneration:
    return tiny_whisper()


@pytest.fixture
def write(tmp_path: Path, model: WhisperForConditionalGeneration) -> Callable[..., Path]:
    """Write the tiny model's container, after changes to its tensors, and return its path."""

    def written(changes: dict[str, Array | None] | None = None, **options: Any) -> Path:
        variables, aliases = converted(model)
        variables = {k: v for k, v in (variables | (changes or {})).items() if v is not None}
        (tmp_path / "model.bin").write_bytes(container(variables, options.pop("aliases", aliases), **options))
        return tmp_path / "model.bin"

    return written


def tensors_of(path: Path) -> dict[str, torch.Tensor]:
    with WhisperTensors(Ct2File(path)) as file:
        return {key: torch.from_numpy(file.read(key)) for key in file.keys()}  # noqa: SIM118


@pytest.mark.parametrize("version", [4, 5, 6])
def test_names_and_tensors_are_those_of_transformers(
    version: int, write: Any, model: WhisperForConditionalGeneration
) -> None:
    found = tensors_of(write(version=version))
    wanted = {name: tensor for name, tensor in model.state_dict().items() if name != "proj_out.weight"}
    assert set(found) == set(wanted)
    assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())


@pytest.mark.parametrize(
    ("kind", "tolerance"), [("float16", 1e-3), ("bfloat16", 8e-3), ("int8", 1e-2), ("int16", 2e-3)]
)
def test_other_data_types(kind: str, tolerance: float, write: Any, model: WhisperForConditionalGeneration) -> None:
    path = write(kind=kind)
    found = tensors_of(path)
    for name, tensor in model.state_dict().items():
        if name != "proj_out.weight":
            assert found[name].dtype == (torch.float16 if kind == "float16" else torch.float32)
            assert (found[name] - tensor).abs().max() <= tolerance * tensor.abs().max()
    with WhisperTensors(Ct2File(path)) as file:
        for key, tensor in found.items():
            assert (file.shape(key), file.dtype(key)) == (tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))


def test_the_config_builds_the_same_model(write: Any, model: WhisperForConditionalGeneration) -> None:
    path = write()
    with Ct2File(path) as file:
        config = whisper_config(file)
    assert config.items() >= SIZES.items()
    rebuilt = WhisperForConditionalGeneration(WhisperConfig(**config, **IDS)).eval()
    missing = rebuilt.load_state_dict(tensors_of(path), strict=False)
    assert (missing.missing_keys, missing.unexpected_keys) == (["proj_out.weight"], [])
    features, tokens = torch.randn(2, SIZES["num_mel_bins"], 60), torch.randint(SIZES["vocab_size"], (2, 5))
    with torch.no_grad():
        torch.testing.assert_close(
            rebuilt(features, decoder_input_ids=tokens).logits, model(features, decoder_input_ids=tokens).logits
        )


def test_an_untied_projection(write: Any) -> None:
    own = np.ones((70, 16), np.float32)
    path = write({"decoder/projection/weight": own}, aliases={})
    assert torch.equal(tensors_of(path)["proj_out.weight"], torch.from_numpy(own))
    with Ct2File(path) as file:
        assert whisper_config(file)["tie_word_embeddings"] is False


def test_aliases_share_tensor_and_scale(write: Any) -> None:
    aliases = {"decoder/projection/weight": "decoder/embeddings/weight"}
    with Ct2File(write(kind="int8", aliases=aliases)) as file:
        assert file.same("decoder/projection/weight", "decoder/embeddings/weight")
        np.testing.assert_array_equal(file.read("decoder/projection/weight"), file.read("decoder/embeddings/weight"))
        assert not any(key.endswith("_scale") for key in file.keys())  # noqa: SIM118


def test_it_is_a_tensor_file(write: Any) -> None:
    path = write()
    files: list[TensorFile] = [Ct2File(path), WhisperTensors(Ct2File(path))]
    for file in files:
        with file as opened:
            array = opened.read(opened.keys()[-1])
            assert array.flags.writeable
            assert array.flags.owndata
        assert array.sum() == array.sum()  # what was read stays valid
        with pytest.raises(CheckpointError, match="holds no tensor 'nothing'"):
            file.shape("nothing")


def test_one_other_kind_of_activation(write: Any) -> None:
    with Ct2File(write({"decoder/activation": np.int8(0).reshape(())})) as file:
        assert whisper_config(file)["activation_function"] == "relu"


def zero(shape: tuple[int, ...] = (), kind: str = "int8") -> Array:
    return np.zeros(shape, kind)


FULL = {"encoder/layer_0/self_attention/linear_0/bias": np.ones(48, np.float32)}


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({}, {"spec": "TransformerSpec"}, "holds a 'TransformerSpec'; of CTranslate2's models only Whisper"),
        ({}, {"version": 3}, "has version 3; versions"),
        ({}, {"version": 7}, "has version 7; versions"),
        (FULL, {}, "k_proj.bias in .* is not zero"),
        ({"encoder/layer_0/ffn/linear_0/low_rank_weight_1": np.ones((2, 2), np.float32)}, {}, "do not belong to"),
        ({"encoder/layer_1/ffn/linear_1/bias": None}, {}, "lacks 'encoder/layer_1/ffn/linear_1/bias'"),
        ({"encoder/layer_0/ffn/linear_0/weight": None}, {}, "no tensor 'encoder/layer_0/ffn/linear_0/weight'"),
        ({"decoder/pre_norm": zero()}, {}, "'decoder/pre_norm' of .* must be 1"),
        ({"decoder/alibi": np.int8(1).reshape(())}, {}, "'decoder/alibi' of .* must be 0"),
        ({"decoder/activation": np.int8(77).reshape(())}, {}, "unknown activation function 77"),
        ({"encoder/num_heads": zero()}, {}, "its encoder of width 16 has 0 heads"),
        ({"encoder/num_heads": np.int16(3).reshape(())}, {}, "its encoder of width 16 has 3 heads"),
        ({"encoder/num_heads": np.int16(-2).reshape(())}, {}, "has -2 heads"),
        ({"encoder/num_heads": None}, {}, "has 0 heads"),
        ({"encoder/num_heads": zero((3,))}, {}, "must be one whole number"),
        ({"encoder/num_heads": np.float32(2).reshape(())}, {}, "must be one whole number"),
        ({"encoder/conv1/weight": np.ones((16, 8), np.float32)}, {}, "must have 3 dimensions"),
        ({"decoder/embeddings/weight": np.ones(70, np.float32)}, {}, "must have 2 dimensions"),
        ({"decoder/embeddings/weight": zero((70, 16))}, {}, "int8 of shape .* cannot be 'model.decoder.embed_tokens"),
        ({"encoder/layer_0/self_attention/linear_0/weight": np.ones((47, 16), np.float32)}, {}, "cannot be '.*q_proj"),
    ],
)  # fmt: skip
def test_other_models_than_whisper_are_refused(changes: Any, options: Any, message: str, write: Any) -> None:
    with pytest.raises(CheckpointError, match=message):
        tensors_of(write(changes, **options))


@pytest.mark.parametrize(
    "scale", [np.zeros(70), np.full(70, np.nan), np.full(70, -1), np.ones(69), np.full(70, np.inf)]
)
def test_impossible_scales(scale: Array, write: Any) -> None:
    changes = {"decoder/embeddings/weight": zero((70, 16)), "decoder/embeddings/weight_scale": scale.astype(np.float32)}
    with pytest.raises(UntrustedFileError, match=r"scale of 'decoder/embeddings/weight' .* does not fit"):
        tensors_of(write(changes))


def header(count: int = 1, version: int = 6) -> bytes:
    return struct.pack("<I", version) + text("WhisperSpec") + struct.pack("<II", 3, count)


def broken(
    name: str = "a", rank: int = 1, dims: tuple[int, ...] = (1,), kind: int = 0, size: int = 4, data: bytes = b"1234"
) -> bytes:
    return text(name) + struct.pack(f"<B{len(dims)}I", rank, *dims) + struct.pack("<BI", kind, size) + data


NO_ALIASES = struct.pack("<I", 0)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "is empty"),
        (b"\6\0\0", "ends at byte 3"),
        (header(), "ends at byte"),
        (header(2**32 - 1), "claims 4,294,967,295 variables"),
        (header(2) + broken() + NO_ALIASES, "ends at byte"),
        (header() + broken() + broken() + NO_ALIASES, "claims|ends at byte|follow"),
        (header(2) + broken() + broken() + NO_ALIASES, "has 'a' twice"),
        (header() + broken(dims=(2,)) + NO_ALIASES, r"of shape \(2,\) must have 8 bytes, but has 4"),
        (header() + broken(dims=(2**32 - 1,)) + NO_ALIASES, "must have 17,179,869,180 bytes"),
        (header() + broken(rank=8, dims=(2**32 - 1,) * 8, size=0, data=b"") + NO_ALIASES, "must have"),
        (header() + broken(rank=255, dims=(1,) * 255) + NO_ALIASES, "has 255 dimensions"),
        (header() + broken(kind=6) + NO_ALIASES, "unknown type 6"),
        (header() + broken(dims=(2**29,), size=2**31, data=b"1234") + NO_ALIASES, "middle of 2,147,483,648 bytes"),
        (header() + struct.pack("<H", 65535) + b"a", "in the middle of 65,535 bytes"),
        (header() + struct.pack("<H", 2) + b"\xff\xfe", "a name that is not UTF-8"),
        (header() + broken(), "ends at byte"),
        (header() + broken() + struct.pack("<I", 1) + text("b") + text("nowhere"), "alias 'b' for 'nowhere'"),
        (header() + broken() + struct.pack("<I", 1) + text("a") + text("a"), "alias 'a' for 'a'"),
        (header() + broken() + struct.pack("<I", 2**31), "claims 2,147,483,648 variables"),
        (header() + broken() + NO_ALIASES + b"more", "4 bytes follow its end"),
        (struct.pack("<Q", 20) + b'{"a": "safetensors"}', "not a CTranslate2 container, or has version 20"),
        (b"PK\3\4" + b"x" * 200, "not a CTranslate2 container"),
    ],
)  # fmt: skip
def test_inconsistent_headers_are_refused(raw: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(raw)
    with pytest.raises(CheckpointError, match=reason) as caught:
        Ct2File(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 500


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    whole = container({"a": np.ones((2, 3), np.float32), "b": np.int16(3).reshape(())}, {"c": "a"})
    path = tmp_path / "model.bin"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            Ct2File(path)
    path.write_bytes(whole)
    with Ct2File(path) as file:
        assert file.keys() == ["a", "b", "c"]


def test_every_flipped_byte_gives_a_result_or_a_refusal(tmp_path: Path) -> None:
    whole = bytearray(container({"a/weight": np.ones((2, 3), np.float32)}, {"b": "a/weight"}, "int8"))
    path = tmp_path / "flipped.bin"
    for place in range(len(whole)):
        for mask in (0x01, 0x80, 0xFF):
            flipped = bytearray(whole)
            flipped[place] ^= mask
            path.write_bytes(flipped)
            try:
                with Ct2File(path) as file:
                    for key in file.keys():  # noqa: SIM118
                        assert file.read(key).shape == file.shape(key)
            except CheckpointError:
                pass


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="no file"):
        Ct2File(tmp_path / "model.bin")


SPECIAL = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|haw|>", "<|translate|>", "<|transcribe|>",
           "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>", "<|0.00|>"]  # fmt: skip


def write_tokenizer(path: Path, special: list[str], first: int = 50) -> None:
    tokenizer = Tokenizer(models.BPE(vocab={f"t{i}": i for i in range(first)}, merges=[]))
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in special])
    tokenizer.save(str(path / "tokenizer.json"))


OWN = {"suppress_ids": [1, 2, 7], "suppress_ids_begin": [5, 50], "alignment_heads": [[1, 0], [2, 3]], "lang_ids": [52]}


def whisper_generation_config(folder: Path) -> Any:
    read = FORMATS["ctranslate2"].configs
    assert read is not None
    return read(folder / "model.bin")[1]


def test_generation_config_of_an_english_model(tmp_path: Path, write: Any) -> None:
    write()
    write_tokenizer(tmp_path, SPECIAL)
    (tmp_path / "config.json").write_text(json.dumps(OWN))
    assert whisper_generation_config(tmp_path) == {
        "bos_token_id": 50,
        "eos_token_id": 50,
        "pad_token_id": 50,
        "decoder_start_token_id": 51,
        "no_timestamps_token_id": 59,
        "prev_sot_token_id": 57,
        "max_length": 12,
        "return_timestamps": False,
        "is_multilingual": False,
        "forced_decoder_ids": [[1, 59]],
        "suppress_tokens": [1, 2, 7],
        "begin_suppress_tokens": [5, 50],
        "alignment_heads": [[1, 0], [2, 3]],
    }


def test_generation_config_of_a_multilingual_model(tmp_path: Path, write: Any) -> None:
    write({"decoder/embeddings/weight": np.zeros((51865, 16), np.float32)})
    write_tokenizer(tmp_path, SPECIAL, first=60)
    (tmp_path / "config.json").write_text("{}")
    config = whisper_generation_config(tmp_path)
    assert config["is_multilingual"] is True
    assert config["lang_to_id"] == {"<|en|>": 62, "<|haw|>": 63}
    assert config["task_to_id"] == {"transcribe": 65, "translate": 64}
    assert config["forced_decoder_ids"] == [[1, None], [2, 65], [3, 69]]
    assert "suppress_tokens" not in config


@pytest.mark.parametrize(
    ("own", "special", "message"),
    [
        (OWN | {"suppress_ids": [70]}, SPECIAL, "config.json has the number 70, but only 0 to 69"),
        (OWN | {"suppress_ids": [-1]}, SPECIAL, "has the number -1"),
        (OWN | {"suppress_ids": "abc"}, SPECIAL, "has the number 'a'"),
        (OWN | {"suppress_ids": 3.5}, SPECIAL, "has the number 3.5"),
        (OWN | {"suppress_ids_begin": [True]}, SPECIAL, "has the number True"),
        (OWN | {"alignment_heads": [[3, 0]]}, SPECIAL, "has the number 3, but only 0 to 2"),
        (OWN | {"alignment_heads": [[0, 4]]}, SPECIAL, "has the number 4, but only 0 to 3"),
        (OWN | {"alignment_heads": [1, 2]}, SPECIAL, "must be pairs of layer and head, not 1"),
        (OWN | {"alignment_heads": {"a": 1}}, SPECIAL, "must be pairs"),
        (OWN, SPECIAL[2:], r"no token <\|endoftext\|>, <\|startoftranscript\|>: it is not the tokenizer"),
        (OWN, [*SPECIAL, *(f"<|{i}|>" for i in range(60))], "tokenizer.json has the number 70, but only 0 to 69"),
    ],
)  # fmt: skip
def test_impossible_settings(own: dict[str, Any], special: list[str], message: str, tmp_path: Path, write: Any) -> None:
    write()
    write_tokenizer(tmp_path, special)
    (tmp_path / "config.json").write_text(json.dumps(own))
    with pytest.raises(UntrustedFileError, match=message):
        whisper_generation_config(tmp_path)


@pytest.mark.parametrize(
    "content", ['{"added_tokens": 3}', '{"added_tokens": [1, {"id": 2}]}', '{"model": {"vocab": []}}']
)
def test_other_json_is_not_a_tokenizer(content: str, tmp_path: Path, write: Any) -> None:
    write()
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(UntrustedFileError, match="it is not the tokenizer of this Whisper"):
        whisper_generation_config(tmp_path)


def test_missing_tokenizer(tmp_path: Path, write: Any) -> None:
    write()
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelNotFoundError, match=r"no file .*tokenizer.json"):
        whisper_generation_config(tmp_path)
