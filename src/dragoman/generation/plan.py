"""`Plan`: the lengths and ids of one search, derived from the options, the prompt and the decoder's capacity."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from dragoman.errors import GenerationError
from dragoman.generation.options import GenerationConfig
from dragoman.generation.rules import ids_of


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The numbers of a search. Lengths include the prompt, which holds at least the start token.

    Attributes:
        prompt_length: Tokens of the prompt.
        min_length: Minimum number of tokens; no end token before.
        max_length: Maximum number of tokens.
        eos: The ids that end a sequence; may be empty.
        pad: The id after the end of a sequence in greedy search and sampling.
        num_beams: Hypotheses kept per utterance; 1 for greedy search and sampling.
        num_samples: Independent samples per utterance; 1 except for sampling without beams.
        num_return_sequences: Sequences returned per utterance.
        forced: Tokens forced after the prompt, as (position, token).
    """

    prompt_length: int
    min_length: int
    max_length: int
    eos: tuple[int, ...]
    pad: int
    num_beams: int
    num_samples: int
    num_return_sequences: int
    forced: tuple[tuple[int, int], ...] = ()

    @property
    def beam_fill(self) -> int:
        """The id after the end of a sequence in beam search.

        As in `transformers`: the padding id if it is not 0, else the first end id.
        """
        return (self.pad or self.eos[0]) if self.eos else -1

    @property
    def min_tokens_to_keep(self) -> int:
        """The number of tokens that the filters of sampling must keep, so that beams can continue as well as end."""
        if self.num_beams == 1:
            return 1
        return len(self.eos) + 1 if self.eos else 2


def plan_of(
    options: GenerationConfig, prompt_length: int, capacity: int | None, forced: Sequence[tuple[int, int]] = ()
) -> Plan:
    """Return the lengths and ids of a search.

    Args:
        options: Validated options.
        prompt_length: Tokens of the prompt, start token included.
        capacity: Maximum number of tokens the decoder can take, which is also the default of `max_length`; `None` if
            unlimited.
        forced: Tokens forced after the prompt, as (position, token).

    Raises:
        GenerationError: If the prompt fills the maximum length, or nothing limits the length.
    """
    max_length = _max_length(options, prompt_length, capacity)
    min_length = options.min_length
    if options.min_new_tokens is not None:
        min_length = prompt_length + options.min_new_tokens
    if min_length > max_length:
        warnings.warn(
            f"The minimum length is {min_length} tokens, but the maximum is {max_length}: no sequence will end by "
            f"itself. Lower `min_length` or `min_new_tokens`, or raise `max_new_tokens`.",
            UserWarning,
            stacklevel=4,
        )
    eos = ids_of(options.eos_token_id)
    pad = options.pad_token_id
    sampling = options.do_sample and options.num_beams == 1
    return Plan(
        prompt_length=prompt_length,
        min_length=min_length,
        max_length=max_length,
        eos=eos,
        pad=pad if pad is not None else (eos[0] if eos else 0),
        num_beams=options.num_beams,
        num_samples=options.num_return_sequences if sampling else 1,
        num_return_sequences=options.num_return_sequences,
        forced=tuple(forced),
    )


def _max_length(options: GenerationConfig, prompt_length: int, capacity: int | None) -> int:
    if options.max_new_tokens is not None:
        length: int | None = prompt_length + options.max_new_tokens
    else:
        length = options.max_length or capacity
    if length is None:
        raise GenerationError(
            "Nothing limits the length of the sequence: the decoder has no maximum length. Set `max_new_tokens`."
        )
    if capacity is not None and length > capacity:
        warnings.warn(
            f"{length} tokens were asked for (the prompt included), but the decoder can take only {capacity}: "
            f"sequences will end there.",
            UserWarning,
            stacklevel=5,
        )
        length = capacity
    if prompt_length >= length:
        raise GenerationError(
            f"The prompt has {prompt_length} tokens, which leaves no room: a sequence may have {length}, the prompt "
            f"included. Raise `max_new_tokens` (or `max_length`), or shorten the prompt."
        )
    return length
