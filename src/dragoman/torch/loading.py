"""Parts and models from checkpoints: what to fetch, how to build it, what may be new."""

import logging
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from dragoman.checkpoint.folder import Checkpoint
from dragoman.checkpoint.language_adapter import fill_language
from dragoman.checkpoint.options import LoadOptions
from dragoman.checkpoint.report import LoadReport
from dragoman.checkpoint.tensors import TensorFile
from dragoman.errors import ConfigError
from dragoman.families import ModelConfig, Part, speech_part, text_part
from dragoman.model.assembly import changed, part_config
from dragoman.torch.net.init import initialise, put
from dragoman.torch.net.speech_encoder import SpeechEncoder
from dragoman.torch.net.text_decoder import TextDecoder
from dragoman.torch.weights import PickleFile, fill, torch_dtype

__all__ = [
    "fill_part",
    "finish",
    "load_language",
    "load_part",
    "log_new",
    "part_tables",
    "target_device",
    "target_dtype",
]

_log = logging.getLogger("dragoman")

AnyPart = TypeVar("AnyPart", SpeechEncoder, TextDecoder)


def target_dtype(options: LoadOptions, config: ModelConfig) -> torch.dtype | None:
    """Return the type to load with, `None` for that of the file."""
    if options.wanted_dtype == "auto":
        return torch_dtype(config.dtype)
    return torch_dtype(options.wanted_dtype) or torch.float32


def target_device(options: LoadOptions) -> str | torch.device:
    """Return where the tensors go.

    Raises:
        ConfigError: If this machine or this build of PyTorch has no such device.
    """
    device = "cpu" if options.wanted_device is None else options.wanted_device
    if device in ("auto", "balanced", "balanced_low_0", "sequential"):  # upstream's words for several devices
        device = torch.accelerator.current_accelerator() or "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).partition("\n")[0][:160]
        raise ConfigError(f"`device` must be one that PyTorch has here, but {device!r} fails: {reason}") from error
    return device


def part_tables(part: SpeechEncoder | TextDecoder) -> Part:
    """Return the name tables of a part's family."""
    return speech_part(part.config) if isinstance(part, SpeechEncoder) else text_part(part.config)


def fill_part(
    part: SpeechEncoder | TextDecoder, file: TensorFile, options: LoadOptions, *, prefix: str = "", warm: bool
) -> LoadReport:
    """Move a checkpoint's tensors into a part that was built empty.

    Args:
        part: The part.
        file: The open checkpoint.
        options: Type, device, and what may be new.
        prefix: The part's word in the checkpoint of a whole model.
        warm: Whether what the family declares fresh may be absent.
    """
    tables = part_tables(part)
    fresh = tables.fresh if warm else ("mask_embed",)
    report = fill(
        part,
        tables.keymap(part.config),
        file,
        prefix=prefix,
        optional=tables.fresh,
        may_be_fresh=(*fresh, *tables.computed, *options.new_within(prefix)),
        copies=tables.copies,
        dtype=target_dtype(options, part.config),
        device=target_device(options),
    )
    report.set_computed(tables.computed)
    return report


def finish(part: SpeechEncoder | TextDecoder, report: LoadReport, options: LoadOptions) -> None:
    """Give what is new its first values and set the part to evaluation."""
    dtype = target_dtype(options, part.config)
    if dtype is None:
        dtype = next((t.dtype for t in part.parameters() if not t.is_meta), torch.float32)
    initialise(part, [*report.fresh, *report.computed], part.spec, dtype, target_device(options))
    part.config.dtype = str(next(part.parameters()).dtype).removeprefix("torch.")
    part.eval()


def load_part(
    cls: type[AnyPart],
    name_or_path: str | Path,
    options: LoadOptions,
    config: ModelConfig | None = None,
    *,
    checkpoint: Checkpoint | None = None,
    **overrides: Any,
) -> tuple[AnyPart, LoadReport]:
    """Load one part from a checkpoint of its own: an encoder's, a language model's, or a sequence-to-sequence model's
    half.

    Args:
        cls: `SpeechEncoder` or `TextDecoder`.
        name_or_path: A local folder or a hub id.
        options: How to find and read it.
        config: A copy of it is used instead of the checkpoint's.
        checkpoint: What `options.open(name_or_path)` returned, if it is open already.
        **overrides: Fields that win over the checkpoint's.

    Raises:
        ModelNotFoundError: If it is nowhere.
        ConfigError: If it is of an unknown type or cannot play this role.
        CheckpointError: If its tensors do not fit.
    """
    checkpoint = checkpoint or options.open(name_or_path)
    config = part_config(checkpoint.config, name_or_path, overrides) if config is None else changed(config, overrides)
    config.name_or_path = str(name_or_path)
    part = cls(config, empty=True)
    with checkpoint.tensors("pt", PickleFile) as file:
        report = fill_part(part, file, options, warm=True)
    report.source = str(checkpoint.folder)
    report.raise_if_unfit()
    finish(part, report, options)
    if options.target_lang is not None and isinstance(part, SpeechEncoder):
        load_language(part, options.target_lang, options)
    return part, report


def load_language(encoder: SpeechEncoder, language: str, options: LoadOptions) -> None:
    """Give an encoder the small networks of a language, from where it was loaded; see `checkpoint.language`."""
    tensors = encoder.state_dict(keep_vars=True)

    def place(name: str, tensor: Tensor) -> None:
        put(encoder, name, tensor.to(device=tensors[name].device, dtype=tensors[name].dtype).contiguous())

    fill_language(
        encoder.config.name_or_path,
        language,
        options,
        keymap=part_tables(encoder).keymap(encoder.config),
        shapes={name: tuple(tensor.shape) for name, tensor in tensors.items()},
        place=place,
        framework="pt",
        read_pickle=PickleFile,
    )


def log_new(report: LoadReport) -> None:
    """Tell the user what a model holds that no checkpoint gave it, and what of a checkpoint it does not hold."""
    if report.fresh or report.lost:
        _log.warning("%s", report.summary())
