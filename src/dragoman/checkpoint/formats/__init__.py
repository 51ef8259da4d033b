"""Formats of weights besides safetensors and pickles, read as if they were in the Hugging Face layout.

Nothing outside `dragoman.checkpoint` imports the readers: `dragoman.checkpoint.folder` opens a folder in any format.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dragoman.checkpoint.formats.ctranslate2 import Ct2File
from dragoman.checkpoint.formats.ctranslate2_config import whisper_config, whisper_generation_config
from dragoman.checkpoint.formats.ctranslate2_whisper import WhisperTensors
from dragoman.checkpoint.formats.gguf import open_gguf
from dragoman.checkpoint.formats.msgpack import MsgpackFile
from dragoman.checkpoint.tensors import TensorFile

__all__ = ["FORMATS", "Format", "ctranslate2_config", "open_gguf"]

Configs = tuple[Mapping[str, Any], Mapping[str, Any] | None]


@dataclass(frozen=True, kw_only=True)
class Format:
    """A format of weights.

    Attributes:
        open: Opens the weight files; names and layouts are those of `transformers`.
        configs: Returns config.json and generation_config.json for a weight file, if the format replaces those files.
    """

    open: Callable[[tuple[Path, ...]], TensorFile]
    configs: Callable[[Path], Configs] | None = None


def ctranslate2_config(path: Path) -> Mapping[str, Any]:
    """Return the configuration of the Whisper in a CTranslate2 container.

    Raises:
        CheckpointError: If it is another model.
    """
    with Ct2File(path) as container:
        return whisper_config(container)


def _ctranslate2_configs(path: Path) -> Configs:
    config = ctranslate2_config(path)
    return config, whisper_generation_config(path.parent, config)


# By the format that `dragoman.checkpoint.layout` finds.
FORMATS: dict[str, Format] = {
    "flax": Format(open=MsgpackFile),
    "ctranslate2": Format(open=lambda paths: WhisperTensors(Ct2File(paths[0])), configs=_ctranslate2_configs),
    "gguf": Format(open=lambda paths: open_gguf(paths[0]), configs=lambda path: (open_gguf(path).config, None)),
}
