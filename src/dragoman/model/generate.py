"""The public `generate`: what it checks and works out before the search, and what it returns after it.

Not here: the search (`dragoman.generation`), and what runs its steps (`dragoman.torch.generate`,
`dragoman.jax.generate`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

from jaxtyping import Float, Int

from dragoman.api.checks import check_ids, one_audio
from dragoman.api.config import SpeechEncoderDecoderConfig
from dragoman.api.outputs import EncoderOutput
from dragoman.batch import to_numpy
from dragoman.errors import GenerationError
from dragoman.families import find
from dragoman.generation.inherited import adopt_changes, linked_options, moved_options, options_on
from dragoman.generation.language import set_output_language, whisper_rows
from dragoman.generation.options import GenerationConfig
from dragoman.generation.plan import plan_of
from dragoman.generation.request import Request, Speech
from dragoman.generation.result import GenerationResult
from dragoman.generation.scorers.fusion import Scorer, given_scorers
from dragoman.generation.settings import prompt_mask_of, prompt_of, settings_of, warn_if_cut_off
from dragoman.model.arguments import encoder_inputs
from dragoman.model.arrays import Arrays


class GenerateMethods:
    """`generate` of a whole model."""

    backend: ClassVar[str]
    _arrays: ClassVar[Arrays]
    _search_options: ClassVar[tuple[str, ...]] = ()  # keywords that only this backend's search takes
    config: SpeechEncoderDecoderConfig
    encoder: Any
    decoder: Any
    bridge: Any
    ctc_scoring_head: Any = None  # `CtcHead`; scripts call modules of their own `ctc_head`
    _generation_config: GenerationConfig
    _seen_options: dict[str, Any]

    @property
    def generation_config(self) -> GenerationConfig:
        """The options that `generate` uses; `None` unsets one. What is assigned, ours or of `transformers`, is copied.

        Options and ids that are set on the model's configuration later appear here too.
        """
        if self._generation_config.special_ids is not self.config.special_ids:  # the model was given another one
            self._generation_config = moved_options(self._generation_config, self.config)
        adopt_changes(self._generation_config, self.config, self._seen_options)
        self._seen_options = options_on(self.config)
        return self._generation_config

    @generation_config.setter
    def generation_config(self, options: Any) -> None:
        known = getattr(options, "special_ids", None) is self.config.special_ids
        self._generation_config = options if known else linked_options(options, self.config)
        self._seen_options = options_on(self.config)

    def generate(
        self,
        inputs: Any = None,
        generation_config: GenerationConfig | None = None,
        *,
        input_values: Float[Any, "batch samples"] | None = None,
        input_features: Float[Any, "batch mels frames"] | None = None,
        attention_mask: Int[Any, "batch samples"] | None = None,
        encoder_outputs: Any = None,
        decoder_input_ids: Int[Any, "batch tokens"] | None = None,
        decoder_attention_mask: Int[Any, "batch tokens"] | None = None,
        logits_processor: Sequence[Any] | None = None,
        prefix_allowed_tokens_fn: Any = None,
        stopping_criteria: Sequence[Any] | None = None,
        streamer: Any = None,
        tokenizer: Any = None,
        assistant_model: Any = None,
        scorers: Sequence[Scorer] = (),
        token_log_probs: bool = False,
        seed: int | Sequence[int] | None = None,
        **options: Any,
    ) -> Any:
        """Generate transcripts of a batch of speech; the model should be in evaluation mode.

        Without `max_new_tokens` or `max_length` a transcript may be as long as the decoder has positions; a warning
        tells how many were cut off.

        Args:
            inputs: The audio, positionally; or use `input_values` or `input_features`.
            generation_config: Options; those it leaves at their defaults come from the model's own.
            input_values: Waveforms.
            input_features: Log-mel spectrograms.
            attention_mask: 1 for valid samples.
            encoder_outputs: An earlier output of the encoder; the audio is then not needed.
            decoder_input_ids: Prompts. The start id is put before them where it is missing.
            decoder_attention_mask: 1 for valid tokens of prompts, which are padded on the left.
            logits_processor: Callables `(tokens, scores) -> scores`, after the built-in ones; in JAX over NumPy arrays.
            prefix_allowed_tokens_fn: `(utterance, tokens) -> ids` that may come next.
            stopping_criteria: Callables `(tokens, scores) -> bool or bools` that end sequences.
            streamer: Receives each token (`dragoman.generation.streamers`); without beams.
            tokenizer: Decodes tokens, for `stop_strings`.
            assistant_model: A smaller model with the same vocabulary that drafts for greedy search, which makes it
                faster and does not change its output.
            scorers: Extra scores added to the decoder's log-probabilities at each step (shallow fusion): hot words,
                language models.
            token_log_probs: Return the decoder's own log-probability of each token, in an output of
                `return_dict_in_generate`.
            seed: For sampling; one for the batch or one per utterance. The same seed gives the same transcripts in
                PyTorch and JAX. By default drawn from PyTorch's generator, or from Python's `random` in JAX.
            **options: Fields of `GenerationConfig` for this call. In JAX also `params`, used instead of the model's
                own, and `prng_key`, a key in place of `seed`.

        Returns:
            Token ids `[batch * num_return_sequences, tokens]`, start and end included, padded on the right (in JAX a
            `FlaxGenerateOutput`, with `sequences` and the `scores` of beams); with `return_dict_in_generate`, an output
            with scores and more.

        Raises:
            ConfigError: If inputs are missing or contradict each other.
            AudioError: If the audio cannot be used.
            GenerationError: If options are unknown or invalid, no start id is set, or the model does not know the
                language or task.
        """
        scorers = given_scorers(scorers, options)
        own = {name: options.pop(name) for name in self._search_options if name in options}
        audio = one_audio(inputs, input_values, input_features)
        request = self._request(
            encoder_inputs(self._arrays, self.encoder, audio, attention_mask, encoder_outputs),
            generation_config,
            options,
            prompt=decoder_input_ids,
            prompt_mask=decoder_attention_mask,
            draft=None if assistant_model is None else self._draft(assistant_model, audio, attention_mask),
            processors=logits_processor or (),
            prefix_allowed_tokens_fn=prefix_allowed_tokens_fn,
            criteria=stopping_criteria or (),
            streamer=streamer,
            tokenizer=tokenizer,
            scorers=scorers,
            token_log_probs=token_log_probs,
            own=own,
        )
        result, encoded = self._search(request, seed, **own)
        if self._arrays.is_known(result.ended):
            warn_if_cut_off(request.settings, request.plan, result.ended)
        to_device = self._arrays.to_device
        if not request.settings.return_dict_in_generate:
            return self._plain_output(to_device(result.sequences), to_device(result.sequences_scores))
        output = result.to_output(*((None, None) if encoded is None else (encoded.attentions, encoded.hidden_states)))
        return replace(output, **{name: to_device(value) for name, value in output.items()})

    def _plain_output(self, sequences: Any, scores: Any) -> Any:
        """Return what `generate` gives without `return_dict_in_generate`."""
        return sequences

    def _request(
        self,
        speech: Speech,
        given: GenerationConfig | None,
        options: Mapping[str, Any],
        *,
        prompt: Any = None,
        prompt_mask: Any = None,
        own: Mapping[str, Any] | None = None,
        **caller: Any,
    ) -> Request:
        """Return a checked request; `caller` holds its other fields, `own` keywords of this backend's search."""
        settings = settings_of(self.generation_config, given, options)
        settings.validate()
        batch = (speech[0] if speech[2] is None else speech[2].last_hidden_state).shape[0]
        asked = {name for name in ("language", "task", "return_timestamps") if options.get(name)}
        begin = None
        if prompt is not None and asked - {"return_timestamps"}:
            raise GenerationError(
                "`decoder_input_ids` are the first tokens of the transcripts, which `language` and `task` choose too. "
                "Pass one or the other."
            )
        whisper = find(self.config.decoder.model_type).tokenizer == "WhisperTokenizer"
        if not whisper:
            set_output_language(settings, caller.get("tokenizer"), asked)
        elif prompt is None:
            begin = whisper_rows(settings, batch, partial(self._likeliest, settings, speech, own or {}))
        tokens, forced = prompt_of(settings, batch, prompt, self.decoder.spec.vocab_size, begin)
        capacity = self.max_text_length(self._max_frames(speech))
        if whisper and prompt is None and settings.max_length and settings.max_new_tokens is None:
            # as in `transformers`, a Whisper's first tokens do not count
            settings.max_length = min(settings.max_length + tokens.shape[1], capacity)
        return Request(
            settings=settings,
            plan=plan_of(settings, tokens.shape[1], capacity, forced),
            speech=speech,
            prompt=tokens,
            prompt_mask=prompt_mask_of(prompt_mask, prompt, tokens),
            **caller,
        )

    def prepare_inputs_for_generation(
        self,
        input_ids: Int[Any, "rows tokens"],
        next_sequence_length: int | None = None,
        past_key_values: Any = None,
        attention_mask: Any = None,
        encoder_outputs: Any = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Return the arguments of a call of the model for the next tokens.

        In PyTorch a subclass may change them: `generate` then calls its method before each step.

        Args:
            input_ids: Tokens so far.
            next_sequence_length: How many of them, the last ones, are not in the cache; by default it follows from
                the cache.
            past_key_values: The cache.
            attention_mask: 1 for valid samples.
            encoder_outputs: The encoder's output.
            **kwargs: Other arguments of the call (`use_cache`, `decoder_attention_mask`).
        """
        count = next_sequence_length
        if count is None and past_key_values is not None:
            count = max(input_ids.shape[1] - int(past_key_values.length), 1)
        return {
            "decoder_input_ids": input_ids if count is None else input_ids[:, -count:],
            "past_key_values": past_key_values,
            "attention_mask": attention_mask,
            "encoder_outputs": encoder_outputs,
            **{name: value for name, value in kwargs.items() if name != "is_first_iteration"},
        }

    def _likeliest(
        self, settings: GenerationConfig, speech: Speech, own: Mapping[str, Any], candidates: Sequence[int]
    ) -> list[int]:
        """Return the most probable of some tokens after the start token, for each utterance."""
        batch = (speech[0] if speech[2] is None else speech[2].last_hidden_state).shape[0]
        check_ids("lang_to_id", candidates, self.decoder.spec.vocab_size)
        ids = {name: getattr(settings, name) for name in ("decoder_start_token_id", "pad_token_id")}
        others = set(range(self.decoder.spec.vocab_size)) - set(candidates)
        one = GenerationConfig(max_new_tokens=1, suppress_tokens=sorted(others), **ids)
        tokens, _ = prompt_of(one, batch, None, self.decoder.spec.vocab_size)
        plan = plan_of(one, 1, self.max_text_length(self._max_frames(speech)))
        request = Request(settings=one, plan=plan, speech=speech, prompt=tokens, prompt_mask=None)
        found, _ = self._search(request, None, **own)
        if not self._arrays.is_known(found.sequences):
            raise GenerationError(
                "The language is detected from values, which are not known inside a compiled function (`jit`, `pmap`). "
                "Pass `language`."
            )
        likeliest: list[int] = to_numpy(found.sequences)[:, 1].tolist()
        return likeliest

    def max_text_length(self, frames: int) -> int:
        """Return the maximum number of tokens, prompt included, for `frames` frames of the encoder."""
        positions: int = self.decoder.spec.num_positions
        return positions - int(self.bridge.length(frames))

    def _frames(self, inputs: Any, encoded: EncoderOutput | None) -> int:
        """Return the number of frames of audio, or of an earlier output of the encoder."""
        if encoded is not None:
            return int(encoded.last_hidden_state.shape[1])
        spec = self.encoder.spec
        return int(spec.frame_lengths(inputs.shape[spec.frontend.time_axis]))

    def _draft(self, model: Any, audio: Any, attention_mask: Any) -> tuple[Any, Speech]:
        """Return a smaller model and what its encoder gets."""
        if model.backend != self.backend:
            raise GenerationError(
                f"`assistant_model` must run in the same framework: a {type(self).__name__}, not a "
                f"{type(model).__name__}."
            )
        return model, encoder_inputs(self._arrays, model.encoder, audio, attention_mask, None)

    def _max_frames(self, speech: Speech) -> int:
        """Return the number of frames that the decoder may get for this speech."""
        return self._frames(speech[0], speech[2])

    def _search(
        self, request: Request, seed: int | Sequence[int] | None, **own: Any
    ) -> tuple[GenerationResult, EncoderOutput | None]:
        """Search; return the encoder's output too, if its records were asked for."""
        raise NotImplementedError
