"""A folder as one checkpoint: its configuration, its generation options and its tensors.

Three kinds of folder are read: the Hugging Face layout (safetensors, `pytorch_model.bin` or `flax_model.msgpack`, in
shards or not), a CTranslate2 Whisper, and one with a GGUF file. All are presented in the Hugging Face layout.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from dragoman._install import install_command
from dragoman.checkpoint.copied import Copied, check_hashes
from dragoman.checkpoint.formats import FORMATS, ctranslate2_config, open_gguf
from dragoman.checkpoint.layout import WeightFiles, find_weights
from dragoman.checkpoint.tensors import Framework, SafetensorsFile, Shards, TensorFile
from dragoman.errors import ConfigError, MissingDependencyError, ModelNotFoundError
from dragoman.files import find_json, read_json

# Opens one `pytorch_model.bin`; only the PyTorch backend has such a function.
PickleReader = Callable[[Path], TensorFile]


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A model in a folder.

    Attributes:
        folder: The folder.
        config: Content of `config.json`.
        generation: Content of `generation_config.json`, `None` if there is no such file.
        weights: The files with its tensors.
        copied: Whether tensors are copied out of the files, whose hashes are checked where they are known.
    """

    folder: Path
    config: Mapping[str, Any]
    generation: Mapping[str, Any] | None
    weights: WeightFiles
    copied: bool = False

    def tensors(
        self, framework: Framework, read_pickle: PickleReader | None = None
    ) -> AbstractContextManager[TensorFile]:
        """Open the tensors, as arrays of a framework or of NumPy.

        Args:
            framework: `"pt"`, `"np"` or `"flax"`.
            read_pickle: Opens a `.bin` file safely.

        Raises:
            MissingDependencyError: If the weights are `.bin` files and the backend cannot read them.
            UntrustedFileError: If a hash is known and differs.
        """
        if not self.copied:
            return self._opened(framework, read_pickle)
        check_hashes(self.weights.paths)
        with ExitStack() as stack:
            file = stack.enter_context(self._opened(framework, read_pickle))
            stack.pop_all()
        return Copied(file)

    def _opened(self, framework: Framework, read_pickle: PickleReader | None) -> AbstractContextManager[TensorFile]:
        kind, paths = self.weights.format, self.weights.paths
        if kind in FORMATS:
            return FORMATS[kind].open(paths)
        if kind == "safetensors":
            return _all([partial(SafetensorsFile, path, framework) for path in paths])
        if read_pickle is None:
            raise MissingDependencyError(
                f"{paths[0]} can only be read with PyTorch. Convert it once, on any machine: "
                f"{install_command('torch')}, then "
                "SpeechEncoderDecoderModel.from_pretrained(folder).save_pretrained(folder)."
            )
        return _all([partial(read_pickle, path) for path in paths])


def _all(openers: Sequence[Callable[[], Any]]) -> AbstractContextManager[TensorFile]:
    """Open all files; if one cannot be opened, close the others."""
    with ExitStack() as stack:
        files = [stack.enter_context(opener()) for opener in openers]
        stack.pop_all()
    return files[0] if len(files) == 1 else Shards(files)


def open_folder(
    folder: str | Path, *, use_safetensors: bool | None = None, variant: str | None = None, pickles: bool = True
) -> Checkpoint:
    """Open the checkpoint in a folder, without reading tensors.

    Args:
        folder: A local folder.
        use_safetensors: `True` accepts only safetensors, `False` only `.bin`; by default safetensors come first.
        variant: The word in `model.<variant>.safetensors`.
        pickles: Whether the caller can read `.bin` files; if not, other formats are preferred.

    Raises:
        ModelNotFoundError: If there is no `config.json`, or there are no weights.
        UntrustedFileError: If a file is corrupt or names files outside the folder.
    """
    folder = Path(folder)
    weights = find_weights(folder, use_safetensors=use_safetensors, variant=variant, pickles=pickles)
    configs = FORMATS[weights.format].configs if weights.format in FORMATS else None
    if configs is not None:
        config, generation = configs(weights.paths[0])
        return Checkpoint(folder=folder, config=config, generation=generation, weights=weights)
    if not (folder / "config.json").is_file():
        raise ModelNotFoundError(
            f"{folder} has weights but no config.json, so the kind of model is unknown. Add it; for a checkpoint of a "
            "`transformers` Trainer, with model.config.save_pretrained(folder) and "
            "model.generation_config.save_pretrained(folder)."
        )
    config = read_json(folder / "config.json")
    path = folder / "generation_config.json"
    generation = read_json(path) if path.is_file() else None
    return Checkpoint(folder=folder, config=config, generation=generation, weights=weights)


def read_model_config(folder: Path) -> Mapping[str, Any]:
    """Return the configuration of the model in a folder, whether or not its weights are there; empty if there is none.

    Raises:
        ConfigError: If config.json is malformed.
        CheckpointError: If a CTranslate2 container holds another model than Whisper.
    """
    config = find_json(folder / "config.json", ConfigError)
    if "model_type" not in config and (folder / "model.bin").is_file():  # CTranslate2's own config.json has no sizes
        return ctranslate2_config(folder / "model.bin")
    return config


def gguf_metadata(folder: Path) -> Mapping[str, Any] | None:
    """Return the metadata of the only GGUF file in a folder, which include the tokenizer; `None` if there is not one.

    Raises:
        MissingDependencyError: If the package `gguf` is not installed.
        UntrustedFileError: If the file is corrupt.
    """
    files = sorted(folder.glob("*.gguf"))
    return open_gguf(files[0]).metadata if len(files) == 1 else None
