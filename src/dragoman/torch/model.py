"""`SpeechEncoderDecoderModel`: any speech encoder joined to any text decoder.

Axes: batch, samples (or mels and spectrogram frames), frames, tokens, width, vocab.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dragoman.api.checks import one_audio
from dragoman.api.config import SpeechEncoderDecoderConfig
from dragoman.api.outputs import EncoderOutput
from dragoman.checkpoint.lora import is_new
from dragoman.checkpoint.options import check_saving
from dragoman.errors import ConfigError
from dragoman.generation.request import Request
from dragoman.generation.result import GenerationResult, compute_transition_scores
from dragoman.model.arguments import chosen, encoder_inputs
from dragoman.model.configs import as_joint
from dragoman.model.joining import check_joinable, check_part, joint_config
from dragoman.model.save import save_model
from dragoman.model.state import Section, model_sections
from dragoman.publishing import pushed
from dragoman.torch.arrays import ARRAYS
from dragoman.torch.backend import BACKEND
from dragoman.torch.calls import run_encoder
from dragoman.torch.generate import search
from dragoman.torch.joint import JointModel
from dragoman.torch.net.bridge import bridge_of
from dragoman.torch.net.cache import Cache
from dragoman.torch.net.init import initialise, persistent_names
from dragoman.torch.parts import SpeechEncoder, TextDecoder


class SpeechEncoderDecoderModel(JointModel):
    """A speech encoder, a bridge to the decoder's width and a text decoder.

    Args:
        config: Builds both parts with random weights.
        encoder: A ready-made encoder.
        decoder: A ready-made decoder, causal and with cross-attention.
        empty: Allocate no memory (meta device): a checkpoint fills the tensors.

    Raises:
        ConfigError: If neither a configuration nor both parts are given, or the parts do not fit.

    Example:
        >>> config = SpeechEncoderDecoderConfig.from_encoder_decoder_configs(Wav2Vec2Config(), BertConfig())
        >>> model = SpeechEncoderDecoderModel(config=config)
    """

    encoder_class, decoder_class = SpeechEncoder, TextDecoder
    backend = "torch"
    _backend, _arrays = BACKEND, ARRAYS
    accepts_loss_kwargs = True  # makes the trainers of `transformers` pass `num_items_in_batch`
    encoder: SpeechEncoder
    decoder: TextDecoder

    def __init__(
        self,
        config: SpeechEncoderDecoderConfig | None = None,
        encoder: SpeechEncoder | None = None,
        decoder: TextDecoder | None = None,
        *,
        empty: bool = False,
    ) -> None:
        check_part("speech encoder", encoder, SpeechEncoder)
        check_part("text decoder", decoder, TextDecoder)
        config = joint_config(config, encoder, decoder)
        encoder = SpeechEncoder(config.encoder, empty=empty) if encoder is None else encoder
        decoder = TextDecoder(config.decoder, empty=empty) if decoder is None else decoder
        check_joinable(encoder, decoder, config)
        with torch.device("meta"):
            bridge = bridge_of(encoder.spec, decoder.spec, config.bridge_spec())
        super().__init__(encoder, bridge, decoder)
        self._set_up(config)
        if not empty:
            initialise(bridge, persistent_names(bridge), decoder.spec, self.dtype, self.device)

    def _sections(self) -> tuple[Section, ...]:
        return model_sections(self)

    def save_pretrained(
        self,
        save_directory: str | Path,
        is_main_process: bool = True,
        state_dict: Mapping[str, Tensor] | None = None,
        *,
        max_shard_size: int | str = "5GB",
        **ways: Any,
    ) -> None:
        """Write a folder that both backends and `transformers` load: configuration, weights, options, processing.

        All files are written or none: a save that fails leaves the folder as it was.

        Args:
            save_directory: Made if it does not exist; other files in it stay.
            is_main_process: If several processes train one model, only the main one writes.
            state_dict: Tensors to write instead of the model's own: what a trainer gathered from several devices.
            max_shard_size: Bytes of one weight file, or a string like "5GB".
            **ways: `push_to_hub=True` with the options of `push_to_hub`; others of `transformers` have no effect.

        Raises:
            ConfigError: If a keyword asks for what is not supported, or `state_dict` is not of this model.
            DragomanError: If the folder cannot be written.
        """
        check_saving(ways)
        if is_main_process:
            tensors = self._tensors_to_save(state_dict)
            with pushed(self, save_directory, ways) as folder:
                save_model(BACKEND, self, tensors, folder, max_shard_size)

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
        smoothing: float = 0.0,  # the trainers of `transformers` take every name with "label" in it for labels
        input_ids: None = None,
        inputs_embeds: None = None,
    ) -> Any:
        """Score tokens for speech; with `labels`, also the loss.

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
            num_items_in_batch: Divide the summed loss by this (all labels of an optimizer step) instead of by the
                number of labels here.
            smoothing: Share of the target distribution spread evenly over the vocabulary.
            input_ids: Must be `None`; PEFT's wrapper of sequence-to-sequence models passes it.
            inputs_embeds: The same.

        Returns:
            A `Seq2SeqLMOutput`, or its tuple.

        Raises:
            ConfigError: If inputs are missing or contradict each other, or no start or padding id is set.
            AudioError: If the audio cannot be used.
        """
        if input_ids is not None or inputs_embeds is not None:
            raise ConfigError(
                "The encoder reads audio: pass `inputs`, `input_values` or `input_features` instead of `input_ids` and "
                "`inputs_embeds`. Tokens of the decoder are `decoder_input_ids`."
            )
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
        audio, lengths, encoded = speech
        if encoded is None:
            records = {name: options[name] for name in ("all_states", "weights")}
            encoded = run_encoder(self.encoder, audio, lengths, **records)
        output = self.score(encoded, num_items=num_items_in_batch, **options)
        return output if chosen(return_dict, self.config.use_return_dict) else output.to_tuple()

    plain_forward = forward

    def encode(
        self,
        inputs: Tensor | None,
        attention_mask: Tensor | None = None,
        encoder_outputs: EncoderOutput | Sequence[Any] | Mapping[str, Any] | None = None,
        *,
        all_states: bool = False,
        weights: bool = False,
    ) -> EncoderOutput:
        """Run the encoder, or return its earlier output; the caller's object is never changed.

        Raises:
            ConfigError: If there is neither audio nor an earlier output.
        """
        audio, lengths, encoded = encoder_inputs(ARRAYS, self.encoder, inputs, attention_mask, encoder_outputs)
        if encoded is not None:
            return encoded
        return run_encoder(self.encoder, audio, lengths, all_states=all_states, weights=weights)

    @torch.no_grad()  # not inference mode, whose tensors a caller could neither change nor use in a loss
    def _search(
        self, request: Request, seed: int | Sequence[int] | None, **own: Any
    ) -> tuple[GenerationResult, EncoderOutput]:
        return search(self, request, int(torch.randint(2**31, ())) if seed is None else seed)

    def freeze_feature_encoder(self) -> None:
        """Freeze the convolutions of the encoder's front end; its projection is still trained."""
        self.encoder.freeze_feature_encoder()

    def freeze_feature_extractor(self) -> None:
        """Do the same, under an older name in `transformers`."""
        self.freeze_feature_encoder()

    def freeze_encoder(self) -> None:
        """Freeze the encoder; bridge and decoder are still trained."""
        self.encoder.requires_grad_(False)

    def freeze_decoder(self) -> None:
        """Freeze the text model; its cross-attention, its LoRA and the bridge are still trained."""
        for name, parameter in nn.Module.named_parameters(self.decoder):
            parameter.requires_grad_(is_new(name))

    def _layers_changed(self, *, added: bool = False) -> None:
        if added:
            self.freeze_decoder()
        if added and BACKEND.loras(self.encoder):
            for name, parameter in nn.Module.named_parameters(self.encoder):
                parameter.requires_grad_(is_new(name))

    def resize_token_embeddings(
        self, new_num_tokens: int | None = None, pad_to_multiple_of: int | None = None, mean_resizing: bool = True
    ) -> nn.Embedding:
        """Change the size of the vocabulary; see `TextDecoder.resize_token_embeddings`."""
        return self.decoder.resize_token_embeddings(new_num_tokens, pad_to_multiple_of, mean_resizing)

    def compute_transition_scores(
        self, sequences: Any, scores: Sequence[Any], beam_indices: Any = None, normalize_logits: bool = False
    ) -> Any:
        """Return the score of each generated token; see `dragoman.generation.result.compute_transition_scores`."""
        return compute_transition_scores(sequences, scores, beam_indices, normalize_logits)

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        """Replace the decoder's token embedding; see `TextDecoder.set_input_embeddings`."""
        self.decoder.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        """Return the decoder's head."""
        return self.decoder.get_output_embeddings()

    def set_output_embeddings(self, value: nn.Module) -> None:
        """Replace the decoder's head; see `TextDecoder.set_output_embeddings`."""
        self.decoder.set_output_embeddings(value)


class AutoModelForSpeechSeq2Seq:
    """Speech-to-text models; the class is chosen by the `config.json`."""

    @staticmethod
    def from_pretrained(name_or_path: str | Path, **kwargs: Any) -> SpeechEncoderDecoderModel:
        """Load a model; see `SpeechEncoderDecoderModel.from_pretrained`."""
        return SpeechEncoderDecoderModel.from_pretrained(name_or_path, **kwargs)

    @staticmethod
    def from_config(config: Any, **_: Any) -> SpeechEncoderDecoderModel:
        """Build a model with random weights, from a joint configuration or that of a Whisper."""
        return SpeechEncoderDecoderModel(config=as_joint(config))
