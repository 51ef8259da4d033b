"""`FlaxSpeechEncoderDecoderModel`: any speech encoder joined to any text decoder.

Axes: batch, samples (or mels and spectrogram frames), frames, tokens, width, vocab.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from jaxtyping import Array, Float, Int, PRNGKeyArray

from dragoman.api.checks import check_rows, one_audio
from dragoman.api.config import SpeechEncoderDecoderConfig
from dragoman.api.outputs import CausalLMOutput, EncoderOutput, Seq2SeqLMOutput
from dragoman.checkpoint.options import check_saving, tensors_to_save
from dragoman.checkpoint.report import LoadReport
from dragoman.errors import ConfigError
from dragoman.files import as_path
from dragoman.generation.options import GenerationConfig
from dragoman.jax import generate
from dragoman.jax.arrays import ARRAYS
from dragoman.jax.backend import BACKEND
from dragoman.jax.net.bridge import Prefix, bridge_of
from dragoman.jax.net.cache import Cache
from dragoman.jax.net.init import initialise, persistent_names
from dragoman.jax.net.joint import Joint
from dragoman.jax.net.layers import Embedding, Key
from dragoman.jax.net.tree import flat, tree_of
from dragoman.jax.parts import SpeechEncoder, TextDecoder
from dragoman.jax.pretrained import PretrainedModule
from dragoman.model.arguments import decoder_inputs, encoder_inputs, encoder_output, shift_right, token_inputs
from dragoman.model.arrays import checked_mask, checked_tokens
from dragoman.model.joining import check_joinable, check_part, joint_config
from dragoman.model.load import load_model
from dragoman.model.lora import add_lora, load_adapter, merge_lora, save_adapter
from dragoman.model.parts import chosen
from dragoman.model.save import save_model
from dragoman.model.warm_start import warm_start
from dragoman.spec import Padding
from dragoman.spec.augment import Masks
from dragoman.spec.lora import LoraSpec

__all__ = ["FlaxSpeechEncoderDecoderModel"]


class FlaxSpeechEncoderDecoderModel(PretrainedModule):
    """A speech encoder, a bridge to the decoder's width where it is needed, and a text decoder.

    Each method is compiled when it first meets a shape of its arguments. `generate` rounds shapes up so that there are
    few; for the others, pad your batches to few shapes.

    Args:
        config: Builds both parts with random weights.
        encoder: A ready-made encoder.
        decoder: A ready-made decoder, causal and with cross-attention.
        empty: Give the tensors shapes only, for a checkpoint to fill.
        seed: Of the random weights.

    Raises:
        ConfigError: If neither a configuration nor both parts are given, or the parts do not fit.

    Example:
        >>> config = SpeechEncoderDecoderConfig.from_encoder_decoder_configs(Wav2Vec2Config(), BertConfig())
        >>> model = FlaxSpeechEncoderDecoderModel(config=config)
    """

    config_class = SpeechEncoderDecoderConfig
    encoder_class = SpeechEncoder
    decoder_class = TextDecoder
    base_model_prefix = "speech_encoder_decoder"
    main_input_name = "inputs"
    backend = "jax"

    def __init__(
        self,
        config: SpeechEncoderDecoderConfig | None = None,
        encoder: SpeechEncoder | None = None,
        decoder: TextDecoder | None = None,
        *,
        empty: bool = False,
        seed: int = 0,
    ) -> None:
        check_part("speech encoder", encoder, SpeechEncoder)
        check_part("text decoder", decoder, TextDecoder)
        config = joint_config(config, encoder, decoder)
        encoder = SpeechEncoder(config.encoder, empty=empty, seed=seed) if encoder is None else encoder
        decoder = TextDecoder(config.decoder, empty=empty, seed=seed + 1) if decoder is None else decoder
        check_joinable(encoder, decoder, config)
        encoder.config, decoder.config = config.encoder, config.decoder
        bridge = bridge_of(encoder.spec, decoder.spec, config.fusion_stacking, config.fusion_prompt)
        super().__init__(Joint(encoder, bridge, decoder))
        self.config = config
        self.generation_config = GenerationConfig()
        self.generation_config.special_ids = config.special_ids  # type: ignore[attr-defined]
        self.load_report = LoadReport()
        self.processing: tuple[Any, ...] = ()  # a tokenizer and a feature extractor to save with the model
        if not empty:
            initialise(bridge, persistent_names(bridge), decoder.spec, self.dtype, seed + 2)

    @property
    def encoder(self) -> SpeechEncoder:
        """The speech encoder."""
        encoder = self.module.encoder
        assert isinstance(encoder, SpeechEncoder)
        return encoder

    @property
    def decoder(self) -> TextDecoder:
        """The text decoder."""
        decoder = self.module.decoder
        assert isinstance(decoder, TextDecoder)
        return decoder

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, **kwargs: Any) -> Self:
        """Load a whole model: one that was fine-tuned and saved by either backend, or a Whisper.

        Args:
            name_or_path: A local folder or a hub id.
            **kwargs: Loader options (`dragoman.checkpoint.options.LoadOptions`: `dtype`, `device`, `revision`,
                `cache_dir`, `token`, `local_files_only`, `allow_new`, …), `config=`, and fields of the configuration
                that win over the file's (`encoder_*` and `decoder_*` for the parts).

        Returns:
            The model; what became of each tensor is in `load_report`.

        Raises:
            ModelNotFoundError: If the folder, the id or a file is not there.
            ConfigError: If the configuration is not that of a speech encoder-decoder.
            CheckpointError: If tensors are missing, unexpected or of another shape; the message lists them all.
            MissingDependencyError: If the weights are `.bin` files, which only PyTorch reads.
        """
        return load_model(BACKEND, cls, name_or_path, kwargs)

    @classmethod
    def from_encoder_decoder_pretrained(
        cls,
        encoder_pretrained_model_name_or_path: str | Path | None = None,
        decoder_pretrained_model_name_or_path: str | Path | None = None,
        *,
        encoder_model: SpeechEncoder | None = None,
        decoder_model: TextDecoder | None = None,
        tokenizer: Any = None,
        feature_extractor: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Warm-start from a speech checkpoint and a text checkpoint; what no checkpoint holds begins at random.

        Args:
            encoder_pretrained_model_name_or_path: A local folder or hub id with a speech encoder; heads are left out.
            decoder_pretrained_model_name_or_path: A local folder or hub id with a language model or a
                sequence-to-sequence model, whose decoder is taken.
            encoder_model: A ready-made encoder instead.
            decoder_model: A ready-made decoder instead.
            tokenizer: The decoder's tokenizer: sets the special ids, and is saved with the model. With
                `fusion="prefix"` its chat template stands around the speech, unless `fusion_prompt` does.
            feature_extractor: The encoder's feature extractor: is saved with the model.
            **kwargs: `encoder_config=`, `decoder_config=`; `encoder_*` and `decoder_*` go to that part (fields of its
                configuration, loader options); loader options without a prefix go to both parts; the rest are fields
                of the joint configuration.

        Returns:
            The model; `load_report` names what is new, and it is logged.

        Raises:
            ConfigError: If a part is missing, or the parts cannot be joined.
            ModelNotFoundError: If a checkpoint is nowhere.
            CheckpointError: If tensors of a checkpoint do not fit.
        """
        return warm_start(
            BACKEND,
            cls,
            encoder_model if encoder_model is not None else encoder_pretrained_model_name_or_path,
            decoder_model if decoder_model is not None else decoder_pretrained_model_name_or_path,
            kwargs,
            tokenizer=tokenizer,
            feature_extractor=feature_extractor,
        )

    def save_pretrained(
        self,
        save_directory: str | Path,
        params: Mapping[str, Any] | None = None,
        *,
        is_main_process: bool = True,
        max_shard_size: int | str = "5GB",
        **ways: Any,
    ) -> None:
        """Write a folder that both backends and transformers load: configuration, weights, options, processing.

        All files are written or none: a save that fails leaves the folder as it was.

        Args:
            save_directory: Made if it does not exist; other files in it stay.
            params: Written instead of the model's own.
            is_main_process: Where several processes train one model, only the main one writes.
            max_shard_size: Bytes of one weight file, or a text like "5GB".
            **ways: Options of transformers without effect here; others are refused.

        Raises:
            ConfigError: If a keyword asks for something that is not done, or `params` is not of this model.
            DragomanError: If the folder cannot be written.
        """
        check_saving(ways)
        if is_main_process:
            given = tensors_to_save(flat(self.params), None if params is None else flat(params), "params")
            tensors = {**flat(tree_of(self.module)), **given}
            save_model(BACKEND, self, tensors, as_path(save_directory, "`save_directory`"), max_shard_size)

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
        """Score texts for speech; with `labels`, also the loss. May be called inside `jit` and `grad`.

        Args:
            inputs: The audio, positionally; or use `input_values` or `input_features`.
            attention_mask: 1 where a sample counts, `[batch, samples]`, also when `encoder_outputs` is given.
            decoder_input_ids: Tokens that the decoder reads. Made from `labels` if absent: the start id before them.
            decoder_attention_mask: 1 where a decoder token counts.
            encoder_outputs: What the encoder gave before (object, tuple or list); the audio is then not needed.
            past_key_values: The cache that an earlier call returned.
            decoder_inputs_embeds: Embeddings in place of `decoder_input_ids`.
            labels: The right tokens; −100 is ignored. Where every row begins with the start id, which BERT's tokenizer
                writes, that one is not learned: the decoder is given it anyway.
            use_cache: Return the decoder's cache.
            output_attentions: Return all attention weights.
            output_hidden_states: Return all states.
            input_values: Waveforms, mono, normalised, at the encoder's sampling rate.
            input_features: Log-mel spectrograms, for encoders that take them.
            return_dict: `False` for a plain tuple.
            decoder_position_ids: Where the decoder's tokens stand, if not one after the other.
            num_items_in_batch: Divide the summed loss by this (all labels of an optimizer step) instead of by the
                number of labels here.
            smoothing: Share of the target spread evenly over the vocabulary.
            train: Drop out and leave out layers; needs `dropout_rng`.
            freeze_feature_encoder: Let no gradient through to the convolutional front end.
            masks: What SpecAugment hides: `model.encoder.draw_masks(...)`.
            params: Used instead of the model's own.
            dropout_rng: Random key of this call.

        Returns:
            A `Seq2SeqLMOutput`, or its tuple.

        Raises:
            ConfigError: If inputs are missing or contradict each other, or no start or padding id is set.
            AudioError: If the audio cannot be used.
        """
        token_mask = checked_mask(ARRAYS, "decoder_attention_mask", decoder_attention_mask)
        tokens, embeds, labels = decoder_inputs(
            ARRAYS,
            self.config,
            self.decoder.spec,
            decoder_input_ids,
            decoder_inputs_embeds,
            past_key_values,
            labels,
            smoothing,
        )
        given = tokens if embeds is None else embeds
        audio, lengths, encoded = encoder_inputs(
            ARRAYS, self.encoder, one_audio(inputs, input_values, input_features), attention_mask, encoder_outputs
        )
        check_rows(given.shape[0], (audio if encoded is None else encoded.last_hidden_state).shape[0])
        cache = past_key_values
        if cache is None and use_cache:
            cache = self.decoder.new_cache(given.shape[0], given.shape[1])
        output = self.program(Joint.__call__)(
            params,
            audio,
            lengths,
            encoded,
            tokens,
            token_mask=token_mask,
            positions=decoder_position_ids,
            embeds=embeds,
            labels=labels,
            num_items=num_items_in_batch,
            cache=cache if cache is None else self.decoder.fitted(cache, given.shape[1]),
            masks=masks,
            key=_dropout_key(train, dropout_rng),
            label_smoothing=smoothing,
            frozen=freeze_feature_encoder,
            all_states=chosen(output_hidden_states, self.config.output_hidden_states),
            weights=chosen(output_attentions, self.config.output_attentions),
        )
        return output if chosen(return_dict, self.config.return_dict) else output.to_tuple()

    def encode(
        self,
        inputs: Any,
        attention_mask: Any = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        *,
        train: bool = False,
        freeze_feature_encoder: bool = False,
        masks: Masks | None = None,
        params: Mapping[str, Any] | None = None,
        dropout_rng: PRNGKeyArray | None = None,
    ) -> Any:
        """Run the encoder alone; the arguments are those of the call.

        Returns:
            An `EncoderOutput`, not yet projected to the decoder's width, or its tuple.
        """
        audio, lengths, _ = encoder_inputs(ARRAYS, self.encoder, inputs, attention_mask, None)
        output: EncoderOutput = self.program(Joint.encode)(
            params,
            audio,
            lengths,
            masks=masks,
            key=_dropout_key(train, dropout_rng),
            frozen=freeze_feature_encoder,
            all_states=chosen(output_hidden_states, self.config.output_hidden_states),
            weights=chosen(output_attentions, self.config.output_attentions),
        )
        if chosen(return_dict, self.config.return_dict):
            return output
        return replace(output, lengths=None).to_tuple()

    def decode(
        self,
        decoder_input_ids: Int[Array, "batch tokens"],
        encoder_outputs: Any,
        encoder_attention_mask: Any = None,
        decoder_attention_mask: Any = None,
        decoder_position_ids: Any = None,
        past_key_values: Cache | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        *,
        train: bool = False,
        params: Mapping[str, Any] | None = None,
        dropout_rng: PRNGKeyArray | None = None,
    ) -> Any:
        """Score texts for what `encode` returned.

        Args:
            decoder_input_ids: Tokens that the decoder reads, after those in the cache.
            encoder_outputs: What `encode` returned (object, tuple or list).
            encoder_attention_mask: 1 where audio counts, per frame of the encoder's output or per sample. Not needed
                where `encode` was given the mask.
            decoder_attention_mask: 1 where a token counts.
            decoder_position_ids: Where the tokens stand, if not one after the other.
            past_key_values: What `init_cache` or an earlier call returned.
            output_attentions: Return the attention weights.
            output_hidden_states: Return the states.
            return_dict: `False` for a plain tuple.
            train: Drop out; needs `dropout_rng`.
            params: Used instead of the model's own.
            dropout_rng: Random key of this call.

        Returns:
            A `CausalLMOutput` (with `past_key_values` if it was given), or its tuple.
        """
        _, _, encoded = encoder_inputs(ARRAYS, self.encoder, None, encoder_attention_mask, encoder_outputs)
        assert encoded is not None
        cache = past_key_values
        tokens, _ = token_inputs(ARRAYS, self.decoder.spec, decoder_input_ids, None, cache, "decoder_")
        assert tokens is not None
        check_rows(tokens.shape[0], encoded.last_hidden_state.shape[0])
        joint: Seq2SeqLMOutput = self.program(Joint.__call__)(
            params,
            None,
            None,
            encoded,
            tokens,
            token_mask=checked_mask(ARRAYS, "decoder_attention_mask", decoder_attention_mask),
            positions=decoder_position_ids,
            cache=cache if cache is None else self.decoder.fitted(cache, tokens.shape[1]),
            key=_dropout_key(train, dropout_rng),
            all_states=chosen(output_hidden_states, self.config.output_hidden_states),
            weights=chosen(output_attentions, self.config.output_attentions),
        )
        assert joint.logits is not None
        output = CausalLMOutput(
            logits=joint.logits,
            past_key_values=joint.past_key_values,
            hidden_states=joint.decoder_hidden_states,
            attentions=joint.decoder_attentions,
            cross_attentions=joint.cross_attentions,
        )
        return output if chosen(return_dict, self.config.return_dict) else output.to_tuple()

    def init_cache(self, batch_size: int, max_length: int, encoder_outputs: Any = None) -> Cache:
        """Return an empty cache for `decode`.

        Args:
            batch_size: Texts.
            max_length: Tokens that it has room for; it grows when more come.
            encoder_outputs: What `encode` returned: its keys and values are then computed here, once for all steps.
        """
        if encoder_outputs is None:
            return self.decoder.new_cache(batch_size, max_length)
        memory = self.program(Joint.project)(None, encoder_output(ARRAYS, self.encoder.spec, encoder_outputs, None))
        if isinstance(self.bridge, Prefix):
            begun: Cache = self.program(Joint.begin, ("capacity",))(None, memory, capacity=max_length)
            return begun
        return replace(self.decoder.new_cache(batch_size, max_length), memory=memory)

    def max_text_length(self, frames: int) -> int:
        """Return how many tokens a text may have behind `frames` frames of the encoder."""
        taken = self.bridge.length(frames) if isinstance(self.bridge, Prefix) else 0
        return self.decoder.spec.num_positions - taken

    def prepare_decoder_input_ids_from_labels(self, labels: Int[Array, "batch tokens"]) -> Array:
        """Return the labels moved right by one behind the start id, ignored positions turned into padding."""
        vocab_size = self.decoder.spec.vocab_size
        labels = checked_tokens(ARRAYS, "labels", labels, vocab_size, ignored=True)
        shifted: Array = shift_right(ARRAYS, labels, self.config, vocab_size)
        return shifted

    def generate(self, inputs: Any = None, generation_config: GenerationConfig | None = None, **kwargs: Any) -> Any:
        """Write texts for a batch of speech; see `dragoman.jax.generate.generate`."""
        return generate.generate(self, inputs, generation_config, **kwargs)

    def warm_up(self, batch: int, samples: int, **kwargs: Any) -> None:
        """Compile what `generate` needs for such a batch; see `dragoman.jax.generate.warm_up`."""
        generate.warm_up(self, batch, samples, **kwargs)

    def add_lora(
        self,
        rank: int = 8,
        alpha: float = 16.0,
        targets: Sequence[str] = ("q_proj", "v_proj"),
        *,
        dropout: float = 0.0,
    ) -> None:
        """Put narrow trainable matrices beside layers of the text model; see `dragoman.model.lora.add_lora`."""
        add_lora(BACKEND, self, LoraSpec(rank=rank, alpha=alpha, targets=tuple(targets), dropout=dropout))
        self._programs.forget()

    def merge_lora(self) -> None:
        """Fold the LoRA into the weights of its layers; the results stay the same."""
        merge_lora(BACKEND, self)
        self._programs.forget()

    def save_adapter(self, folder: str | Path) -> None:
        """Write what is new in PEFT's file format; see `dragoman.model.lora.save_adapter`."""
        save_adapter(BACKEND, self, as_path(folder, "`folder`"))

    def load_adapter(self, folder: str | Path) -> None:
        """Read what `save_adapter` wrote, with either backend; see `dragoman.model.lora.load_adapter`."""
        load_adapter(BACKEND, self, as_path(folder, "`folder`"))
        self._programs.forget()

    def set_padding(self, padding: Padding | str) -> None:
        """Choose what padding may do: `"exact"` (nothing, the default) or `"reference"` (upstream's numbers)."""
        self.encoder.padding = Padding(padding)
        self._programs.forget()

    def get_encoder(self) -> SpeechEncoder:
        """Return the encoder."""
        return self.encoder

    def get_decoder(self) -> TextDecoder:
        """Return the decoder."""
        return self.decoder

    def get_input_embeddings(self) -> Embedding:
        """Return the decoder's token embedding."""
        return self.decoder.embed.tokens


def _dropout_key(train: bool, dropout_rng: PRNGKeyArray | None) -> Key:
    """Return the random key of a call; `None` if nothing is drawn.

    Raises:
        ConfigError: If the call trains and has none.
    """
    if train and dropout_rng is None:
        raise ConfigError(
            "`train=True` needs `dropout_rng`, a new random key for each step: jax.random.fold_in(key, step)."
        )
    return dropout_rng if train else None
