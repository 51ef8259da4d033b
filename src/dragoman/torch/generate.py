"""The PyTorch driver of the search: one decoder step at a time over preallocated caches.

Not here: the search itself (`dragoman.generation`), which knows no framework.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from dragoman.api.checks import one_audio
from dragoman.api.outputs import EncoderOutput
from dragoman.generation.decoder import Step
from dragoman.generation.forced import ForcedTokens
from dragoman.generation.loop import generate as search
from dragoman.generation.options import GenerationConfig
from dragoman.generation.plan import plan_of
from dragoman.generation.scorers.fusion import Scorer, given_scorers
from dragoman.generation.settings import prompt_mask_of, prompt_of, settings_of, warn_if_cut_off
from dragoman.torch.net.cache import Cache, Memory
from dragoman.torch.net.text_decoder import TextDecoderNet

if TYPE_CHECKING:
    from dragoman.torch.model import SpeechEncoderDecoderModel

__all__ = ["CachedDecoder", "generate"]


class CachedDecoder:
    """A decoder that looks at the memory of a batch of utterances; a `StepDecoder`, and a `RewindableDecoder`.

    The memory's keys and values are computed once and belong to the utterance: its beams share them.

    Args:
        decoder: The model.
        states: Memory, `[batch, frames, width]`, as wide as the decoder; `None` for a plain language model.
        mask: True where a frame counts, `[batch, frames]`.
        capacity: Tokens to make room for.
        prompt_mask: True where a token of the prompt counts, `[batch, tokens]`; all of them do without.
        attentions: Return the attention weights of each step.
        hidden_states: Return the states of each step.
    """

    def __init__(
        self,
        decoder: TextDecoderNet,
        states: Tensor | None,
        mask: Tensor | None,
        capacity: int,
        prompt_mask: Bool[Tensor, "batch tokens"] | None = None,
        *,
        attentions: bool = False,
        hidden_states: bool = False,
    ) -> None:
        self._decoder = decoder
        self._memory: Memory | None = None if states is None else decoder.project_memory(states, mask)
        self._capacity = capacity
        self._prompt_mask = prompt_mask
        self._attentions = attentions
        self._hidden_states = hidden_states

    def start(self, prompt: Int[Tensor, "batch tokens"]) -> Step[Cache]:
        """Read the prompt."""
        rows = prompt.shape[0]
        if self._memory is None:
            cache = self._decoder.new_cache(rows, self._capacity)
        else:
            cache = self._decoder.begin(self._memory, rows, self._capacity)
        return self._run(prompt, replace(cache, text_mask=self._prompt_mask))

    def expand(self, state: Cache, copies: int) -> Cache:
        """Repeat each row; the memory stays one an utterance."""
        return state.expanded(copies)

    def step(self, tokens: Int[Tensor, " rows"], state: Cache) -> Step[Cache]:
        """Read one more token of each row."""
        return self._run(tokens[:, None], state)

    def select(self, state: Cache, rows: Int[Tensor, " rows"]) -> Cache:
        """Let row `i` continue row `rows[i]`."""
        return state.selected(rows)

    def read(self, tokens: Int[Tensor, "rows n"], state: Cache) -> Step[Cache]:
        """Read several tokens of each row at once; the logits are those after each of them."""
        return self._run(tokens, state, everywhere=True)

    def rewind(self, state: Cache, tokens: int) -> Cache:
        """Forget the last `tokens` tokens."""
        return replace(state, length=state.length - tokens)

    def _run(self, tokens: Tensor, state: Cache, everywhere: bool = False) -> Step[Cache]:
        out, cache = self._decoder.decode(
            tokens, self._memory, state, all_states=self._hidden_states, weights=self._attentions
        )
        assert cache is not None
        return Step(
            logits=self._decoder.logits(out.states if everywhere else out.states[:, -1]),
            state=cache,
            decoder_attentions=out.self_weights,
            cross_attentions=out.cross_weights,
            decoder_hidden_states=out.all_states,
        )


def _decoder_of(
    model: "SpeechEncoderDecoderModel",
    encoded: EncoderOutput,
    capacity: int,
    counts: np.ndarray[Any, Any] | None,
    *,
    attentions: bool = False,
    hidden_states: bool = False,
) -> CachedDecoder:
    """Return the decoder of a model, looking at what its encoder heard; `counts` says what of the prompts does."""
    memory = model.memory_for(encoded)
    return CachedDecoder(
        model.decoder,
        memory.states,
        memory.mask,
        capacity,
        None if counts is None else torch.from_numpy(counts).to(model.device),
        attentions=attentions,
        hidden_states=hidden_states,
    )


def generate(
    model: "SpeechEncoderDecoderModel",
    inputs: Tensor | None = None,
    generation_config: GenerationConfig | None = None,
    *,
    input_values: Tensor | None = None,
    input_features: Tensor | None = None,
    attention_mask: Tensor | None = None,
    encoder_outputs: Any = None,
    decoder_input_ids: Int[Tensor, "batch tokens"] | None = None,
    decoder_attention_mask: Tensor | None = None,
    logits_processor: Sequence[Any] | None = None,
    prefix_allowed_tokens_fn: Any = None,
    stopping_criteria: Sequence[Any] | None = None,
    streamer: Any = None,
    tokenizer: Any = None,
    assistant_model: "SpeechEncoderDecoderModel | None" = None,
    scorers: Sequence[Scorer] = (),
    token_log_probs: bool = False,
    seed: int | Sequence[int] | None = None,
    **options: Any,
) -> Any:
    """Write texts for a batch of speech.

    Args:
        model: The model; it should be in evaluation mode.
        inputs: The audio, positionally; or use `input_values` or `input_features`.
        generation_config: Options; those it leaves at their defaults come from the model's own.
        input_values: Waveforms, `[batch, samples]`.
        input_features: Log-mel spectrograms, `[batch, mels, frames]`.
        attention_mask: 1 where a sample counts, `[batch, samples]`.
        encoder_outputs: What the encoder gave before; the audio is then not needed.
        decoder_input_ids: Beginning of the texts. The start id is put before it where it is not there yet.
        decoder_attention_mask: 1 where a token of these counts, `[batch, tokens]`: beginnings of several lengths are
            padded on the left.
        logits_processor: Callables `(tokens, scores) -> scores`, after the built-in ones.
        prefix_allowed_tokens_fn: `(utterance, tokens) -> ids` that may come next.
        stopping_criteria: Callables `(tokens, scores) -> bool or bools` that end texts, in Hugging Face's form.
        streamer: Is told each token as it comes (`dragoman.generation.streamers`); without beams.
        tokenizer: Turns ids into text, for `stop_strings`.
        assistant_model: A smaller model of the same vocabulary that drafts for greedy search: the same text, sooner.
        scorers: Extra scores added to the decoder's log-probabilities at each step (shallow fusion): hot words,
            language models.
        token_log_probs: Return the decoder's own log-probability of each token, in an output of
            `return_dict_in_generate`.
        seed: For sampling; a number for the batch or one an utterance. By default drawn from PyTorch's generator.
        **options: Fields of `GenerationConfig` for this call.

    Returns:
        Token ids `[batch * num_return_sequences, tokens]`, start and end included, padded on the right; with
        `return_dict_in_generate`, an output with scores and more.

    Raises:
        GenerationError: If options are unknown or impossible, or no start id is set.

    Without `max_new_tokens` or `max_length`, a text may be as long as the decoder has positions; a text that is cut off
    is warned about.
    """
    scorers = given_scorers(scorers, options)
    settings = settings_of(model.config, model.generation_config, generation_config, options)
    audio = one_audio(inputs, input_values, input_features)
    with torch.inference_mode():
        encoded = model.encode(
            audio,
            attention_mask,
            encoder_outputs,
            all_states=settings.output_hidden_states,
            weights=settings.output_attentions,
        )
        batch = encoded.last_hidden_state.shape[0]
        tokens, later = prompt_of(settings, batch, decoder_input_ids, model.decoder.spec.vocab_size)
        prompt = torch.from_numpy(tokens).to(model.device)
        counts = prompt_mask_of(decoder_attention_mask, decoder_input_ids, tokens)
        forced_later = [ForcedTokens(later)] if later else []
        plan = plan_of(settings, prompt.shape[1], model.max_text_length(encoded.last_hidden_state.shape[1]))
        result = search(
            _decoder_of(
                model,
                encoded,
                plan.max_length,
                counts,
                attentions=settings.output_attentions,
                hidden_states=settings.output_hidden_states or settings.penalty_alpha is not None,
            ),
            prompt,
            settings,
            plan=plan,
            seed=int(torch.randint(2**31, ())) if seed is None else seed,
            processors=[*forced_later, *(logits_processor or ())],
            prefix_allowed_tokens_fn=prefix_allowed_tokens_fn,
            criteria=stopping_criteria or (),
            decode=None if tokenizer is None else tokenizer.decode,
            streamer=streamer,
            draft=None
            if assistant_model is None
            else _decoder_of(assistant_model, assistant_model.encode(audio, attention_mask), plan.max_length, counts),
            scorers=scorers,
            token_log_probs=token_log_probs,
        )
    warn_if_cut_off(settings, plan, result.ended)
    if not settings.return_dict_in_generate:
        return result.sequences
    return result.to_output(encoded.attentions, encoded.hidden_states)
