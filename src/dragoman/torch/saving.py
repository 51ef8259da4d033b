"""Whole models into folders of the Hugging Face layout."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from dragoman.checkpoint.layout import plan_shards
from dragoman.checkpoint.options import tensors_to_save
from dragoman.checkpoint.saving import save_folder
from dragoman.checkpoint.tensors import save_safetensors
from dragoman.model.assembly import Files, model_files, saved_prefixes
from dragoman.torch.loading import part_tables
from dragoman.torch.net.bridge import BRIDGE_KEYS
from dragoman.torch.net.speech_encoder import SpeechEncoder
from dragoman.torch.net.text_decoder import TextDecoder
from dragoman.torch.weights import their_tensors

if TYPE_CHECKING:
    from dragoman.torch.model import SpeechEncoderDecoderModel

State = Mapping[str, Tensor] | None

__all__ = ["model_tensors", "save", "save_part", "weight_files"]


def model_tensors(model: "SpeechEncoderDecoderModel", state_dict: State = None) -> dict[str, Tensor]:
    """Return all tensors of a model, or those of a `state_dict` of it, under the names of its checkpoints."""
    encoder, decoder = model.encoder, model.decoder
    tensors = tensors_to_save(model.state_dict(), state_dict, "state_dict")

    def own(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): tensors[name] for name in tensors if name.startswith(prefix)}

    hears, writes = saved_prefixes(model.config)
    return {
        **their_tensors(encoder, part_tables(encoder).keymap(encoder.config), hears, own("encoder.")),
        **their_tensors(decoder, part_tables(decoder).keymap(decoder.config), writes, own("decoder.")),
        **their_tensors(model.bridge, BRIDGE_KEYS, "", own("bridge.")),
    }


def weight_files(tensors: dict[str, Tensor], max_shard_size: int | str) -> Files:
    """Return the weight files, and their index if there are several."""
    sizes = {name: tensor.numel() * tensor.element_size() for name, tensor in tensors.items()}
    plan = plan_shards(sizes, max_shard_size)

    def writer(names: tuple[str, ...]) -> Callable[[Path], None]:
        return lambda path: save_safetensors({n: tensors[n] for n in names}, path, "pt")

    files: Files = {name: writer(names) for name, names in plan.files.items()}
    if plan.index is not None:
        files["model.safetensors.index.json"] = plan.index_bytes()
    return files


def save_part(
    part: SpeechEncoder | TextDecoder, folder: Path, max_shard_size: int | str, state_dict: State = None
) -> None:
    """Write configuration and weights of one part alone; all of them or none."""
    tables = part_tables(part)
    config = part.config.copy(architectures=[tables.classes[0]]).to_json_string().encode()
    tensors = tensors_to_save(part.state_dict(), state_dict, "state_dict")
    files = weight_files(their_tensors(part, tables.keymap(part.config), "", tensors), max_shard_size)
    save_folder(folder, {"config.json": config, **files})


def save(model: "SpeechEncoderDecoderModel", folder: Path, max_shard_size: int | str, state_dict: State = None) -> None:
    """Write configuration, generation options, weights and processing; all of them or none."""
    tensors = weight_files(model_tensors(model, state_dict), max_shard_size)
    save_folder(folder, {**model_files(model.config, model.generation_config, model.processing), **tensors})
