"""The values that the options of `generate` may have, alone and together."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, TypeAlias

from dragoman.generation.option_fields import OptionFields


def problems(options: OptionFields) -> list[str]:
    """Return one sentence for each error in `options`."""
    combined = (_strategy_options, _beam_options, _id_options, _unsupported)
    # Rules about several options assume values of the right type.
    return list(_values(options)) or [error for rule in combined for error in rule(options)]


def ids_of(ids: int | Sequence[int] | None) -> tuple[int, ...]:
    """Return the ids of an option that may hold none, one or several."""
    if ids is None:
        return ()
    return tuple(ids) if isinstance(ids, Sequence) else (ids,)


def _is_int(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    is_real = isinstance(value, Real) and not isinstance(value, bool)
    return is_real and value == value  # NaN differs from itself


def _is_ids(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and all(_is_int(i) and i >= 0 for i in value)


def _is_some_ids(value: Any) -> bool:
    return _is_ids(value) and len(value) > 0


def _is_id_or_ids(value: Any) -> bool:
    return _is_ids([value]) or _is_some_ids(value)


def _is_list_of_ids(value: Any) -> bool:
    return isinstance(value, Sequence) and all(map(_is_some_ids, value))


def _is_words(value: Any) -> bool:
    return isinstance(value, Sequence) and all(
        _is_some_ids(word) or (_is_list_of_ids(word) and len(word) > 0) for word in value
    )


def _is_strings(value: Any) -> bool:
    strings = [value] if isinstance(value, str) else value
    return isinstance(strings, Sequence) and all(isinstance(one, str) and one for one in strings)


def _is_bias(value: Any) -> bool:
    if not isinstance(value, Mapping | Sequence) or isinstance(value, str):
        return False
    return all(
        isinstance(pair, Sequence)
        and len(pair) == 2
        and _is_some_ids(pair[0])
        and _is_number(pair[1])
        and pair[1] < float("inf")
        for pair in (value.items() if isinstance(value, Mapping) else value)
    )


def _is_decay(value: Any) -> bool:
    if not isinstance(value, Sequence) or len(value) != 2:
        return False
    return _is_int(value[0]) and value[0] >= 0 and _is_number(value[1]) and value[1] > 0


def _is_id_table(value: Any) -> bool:
    return isinstance(value, Mapping) and _is_ids(list(value.values()))


def _is_forced(value: Any) -> bool:
    return isinstance(value, Sequence) and all(
        isinstance(pair, Sequence) and len(pair) == 2 and all(one is None or _is_ids([one]) for one in pair)
        for pair in value
    )


_Rule: TypeAlias = tuple[tuple[str, ...], Callable[[Any], bool], str]
"""The names of options, a test of their values, and the allowed values in words."""

_MOST_ROWS = 100_000  # of an utterance; a step holds a row of scores and a cache for each


def _whole(names: tuple[str, ...], least: int) -> _Rule:
    return names, lambda v: _is_int(v) and v >= least, f"a whole number of at least {least}"


def _within(names: tuple[str, ...], least: int, greatest: int) -> _Rule:
    return names, lambda v: _is_number(v) and least <= v <= greatest, f"a number from {least} to {greatest}"


_SWITCHES = ("do_sample", "use_cache", "remove_invalid_values", "renormalize_logits", "return_dict_in_generate")
_OUTPUTS = ("output_scores", "output_logits", "output_attentions", "output_hidden_states")

_REQUIRED: tuple[_Rule, ...] = (
    _whole(("num_beams", "num_return_sequences", "num_beam_groups", "num_assistant_tokens"), 1),
    (
        ("num_beams", "num_return_sequences", "num_beam_groups", "num_assistant_tokens"),
        lambda v: not _is_int(v) or v <= _MOST_ROWS,
        f"at most {_MOST_ROWS}",
    ),
    _whole(("min_length", "top_k", "no_repeat_ngram_size"), 0),
    (("temperature", "repetition_penalty"), lambda v: _is_number(v) and 0 < v < float("inf"), "a number above 0"),
    _within(("length_penalty", "diversity_penalty"), -100, 100),  # larger ones would overflow
    _within(("top_p", "assistant_confidence_threshold"), 0, 1),
    (("typical_p",), lambda v: _is_number(v) and 0 < v <= 1, "a number above 0 and at most 1"),
    (
        ("epsilon_cutoff", "eta_cutoff", "ctc_weight"),
        lambda v: _is_number(v) and 0 <= v < 1,
        "a number from 0 to below 1",
    ),
    ((*_SWITCHES, *_OUTPUTS), lambda v: isinstance(v, bool), "True or False"),
    (("early_stopping",), lambda v: isinstance(v, bool) or v == "never", 'True, False or "never"'),
)
_OPTIONAL: tuple[_Rule, ...] = (
    _whole(("max_new_tokens",), 1),
    _whole(("max_length", "min_new_tokens"), 0),
    _within(("min_p", "penalty_alpha"), 0, 1),
    (("max_time",), lambda v: _is_number(v) and v > 0, "a number of seconds above 0"),
    (("pad_token_id", "bos_token_id", "forced_bos_token_id"), lambda v: _is_ids([v]), "a token id"),
    (("eos_token_id", "forced_eos_token_id"), _is_id_or_ids, "a token id, a list of at least one token id"),
    (("suppress_tokens", "begin_suppress_tokens"), _is_ids, "a list of token ids"),
    (("bad_words_ids",), _is_list_of_ids, "a list of non-empty lists of token ids"),
    (("forced_decoder_ids",), _is_forced, "a list of pairs (position, token id or None)"),
    (
        ("force_words_ids",),
        _is_words,
        "a list of words, each a non-empty list of token ids or of such lists to choose from,",
    ),
    (("sequence_bias",), _is_bias, "{(ids, …): bias} or [[[ids, …], bias], …], with biases below infinity,"),
    (("language",), _is_strings, "the name or code of a language, or a list of one for each utterance,"),
    (("task",), lambda v: v in ("transcribe", "translate"), "'transcribe' or 'translate'"),
    (("return_timestamps", "is_multilingual"), lambda v: isinstance(v, bool), "True or False"),
    (("lang_to_id", "task_to_id"), _is_id_table, "a dictionary of token ids"),
    (("no_timestamps_token_id",), lambda v: _is_ids([v]), "a token id"),
    (("stop_strings",), _is_strings, "a string, a list of strings, none of them empty,"),
    (
        ("exponential_decay_length_penalty",),
        _is_decay,
        "a pair (tokens before it starts, factor of growth above 0)",
    ),
)


def _values(options: OptionFields) -> Iterator[str]:
    for rules, suffix in (_REQUIRED, ""), (_OPTIONAL, " or None"):
        for names, allows, allowed in rules:
            for name in names:
                value = getattr(options, name)
                if not (value is None and suffix) and not allows(value):
                    yield f"`{name}` must be {allowed}{suffix}, but is {value!r}."


def _strategy_options(options: OptionFields) -> Iterator[str]:
    returned = options.num_return_sequences
    if options.num_beams == 1 and not options.do_sample and returned > 1:
        yield (
            f"`num_return_sequences` must be 1 in greedy search, which finds one sequence, but is {returned}. "
            f"Set `num_beams` to at least {returned}, or `do_sample=True`."
        )
    if 1 < options.num_beams < returned:
        yield (
            f"`num_return_sequences` must be at most `num_beams` ({options.num_beams}), but is {returned}. "
            f"Raise `num_beams`."
        )
    if options.penalty_alpha and (options.num_beams > 1 or options.do_sample or options.top_k < 2):
        yield (
            f"`penalty_alpha` asks for contrastive search, which needs `num_beams=1`, `do_sample=False` and a `top_k` "
            f"of at least 2, but they are {options.num_beams}, {options.do_sample} and {options.top_k}."
        )


def _beam_options(options: OptionFields) -> Iterator[str]:
    groups = options.num_beam_groups
    if options.force_words_ids and (options.num_beams == 1 or options.do_sample or groups > 1):
        yield (
            f"`force_words_ids` asks for constrained beam search, which needs `num_beams` of at least 2, "
            f"`do_sample=False` and `num_beam_groups=1`, but they are {options.num_beams}, {options.do_sample} and "
            f"{groups}."
        )
    if groups > 1 and options.num_beams % groups:
        yield (
            f"`num_beams` must be a multiple of `num_beam_groups` ({groups}), but is {options.num_beams}: all groups "
            f"have the same size."
        )
    if groups > 1 and options.do_sample:
        yield "`num_beam_groups` above 1 is for beam search, not for sampling: set `do_sample=False`."
    if groups == 1 and options.diversity_penalty != 0.0:
        yield "`diversity_penalty` acts between groups of beams, but `num_beam_groups` is 1. Set both or neither."


def _id_options(options: OptionFields) -> Iterator[str]:
    for name in ("forced_bos_token_id", "forced_eos_token_id"):
        forced = ids_of(getattr(options, name))
        if forced and set(forced) <= set(options.suppress_tokens or ()):
            ids = ", ".join(map(str, forced))
            yield f"`{name}` ({ids}) is also in `suppress_tokens`, which leaves no token. Remove it from one of them."


# Options of `transformers` that are not implemented: name -> (whether it is on, what to do instead).
_UNSUPPORTED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "constraints": (lambda v: v is not None, "list the words in `force_words_ids`"),
    "dola_layers": (lambda v: v is not None, "leave it out"),
    "guidance_scale": (lambda v: v not in (None, 1, 1.0), "leave it out"),
    "top_h": (lambda v: v is not None, "use `top_p`"),
    "encoder_repetition_penalty": (lambda v: v not in (None, 1.0), "leave it out: speech has no token ids"),
    "encoder_no_repeat_ngram_size": (lambda v: bool(v), "leave it out: speech has no token ids"),
    "watermarking_config": (lambda v: v is not None, "leave it out"),
    "prompt_lookup_num_tokens": (lambda v: v is not None, "leave it out"),
    "assistant_early_exit": (lambda v: v is not None, "leave it out"),
    "token_healing": (lambda v: bool(v), "leave it out"),
}


def _unsupported(options: OptionFields) -> Iterator[str]:
    for name, (is_on, instead) in _UNSUPPORTED.items():
        value = getattr(options, name)
        if is_on(value):
            yield f"`{name}` is not supported, but is {value!r}: {instead}."
