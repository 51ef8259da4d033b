"""`Request`: one call of `generate`, checked."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int

from dragoman.api.outputs import EncoderOutput
from dragoman.generation.options import GenerationConfig
from dragoman.generation.plan import Plan
from dragoman.generation.scorers.ctc import ctc_scorers
from dragoman.generation.scorers.fusion import Scorer

Speech = tuple[Any, Any, EncoderOutput | None]
"""What `encoder_inputs` returns: audio and lengths, or an earlier output of the encoder."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One call of `generate`, checked.

    Attributes:
        settings: All options.
        plan: Lengths and ids.
        speech: What the encoder gets.
        prompt: The tokens that each transcript starts with.
        prompt_mask: True for valid tokens of the prompt; `None` if all are.
        draft: For speculative decoding, the smaller model and what its encoder gets.
        processors: The caller's own.
        prefix_allowed_tokens_fn: The caller's.
        criteria: The caller's own reasons to end a sequence.
        streamer: Receives each token.
        tokenizer: Decodes tokens, for `stop_strings`.
        scorers: Extra scores.
        token_log_probs: Whether to record the log-probability of each token.
    """

    settings: GenerationConfig
    plan: Plan
    speech: Speech
    prompt: Int[np.ndarray[Any, Any], "batch tokens"]
    prompt_mask: np.ndarray[Any, Any] | None
    draft: tuple[Any, Speech] | None = None
    processors: Sequence[Any] = ()
    prefix_allowed_tokens_fn: Any = None
    criteria: Sequence[Any] = ()
    streamer: Any = None
    tokenizer: Any = None
    scorers: Sequence[Scorer] = ()
    token_log_probs: bool = False

    @property
    def takes_part(self) -> bool:
        """Whether the caller's own objects, or records of each step, take part in the search."""
        own = (self.processors, self.criteria, self.scorers, self.token_log_probs)
        given = (self.draft, self.prefix_allowed_tokens_fn, self.streamer)
        return any(own) or any(x is not None for x in given)

    def loop_options(self, model: Any, encoded: EncoderOutput | None) -> dict[str, Any]:
        """Return the arguments of `dragoman.generation.loop.generate` that no framework changes.

        Args:
            model: The model that is searched.
            encoded: Its encoder's output; needed only for CTC.
        """
        ctc = ctc_scorers(model.ctc_scoring_head, self.settings.ctc_weight, encoded, self.plan.eos)
        return {
            "plan": self.plan,
            "processors": self.processors,
            "prefix_allowed_tokens_fn": self.prefix_allowed_tokens_fn,
            "criteria": self.criteria,
            "decode": None if self.tokenizer is None else self.tokenizer.decode,
            "streamer": self.streamer,
            "scorers": [*self.scorers, *ctc],
            "token_log_probs": self.token_log_probs,
        }
