"""The generation options of a model: where they come from, and how they follow later changes of its configuration.

A folder's `generation_config.json` has them all: what it leaves out is unset. Without that file, and in a new model,
they come from the joint configuration, and what is not set there from the decoder's.
"""

import copy
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from dragoman.api.config import SpeechEncoderDecoderConfig
from dragoman.families import ModelConfig
from dragoman.generation.options import GenerationConfig
from dragoman.spec import SpecialIds, keep_own_id

GENERATION_FIELDS = tuple(field.name for field in fields(GenerationConfig) if field.name != "extra")

_OLD_MAX_LENGTH = 20  # `transformers` before 4.4x wrote this default into every config.json
_STARTS = ("decoder_start_token_id", "bos_token_id")
# Options that a configuration does not hand on: every search here uses the cache, and speech has no token ids.
_NOT_INHERITED = {"use_cache", "encoder_no_repeat_ngram_size", "encoder_repetition_penalty", *SpecialIds.names()}


def read_options(config: SpeechEncoderDecoderConfig, data: Mapping[str, Any] | None) -> GenerationConfig:
    """Return the generation options of a checkpoint.

    Args:
        config: Its configuration, with which they share their special ids.
        data: The content of its `generation_config.json`, `None` if it has none.
    """
    if data is None:
        return inherited_options(config, files=True)
    if config.composite is not None:  # the options are those of its text model alone, which starts otherwise
        data = {"decoder_start_token_id": config.decoder_start_token_id, **data}
    options = GenerationConfig.from_dict(data)
    options.encoder_no_repeat_ngram_size = 0  # Blenderbot's, about the tokens of its text encoder
    return linked_options(options, config)


def linked_options(options: Any, config: SpeechEncoderDecoderConfig) -> GenerationConfig:
    """Return a copy of generation options, ours or those of `transformers`, that follows later changes of `config`.

    Without any start id `transformers` could not generate with these options; the ids that they lack are then those of
    the configuration. Otherwise they are unset.

    Raises:
        GenerationError: If they are no such options.
    """
    options = GenerationConfig.of(options)
    values = {name: copy.deepcopy(getattr(options, name)) for name in SpecialIds.names()}
    linked = _linked(copy.deepcopy(options), config)
    startless = all(values[name] is None for name in _STARTS)
    for name, value in values.items():
        if value is not None and getattr(config.special_ids, name) is None:
            setattr(config.special_ids, name, value)  # training needs them too
        if value is not None or name.startswith("forced_") or not startless:
            keep_own_id(linked, name, value)
    return linked


def moved_options(options: GenerationConfig, config: SpeechEncoderDecoderConfig) -> GenerationConfig:
    """Return a copy of a model's generation options that follows another configuration and takes the ids set there."""
    given = config.special_ids.given()
    moved = linked_options(options, config)
    for name in given:
        vars(moved).get("own_ids", {}).pop(name, None)
    return moved


def inherited_options(config: SpeechEncoderDecoderConfig, *, files: bool = False) -> GenerationConfig:
    """Return the options that follow from a model's configurations alone.

    Args:
        config: The joint configuration.
        files: Whether unknown entries of the decoder's file count: those of folders without a
            `generation_config.json` do, those of a decoder that is joined to an encoder do not.
    """
    decoder = {field.name: getattr(config.decoder, field.name) for field in fields(config.decoder)}
    sources = [options_on(config), {**config.decoder.extra, **decoder} if files else decoder]
    options = _linked(GenerationConfig(), config)
    for name in GENERATION_FIELDS:
        values = [source[name] for source in sources if source.get(name) is not None]
        if name in _NOT_INHERITED or not values or (name, values[0]) == ("max_length", _OLD_MAX_LENGTH):
            continue
        setattr(options, name, copy.deepcopy(values[0]))
    if options.output_attentions or options.output_hidden_states:
        options.return_dict_in_generate = True
    return options


def options_on(config: ModelConfig) -> dict[str, Any]:
    """Return the options of `generate` that a configuration has, as was usual before `transformers` 5."""
    own = {field.name for field in fields(config)} - {"output_attentions", "output_hidden_states"}
    known = {**config.extra, **{field.name: getattr(config, field.name) for field in fields(config)}, **vars(config)}
    return {name: known[name] for name in GENERATION_FIELDS if name in known.keys() - own}


def adopt_changes(options: GenerationConfig, config: SpeechEncoderDecoderConfig, seen: Mapping[str, Any]) -> None:
    """Set the options that were set on the configuration since `seen`, an earlier result of `options_on`."""
    for name, value in options_on(config).items():
        if name not in _NOT_INHERITED and (name not in seen or seen[name] != value):
            setattr(options, name, copy.deepcopy(value))


def _linked(options: GenerationConfig, config: SpeechEncoderDecoderConfig) -> GenerationConfig:
    """Let options share the special ids of a configuration, and have none of their own."""
    vars(options).pop("own_ids", None)
    options.special_ids = config.special_ids
    return options
