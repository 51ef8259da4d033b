"""`SpeechEncoderDecoderModel`: any speech encoder joined to any text decoder.

Axes: batch, samples (or mels and spectrogram frames), frames, tokens, width, vocab.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dragoman.api.checks import check_rows, one_audio
from dragoman.api.config import SpeechEncoderDecoderConfig
from dragoman.api.outputs import EncoderOutput, Seq2SeqLMOutput
from dragoman.checkpoint.lora import is_new
from dragoman.checkpoint.options import check_saving, tensors_to_save
from dragoman.checkpoint.report import LoadReport
from dragoman.files import as_path
from dragoman.generation.options import GenerationConfig
from dragoman.generation.result import compute_transition_scores
from dragoman.model.arguments import decoder_inputs, encoder_inputs, shift_right
from dragoman.model.arrays import checked_mask, checked_tokens
from dragoman.model.configs import shared_options
from dragoman.model.joining import check_joinable, check_part, joint_config
from dragoman.model.load import load_model
from dragoman.model.lora import add_lora, load_adapter, merge_lora, save_adapter
from dragoman.model.save import save_model
from dragoman.model.warm_start import warm_start
from dragoman.spec import Padding
from dragoman.spec.lora import LoraSpec
from dragoman.torch import generate
from dragoman.torch.arrays import ARRAYS
from dragoman.torch.backend import BACKEND
from dragoman.torch.net.bridge import Prefix, bridge_of
from dragoman.torch.net.cache import Cache, Memory
from dragoman.torch.net.init import initialise, persistent_names
from dragoman.torch.net.layers import frame_mask
from dragoman.torch.net.loss import cross_entropy
from dragoman.torch.parts import SpeechEncoder, TextDecoder
from dragoman.torch.pretrained import PretrainedModule

__all__ = ["AutoModelForSpeechSeq2Seq", "SpeechEncoderDecoderModel"]


torch.export.register_dataclass(Seq2SeqLMOutput)  # so that torch.export and sharding see the tensors in it


class SpeechEncoderDecoderModel(PretrainedModule):
    """A speech encoder, a bridge to the decoder's width where it is needed, and a text decoder.

    Args:
        config: Builds both parts with random weights.
        encoder: A ready-made encoder.
        decoder: A ready-made decoder, causal and with cross-attention.

    Raises:
        ConfigError: If neither a configuration nor both parts are given, or the parts do not fit.

    Example:
        >>> config = SpeechEncoderDecoderConfig.from_encoder_decoder_configs(Wav2Vec2Config(), BertConfig())
        >>> model = SpeechEncoderDecoderModel(config=config)
    """

    config_class = SpeechEncoderDecoderConfig
    encoder_class = SpeechEncoder
    decoder_class = TextDecoder
    base_model_prefix = "speech_encoder_decoder"
    main_input_name = "inputs"
    accepts_loss_kwargs = True  # tells the trainers of transformers to pass `num_items_in_batch`
    backend = "torch"

    def __init__(
        self,
        config: SpeechEncoderDecoderConfig | None = None,
        encoder: SpeechEncoder | None = None,
        decoder: TextDecoder | None = None,
        *,
        empty: bool = False,
    ) -> None:
        super().__init__()
        check_part("speech encoder", encoder, SpeechEncoder)
        check_part("text decoder", decoder, TextDecoder)
        config = joint_config(config, encoder, decoder)
        self.encoder = SpeechEncoder(config.encoder, empty=empty) if encoder is None else encoder
        self.decoder = TextDecoder(config.decoder, empty=empty) if decoder is None else decoder
        check_joinable(self.encoder, self.decoder, config)
        self.encoder.config, self.decoder.config = config.encoder, config.decoder
        self.config = config
        self.generation_config = GenerationConfig()
        self.load_report = LoadReport()
        self.processing: tuple[Any, ...] = ()  # a tokenizer and a feature extractor to save with the model
        with torch.device("meta"):
            self.bridge = bridge_of(self.encoder.spec, self.decoder.spec, config.fusion_stacking, config.fusion_prompt)
        if not empty:
            initialise(self.bridge, persistent_names(self.bridge), self.decoder.spec, self.dtype, self.device)

    @property
    def generation_config(self) -> GenerationConfig:
        """Options of `generate`; what is assigned, ours or upstream's, is copied, and its ids become the model's."""
        return self._generation_config

    @generation_config.setter
    def generation_config(self, options: Any) -> None:
        self._generation_config = shared_options(options, self.config)

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, **kwargs: Any) -> Self:
        """Load a whole model: one that was fine-tuned and saved, or a Whisper.

        Args:
            name_or_path: A local folder or a hub id.
            **kwargs: Loader options (`dragoman.checkpoint.options.LoadOptions`: `dtype`, `device`, `revision`,
                `cache_dir`, `token`, `local_files_only`, `allow_new`, …), `config=`, and fields of the configuration
                that win over the file's (`encoder_*` and `decoder_*` for the parts).

        Returns:
            The model, in evaluation mode; what became of each tensor is in `load_report`.

        Raises:
            ModelNotFoundError: If the folder, the id or a file is not there.
            ConfigError: If the configuration is not that of a speech encoder-decoder.
            CheckpointError: If tensors are missing, unexpected or of another shape; the message lists them all.
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
            The model, in evaluation mode; `load_report` names what is new, and it is logged.

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
        is_main_process: bool = True,
        state_dict: Mapping[str, Tensor] | None = None,
        *,
        max_shard_size: int | str = "5GB",
        **ways: Any,
    ) -> None:
        """Write a folder that dragoman and transformers load: configuration, weights, generation options, processing.

        All files are written or none: a save that fails leaves the folder as it was.

        Args:
            save_directory: Made if it does not exist; other files in it stay.
            is_main_process: Where several processes train one model, only the main one writes.
            state_dict: Tensors to write instead of the model's own: what a trainer gathered from several devices.
            max_shard_size: Bytes of one weight file, or a text like "5GB".
            **ways: Options of transformers without effect here; others are refused.

        Raises:
            ConfigError: If a keyword asks for something that is not done, or `state_dict` is not of this model.
            DragomanError: If the folder cannot be written.
        """
        check_saving(ways)
        if is_main_process:
            tensors = tensors_to_save(self.state_dict(), state_dict, "state_dict")
            save_model(BACKEND, self, tensors, as_path(save_directory, "`save_directory`"), max_shard_size)

    def forward(
        self,
        inputs: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Int[Tensor, "batch tokens"] | None = None,
        decoder_attention_mask: Tensor | None = None,
        encoder_outputs: EncoderOutput | Sequence[Any] | None = None,
        past_key_values: Cache | None = None,
        decoder_inputs_embeds: Tensor | None = None,
        labels: Int[Tensor, "batch tokens"] | None = None,
        use_cache: bool = False,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        input_values: Float[Tensor, "batch samples"] | None = None,
        input_features: Float[Tensor, "batch mels frames"] | None = None,
        return_dict: bool | None = None,
        *,
        num_items_in_batch: Tensor | float | None = None,
        smoothing: float = 0.0,  # upstream's trainers take every name with the word "label" for labels
    ) -> Any:
        """Score texts for speech; with `labels`, also the loss.

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
            num_items_in_batch: Divide the summed loss by this (all labels of an optimizer step) instead of by the
                number of labels here.
            smoothing: Share of the target spread evenly over the vocabulary.

        Returns:
            A `Seq2SeqLMOutput`, or its tuple.

        Raises:
            ConfigError: If inputs are missing or contradict each other, or no start or padding id is set.
            AudioError: If the audio cannot be used.
        """
        weights = self.config.output_attentions if output_attentions is None else output_attentions
        states = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
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
        audio = one_audio(inputs, input_values, input_features)
        encoded = self.encode(audio, attention_mask, encoder_outputs, all_states=states, weights=weights)
        memory = self.memory_for(encoded)
        given = tokens if embeds is None else embeds
        assert given is not None
        check_rows(given.shape[0], encoded.last_hidden_state.shape[0])
        cache = past_key_values
        if cache is None and use_cache:
            cache = self.decoder.new_cache(given.shape[0], given.shape[1])
        unread = isinstance(self.bridge, Prefix) and (cache is None or cache.prefix_mask is None)
        decode = self.decoder.decode_after_prefix if unread else self.decoder.decode
        out, cache = decode(
            tokens,
            memory,
            cache,
            embeds=embeds,
            token_mask=token_mask,
            all_states=states,
            weights=weights,
        )
        logits = self.decoder.logits(out.states)
        output = Seq2SeqLMOutput(
            loss=None if labels is None else cross_entropy(logits, labels, num_items_in_batch, smoothing),
            logits=logits,
            past_key_values=cache,
            decoder_hidden_states=out.all_states,
            decoder_attentions=out.self_weights,
            cross_attentions=out.cross_weights,
            encoder_last_hidden_state=memory.states,
            encoder_hidden_states=encoded.hidden_states,
            encoder_attentions=encoded.attentions,
        )
        return output if (self.config.return_dict if return_dict is None else return_dict) else output.to_tuple()

    def encode(
        self,
        inputs: Tensor | None,
        attention_mask: Tensor | None = None,
        encoder_outputs: EncoderOutput | Sequence[Any] | Mapping[str, Any] | None = None,
        *,
        all_states: bool = False,
        weights: bool = False,
    ) -> EncoderOutput:
        """Run the encoder, or take what it gave before; the caller's object is never changed.

        Raises:
            ConfigError: If there is neither audio nor an earlier output.
        """
        audio, lengths, encoded = encoder_inputs(ARRAYS, self.encoder, inputs, attention_mask, encoder_outputs)
        if encoded is not None:
            return encoded
        return self.encoder.encode(audio, lengths, all_states=all_states, weights=weights)

    def memory_for(self, encoded: EncoderOutput) -> Memory:
        """Return encoder states as the decoder sees them."""
        states = encoded.last_hidden_state
        mask = None if encoded.lengths is None else frame_mask(encoded.lengths, states.shape[1])
        if isinstance(self.bridge, Prefix):
            return self.bridge(states, mask, self.decoder.embed)
        return Memory(states=self.bridge(states), mask=mask)

    def max_text_length(self, frames: int) -> int:
        """Return how many tokens a text may have behind `frames` frames of the encoder."""
        taken = self.bridge.length(frames) if isinstance(self.bridge, Prefix) else 0
        return self.decoder.spec.num_positions - taken

    def prepare_decoder_input_ids_from_labels(self, labels: Int[Tensor, "batch tokens"]) -> Tensor:
        """Return the labels moved right by one behind the start id, ignored positions turned into padding."""
        vocab_size = self.decoder.spec.vocab_size
        labels = checked_tokens(ARRAYS, "labels", labels, vocab_size, ignored=True)
        return shift_right(ARRAYS, labels, self.config, vocab_size)

    def generate(
        self, inputs: Tensor | None = None, generation_config: GenerationConfig | None = None, **kwargs: Any
    ) -> Any:
        """Write texts for a batch of speech; see `dragoman.torch.generate.generate`."""
        return generate.generate(self, inputs, generation_config, **kwargs)

    def freeze_feature_encoder(self) -> None:
        """Stop training the convolutional front end of the encoder (its projection still learns)."""
        self.encoder.freeze_feature_encoder()

    def freeze_encoder(self) -> None:
        """Stop training the encoder; bridge and decoder still learn."""
        self.encoder.requires_grad_(False)

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
        self.freeze_decoder()

    def merge_lora(self) -> None:
        """Fold the LoRA into the weights of its layers; the results stay the same."""
        merge_lora(BACKEND, self)

    def save_adapter(self, folder: str | Path) -> None:
        """Write what is new in PEFT's file format; see `dragoman.model.lora.save_adapter`."""
        save_adapter(BACKEND, self, as_path(folder, "`folder`"))

    def load_adapter(self, folder: str | Path) -> None:
        """Read what `save_adapter` wrote, with either backend; see `dragoman.model.lora.load_adapter`."""
        load_adapter(BACKEND, self, as_path(folder, "`folder`"))
        self.freeze_decoder()

    def freeze_decoder(self) -> None:
        """Stop training the text model; its cross-attention, its LoRA and the bridge still learn."""
        for name, parameter in self.decoder.named_parameters():
            parameter.requires_grad_(is_new(name))

    def set_padding(self, padding: Padding | str) -> None:
        """Choose what padding may do: `"exact"` (nothing, the default) or `"reference"` (upstream's numbers)."""
        self.encoder.padding = Padding(padding)

    def get_encoder(self) -> SpeechEncoder:
        """Return the encoder."""
        return self.encoder

    def get_decoder(self) -> TextDecoder:
        """Return the decoder."""
        return self.decoder

    def resize_token_embeddings(
        self, new_num_tokens: int | None = None, pad_to_multiple_of: int | None = None, mean_resizing: bool = True
    ) -> nn.Embedding:
        """Change the size of the vocabulary; see `TextDecoder.resize_token_embeddings`."""
        return self.decoder.resize_token_embeddings(new_num_tokens, pad_to_multiple_of, mean_resizing)

    @property
    def enc_to_dec_proj(self) -> nn.Linear:
        """Upstream's name of the projection between widths, which is there where they differ."""
        if isinstance(self.bridge, Prefix) or self.bridge.proj is None:
            raise AttributeError(
                "there is no projection: the encoder is as wide as the decoder, or a prefix is stacked"
            )
        return self.bridge.proj

    def compute_transition_scores(
        self, sequences: Any, scores: Sequence[Any], beam_indices: Any = None, normalize_logits: bool = False
    ) -> Any:
        """Return the score of each generated token; see `dragoman.generation.result.compute_transition_scores`."""
        return compute_transition_scores(sequences, scores, beam_indices, normalize_logits)

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        """Put another table in the place of the decoder's token embedding; see `TextDecoder.set_input_embeddings`."""
        self.decoder.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        """Return the decoder's head."""
        return self.decoder.get_output_embeddings()

    def get_input_embeddings(self) -> nn.Embedding:
        """Return the decoder's token embedding."""
        return self.decoder.get_input_embeddings()


class AutoModelForSpeechSeq2Seq:
    """Models that turn speech into text, by what their `config.json` says."""

    @staticmethod
    def from_pretrained(name_or_path: str | Path, **kwargs: Any) -> SpeechEncoderDecoderModel:
        """Load a model; see `SpeechEncoderDecoderModel.from_pretrained`."""
        return SpeechEncoderDecoderModel.from_pretrained(name_or_path, **kwargs)

    @staticmethod
    def from_config(config: Any) -> SpeechEncoderDecoderModel:
        """Build a model with random weights."""
        return SpeechEncoderDecoderModel(config=config)
