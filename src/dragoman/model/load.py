"""Parts and whole models from checkpoints: each tensor goes from the file straight into a module without memory."""

import logging
import math
from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path
from typing import Any, TypeVar

from dragoman.checkpoint.ctc_head import read_ctc_head
from dragoman.checkpoint.filling import OtherTensors, Readable, all_finite, fill
from dragoman.checkpoint.folder import Checkpoint
from dragoman.checkpoint.keymap import KeyMap, Rename
from dragoman.checkpoint.language_adapter import language_tensors
from dragoman.checkpoint.lora import BASE_WEIGHT, PlainTensors, loras_in
from dragoman.checkpoint.options import LoadOptions
from dragoman.checkpoint.report import LoadReport
from dragoman.checkpoint.tensors import TensorFile
from dragoman.errors import CheckpointError, tells_memory
from dragoman.families import ModelConfig
from dragoman.families.composites import of_part, presented
from dragoman.generation.inherited import read_options
from dragoman.model.added import added_to_part, built_empty, fill_added
from dragoman.model.backend import Backend, JointModel, ModelPart
from dragoman.model.configs import is_sequence_to_sequence, part_config, set_options, whole_config, without_options
from dragoman.model.names import bridge_keys, keymap_of, name_tables, unknown_names
from dragoman.model.tying import HEAD_COPIES, is_tied_in, untie_other_head
from dragoman.processing.prompts import with_prompt
from dragoman.spec import SpeechEncoderSpec, TextDecoderSpec

_MAX_COMPUTED = 2**24  # numbers; the tables of Marian and Pegasus have a million
_log = logging.getLogger("dragoman")

# Our own names, under which the trainers of `transformers` save a model that is not theirs.
_OUR_NAMES = KeyMap((Rename("*", "*"),))

AnyPart = TypeVar("AnyPart", bound=ModelPart)
AnyModel = TypeVar("AnyModel", bound=JointModel)


@tells_memory()
def load_part(
    backend: Backend,
    cls: Callable[..., AnyPart],
    name_or_path: str | Path,
    options: LoadOptions,
    config: ModelConfig | None = None,
    *,
    checkpoint: Checkpoint | None = None,
    **overrides: Any,
) -> tuple[AnyPart, LoadReport]:
    """Load one part from a checkpoint of its own, of its head model, or of a sequence-to-sequence model.

    Args:
        backend: The framework.
        cls: `SpeechEncoder` or `TextDecoder` of the framework.
        name_or_path: A local folder or a hub id.
        options: How to find and read it.
        config: A copy of it is used instead of the checkpoint's.
        checkpoint: The checkpoint, if it is open already.
        **overrides: Fields that win over the checkpoint's.

    Raises:
        ModelNotFoundError: If it is nowhere.
        ConfigError: If it is of an unknown type or cannot play this role.
        CheckpointError: If its tensors do not fit.
    """
    checkpoint = of_part(checkpoint or open_checkpoint(backend, name_or_path, options), cls)
    config = part_config(checkpoint.config, name_or_path, overrides, config)
    config.name_or_path = str(name_or_path)
    part: AnyPart = built_empty(cls, config)
    with checkpoint.tensors(backend.framework, backend.read_pickle) as file:
        if isinstance(part.spec, TextDecoderSpec) and untie_other_head(config, file):
            part = built_empty(cls, config)
        report = _fill_part(backend, part, PlainTensors(file), options, warm=True, tied=is_tied_in(checkpoint.config))
    report.source = str(checkpoint.folder)
    report.raise_if_unfit()
    _finish_part(backend, part, report, options)
    if options.target_lang is not None and isinstance(part.spec, SpeechEncoderSpec):
        load_language(backend, part, options.target_lang, options)
    return part, report


@tells_memory()
def load_model(
    backend: Backend, cls: type[AnyModel], name_or_path: str | Path, keywords: Mapping[str, Any]
) -> AnyModel:
    """Load a model that was saved whole; `keywords` are those of `SpeechEncoderDecoderModel.from_pretrained`."""
    options, overrides = LoadOptions.split(keywords)
    overrides, generation = without_options(overrides)
    config = overrides.pop("config", None)
    if config is None and (announced := options.announced(name_or_path)):
        whole_config(announced, name_or_path, overrides)  # for its error, before gigabytes are fetched
    checkpoint = with_prompt(open_checkpoint(backend, name_or_path, options), overrides)
    config = whole_config(checkpoint.config, name_or_path, overrides, config)
    config.name_or_path = str(name_or_path)
    with checkpoint.tensors(backend.framework, backend.read_pickle) as file:
        one_table = is_sequence_to_sequence(checkpoint.config) or _is_sequence_to_sequence_file(file)
        untie_other_head(config.decoder, file, "" if one_table else "decoder.")
        model: AnyModel = built_empty(cls, config)
        tied = is_tied_in(checkpoint.config)
        found = _fill_model(backend, model, PlainTensors(file), options, one_table=one_table, tied=tied)
        report = _joint_report(checkpoint, found, one_table=one_table)
        report.raise_if_unfit()
        _add_loras(backend, model, file, options)
    dtype, device = _target_dtype(backend, options, config.decoder), backend.device(options.wanted_device)
    backend.initialise(
        model.bridge, found["bridge."].fresh, model.decoder.spec, model.dtype if dtype is None else dtype, device
    )
    for prefix, part in ("encoder.", model.encoder), ("decoder.", model.decoder):
        _finish_part(backend, part, found[prefix], options)
    model.load_report = report
    sizes = model.decoder.spec.vocab_size, model.encoder.spec.output_width
    model.ctc_scoring_head = read_ctc_head(checkpoint.folder, *sizes)
    if report.misshapen:
        log_new(report)
    model.config.dtype = dtype_name(model.dtype)
    model.generation_config = set_options(read_options(config, checkpoint.generation), generation)
    backend.set_to_evaluation(model)
    return model


def open_checkpoint(backend: Backend, name_or_path: str | Path, options: LoadOptions) -> Checkpoint:
    """Find a checkpoint, on this machine or on the hub; formats that the framework cannot read come last.

    Raises:
        ModelNotFoundError: If it is nowhere.
    """
    return presented(options.open(name_or_path, pickles=backend.read_pickle is not None))


def _fill_model(
    backend: Backend, model: JointModel, file: Readable, options: LoadOptions, *, one_table: bool, tied: bool
) -> dict[str, LoadReport]:
    """Return a report by each prefix of our names; `one_table`: names of a sequence-to-sequence model (Whisper)."""
    parts = {"encoder.": model.encoder, "decoder.": model.decoder}
    modules = {**parts, "bridge.": model.bridge}
    config = model.config.decoder
    if set(file.keys()) == {prefix + name for prefix, module in modules.items() for name in backend.tensors(module)}:
        return {
            prefix: _fill(backend, module, _OUR_NAMES, file, options, config, prefix=prefix)
            for prefix, module in modules.items()
        }
    added = model.added_names()
    whole, file = file, OtherTensors(file, tuple(added)) if added else file
    theirs = dict.fromkeys(parts, "") if one_table else {name: name for name in parts}
    found = {
        prefix: _fill_part(backend, part, file, options, prefix=theirs[prefix], warm=False, tied=tied)
        for prefix, part in parts.items()
    }
    keymap = bridge_keys(model.config)
    rest = OtherTensors(file, unknown_names(keymap, file.keys()) if one_table else tuple(theirs.values()))
    for prefix, name in product(parts, rest.keys()):
        found[prefix].dropped.pop(name, None)
    new = {"may_be_fresh": options.new_within("bridge.")}
    found["bridge."] = _fill(backend, model.bridge, keymap, rest, options, config, **new)
    if added:
        dtype, device = _target_dtype(backend, options, config), backend.device(options.wanted_device)
        found[""] = fill_added(backend.tensors(model), backend.placer(model, dtype, device), added, whole)
    return found


def _is_sequence_to_sequence_file(file: TensorFile) -> bool:
    """Return whether names are those of a Whisper: a trainer writes them, whatever config.json is put beside them."""
    return any(name.startswith("model.encoder.") for name in file.keys())  # noqa: SIM118


def _add_loras(backend: Backend, model: JointModel, file: TensorFile, options: LoadOptions) -> None:
    """Give a model the LoRA that a trainer saved with it; its folded weights are loaded already."""
    for prefix, module in ("encoder.", model.encoder), ("decoder.", model.decoder), ("bridge.", model.bridge):
        found = loras_in(file, backend.linears(module), prefix)
        for seed, (layer, spec) in enumerate(found.items()):
            parts = {word: file.read(f"{prefix}{layer}.{word}") for word in ("lora_a", "lora_b", BASE_WEIGHT)}
            if not options.allow_nan and not all(map(all_finite, parts.values())):
                raise CheckpointError(f"The LoRA of {prefix}{layer} has NaN or infinite values: its training diverged.")
            parts["weight"] = parts.pop(BASE_WEIGHT)
            backend.add_lora(module, layer, spec, seed)
            backend.assign(module, {f"{layer}.{word}": array for word, array in parts.items()})


def _fill_part(
    backend: Backend, part: ModelPart, file: Readable, options: LoadOptions, *, prefix: str = "", warm: bool, tied: bool
) -> LoadReport:
    """Move a checkpoint's tensors into a part that has no memory yet.

    Args:
        backend: The framework.
        part: The part.
        file: The open checkpoint.
        options: Type, device, and what may be new.
        prefix: Prefix of the part's names in the checkpoint of a whole model.
        warm: Whether what the family declares fresh may be absent.
        tied: Whether the head is tied in the checkpoint.
    """
    tables = name_tables(part)
    fresh = tables.fresh if warm else ("mask_embed",)
    added = added_to_part(part, backend.tensors(part))
    report = _fill(
        backend,
        part,
        tables.keymap(part.config).extended(backend.tensors(part)),
        file,
        options,
        part.config,
        prefix=prefix,
        optional=tables.fresh,
        may_be_fresh=(*fresh, *tables.computed, *added, *options.new_within(prefix)),
        copies=HEAD_COPIES if tied else tables.copies,
    )
    report.set_computed(tables.computed)
    return report


def _fill(
    backend: Backend,
    module: Any,
    keymap: KeyMap,
    file: Readable,
    options: LoadOptions,
    config: ModelConfig,
    **rules: Any,
) -> LoadReport:
    shapes = {name: tuple(tensor.shape) for name, tensor in backend.tensors(module).items()}
    dtype, device = _target_dtype(backend, options, config), backend.device(options.wanted_device)
    rules.update(any_shape=options.ignore_mismatched_sizes, check_finite=not options.allow_nan)
    return fill(shapes, backend.placer(module, dtype, device), keymap, file, **rules)


def _finish_part(backend: Backend, part: ModelPart, report: LoadReport, options: LoadOptions) -> None:
    """Initialise what no checkpoint holds."""
    tensors, dtype = backend.tensors(part), _target_dtype(backend, options, part.config)
    if dtype is None:
        dtype = backend.dtype(floating_type({name: tensors[name] for name in report.loaded}, "", "float32"))
    _check_computed(tensors, report)
    device = backend.device(options.wanted_device)
    added = added_to_part(part, tensors)  # it keeps the values that a subclass gave it
    fill_added(tensors, backend.placer(part, dtype, device), added)
    new = [name for name in (*report.fresh, *report.computed) if name not in added]
    backend.initialise(part, new, part.spec, dtype, device)
    part.config.dtype = dtype_name(dtype)
    backend.set_to_evaluation(part)


def _check_computed(tensors: Mapping[str, Any], report: LoadReport) -> None:
    """Raise an error if a configuration asks for huge tables that the checkpoint does not hold."""
    count = sum(math.prod(tensors[name].shape) for name in report.computed)
    if count > _MAX_COMPUTED:
        raise CheckpointError(
            f"The configuration of {report.source or 'the checkpoint'} asks for position tables of {count:,} numbers "
            f"that the checkpoint does not hold; at most {_MAX_COMPUTED:,} are computed. Check its number of positions."
        )


def _target_dtype(backend: Backend, options: LoadOptions, config: ModelConfig) -> Any:
    """Return the type to load with, `None` for that of the file."""
    wanted = options.wanted_dtype
    auto = isinstance(wanted, str) and wanted == "auto"
    return backend.dtype(config.dtype if auto else "float32" if wanted is None else wanted)


def floating_type(tensors: Mapping[str, Any], prefix: str, otherwise: str | None) -> str | None:
    """Return the name of the type of the first floating-point tensor, as `config.json` states it."""
    names = (dtype_name(one.dtype) for name, one in tensors.items() if name.startswith(prefix))
    return next((name for name in names if "float" in name), otherwise)


def dtype_name(dtype: Any) -> str:
    """Return the name of a framework's type: "float16"."""
    return str(dtype).removeprefix("torch.")


def _joint_report(checkpoint: Checkpoint, parts: Mapping[str, LoadReport], *, one_table: bool) -> LoadReport:
    """Merge the reports of encoder, decoder and bridge, given by the prefixes of our names."""
    report = LoadReport(source=str(checkpoint.folder))
    for prefix, own in parts.items():
        report = report.merged(prefix, own)
    if one_table:  # each part drops the tensors of the other one
        halves = parts["encoder."].dropped, parts["decoder."].dropped
        report.dropped = {n: why for n, why in report.dropped.items() if all(n in dropped for dropped in halves)}
    return report


def load_language(backend: Backend, encoder: ModelPart, language: str, options: LoadOptions) -> None:
    """Load the language adapter (MMS) that lies beside the encoder's checkpoint; see `checkpoint.language_adapter`."""
    tensors = language_tensors(
        encoder.config.name_or_path,
        language,
        options,
        keymap=keymap_of(encoder),
        shapes={name: tuple(tensor.shape) for name, tensor in backend.tensors(encoder).items()},
        framework=backend.framework,
        read_pickle=backend.read_pickle,
    )
    backend.assign(encoder, tensors)


def log_new(report: LoadReport) -> None:
    """Log which tensors of a model came from no checkpoint, and which trained ones of a checkpoint it lacks."""
    if report.fresh or report.lost:
        _log.warning("%s", report.summary())
