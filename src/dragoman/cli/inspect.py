"""`dragoman inspect`: the model that a checkpoint gives. The first thing to run on an unfamiliar checkpoint."""

from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Any

from typer import Argument, BadParameter

from dragoman._lazy import require
from dragoman.cli.flags import InspectFlags, MessageFlags, ModelFlags
from dragoman.cli.generated import with_flags
from dragoman.errors import DragomanError

_SOURCE = ("model_dir", "revision", "local_files_only", "hf_token")

_DEPTH = 3  # of the tree: part, component, submodule; layers share a line

# The ids that generation and training need, and the consequences of missing ones.
_NEEDED_IDS = {
    "decoder_start_token_id": "generate has no token to start with",
    "eos_token_id": "sequences end only at the length limit",
    "pad_token_id": "sequences of different lengths cannot be batched for training",
}


@with_flags
def inspect(
    checkpoint: Annotated[
        str | None, Argument(help="Folder or hub id of a speech encoder-decoder, or a name of `whisper`.")
    ] = None,
    *,
    tables: InspectFlags,
    model: Annotated[ModelFlags, _SOURCE],
    messages: MessageFlags,
) -> int:
    """Assemble a checkpoint and print the model, its parameters, the load report and likely problems.

    With --families, print the supported encoders and decoders instead.
    """
    if tables.families:
        from dragoman.cli.families import family_tables  # only now: no other command needs every family

        for title, table in family_tables().items():
            print("\n".join([f"## {title}", "", *table, ""]))  # noqa: T201
        return 0
    if checkpoint is None:
        raise BadParameter("give a CHECKPOINT, a folder or a hub id, or --families.")
    _print_report(checkpoint, model.source())
    return 0


def _print_report(checkpoint: str, source: dict[str, Any]) -> None:
    # only now: `--help` needs no NumPy
    from dragoman.checkpoint.default_model import default_model_folder
    from dragoman.transcriber.loading import checkpoint_errors, full_name

    model_class = require("dragoman.torch.model", "`dragoman inspect`").SpeechEncoderDecoderModel
    named = full_name(checkpoint)
    checkpoint = str(default_model_folder() if named is None else named)
    with checkpoint_errors(checkpoint):
        model = model_class.from_pretrained(checkpoint, dtype="auto", **source)
    sections = {
        "Model": tree(model),
        "Parameters": parameter_table(model),
        "Load report": iter(model.load_report.summary().splitlines()),
        "Problems": problems(model, _processor_of(checkpoint, source)),
    }
    for title, lines in sections.items():
        print(f"\n{title}" if title != "Model" else title)  # noqa: T201
        for line in lines:
            print(f"  {line}")  # noqa: T201


def tree(model: Any) -> Iterator[str]:
    """Yield the components of a model, indented, each with its number of parameters; layers share a line."""

    def lines(name: str, module: Any, depth: int) -> Iterator[str]:
        size = sum(parameter.numel() for parameter in module.parameters())
        label = f"{'  ' * depth}{name}{': ' if name else ''}{type(module).__name__}{_note(module)}"
        yield f"{label:<72}{size:>15,}"
        children = list(module.named_children())
        numbered = [child for name, child in children if name.isdigit()]
        if numbered:
            kinds = Counter(type(child).__name__ for child in numbered)
            total = sum(parameter.numel() for child in numbered for parameter in child.parameters())
            what = ", ".join(f"{count} x {kind}" for kind, count in kinds.items())
            yield f"{'  ' * (depth + 1) + what:<72}{total:>15,}"
            return
        for child_name, child in children if depth < _DEPTH else ():
            yield from lines(child_name, child, depth + 1)

    yield from lines("", model, 0)


def _note(module: Any) -> str:
    config = getattr(module, "config", None)
    return f" ({config.model_type})" if config is not None else ""


def parameter_table(model: Any) -> Iterator[str]:
    """Yield the totals of each part, then its tensors: name (`{i}` for layer numbers), shape, dtype and number."""
    for part, module in model.named_children():
        tensors = [(str(name), tensor) for name, tensor in module.named_parameters()]
        count = sum(tensor.numel() for _, tensor in tensors)
        size = sum(tensor.numel() * tensor.element_size() for _, tensor in tensors)
        yield f"{part}: {len(tensors)} tensors, {count:,} parameters, {size / 2**20:,.1f} MiB"
        rows = Counter(
            (_folded(name), str(list(tensor.shape)), str(tensor.dtype).removeprefix("torch."))
            for name, tensor in tensors
        )
        for (name, shape, dtype), copies in rows.items():
            yield f"  {name:<58} {shape:<18} {dtype}{f' x {copies}' if copies > 1 else ''}"


def _folded(name: str) -> str:
    return ".".join("{i}" if word.isdigit() else word for word in name.split("."))


def _processor_of(checkpoint: str, source: dict[str, Any]) -> Any:
    """Return the processor of a checkpoint, or the error if there is none."""
    try:
        return require("dragoman.processing", "`dragoman inspect`").AutoProcessor.from_pretrained(checkpoint, **source)
    except DragomanError as error:
        return error


def problems(model: Any, processor: Any) -> Iterator[str]:
    """Yield likely problems of a model that loads, or that there are none."""
    found = []
    vocab_size = model.config.decoder.text_spec().vocab_size
    for name, consequence in _NEEDED_IDS.items():
        value = getattr(model.generation_config, name)
        if name != "eos_token_id" and value is None:
            value = model.config.special_id(name)
        if value is None:
            found.append(f"`{name}` is not set: {consequence}. Set it in config.json.")
        for number in value if isinstance(value, list) else [value or 0]:
            if not 0 <= number < vocab_size:
                found.append(f"`{name}` is {number}, but the decoder has only the ids 0 to {vocab_size - 1}.")
    if isinstance(processor, DragomanError):
        found.append(f"Audio cannot be prepared, and tokens cannot be turned into text: {processor}")
    elif len(processor.tokenizer) > vocab_size:
        found.append(f"The tokenizer has {len(processor.tokenizer)} tokens, but the decoder only {vocab_size}.")
    if model.load_report.fresh:
        found.append("Some tensors are random (see the load report): train the model before using it.")
    yield from found or ["none found"]
