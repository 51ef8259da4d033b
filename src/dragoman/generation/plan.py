"""What one call of `generate` will do, worked out from the options, the prompt and the decoder's capacity."""

import warnings
from dataclasses import dataclass

from dragoman.errors import GenerationError
from dragoman.generation.options import GenerationConfig
from dragoman.generation.rules import ids_of

__all__ = ["Plan", "plan_of"]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The numbers of a search. Lengths count the prompt, which holds at least the start token.

    Attributes:
        prompt_length: Tokens given.
        min_length: No end before there are so many tokens.
        max_length: Every text ends when it has so many tokens.
        eos: The ids that end a text; may be empty.
        pad: What follows the end of a text in greedy search and sampling.
        num_beams: Hypotheses kept for an utterance; 1 for greedy search and sampling.
        num_samples: Independent samples drawn for an utterance; 1 but for sampling without beams.
        num_return_sequences: Texts returned for an utterance.
    """

    prompt_length: int
    min_length: int
    max_length: int
    eos: tuple[int, ...]
    pad: int
    num_beams: int
    num_samples: int
    num_return_sequences: int

    @property
    def beam_fill(self) -> int:
        """What follows the end of a text in beam search.

        Upstream takes the padding id only if it is not 0 there, else the first end id; kept so that ids compare equal.
        """
        return (self.pad or self.eos[0]) if self.eos else -1

    @property
    def min_tokens_to_keep(self) -> int:
        """How many tokens the filters of sampling must leave, so that beams can go on besides ending."""
        if self.num_beams == 1:
            return 1
        return len(self.eos) + 1 if self.eos else 2


def plan_of(options: GenerationConfig, prompt_length: int, capacity: int | None) -> Plan:
    """Work out the lengths and ids of a search.

    Args:
        options: Validated options.
        prompt_length: Tokens given, start token included.
        capacity: The greatest length the decoder can take; also the length when none was asked for. `None` if
            unlimited.

    Raises:
        GenerationError: If there is no room for a new token, or nothing limits the length.
    """
    max_length = _max_length(options, prompt_length, capacity)
    min_length = options.min_length
    if options.min_new_tokens is not None:
        min_length = prompt_length + options.min_new_tokens
    if min_length > max_length:
        warnings.warn(
            f"The least length asked for is {min_length} tokens, but texts end at {max_length}: no text will end by "
            f"itself. Lower `min_length` or `min_new_tokens`, or raise `max_new_tokens`.",
            UserWarning,
            stacklevel=3,
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
    )


def _max_length(options: GenerationConfig, prompt_length: int, capacity: int | None) -> int:
    if options.max_new_tokens is not None:
        wanted: int | None = prompt_length + options.max_new_tokens
    else:
        wanted = options.max_length or capacity
    if wanted is None:
        raise GenerationError(
            "Nothing limits the length of the text: the decoder states no greatest length. Set `max_new_tokens`."
        )
    if capacity is not None and wanted > capacity:
        warnings.warn(
            f"{wanted} tokens were asked for (the prompt included), but the decoder can take only {capacity}: "
            f"texts will end there.",
            UserWarning,
            stacklevel=4,
        )
        wanted = capacity
    if prompt_length >= wanted:
        raise GenerationError(
            f"The prompt has {prompt_length} tokens, which leaves no room: a text may have {wanted}, the prompt "
            f"included. Raise `max_new_tokens` (or `max_length`), or shorten the prompt."
        )
    return wanted
