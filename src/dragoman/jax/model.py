"""`FlaxSpeechEncoderDecoderModel`: any speech encoder joined to any text decoder.

Axes: batch, samples (or mels and spectrogram frames), frames, tokens, width, vocab.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from dragoman.api.checks import one_audio
from dragoman.api.config import SpeechEncoderDecoderConfig
from dragoman.api.outputs import EncoderOutput
from dragoman.checkpoint.options import check_saving, tensors_to_save
from dragoman.errors import GenerationError
from dragoman.generation.options import GenerationConfig
from dragoman.generation.request import Request, Speech
from dragoman.generation.result import GenerationResult
from dragoman.jax.arrays import ARRAYS, is_traced
from dragoman.jax.backend import BACKEND
from dragoman.jax.buckets import padded_frames
from dragoman.jax.flax_keywords import check_init, loading_keywords, redrawn
from dragoman.jax.generate import search, seed_of
from dragoman.jax.net.bridge import bridge_of
from dragoman.jax.net.cache import Cache
from dragoman.jax.net.init import initialise, persistent_names
from dragoman.jax.net.joint import Joint
from dragoman.jax.net.tree import flat, tree_of
from dragoman.jax.outputs import FlaxGenerateOutput
from dragoman.jax.parts import SpeechEncoder, TextDecoder
from dragoman.jax.stages import StageMethods, dropout_key
from dragoman.model.arguments import chosen, encoder_inputs
from dragoman.model.joining import check_joinable, check_part, joint_config
from dragoman.model.save import save_model
from dragoman.publishing import pushed
from dragoman.spec.augment import Masks


class FlaxSpeechEncoderDecoderModel(StageMethods):
    """A speech encoder, a bridge to the decoder's width and a text decoder.

    Each method is compiled for each shape of its arguments. `generate` pads batches to few shapes; for the other
    methods, the caller should.

    Args:
        config: Builds both parts with random weights.
        encoder: A ready-made encoder.
        decoder: A ready-made decoder, causal and with cross-attention.
        empty: Allocate no memory: a checkpoint fills the tensors.
        seed: Of the random weights.
        dtype: Type to compute in, such as `jnp.bfloat16`; by default that of the parameters. They keep their type.
        input_shape: Accepted for `transformers`; no tensor depends on it.
        _do_init: Must be `True`: the model holds its parameters.

    Raises:
        ConfigError: If neither a configuration nor both parts are given, or the parts do not fit.

    Example:
        >>> config = SpeechEncoderDecoderConfig.from_encoder_decoder_configs(Wav2Vec2Config(), BertConfig())
        >>> model = FlaxSpeechEncoderDecoderModel(config=config)
    """

    encoder_class, decoder_class = SpeechEncoder, TextDecoder
    backend = "jax"
    _backend, _arrays = BACKEND, ARRAYS
    _search_options = ("params", "prng_key")

    def __init__(
        self,
        config: SpeechEncoderDecoderConfig | None = None,
        encoder: SpeechEncoder | None = None,
        decoder: TextDecoder | None = None,
        *,
        empty: bool = False,
        seed: int = 0,
        dtype: Any = None,
        input_shape: Any = None,
        _do_init: bool = True,
    ) -> None:
        check_init(_do_init)
        check_part("speech encoder", encoder, SpeechEncoder)
        check_part("text decoder", decoder, TextDecoder)
        config = joint_config(config, encoder, decoder)
        encoder = SpeechEncoder(config.encoder, empty=empty, seed=seed) if encoder is None else encoder
        decoder = TextDecoder(config.decoder, empty=empty, seed=seed + 1) if decoder is None else decoder
        check_joinable(encoder, decoder, config)
        bridge = bridge_of(encoder.spec, decoder.spec, config.bridge_spec())
        super().__init__(Joint(encoder, bridge, decoder))
        self._set_up(config)
        if not empty:
            initialise(bridge, persistent_names(bridge), decoder.spec, self.dtype, seed + 2)
        self.computing_in(dtype)

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, dtype: Any = None, **kwargs: Any) -> Self:
        """Load a whole model; see `ModelMethods.from_pretrained`.

        Args:
            name_or_path: A local folder or a hub id.
            dtype: Type to compute in, such as `jnp.bfloat16`. The parameters are float32, for training; convert them
                with `model.params = model.to_bf16(model.params)`, or load them in another type with `torch_dtype=`.
            **kwargs: As in PyTorch, and `seed` of what the checkpoint lacks; `input_shape` has no effect.
        """
        seed = kwargs.pop("seed", None)
        loaded: Any = super().from_pretrained(name_or_path, **loading_keywords(kwargs, dtype))
        redrawn(loaded[0] if isinstance(loaded, tuple) else loaded, seed).computing_in(dtype)
        return cast(Self, loaded)

    @classmethod
    def from_encoder_decoder_pretrained(cls, *parts: Any, dtype: Any = None, **kwargs: Any) -> Self:
        """Warm-start from two checkpoints; see `ModelMethods.from_encoder_decoder_pretrained`.

        Args:
            *parts: The two checkpoints.
            dtype: Type to compute in, as in `from_pretrained`.
            **kwargs: As in PyTorch, and `seed` of what the checkpoints lack; `input_shape` has no effect.
        """
        seed = kwargs.pop("seed", None)
        model = super().from_encoder_decoder_pretrained(*parts, **loading_keywords(kwargs, dtype))
        return redrawn(model, seed).computing_in(dtype)

    def save_pretrained(
        self,
        save_directory: str | Path,
        params: Mapping[str, Any] | None = None,
        *,
        is_main_process: bool = True,
        max_shard_size: int | str = "5GB",
        **ways: Any,
    ) -> None:
        """Write a folder that both backends and `transformers` load: configuration, weights, options, processing.

        All files are written or none: a save that fails leaves the folder as it was.

        Args:
            save_directory: Made if it does not exist; other files in it stay.
            params: Written instead of the model's own.
            is_main_process: If several processes train one model, only the main one writes.
            max_shard_size: Bytes of one weight file, or a string like "5GB".
            **ways: `push_to_hub=True` with the options of `push_to_hub`; others of `transformers` have no effect.

        Raises:
            ConfigError: If a keyword asks for what is not supported, or `params` is not of this model.
            DragomanError: If the folder cannot be written.
        """
        check_saving(ways)
        if is_main_process:
            given = tensors_to_save(flat(self.tree), flat(self.own(params)), "params")
            tensors = {**flat(tree_of(self.module)), **given}
            with pushed(self, save_directory, ways) as folder:
                save_model(BACKEND, self, tensors, folder, max_shard_size)

    def __call__(
        self,
        inputs: Any = None,
        attention_mask: Any = None,
        decoder_input_ids: Int[Array, "batch tokens"] | None = None,
        decoder_attention_mask: Any = None,
        encoder_outputs: EncoderOutput | Sequence[Any] | None = None,
        past_key_values: Cache | None = None,
        decoder_inputs_embeds: Array | None = None,
        labels: Int[Array, "batch tokens"] | None = None,
        use_cache: bool = False,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        input_values: Float[Array, "batch samples"] | None = None,
        input_features: Float[Array, "batch mels frames"] | None = None,
        return_dict: bool | None = None,
        *,
        decoder_position_ids: Int[Array, "batch tokens"] | None = None,
        num_items_in_batch: Array | float | None = None,
        smoothing: float = 0.0,
        train: bool = False,
        freeze_feature_encoder: bool = False,
        masks: Masks | None = None,
        params: Mapping[str, Any] | None = None,
        dropout_rng: PRNGKeyArray | None = None,
    ) -> Any:
        """Score tokens for speech; with `labels`, also the loss. May be called inside `jit` and `grad`.

        Args:
            inputs: The audio, positionally; or use `input_values` or `input_features`.
            attention_mask: 1 for valid samples, `[batch, samples]`, also with `encoder_outputs`.
            decoder_input_ids: Tokens that the decoder reads; by default the start id and `labels` without the last.
            decoder_attention_mask: 1 for valid tokens of the decoder.
            encoder_outputs: An earlier output of the encoder (object, tuple or list); the audio is then not needed.
            past_key_values: The cache that an earlier call returned.
            decoder_inputs_embeds: Embeddings in place of `decoder_input_ids`.
            labels: The target tokens; −100 is ignored. The model puts the start id before them: a row should not
                begin with it, as the rows of BERT's tokenizer do (see `DataCollatorSpeechSeq2SeqWithPadding`).
            use_cache: Return the decoder's cache.
            output_attentions: Return all attention weights.
            output_hidden_states: Return all states.
            input_values: Waveforms, mono, normalised, at the encoder's sampling rate.
            input_features: Log-mel spectrograms, for encoders that take them.
            return_dict: `False` for a plain tuple.
            decoder_position_ids: Positions of the decoder's tokens, if they are not consecutive.
            num_items_in_batch: Divide the summed loss by this (all labels of an optimizer step) instead of by the
                number of labels here.
            smoothing: Share of the target distribution spread evenly over the vocabulary.
            train: Apply dropout and LayerDrop; needs `dropout_rng`.
            freeze_feature_encoder: Compute no gradient of the convolutional front end.
            masks: What SpecAugment masks: `model.encoder.draw_masks(...)`.
            params: Used instead of the model's own.
            dropout_rng: Random key of this call.

        Returns:
            A `Seq2SeqLMOutput`, or its tuple.

        Raises:
            ConfigError: If inputs are missing or contradict each other, or no start or padding id is set.
            AudioError: If the audio cannot be used.
        """
        speech, options = self._scoring(
            one_audio(inputs, input_values, input_features),
            attention_mask,
            encoder_outputs,
            tokens=decoder_input_ids,
            embeds=decoder_inputs_embeds,
            token_mask=decoder_attention_mask,
            cache=past_key_values,
            labels=labels,
            smoothing=smoothing,
            use_cache=use_cache,
            all_states=output_hidden_states,
            weights=output_attentions,
        )
        output = self._score(
            params,
            speech,
            options,
            positions=decoder_position_ids,
            num_items=num_items_in_batch,
            masks=masks,
            key=dropout_key(train, dropout_rng),
            frozen=freeze_feature_encoder,
        )
        return output if chosen(return_dict, self.config.return_dict) else output.to_tuple()

    def _max_frames(self, speech: Speech) -> int:
        inputs, _, encoded = speech
        return self._frames(inputs, encoded) if encoded is not None else padded_frames(self.encoder, inputs)

    def _plain_output(self, sequences: Any, scores: Any) -> FlaxGenerateOutput:
        return FlaxGenerateOutput(sequences=sequences, scores=scores)

    def _search(
        self, request: Request, seed: int | Sequence[int] | None, **own: Any
    ) -> tuple[GenerationResult, EncoderOutput | None]:
        params, key = self.own(own.get("params")), own.get("prng_key")
        if request.settings.do_sample and seed is None and key is None and is_traced(request.speech, params):
            raise GenerationError(
                "Inside `jax.jit` and `jax.pmap` a random seed would become a constant of the program. Pass "
                "`prng_key`, a new key for each call, or `seed`."
            )
        return search(self, request, seed_of(seed, key), params)

    def warm_up(
        self,
        batch: int,
        samples: int,
        generation_config: GenerationConfig | None = None,
        *,
        params: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        """Compile all programs that `generate` needs for batches that round up to this size; nothing is generated.

        Args:
            batch: Utterances.
            samples: Samples of the longest utterance, or frames of the spectrograms or filter banks.
            generation_config: As in `generate`.
            params: As in `generate`.
            **options: As in `generate`: other options are other programs.

        Raises:
            GenerationError: If options are unknown or invalid, or cannot be compiled.
        """
        if batch < 1:
            raise GenerationError(f"`batch` must be at least 1, but is {batch}.")
        audio = np.zeros(self.encoder.spec.frontend.input_shape(batch, samples), np.float32)
        request = self._request(encoder_inputs(ARRAYS, self.encoder, audio, None, None), generation_config, options)
        search(self, request, 0, params, rehearse=True)

    def get_output_embeddings(self) -> Any:
        """Return the module with the head's weight."""
        return self.decoder.get_output_embeddings()

    def _layers_changed(self, *, added: bool = False) -> None:
        self._programs.forget()
