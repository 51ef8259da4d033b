"""Whole models from checkpoints: one that was saved whole, or a speech and a text checkpoint joined."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from dragoman.api.config import SpeechEncoderDecoderConfig
from dragoman.checkpoint.options import LoadOptions
from dragoman.checkpoint.report import LoadReport
from dragoman.checkpoint.tensors import TensorFile
from dragoman.jax.loading import fill_part, finish, load_part, log_new, target_dtype
from dragoman.jax.net.bridge import BRIDGE_KEYS
from dragoman.jax.net.init import initialise, persistent_names
from dragoman.jax.net.speech_encoder import SpeechEncoder
from dragoman.jax.net.text_decoder import TextDecoder
from dragoman.jax.weights import fill
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

if TYPE_CHECKING:
    from dragoman.jax.model import FlaxSpeechEncoderDecoderModel

__all__ = ["Parts", "load", "warm_start"]

Model = TypeVar("Model", bound="FlaxSpeechEncoderDecoderModel")


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The two halves of a warm start, each ready-made or the name of a checkpoint."""

    encoder: SpeechEncoder | str | Path | None
    decoder: TextDecoder | str | Path | None


def load(cls: type[Model], name_or_path: str | Path, keywords: Mapping[str, Any]) -> Model:
    """Load a model that was saved whole; see `FlaxSpeechEncoderDecoderModel.from_pretrained`."""
    options, overrides = LoadOptions.split(keywords)
    config = overrides.pop("config", None)
    if config is None and (announced := options.announced(name_or_path)):
        whole_config(announced, name_or_path, overrides)  # for its error, before gigabytes are fetched
    checkpoint = options.open(name_or_path, pickles=False)
    halves = is_sequence_to_sequence(checkpoint.config)
    config = whole_config(checkpoint.config, name_or_path, overrides) if config is None else changed(config, overrides)
    config.name_or_path = str(name_or_path)
    model = cls(config=config, empty=True)
    with checkpoint.tensors("np") as file:
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
    """Join a speech and a text checkpoint; see `FlaxSpeechEncoderDecoderModel.from_encoder_decoder_pretrained`."""
    routed = route(keywords)
    processing = processing_of(feature_extractor, tokenizer)
    add_prompt(routed["config"], tokenizer)
    check_roles(parts.encoder, parts.decoder, routed)
    encoder, encoder_report = load_encoder_or_decoder(
        "encoder", SpeechEncoder, load_part, parts.encoder, routed, pickles=False
    )
    decoder, decoder_report = load_encoder_or_decoder(
        "decoder", TextDecoder, load_part, parts.decoder, routed, pickles=False
    )
    config = SpeechEncoderDecoderConfig(encoder=encoder.config, decoder=decoder.config, **routed["config"])
    model = cls(config=config, encoder=encoder, decoder=decoder)
    report = LoadReport().merged("encoder.", encoder_report).merged("decoder.", decoder_report)
    report.fresh += [f"bridge.{name}" for name in persistent_names(model.bridge)]
    _finish(model, report)
    if tokenizer is not None:
        adopt_ids(config.special_ids, tokenizer)
    model.processing = processing
    log_new(report)
    return model


def _fill_bridge(model: "FlaxSpeechEncoderDecoderModel", file: TensorFile, options: LoadOptions) -> LoadReport:
    dtype = target_dtype(options, model.config.decoder)
    report = fill(
        model.bridge,
        BRIDGE_KEYS,
        PrefixView(file, BRIDGE_NAMES),
        may_be_fresh=options.new_within("bridge."),
        dtype=dtype,
        device=options.device,
    )
    initialise(model.bridge, report.fresh, model.decoder.spec, dtype or model.dtype)
    return report


def _finish(model: "FlaxSpeechEncoderDecoderModel", report: LoadReport) -> None:
    model.load_report = report
    model.config.dtype = str(model.dtype)
