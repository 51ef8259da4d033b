"""A checkpoint as one thing: its configuration, its generation options and its tensors, wherever and however they lie.

Three kinds of folder are read: Hugging Face's layout (safetensors, `pytorch_model.bin` or `flax_model.msgpack`, in
shards or not), that of a CTranslate2 Whisper, and one with a GGUF file; once open, all look like Hugging Face's.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from dragoman.checkpoint.formats.ctranslate2 import Ct2File
from dragoman.checkpoint.formats.ctranslate2_whisper import WhisperTensors, whisper_config, whisper_generation_config
from dragoman.checkpoint.formats.gguf import GgufTensors, open_gguf
from dragoman.checkpoint.formats.msgpack import MsgpackFile
from dragoman.checkpoint.layout import WeightFiles, find_weights
from dragoman.checkpoint.tensors import Framework, SafetensorsFile, Shards, TensorFile
from dragoman.errors import MissingDependencyError, ModelNotFoundError
from dragoman.files import read_json

__all__ = ["Checkpoint", "open_folder"]

# Reads one `pytorch_model.bin`; only the PyTorch backend has such a function.
PickleReader = Callable[[Path], TensorFile]


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A folder that holds a model.

    Attributes:
        folder: Where it is.
        config: What `config.json` says.
        generation: What `generation_config.json` says, `None` if there is no such file.
        weights: The files of its tensors.
    """

    folder: Path
    config: Mapping[str, Any]
    generation: Mapping[str, Any] | None
    weights: WeightFiles

    def tensors(
        self, framework: Framework, read_pickle: PickleReader | None = None
    ) -> AbstractContextManager[TensorFile]:
        """Open the tensors, as arrays of a framework or of NumPy.

        Args:
            framework: `"pt"`, `"np"` or `"flax"`.
            read_pickle: Reads a `.bin` file safely.

        Raises:
            MissingDependencyError: If the weights are `.bin` files and the backend cannot read them.
        """
        kind, paths = self.weights.format, self.weights.paths
        if kind == "ctranslate2":
            return WhisperTensors(Ct2File(paths[0]))
        if kind == "gguf":
            return GgufTensors(open_gguf(paths[0]))
        if kind == "flax":
            return MsgpackFile(paths)
        if kind == "safetensors":
            return _all([partial(SafetensorsFile, path, framework) for path in paths])
        if read_pickle is None:
            raise MissingDependencyError(
                f"{paths[0]} can only be read with PyTorch. Convert it once, on any machine: pip install "
                "'dragoman[torch]', then SpeechEncoderDecoderModel.from_pretrained(folder).save_pretrained(folder)."
            )
        return _all([partial(read_pickle, path) for path in paths])


def _all(openers: Sequence[Callable[[], Any]]) -> AbstractContextManager[TensorFile]:
    """Open every file; if one cannot be opened, close the others."""
    with ExitStack() as stack:
        files = [stack.enter_context(opener()) for opener in openers]
        stack.pop_all()
    return files[0] if len(files) == 1 else Shards(files)


def open_folder(
    folder: str | Path, *, use_safetensors: bool | None = None, variant: str | None = None, pickles: bool = True
) -> Checkpoint:
    """Look what a folder holds; no tensor is read yet.

    Args:
        folder: A local folder.
        use_safetensors: `True` accepts only safetensors, `False` only `.bin`; by default safetensors come first.
        variant: The word in `model.<variant>.safetensors`.
        pickles: Whether the caller reads `.bin` files; if not, other files come before them.

    Raises:
        ModelNotFoundError: If there is no `config.json`, or there are no weights.
        UntrustedFileError: If a file is corrupt or names files outside the folder.
    """
    folder = Path(folder)
    weights = find_weights(folder, use_safetensors=use_safetensors, variant=variant, pickles=pickles)
    if weights.format == "ctranslate2":
        with Ct2File(weights.paths[0]) as container:
            config = whisper_config(container)
        return Checkpoint(folder=folder, config=config, generation=whisper_generation_config(folder), weights=weights)
    if weights.format == "gguf":
        file = open_gguf(weights.paths[0])
        return Checkpoint(folder=folder, config=file.config, generation=None, weights=weights)
    if not (folder / "config.json").is_file():
        raise ModelNotFoundError(
            f"{folder} has weights but no config.json, so the kind of model is unknown. Add it; to what a Trainer of "
            "transformers wrote, by model.config.save_pretrained(folder)."
        )
    generation = folder / "generation_config.json"
    return Checkpoint(
        folder=folder,
        config=read_json(folder / "config.json"),
        generation=read_json(generation) if generation.is_file() else None,
        weights=weights,
    )
