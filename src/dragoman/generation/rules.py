"""What values the options of `GenerationConfig` may have, alone and together."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dragoman.generation.options import GenerationConfig

__all__ = ["ids_of", "problems"]


def problems(options: "GenerationConfig") -> list[str]:
    """Return a sentence for each fault of `options`; none if they are fine."""
    faults = [fault for group in _RULES for fault in group(options)]
    # Rules about several options would stumble over values of the wrong kind.
    return faults or list(_together(options)) + list(_not_there(options))


def ids_of(ids: int | Sequence[int] | None) -> tuple[int, ...]:
    """Return the ids of an option that may hold none, one or several."""
    if ids is None:
        return ()
    return tuple(ids) if isinstance(ids, Sequence) else (ids,)


def _is_int(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_real(value: Any) -> bool:
    return isinstance(value, int | float | Real) and value is not True and value is not False


def _is_number(value: Any) -> bool:
    return _is_real(value) and value == value  # NaN differs from itself


def _is_ids(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and all(_is_int(i) and i >= 0 for i in value)


def _each(
    options: "GenerationConfig", names: Iterable[str], fits: Callable[[Any], bool], rule: str, optional: bool
) -> Iterator[str]:
    for name in names:
        value = getattr(options, name)
        if not (value is None and optional) and not fits(value):
            yield f"`{name}` must be {rule}{' or None' if optional else ''}, but is {value!r}."


def _counts(options: "GenerationConfig") -> Iterator[str]:
    positive, natural = "a whole number of at least 1", "a whole number of at least 0"
    at_least_one = ("num_beams", "num_return_sequences", "num_beam_groups", "num_assistant_tokens")
    yield from _each(options, at_least_one, lambda v: _is_int(v) and v >= 1, positive, False)
    yield from _each(options, ("max_new_tokens",), lambda v: _is_int(v) and v >= 1, positive, True)
    required = ("min_length", "top_k", "no_repeat_ngram_size")
    yield from _each(options, required, lambda v: _is_int(v) and v >= 0, natural, False)
    yield from _each(options, ("max_length", "min_new_tokens"), lambda v: _is_int(v) and v >= 0, natural, True)


def _numbers(options: "GenerationConfig") -> Iterator[str]:
    required = ("temperature", "repetition_penalty")
    yield from _each(options, required, lambda v: _is_number(v) and 0 < v < float("inf"), "a number above 0", False)
    exponents = ("length_penalty", "diversity_penalty")  # greater ones would overflow
    yield from _each(
        options, exponents, lambda v: _is_number(v) and -100 <= v <= 100, "a number from -100 to 100", False
    )
    shares = ("top_p", "assistant_confidence_threshold")
    yield from _each(options, shares, lambda v: _is_number(v) and 0 <= v <= 1, "a number from 0 to 1", False)
    yield from _each(
        options, ("min_p", "penalty_alpha"), lambda v: _is_number(v) and 0 <= v <= 1, "a number from 0 to 1", True
    )
    above = "a number above 0 and at most 1"
    yield from _each(options, ("typical_p",), lambda v: _is_number(v) and 0 < v <= 1, above, False)
    cutoffs = ("epsilon_cutoff", "eta_cutoff")
    yield from _each(options, cutoffs, lambda v: _is_number(v) and 0 <= v < 1, "a number from 0 to below 1", False)
    yield from _each(options, ("max_time",), lambda v: _is_number(v) and v > 0, "a number of seconds above 0", True)


def _ids(options: "GenerationConfig") -> Iterator[str]:
    one, several = ("pad_token_id", "bos_token_id", "forced_bos_token_id"), ("eos_token_id", "forced_eos_token_id")
    yield from _each(options, one, lambda v: _is_int(v) and v >= 0, "a token id", True)
    rule = "a token id, a list of at least one token id"
    yield from _each(options, several, lambda v: _is_ids([v]) or (_is_ids(v) and len(v) > 0), rule, True)
    lists = ("suppress_tokens", "begin_suppress_tokens")
    yield from _each(options, lists, _is_ids, "a list of token ids", True)
    words = ("bad_words_ids",)
    rule = "a list of non-empty lists of token ids"
    yield from _each(options, words, lambda v: isinstance(v, Sequence) and all(_is_ids(w) and w for w in v), rule, True)
    rule = "a list of words, each a non-empty list of token ids or of such lists to choose from,"
    yield from _each(options, ("force_words_ids",), _is_words, rule, True)
    rule = "{(ids, …): bias} or [[[ids, …], bias], …], with biases below infinity,"
    yield from _each(options, ("sequence_bias",), _is_bias, rule, True)
    yield from _each(options, ("stop_strings",), _is_strings, "a string, a list of strings, none of them empty,", True)
    rule = "a pair (tokens before it starts, factor of growth above 0)"
    yield from _each(options, ("exponential_decay_length_penalty",), _is_decay, rule, True)


def _switches(options: "GenerationConfig") -> Iterator[str]:
    work = ("do_sample", "use_cache", "remove_invalid_values", "renormalize_logits", "return_dict_in_generate")
    names = (*work, "output_scores", "output_logits", "output_attentions", "output_hidden_states")
    yield from _each(options, names, lambda v: isinstance(v, bool), "True or False", False)
    never = ("early_stopping",)
    yield from _each(options, never, lambda v: isinstance(v, bool) or v == "never", 'True, False or "never"', False)


_RULES = (_counts, _numbers, _ids, _switches)


def _is_strings(value: Any) -> bool:
    strings = [value] if isinstance(value, str) else value
    return isinstance(strings, Sequence) and all(isinstance(one, str) and one for one in strings)


def _is_words(value: Any) -> bool:
    def is_word(word: Any) -> bool:
        return _is_ids(word) and len(word) > 0

    return isinstance(value, Sequence) and all(
        is_word(word) or (isinstance(word, Sequence) and len(word) > 0 and all(map(is_word, word))) for word in value
    )


def _is_bias(value: Any) -> bool:
    if not isinstance(value, Mapping | Sequence) or isinstance(value, str):
        return False
    pairs = list(value.items() if isinstance(value, Mapping) else value)
    return all(
        isinstance(pair, Sequence)
        and len(pair) == 2
        and _is_ids(pair[0])
        and len(pair[0]) > 0
        and _is_number(pair[1])
        and pair[1] < float("inf")
        for pair in pairs
    )


def _is_decay(value: Any) -> bool:
    if not isinstance(value, Sequence) or len(value) != 2:
        return False
    return _is_int(value[0]) and value[0] >= 0 and _is_number(value[1]) and value[1] > 0


def _together(options: "GenerationConfig") -> Iterator[str]:
    several = options.num_return_sequences
    if options.num_beams == 1 and not options.do_sample and several > 1:
        yield (
            f"`num_return_sequences` must be 1 in greedy search, which finds one text, but is {several}. "
            f"Set `num_beams` to at least {several}, or `do_sample=True`."
        )
    if 1 < options.num_beams < several:
        yield (
            f"`num_return_sequences` must be at most `num_beams` ({options.num_beams}), but is {several}. "
            f"Raise `num_beams`."
        )
    if options.penalty_alpha and (options.num_beams > 1 or options.do_sample or options.top_k < 2):
        yield (
            f"`penalty_alpha` asks for contrastive search, which needs `num_beams=1`, `do_sample=False` and a `top_k` "
            f"of at least 2, but they are {options.num_beams}, {options.do_sample} and {options.top_k}."
        )
    groups = options.num_beam_groups
    if options.force_words_ids and (options.num_beams == 1 or options.do_sample or groups > 1):
        yield (
            f"`force_words_ids` asks for constrained beam search, which needs `num_beams` of at least 2, "
            f"`do_sample=False` and `num_beam_groups=1`, but they are {options.num_beams}, {options.do_sample} and "
            f"{groups}."
        )
    if groups > 1 and options.num_beams % groups:
        yield (
            f"`num_beams` must be a multiple of `num_beam_groups` ({groups}), but is {options.num_beams}: each group "
            f"gets as many beams."
        )
    if groups > 1 and options.do_sample:
        yield "`num_beam_groups` is for searching, not for sampling: set `do_sample=False`."
    if groups == 1 and options.diversity_penalty != 0.0:
        yield "`diversity_penalty` keeps groups of beams apart, but `num_beam_groups` is 1. Set both or neither."
    for name in ("forced_bos_token_id", "forced_eos_token_id"):
        forced = ids_of(getattr(options, name))
        if forced and set(forced) <= set(options.suppress_tokens or ()):
            ids = ", ".join(map(str, forced))
            yield f"`{name}` ({ids}) is also in `suppress_tokens`, which leaves no token. Drop one."
    if options.exponential_decay_length_penalty is not None and options.eos_token_id is None:
        yield "`exponential_decay_length_penalty` raises the score of the end, but `eos_token_id` is not set. Set it."


# Options of upstream that are not built: name -> (is it on?, what to do instead).
_MISSING: dict[str, tuple[Callable[[Any], bool], str]] = {
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


def _not_there(options: "GenerationConfig") -> Iterator[str]:
    for name, (is_on, instead) in _MISSING.items():
        value = getattr(options, name)
        if is_on(value):
            yield f"`{name}` is not supported, but is {value!r}: {instead}."
