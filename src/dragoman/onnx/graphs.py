"""The folder of graphs beside a model's `config.json`: its files, their inputs and outputs, and what describes them.

| file | inputs | outputs |
|---|---|---|
| `encoder.onnx` | the audio, `lengths` | `states`, `frame_lengths` |
| `memory.onnx` | `states`, `frame_lengths` | `cross.{i}.key`, `cross.{i}.value`, `memory_mask`; `prefix…` |
| `decoder.onnx` | `tokens`, `parents`, `past.{i}.…`, the memory | `logits` of the last token, `present.{i}.…` |
| `alignment.onnx` | `tokens`, the memory | `weights` of cross-attention |

What has to do with lengths is there only where the encoder's input may be padded (`masked`), and there is no
`alignment.onnx` without cross-attention. All graphs share one file of weights.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

from dragoman.errors import CheckpointError, ModelNotFoundError
from dragoman.files import read_json

FOLDER: Final = "onnx"
WEIGHTS: Final = "weights.bin"
_ABOUT: Final = "graphs.json"
_FORMAT: Final = 1


@dataclass(frozen=True, kw_only=True)
class GraphFacts:
    """What a runtime has to know about the graphs of a model."""

    compute_type: str
    """Type of the matrix products: "float32" or "int8"."""
    masked: bool
    """Whether the encoder takes `lengths`."""
    prefix: bool
    """Whether the speech is a prefix of the text, instead of read by cross-attention."""
    num_layers: int
    """Layers of the decoder."""
    kv_heads: int
    """Heads of its keys and values."""
    head_dim: int
    """Width of a head."""
    format: int = _FORMAT
    """Version of this layout."""

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the graphs."""
        return ("encoder", "memory", "decoder", *(() if self.prefix else ("alignment",)))

    def pairs(self, kind: str) -> Iterator[str]:
        """Yield the names of keys and values of all layers; `kind` is "past", "present" or "cross"."""
        for layer in range(self.num_layers):
            yield f"{kind}.{layer}.key"
            yield f"{kind}.{layer}.value"

    @property
    def encoded(self) -> tuple[str, ...]:
        """Outputs of the encoder."""
        return ("states", *(("frame_lengths",) if self.masked else ()))

    @property
    def memory(self) -> tuple[str, ...]:
        """Outputs of `memory.onnx`."""
        names = ("prefix",) if self.prefix else tuple(self.pairs("cross"))
        mask = "prefix_mask" if self.prefix else "memory_mask"
        return (*names, *((mask,) if self.masked else ()))

    @property
    def read_by_decoder(self) -> tuple[str, ...]:
        """Inputs of the decoder besides tokens, parents and past."""
        return ("prefix", "mask", "positions") if self.prefix else self.memory

    def to_json(self) -> bytes:
        """Return the content of the file that describes the graphs."""
        return (json.dumps(asdict(self), indent=2) + "\n").encode()

    @classmethod
    def path(cls, folder: Path) -> Path:
        """Return the file that describes the graphs of a model's folder."""
        return folder / FOLDER / _ABOUT

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the description of the graphs in a model's folder.

        Raises:
            ModelNotFoundError: If there are no graphs.
            CheckpointError: If they are of another version, or the description is malformed.
        """
        path = cls.path(folder)
        if not path.is_file():
            raise ModelNotFoundError(
                f"{folder} has no ONNX graphs. Write them where PyTorch is installed: "
                f"dragoman export {folder} -o {folder}"
            )
        about: dict[str, Any] = read_json(path, CheckpointError)
        kinds = {name: type(value) for name, value in about.items()}
        if about.get("format") != _FORMAT or kinds != {**cls.__annotations__, "format": int}:
            raise CheckpointError(
                f"{path} does not describe graphs of this version of dragoman (format {_FORMAT}). Export the model "
                "again."
            )
        return cls(**about)
