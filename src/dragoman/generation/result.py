"""Results: `GenerationResult` inside; for callers, the outputs of `transformers`, with its names and order."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from dragoman.api.outputs import ModelOutput
from dragoman.generation.arrays import Array, ops_of

Steps = tuple[Any, ...] | None


@dataclass(init=False, eq=False)
class GenerateEncoderDecoderOutput(ModelOutput):
    """Output of `generate` with greedy search or sampling.

    Attributes:
        sequences: Token ids int `[rows, length]`, the prompt included, padded after the end.
        scores: With `output_scores`: for each step, the processed scores `[rows, vocab]` that a token was chosen from.
        logits: With `output_logits`: for each step, the scores before processing.
        encoder_attentions, encoder_hidden_states: Of the encoder, one array per layer.
        decoder_attentions, cross_attentions, decoder_hidden_states: For each step, one array per layer.
        past_key_values: Always `None`: the cache is not returned.
        token_log_probs: With `token_log_probs`: the decoder's own log-probability of each generated token before any
            processing, float32 `[rows, generated]`; 0 after the end.
    """

    sequences: Array = None
    scores: Steps = None
    logits: Steps = None
    encoder_attentions: Steps = None
    encoder_hidden_states: Steps = None
    decoder_attentions: Steps = None
    cross_attentions: Steps = None
    decoder_hidden_states: Steps = None
    past_key_values: Any = None
    token_log_probs: Array = None


@dataclass(init=False, eq=False)
class GenerateBeamEncoderDecoderOutput(ModelOutput):
    """Output of `generate` with beams: the fields of `GenerateEncoderDecoderOutput`, and these.

    Attributes:
        sequences_scores: With `output_scores`: the hypotheses' scores float32 `[rows]`, after the length penalty.
        beam_indices: For each generated token, the row of the step's `scores` that it was chosen from, int
            `[rows, generated]`; -1 after the end.
    """

    sequences: Array = None
    sequences_scores: Array = None
    scores: Steps = None
    logits: Steps = None
    beam_indices: Array = None
    encoder_attentions: Steps = None
    encoder_hidden_states: Steps = None
    decoder_attentions: Steps = None
    cross_attentions: Steps = None
    decoder_hidden_states: Steps = None
    past_key_values: Any = None
    token_log_probs: Array = None


@dataclass(frozen=True, kw_only=True)
class GenerationResult:
    """The outcome of a search; fields that were not asked for are `None`.

    Attributes:
        sequences: Token ids int `[rows, length]`, the prompt included; `num_return_sequences` rows per utterance.
        ended: bool `[rows]`: false where a sequence was cut off by the maximum length or time.
        sequences_scores: Beam search: float32 `[rows]`, after the length penalty, best of an utterance first.
        beam_indices: Beam search: see `GenerateBeamEncoderDecoderOutput`.
        token_log_probs: See `GenerateEncoderDecoderOutput`.
        scores, logits, decoder_attentions, cross_attentions, decoder_hidden_states: One entry per step.
    """

    sequences: Array
    ended: Array
    sequences_scores: Array = None
    beam_indices: Array = None
    token_log_probs: Array = None
    scores: Steps = None
    logits: Steps = None
    decoder_attentions: Steps = None
    cross_attentions: Steps = None
    decoder_hidden_states: Steps = None

    def to_output(
        self, encoder_attentions: Steps = None, encoder_hidden_states: Steps = None
    ) -> GenerateEncoderDecoderOutput | GenerateBeamEncoderDecoderOutput:
        """Return the output of `generate` with `return_dict_in_generate`."""
        cls = GenerateEncoderDecoderOutput if self.sequences_scores is None else GenerateBeamEncoderDecoderOutput
        values = {
            **vars(self),
            "sequences_scores": None if self.scores is None else self.sequences_scores,
            "encoder_attentions": encoder_attentions,
            "encoder_hidden_states": encoder_hidden_states,
        }
        return cls(**{field.name: values.get(field.name) for field in fields(cls)})


def compute_transition_scores(
    sequences: Array, scores: Sequence[Array], beam_indices: Array | None = None, normalize_logits: bool = False
) -> Array:
    """Return the score of each generated token, float32 `[rows, generated]`; with beams, 0 after the end.

    Args:
        sequences: As returned by `generate`, int `[rows, length]`.
        scores: As returned with `output_scores`: for each step, `[rows or batch * beams, vocab]`.
        beam_indices: As returned by beam search.
        normalize_logits: Turn `scores` into log-probabilities first.

    With beams, the sum over a hypothesis / generated tokens ** length_penalty is its `sequences_scores`.
    """
    ops = ops_of(sequences)
    xp, device = ops.xp, ops.device(sequences)
    steps = xp.stack(list(scores))  # [steps, rows, vocab]
    if normalize_logits:
        steps = ops.log_softmax(steps)
    if beam_indices is None:
        beam_indices = xp.broadcast_to(
            xp.arange(sequences.shape[0], device=device)[:, None], (sequences.shape[0], len(scores))
        )
    count = int(xp.max(xp.count_nonzero(beam_indices >= 0, axis=1)))
    beam_indices = beam_indices[:, :count]
    tokens = sequences[:, sequences.shape[1] - count :]
    valid = beam_indices >= 0
    # [rows, generated] -> places in [steps x rows x vocab]
    first = xp.arange(count, device=device)[None, :] * steps.shape[1]
    places = (first + xp.where(valid, beam_indices, 0)) * steps.shape[2] + xp.where(valid, tokens, 0)
    values = xp.take(xp.reshape(steps, (-1,)), xp.reshape(places, (-1,)))
    return xp.where(valid, xp.reshape(values, places.shape), 0.0)
