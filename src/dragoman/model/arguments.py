"""The arguments of models and parts: checked, and in the form that the networks take. No framework is imported.

What is allowed is stated by shapes, types and single numbers in `dragoman.api.checks`.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from dragoman.api.checks import IGNORED, check_id, check_loss, check_rows
from dragoman.api.config import SpeechEncoderDecoderConfig
from dragoman.api.outputs import EncoderOutput
from dragoman.errors import AudioError, ConfigError
from dragoman.model.arrays import Arrays, checked_array, checked_mask, checked_tokens, zeros_and_ones
from dragoman.spec import Padding, SpeechEncoderSpec, TextDecoderSpec
from dragoman.spec.frontend import fits, shape_in_words


def chosen(given: bool | None, default: bool) -> bool:
    """Return an option of a call, by default the configuration's."""
    return default if given is None else given


def token_inputs(
    arrays: Arrays, spec: TextDecoderSpec, tokens: Any, embeds: Any, cache: Any, prefix: str = ""
) -> tuple[Any, Any]:
    """Return what a decoder reads: tokens, or embeddings in their place; the other one is `None`.

    On an accelerator tokens are compared with the vocabulary only at the start of a sequence, so that no step waits.

    Args:
        arrays: The framework.
        spec: The decoder's.
        tokens: The tokens.
        embeds: The embeddings.
        cache: The cache with what came before.
        prefix: Prefix of the caller's argument names.

    Raises:
        ConfigError: If not exactly one of them is given, or what is given does not fit the decoder.
    """
    names = f"{prefix}input_ids", f"{prefix}inputs_embeds"
    if (tokens is None) == (embeds is None):
        raise ConfigError(f"A text decoder takes exactly one of `{names[0]}` and `{names[1]}`.")
    if cache is not None and not isinstance(cache, arrays.cache_class):
        raise ConfigError(
            f"`past_key_values` must be what an earlier call of this model returned, but is a {type(cache).__name__}."
        )
    if embeds is None:
        tokens = checked_tokens(arrays, names[0], tokens, spec.vocab_size, wait=cache is None)
    else:
        shape, kind, width = checked_array(arrays, names[1], embeds).shape, arrays.dtype_name(embeds), spec.token_width
        if len(shape) != 3 or shape[2] != width or "float" not in kind:
            raise ConfigError(
                f"`{names[1]}` must be floating-point numbers of the shape [batch, tokens, {width}], but have the "
                f"shape {list(shape)} and the type {kind}."
            )
    if cache is not None:
        check_rows((tokens if embeds is None else embeds).shape[0], cache.rows, "rows of `past_key_values`")
    return tokens, embeds


def checked_memory(arrays: Arrays, spec: TextDecoderSpec, rows: int, states: Any, mask: Any) -> tuple[Any, Any]:
    """Return encoder states for `rows` sequences of a decoder alone, and their mask as bool.

    Raises:
        ConfigError: If they do not fit the decoder, the sequences or each other.
    """
    states = checked_array(arrays, "encoder_hidden_states", states)
    mask = checked_mask(arrays, "encoder_attention_mask", mask)
    shape, width = tuple(states.shape), spec.memory_width
    if len(shape) != 3 or shape[2] != width:
        raise ConfigError(
            f"`encoder_hidden_states` must have the shape [batch, frames, {width}], but have {list(shape)}. "
            "A SpeechEncoderDecoderModel has a bridge for another width."
        )
    if mask is not None and tuple(mask.shape) != shape[:2]:
        raise ConfigError(
            f"`encoder_attention_mask` must have the shape {list(shape[:2])}, a number for each frame, but has "
            f"{list(mask.shape)}."
        )
    check_rows(rows, shape[0])
    return states, mask


def prepare_audio(
    arrays: Arrays, spec: SpeechEncoderSpec, padding: Padding, inputs: Any, attention_mask: Any
) -> tuple[Any, Any]:
    """Return the audio of a batch, valid samples first, and their number in each row; see `SpeechEncoder.prepare`."""
    name, front = spec.input_name, spec.frontend
    shape = tuple(checked_array(arrays, name, inputs, AudioError).shape)
    if not fits(front, shape):
        raise AudioError(
            f"`{name}` must have the shape {shape_in_words(front)}, but has {list(shape)}. Use the model's own feature "
            "extractor, and one channel of audio."
        )
    if "float" not in arrays.dtype_name(inputs):
        raise AudioError(
            f"`{name}` must be floating-point numbers, but are {arrays.dtype_name(inputs)}. Give integer samples to "
            "the feature extractor, which normalises them."
        )
    if shape[0] == 0:
        raise AudioError("The batch holds no clip.")
    lengths = None
    if attention_mask is not None and front.masked:
        mask = zeros_and_ones(arrays, "attention_mask", attention_mask)
        wanted = shape[0], shape[front.time_axis]
        if tuple(mask.shape) != wanted:
            raise AudioError(
                f"`attention_mask` must have the shape of the input, {list(wanted)}, but has {list(mask.shape)}."
            )
        if padding is Padding.REFERENCE or front.time_axis == 2:  # a spectrogram is padded on the right
            lengths = mask.sum(1)
        else:
            inputs, lengths = arrays.valid_first(inputs, arrays.to_mask(mask))
    _check_lengths(arrays, spec, shape[front.time_axis], lengths)
    if not arrays.all_finite(inputs):
        raise AudioError(
            f"`{name}` has values that are NaN or infinite. Silence divided by its own loudness gives these; pass the "
            "recording to the feature extractor unchanged."
        )
    return inputs, lengths


def _check_lengths(arrays: Arrays, spec: SpeechEncoderSpec, longest: int, lengths: Any) -> None:
    if not arrays.is_known(lengths):
        return
    shortest = longest if lengths is None else int(lengths.min())
    needed, unit = spec.shortest_input, spec.frontend.axes[spec.frontend.time_axis]
    if shortest < needed:
        clip = "a clip" if lengths is None else f"the clip in row {int(lengths.argmin())}"
        raise AudioError(
            f"The encoder needs at least {needed} {unit} for its first frame, but {clip} has {shortest}. Leave out "
            "clips that short, or pad them with silence before feature extraction."
        )


def encoder_inputs(
    arrays: Arrays, encoder: Any, inputs: Any, attention_mask: Any, encoder_outputs: Any
) -> tuple[Any, Any, EncoderOutput | None]:
    """Return audio and lengths for the encoder of either framework, or the earlier output that was given instead.

    Raises:
        ConfigError: If there is neither audio nor an earlier output.
    """
    if encoder_outputs is not None:
        return None, None, encoder_output(arrays, encoder.spec, encoder_outputs, attention_mask)
    if inputs is None:
        raise ConfigError("You have to specify either input_values or input_features, or `encoder_outputs`.")
    return (*encoder.prepare(inputs, attention_mask), None)


def encoder_output(arrays: Arrays, spec: SpeechEncoderSpec, given: Any, attention_mask: Any) -> EncoderOutput:
    """Return an earlier output of the encoder (object, tuple, list or dictionary), with the lengths of a mask.

    Raises:
        ConfigError: If it does not start with states, or these have another width.
        AudioError: If the mask is neither for samples nor for frames.
    """
    names = ("last_hidden_state", "hidden_states", "attentions")
    if isinstance(given, EncoderOutput):
        found = given
    elif isinstance(given, Sequence) and given:
        found = EncoderOutput(**dict(zip(names, given, strict=False)))
    elif isinstance(given, Mapping) and "last_hidden_state" in given:
        found = EncoderOutput(**{name: given.get(name) for name in names})
    else:
        raise ConfigError("`encoder_outputs` must begin with the `last_hidden_state` of the encoder, or name it.")
    mask = checked_mask(arrays, "attention_mask", attention_mask)
    shape, width = checked_array(arrays, "encoder_outputs[0]", found.last_hidden_state).shape, spec.output_width
    if len(shape) != 3 or shape[2] != width:
        raise ConfigError(f"`encoder_outputs` must have the shape [batch, frames, {width}], but has {list(shape)}.")
    if mask is None or found.lengths is not None or not spec.frontend.masked:
        return found
    lengths, frames, numbers = mask.sum(1), shape[1], mask.shape[1]
    if numbers == frames:
        return replace(found, lengths=lengths)
    if spec.frame_lengths(numbers) != frames:
        raise AudioError(
            f"`attention_mask` must have one number for each sample that gave the {frames} frames of "
            f"`encoder_outputs`, or for each of these frames, but has {numbers}."
        )
    return replace(found, lengths=spec.frame_lengths(lengths))


def decoder_inputs(
    arrays: Arrays,
    config: SpeechEncoderDecoderConfig,
    spec: TextDecoderSpec,
    tokens: Any,
    embeds: Any,
    cache: Any,
    labels: Any,
    smoothing: float,
) -> tuple[Any, Any, Any]:
    """Return the tokens or the embeddings that the decoder of a whole model reads, and its labels.

    To be called before the encoder runs: on an accelerator, reading a value waits for all that was queued.

    Raises:
        ConfigError: If none of these is given, or they contradict each other.
    """
    if labels is not None:
        labels = checked_tokens(arrays, "labels", labels, spec.vocab_size, ignored=True)
    if tokens is None and embeds is None:
        if labels is None:
            raise ConfigError(
                "You have to specify either `labels`, `decoder_input_ids` or `decoder_inputs_embeds`. A trainer "
                "that smooths labels itself keeps them from the model: let the collator add "
                "decoder_input_ids=model.prepare_decoder_input_ids_from_labels(labels)."
            )
        tokens = shift_right(arrays, labels, config, spec.vocab_size)
    else:
        tokens, embeds = token_inputs(arrays, spec, tokens, embeds, cache, "decoder_")
    if labels is not None:
        check_loss(labels.shape, (tokens if embeds is None else embeds).shape, smoothing)
    return tokens, embeds, labels


def warn_of_start(arrays: Arrays, labels: Any, config: SpeechEncoderDecoderConfig) -> bool:
    """Warn if a row of labels `[batch, tokens]` begins with the start id, which the model puts before them itself.

    A row that holds nothing else is an empty transcript where start and end are one id (BART, GPT-2, OPT), and the
    decoder reads it once. While a program is compiled, labels cannot be read.

    Returns:
        Whether it warned.
    """
    if not arrays.is_known(labels) or labels.shape[1] < 2:
        return False
    start, pad = (config.special_id(name) for name in ("decoder_start_token_id", "pad_token_id"))
    _, labels = arrays.namespace(labels)
    first, second = labels[:, 0], labels[:, 1]
    if not ((first == start) & (second != IGNORED) & (second != pad)).any():
        return False
    warnings.warn(
        f"Labels begin with the start token (id {start}), which the model also puts before them: the decoder will see "
        "the start token twice, and learns to generate it. `transformers` computes the same loss. Collate batches with "
        "dragoman.DataCollatorSpeechSeq2SeqWithPadding, which cuts a leading start token from each row, or leave it "
        "out of the labels.",
        UserWarning,
        stacklevel=5,
    )
    return True


def shift_right(arrays: Arrays, labels: Any, config: SpeechEncoderDecoderConfig, vocab_size: int) -> Any:
    """Return the decoder input for labels `[batch, tokens]`: the start id, then all but the last, padding for −100.

    Raises:
        ConfigError: If the start or the padding id is not set or not in the vocabulary.
    """
    start, pad = (config.special_id(name) for name in ("decoder_start_token_id", "pad_token_id"))
    check_id("decoder_start_token_id", start, vocab_size)
    check_id("pad_token_id", pad, vocab_size)
    xp, labels = arrays.namespace(labels)
    shifted = xp.where(labels[:, :-1] == IGNORED, pad, labels[:, :-1])
    return xp.concatenate([xp.full_like(labels[:, :1], start), shifted], 1)
