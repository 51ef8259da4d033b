"""The methods of speech encoders and text decoders that both backends offer, with the arguments of `transformers`.

A backend's part is its network with one of these classes and a configuration. Not here: the networks.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

from jaxtyping import Bool, Float, Int

from dragoman.api.checks import check_loss
from dragoman.api.outputs import CausalLMOutput, EncoderOutput
from dragoman.checkpoint.options import LoadOptions
from dragoman.errors import ConfigError
from dragoman.families import ModelConfig, text_part
from dragoman.model.arguments import checked_memory, chosen, prepare_audio, token_inputs
from dragoman.model.arrays import Arrays, checked_mask, checked_tokens
from dragoman.model.backend import Backend
from dragoman.model.load import load_language
from dragoman.spec import Padding, SpeechEncoderSpec, TextDecoderSpec
from dragoman.spec.augment import Masks


class EncoderMethods:
    """Methods of a speech encoder."""

    main_input_name = "input_values"
    _backend: ClassVar[Backend]
    _arrays: ClassVar[Arrays]
    config: ModelConfig
    spec: SpeechEncoderSpec
    padding: Padding
    encode: Callable[..., EncoderOutput]

    def _call(
        self,
        input_values: Float[Any, "batch samples"] | None = None,
        attention_mask: Int[Any, "batch samples"] | None = None,
        *,
        input_features: Float[Any, "batch mels frames"] | None = None,
        mask_time_indices: Bool[Any, "batch frames"] | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Encode a batch of audio.

        Args:
            input_values: Waveforms, mono, normalised, at 16 kHz.
            attention_mask: 1 for valid samples; without it every sample is valid.
            input_features: Log-mel spectrograms, for the models that take them.
            mask_time_indices: Frames to mask, instead of those that SpecAugment draws in training.
            output_hidden_states: Return the states before each layer and after the last.
            output_attentions: Return the attention weights.
            return_dict: `False` for a plain tuple.

        Returns:
            An `EncoderOutput`, or its tuple.

        Raises:
            ConfigError: If there is not exactly one input.
            AudioError: If the audio cannot be used; see `prepare`.
        """
        given = [x for x in (input_values, input_features) if x is not None]
        if len(given) != 1:
            raise ConfigError(
                f"A speech encoder takes exactly one of `input_values` and `input_features`, but got {len(given)}; "
                f"this one takes `{self.spec.input_name}`."
            )
        inputs, lengths = self.prepare(given[0], attention_mask)
        output = self.encode(
            self._arrays.to_device(inputs),
            lengths,
            masks=None if mask_time_indices is None else Masks(time=self._arrays.to_mask(mask_time_indices)),
            all_states=chosen(output_hidden_states, self.config.output_hidden_states),
            weights=chosen(output_attentions, self.config.output_attentions),
        )
        return output if chosen(return_dict, self.config.use_return_dict) else replace(output, lengths=None).to_tuple()

    def prepare(self, inputs: Any, attention_mask: Any) -> tuple[Any, Any]:
        """Check a batch and turn its mask into lengths.

        Args:
            inputs: Audio as the feature extractor returns it.
            attention_mask: 1 for valid samples, `[batch, samples]`, or `None`.

        Returns:
            The audio with the valid samples of each row first, and their number; `None` if every sample is valid.

        Raises:
            AudioError: If the audio is not an array of floating-point numbers with the right axes, holds no clip or
                (unless on an accelerator) a value that is not finite, or if a row is too short to give one frame.
        """
        return prepare_audio(self._arrays, self.spec, self.padding, inputs, attention_mask)

    def _get_feat_extract_output_lengths(self, input_lengths: Any, add_adapter: bool | None = None) -> Any:
        """Return the numbers of frames for numbers of samples.

        Args:
            input_lengths: A number or an array of numbers.
            add_adapter: Count the frames after the adapter, where there is one: the default.
        """
        if add_adapter is False:
            return self.spec.frontend.frame_lengths(input_lengths)
        return self.spec.frame_lengths(input_lengths)

    def _get_feature_vector_attention_mask(
        self, feature_vector_length: int, attention_mask: Int[Any, "batch samples"], add_adapter: bool | None = None
    ) -> Bool[Any, "batch frames"]:
        """Return True for the valid ones of `feature_vector_length` frames, for 1 for each valid sample."""
        lengths = self._get_feat_extract_output_lengths(attention_mask.sum(-1), add_adapter)
        return self._arrays.frame_mask(lengths, feature_vector_length)

    def load_adapter(self, target_lang: str, **kwargs: Any) -> None:
        """Replace the language adapter (MMS) by that of another language.

        It is read from the file `adapter.<target_lang>.safetensors` (or `.bin`) of the checkpoint that the encoder was
        loaded from, which is `config.name_or_path`.

        Args:
            target_lang: "eng", "fra", "uig-script_arabic", …
            **kwargs: Loader options: `revision`, `cache_dir`, `token`, `local_files_only`, `force_download` and
                `subfolder`.

        Raises:
            ConfigError: If the encoder has no language adapter, or an option is unknown.
            ModelNotFoundError: If there is no file for the language; the message lists the available languages.
            CheckpointError: If its tensors do not fit.
        """
        options, unknown = LoadOptions.split(kwargs)
        if unknown:
            raise ConfigError(f"`load_adapter` has no option {', '.join(map(repr, unknown))}.")
        load_language(self._backend, self, target_lang, options)


class DecoderMethods:
    """Methods of a text decoder."""

    main_input_name = "input_ids"
    _arrays: ClassVar[Arrays]
    config: ModelConfig
    spec: TextDecoderSpec
    embed: Any
    decode: Callable[..., tuple[Any, Any]]
    logits: Callable[[Any], Any]
    new_cache: Callable[[int, int], Any]
    resized = False
    """Whether its embedding was resized or replaced."""

    def get_input_embeddings(self) -> Any:
        """Return the token embedding."""
        return self.embed.tokens

    def _call(
        self,
        input_ids: Int[Any, "rows tokens"] | None = None,
        attention_mask: Int[Any, "rows tokens_so_far"] | None = None,
        *,
        encoder_hidden_states: Float[Any, "batch frames width"] | None = None,
        encoder_attention_mask: Int[Any, "batch frames"] | None = None,
        inputs_embeds: Float[Any, "rows tokens width"] | None = None,
        labels: Int[Any, "rows tokens"] | None = None,
        past_key_values: Any = None,
        use_cache: bool = False,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Score the next token at every position.

        Args:
            input_ids: Tokens; or give `inputs_embeds`.
            attention_mask: 1 for valid tokens, those in the cache included.
            encoder_hidden_states: Encoder states, as wide as the decoder.
            encoder_attention_mask: 1 for valid frames.
            inputs_embeds: Embeddings in place of tokens.
            labels: Target tokens for the loss of the decoder alone; −100 is ignored. As in `transformers`, position
                `t` is scored against label `t + 1`, so that labels are the tokens themselves; in Whisper's decoder and
                those like BART's, against label `t`.
            past_key_values: The cache that an earlier call returned.
            use_cache: Return a cache.
            output_hidden_states: Return the states before each layer and after the last.
            output_attentions: Return the attention weights.
            return_dict: `False` for a plain tuple.
            num_items_in_batch: Divide the summed loss by this instead of by the number of labels here.

        Returns:
            A `CausalLMOutput`, or its tuple.

        Raises:
            ConfigError: If inputs are missing, contradict each other or do not fit the decoder.
            GenerationError: If there are more tokens than the decoder has positions.
        """
        tokens, embeds = token_inputs(self._arrays, self.spec, input_ids, inputs_embeds, past_key_values)
        rows, count = (tokens if embeds is None else embeds).shape[:2]
        if labels is not None:
            labels = checked_tokens(self._arrays, "labels", labels, self.spec.vocab_size, ignored=True)
            check_loss(labels.shape, (rows, count))
        memory = None
        if encoder_hidden_states is not None:
            states, mask = checked_memory(self._arrays, self.spec, rows, encoder_hidden_states, encoder_attention_mask)
            memory = self._arrays.memory_class(states=states, mask=mask)
        out, cache = self.decode(
            tokens,
            memory,
            self.new_cache(rows, count) if use_cache and past_key_values is None else past_key_values,
            embeds=embeds,
            token_mask=checked_mask(self._arrays, "attention_mask", attention_mask),
            all_states=chosen(output_hidden_states, self.config.output_hidden_states),
            weights=chosen(output_attentions, self.config.output_attentions),
        )
        logits = self.logits(out.states)
        loss = None
        if labels is not None:
            pair = (logits[:, :-1], labels[:, 1:]) if text_part(self.config).shifts_labels else (logits, labels)
            loss = self._arrays.cross_entropy(*pair, num_items_in_batch)
        output = CausalLMOutput(
            loss=loss,
            logits=logits,
            past_key_values=cache,
            hidden_states=out.all_states,
            attentions=out.self_weights,
            cross_attentions=out.cross_weights,
        )
        return output if chosen(return_dict, self.config.use_return_dict) else output.to_tuple()
