"""`dragoman export`: a model as ONNX graphs, which run without PyTorch and JAX."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from typer import Argument

from dragoman._lazy import require
from dragoman.cli.console import LOG
from dragoman.cli.flags import MessageFlags, ModelFlags
from dragoman.cli.generated import with_flags
from dragoman.errors import ConfigError, DragomanError
from dragoman.transcriber.fields import option

_SOURCE = ("model_dir", "revision", "local_files_only", "hf_token")

_export = partial(option, group="Export")


@dataclass(frozen=True, kw_only=True)
class ExportFlags:
    """What is written, and where."""

    output_dir: Path | None = _export(
        None, "Folder for the model and its graphs; required. The model's own gets the graphs alone.", short="-o"
    )
    compute_type: Literal["float32", "int8"] = _export(
        "float32", "Type of the matrix products: `float32`, or `int8`, which is faster and differs a little."
    )


@with_flags
def export(
    checkpoint: Annotated[
        str | None, Argument(help="Folder or hub id of a model, or a name of `whisper`; by default Whisper tiny.en.")
    ] = None,
    *,
    writing: ExportFlags,
    model: Annotated[ModelFlags, _SOURCE],
    messages: MessageFlags,
) -> int:
    """Write a model as a folder with ONNX graphs, and compare these with PyTorch.

    The folder stays one of the Hugging Face layout, which PyTorch and JAX load too. Where neither is installed, the
    extra `onnx` is enough: dragoman transcribe FILE --model FOLDER --engine onnx.
    """
    folder = writing.output_dir
    if folder is None:
        raise ConfigError("`dragoman export` needs a folder for the graphs: -o FOLDER.")
    # only now: `--help` needs no NumPy
    from dragoman.transcriber.loading import checkpoint_errors, checkpoint_folder

    exporting = require("dragoman.torch.export.folder", "`dragoman export`")
    source = checkpoint_folder(checkpoint, model.source())
    with checkpoint_errors(str(source)):
        loaded = require("dragoman.torch.model", "`dragoman export`").SpeechEncoderDecoderModel.from_pretrained(source)
    in_place = folder.exists() and folder.samefile(source)
    apart = exporting.export(loaded, folder, writing.compute_type, weights=not in_place)
    if not in_place:
        _save_processor(source, folder)
    print(  # noqa: T201
        f"{folder}: written. Largest differences from PyTorch, as shares of the largest value: encoder "
        f"{apart.states:.1e}, logits {apart.logits:.1e}."
    )
    return 0


def _save_processor(source: Path, folder: Path) -> None:
    processing: Any = require("dragoman.processing", "`dragoman export`")
    try:
        processing.AutoProcessor.from_pretrained(source).save_pretrained(folder)
    except DragomanError as error:
        LOG.warning("%s has no processor, which transcription needs: %s", source, error)
