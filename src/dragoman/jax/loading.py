"""Parts and models from checkpoints: what to fetch, how to build it, what may be new."""

import logging
from pathlib import Path
from typing import Any, TypeVar

import jax.numpy as jnp

from dragoman.checkpoint.folder import Checkpoint
from dragoman.checkpoint.language_adapter import fill_language
from dragoman.checkpoint.options import LoadOptions
from dragoman.checkpoint.report import LoadReport
from dragoman.checkpoint.tensors import TensorFile
from dragoman.families import ModelConfig, Part, speech_part, text_part
from dragoman.jax.net.init import initialise
from dragoman.jax.net.speech_encoder import SpeechEncoder
from dragoman.jax.net.text_decoder import TextDecoder
from dragoman.jax.net.tree import flat, nested, tree_of, update, variables
from dragoman.jax.weights import fill, jax_dtype
from dragoman.model.assembly import changed, part_config

__all__ = ["fill_part", "finish", "load_language", "load_part", "log_new", "part_tables", "target_dtype"]

_log = logging.getLogger("dragoman")

AnyPart = TypeVar("AnyPart", SpeechEncoder, TextDecoder)


def target_dtype(options: LoadOptions, config: ModelConfig) -> Any:
    """Return the type to load with, `None` for that of the file."""
    if options.wanted_dtype == "auto":
        return jax_dtype(config.dtype)
    return jax_dtype(options.wanted_dtype) or jnp.dtype(jnp.float32)


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
        device=options.device,
    )
    report.set_computed(tables.computed)
    return report


def finish(part: SpeechEncoder | TextDecoder, report: LoadReport, options: LoadOptions, seed: int = 0) -> None:
    """Give what is new its first values."""
    dtype = target_dtype(options, part.config)
    if dtype is None:
        leaves = flat(tree_of(part))
        dtype = leaves[report.loaded[0]].dtype if report.loaded else jnp.float32
    initialise(part, [*report.fresh, *report.computed], part.spec, dtype, seed)
    part.config.dtype = str(jnp.dtype(dtype))


def load_part(
    cls: type[AnyPart],
    name_or_path: str | Path,
    options: LoadOptions,
    config: ModelConfig | None = None,
    *,
    checkpoint: Checkpoint | None = None,
    **overrides: Any,
) -> tuple[AnyPart, LoadReport]:
    """Load one part from a checkpoint of its own: an encoder's, a language model's, or half a seq2seq model.

    Args:
        cls: `SpeechEncoder` or `TextDecoder`.
        name_or_path: A local folder or a hub id.
        options: How to find and read it.
        config: Used instead of the checkpoint's.
        checkpoint: What `options.open(name_or_path)` returned, if it is open already.
        **overrides: Fields that win over the checkpoint's.

    Raises:
        ModelNotFoundError: If it is nowhere.
        ConfigError: If it is of an unknown type or cannot play this role.
        CheckpointError: If its tensors do not fit.
    """
    checkpoint = checkpoint or options.open(name_or_path, pickles=False)
    config = part_config(checkpoint.config, name_or_path, overrides) if config is None else changed(config, overrides)
    config.name_or_path = str(name_or_path)
    part = cls(config, empty=True)
    with checkpoint.tensors("np") as file:
        report = fill_part(part, file, options, warm=True)
    report.source = str(checkpoint.folder)
    report.raise_if_unfit()
    finish(part, report, options)
    if options.target_lang is not None and isinstance(part, SpeechEncoder):
        load_language(part, options.target_lang, options)
    return part, report


def load_language(encoder: SpeechEncoder, language: str, options: LoadOptions) -> None:
    """Give an encoder the small networks of a language, from where it was loaded; see `checkpoint.language`."""
    tensors = variables(encoder)
    new: dict[str, Any] = {}

    def place(name: str, array: Any) -> None:
        new[name] = jnp.asarray(array, tensors[name].dtype)

    fill_language(
        encoder.config.name_or_path,
        language,
        options,
        keymap=part_tables(encoder).keymap(encoder.config),
        shapes={name: tuple(tensor.shape) for name, tensor in tensors.items()},
        place=place,
        framework="np",
    )
    update(encoder, nested(new))


def log_new(report: LoadReport) -> None:
    """Tell the user what a model holds that no checkpoint gave it, and what of a checkpoint it does not hold."""
    if report.fresh or report.lost:
        _log.warning("%s", report.summary())
