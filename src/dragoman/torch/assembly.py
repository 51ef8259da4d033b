"""Whole models from checkpoints: one that was saved whole, or a speech and a text checkpoint joined."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from dragoman.api.config import SpeechEncoderDecoderConfig
from dragoman.checkpoint.keymap import KeyMap, Rename
from dragoman.checkpoint.options import LoadOptions
from dragoman.checkpoint.report import LoadReport
from dragoman.checkpoint.tensors import TensorFile
from dragoman.model.assembly import (
    BRIDGE_NAMES,
    PrefixView,
    add_prompt,
    adopt_ids,
    changed,
    check_roles,
    generation_of,
    is_sequence_to_sequence,
    joint_report,
    load_encoder_or_decoder,
    processing_of,
    route,
    whole_config,
)
from dragoman.torch.loading import fill_part, finish, load_part, log_new, target_device, target_dtype
from dragoman.torch.net.bridge import BRIDGE_KEYS
from dragoman.torch.net.init import initialise
from dragoman.torch.net.speech_encoder import SpeechEncoder
from dragoman.torch.net.text_decoder import TextDecoder
from dragoman.torch.weights import PickleFile, fill

if TYPE_CHECKING:
    from dragoman.torch.model import SpeechEncoderDecoderModel

__all__ = ["Parts", "load", "warm_start"]

# The names of our own `state_dict`, which upstream's trainers write of a model that is not theirs.
_BARE = KeyMap((Rename("*", "*"),))

Model = TypeVar("Model", bound="SpeechEncoderDecoderModel")


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The two halves of a warm start, each ready-made or the name of a checkpoint."""

    encoder: SpeechEncoder | str | Path | None
    decoder: TextDecoder | str | Path | None


def load(cls: type[Model], name_or_path: str | Path, keywords: Mapping[str, Any]) -> Model:
    """Load a model that was saved whole; see `SpeechEncoderDecoderModel.from_pretrained`."""
    options, overrides = LoadOptions.split(keywords)
    config = overrides.pop("config", None)
    if config is None and (announced := options.announced(name_or_path)):
        whole_config(announced, name_or_path, overrides)  # for its error, before gigabytes are fetched
    checkpoint = options.open(name_or_path)
    halves = is_sequence_to_sequence(checkpoint.config)
    config = whole_config(checkpoint.config, name_or_path, overrides) if config is None else changed(config, overrides)
    config.name_or_path = str(name_or_path)
    model = cls(config=config, empty=True)
    with checkpoint.tensors("pt", PickleFile) as file:
        if set(file.keys()) == model.state_dict().keys():
            found = dict.fromkeys(("encoder.", "decoder."), LoadReport())
            dtype, device = target_dtype(options, config.decoder), target_device(options)
            report = fill(model, _BARE, file, dtype=dtype, device=device)
        else:
            found = {
                prefix: fill_part(part, file, options, prefix="" if halves else prefix, warm=False)
                for prefix, part in (("encoder.", model.encoder), ("decoder.", model.decoder))
            }
            found["bridge."] = _fill_bridge(model, file, options)
            report = joint_report(checkpoint, found, file.keys())
    report.raise_if_unfit()
    for prefix, part in ("encoder.", model.encoder), ("decoder.", model.decoder):
        finish(part, found[prefix], options)
    _finish(model, report)
    model.generation_config = generation_of(config, checkpoint)
    return model


def warm_start(
    cls: type[Model], parts: Parts, tokenizer: Any, feature_extractor: Any, keywords: Mapping[str, Any]
) -> Model:
    """Join a speech and a text checkpoint; see `SpeechEncoderDecoderModel.from_encoder_decoder_pretrained`."""
    routed = route(keywords)
    processing = processing_of(feature_extractor, tokenizer)
    add_prompt(routed["config"], tokenizer)
    check_roles(parts.encoder, parts.decoder, routed)
    encoder, encoder_report = load_encoder_or_decoder("encoder", SpeechEncoder, load_part, parts.encoder, routed)
    decoder, decoder_report = load_encoder_or_decoder("decoder", TextDecoder, load_part, parts.decoder, routed)
    config = SpeechEncoderDecoderConfig(encoder=encoder.config, decoder=decoder.config, **routed["config"])
    model = cls(config=config, encoder=encoder, decoder=decoder)
    report = LoadReport().merged("encoder.", encoder_report).merged("decoder.", decoder_report)
    report.fresh += [f"bridge.{name}" for name in model.bridge.state_dict()]
    _finish(model, report)
    if tokenizer is not None:
        adopt_ids(config.special_ids, tokenizer)
    model.processing = processing
    log_new(report)
    return model


def _fill_bridge(model: "SpeechEncoderDecoderModel", file: TensorFile, options: LoadOptions) -> LoadReport:
    dtype, device = target_dtype(options, model.config.decoder), target_device(options)
    report = fill(
        model.bridge,
        BRIDGE_KEYS,
        PrefixView(file, BRIDGE_NAMES),
        may_be_fresh=options.new_within("bridge."),
        dtype=dtype,
        device=device,
    )
    initialise(model.bridge, report.fresh, model.decoder.spec, dtype or model.dtype, device)
    return report


def _finish(model: "SpeechEncoderDecoderModel", report: LoadReport) -> None:
    model.load_report = report
    model.config.dtype = str(model.dtype).removeprefix("torch.")
    model.eval()
