"""`dragoman init`: a speech checkpoint and a text checkpoint joined, as a folder that can be trained."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Option

from dragoman._lazy import require
from dragoman.cli.flags import MessageFlags, ModelFlags
from dragoman.cli.generated import with_flags
from dragoman.errors import ConfigError
from dragoman.transcriber.fields import option

_SOURCE = ("model_dir", "local_files_only", "hf_token")

_joining = partial(option, group="Joining")


@dataclass(frozen=True, kw_only=True)
class JoinFlags:
    """How the two checkpoints are joined, and where the result goes."""

    output_dir: Path | None = _joining(None, "Folder for the model; required.", short="-o", unset="none")
    fusion: Literal["prefix", "cross_attention"] | None = _joining(
        None,
        "How a text model without cross-attention takes the speech: as a `prefix` of the text, or through new "
        "`cross_attention` layers.",
    )
    seed: int = _joining(42, "Seed of the tensors that neither checkpoint holds.")
    overwrite_output_dir: bool = _joining(False, "Replace a model that is in the folder.")


@with_flags
def init(
    encoder: Annotated[str, Argument(help="Folder or hub id of a speech encoder.")],
    decoder: Annotated[str, Argument(help="Folder or hub id of a text model.")],
    *,
    joining: JoinFlags,
    model: Annotated[ModelFlags, _SOURCE],
    set_: Annotated[
        list[str] | None,
        Option(
            "--set",
            help="A field of the configuration, as in encoder_layerdrop=0.0 or decoder_dropout=0.2; may be repeated.",
            metavar="<name=value>",
            rich_help_panel="Joining",
        ),
    ] = None,
    messages: MessageFlags,
) -> int:
    """Join a speech encoder and a text decoder into a folder that can be trained, and report what is new.

    The folder is in the Hugging Face layout, with weights, configuration, tokenizer and feature extractor.
    """
    if joining.output_dir is None:
        raise ConfigError("`dragoman init` needs a folder for the model: -o FOLDER.")
    training = require("dragoman.training", "`dragoman init`")
    fields = training.parse_assignments(set_ or ())
    if joining.fusion is not None:
        fields["fusion"] = joining.fusion
    source = {name: value for name, value in model.source().items() if name != "revision"}
    report = training.init(
        encoder,
        decoder,
        joining.output_dir,
        overwrite=joining.overwrite_output_dir,
        seed=joining.seed,
        source=source,
        fields=fields,
    )
    print(report.summary())  # noqa: T201
    print(f"{joining.output_dir}: written. Train it before use: dragoman train --model {joining.output_dir} …")  # noqa: T201
    return 0
