"""The methods of a whole model that both backends offer.

A backend's model is its network with `ModelMethods` and what only this framework has.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self, cast

from jaxtyping import Int

from dragoman.api.checks import check_rows
from dragoman.api.config import SpeechEncoderDecoderConfig
from dragoman.checkpoint.report import LoadReport
from dragoman.files import as_path
from dragoman.generation.inherited import inherited_options
from dragoman.generation.request import Speech
from dragoman.model.arguments import chosen, decoder_inputs, encoder_inputs, shift_right, warn_of_start
from dragoman.model.arrays import checked_mask, checked_tokens
from dragoman.model.backend import Backend
from dragoman.model.card import card_of
from dragoman.model.following import joint_change_is_free
from dragoman.model.generate import GenerateMethods
from dragoman.model.load import load_model
from dragoman.model.lora import add_lora, load_adapter, merge_lora, save_adapter
from dragoman.model.naming import loading_info
from dragoman.model.warm_start import warm_start
from dragoman.publishing import PushModelMethods
from dragoman.spec import Padding
from dragoman.spec.lora import LoraSpec


class ModelMethods(GenerateMethods, PushModelMethods):
    """Methods of a whole model."""

    config_class = SpeechEncoderDecoderConfig
    base_model_prefix = "speech_encoder_decoder"
    main_input_name = "inputs"
    encoder_class: type[Any]
    decoder_class: type[Any]
    _backend: ClassVar[Backend]
    load_report: LoadReport
    processing: tuple[Any, ...]
    base_marks: Mapping[str, tuple[int, ...]]
    dtype: Any
    gradient_checkpointing_enable: Callable[[], None]
    gradient_checkpointing_disable: Callable[[], None]

    def _set_up(self, config: SpeechEncoderDecoderConfig) -> None:
        """Set what a new model has besides its network."""
        self.config = config
        self.encoder.config, self.decoder.config = config.encoder, config.decoder
        for one in (config, config.encoder, config.decoder):
            one.settle_attention()
        self.generation_config = inherited_options(config)
        self.load_report = LoadReport()
        self.base_marks = {}
        self.processing = ()  # a tokenizer and a feature extractor to save with the model
        self._warned_of_start = False
        config.follow_by(self)

    def config_changed(self, name: str) -> None:
        """Take over a field that was set in the joint configuration.

        Raises:
            ConfigError: If the model was built from it.
        """
        joint_change_is_free(
            ("encoder", "decoder", "fusion", "fusion_stacking", "fusion_prompt", "fusion_bridge"), name
        )
        if name == "gradient_checkpointing":
            switch = self.gradient_checkpointing_enable if self.config.gradient_checkpointing else None
            (switch or self.gradient_checkpointing_disable)()

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, **kwargs: Any) -> Self:
        """Load a whole model: one that was fine-tuned and saved by either backend, or a Whisper.

        Args:
            name_or_path: A local folder or a hub id.
            **kwargs: Loader options (`dragoman.checkpoint.options.LoadOptions`: `dtype`, `device`, `revision`,
                `cache_dir`, `token`, `local_files_only`, `allow_new`, …), `config=`, and fields of the configuration
                that win over the file's (`encoder_*` and `decoder_*` for the parts); options of `generate` go to
                `generation_config`. With `output_loading_info=True`, the result is a pair: the model, and what
                `dragoman.model.naming.loading_info` says about its tensors.

        Returns:
            The model, in evaluation mode; what became of each tensor is in `load_report`.

        Raises:
            ModelNotFoundError: If the folder, the id or a file is not there.
            ConfigError: If the configuration is not that of a speech encoder-decoder.
            CheckpointError: If tensors are missing, unexpected or of another shape; the message lists them all.
            MissingDependencyError: If the weights are `.bin` files, which only PyTorch reads, and this is JAX.
        """
        wanted = kwargs.pop("output_loading_info", False)
        model = load_model(cls._backend, cls, name_or_path, kwargs)
        if cls._backend.loras(model.decoder) or cls._backend.loras(model.encoder):
            model._layers_changed(added=True)
        return cast(Self, (model, loading_info(model, model._tensor_names(), model.load_report))) if wanted else model

    def _tensor_names(self) -> list[str]:
        parts = {"encoder.": self.encoder, "decoder.": self.decoder, "bridge.": self.bridge}
        own = [prefix + name for prefix, part in parts.items() for name in self._backend.tensors(part)]
        return [*own, *self.added_names()]

    @classmethod
    def from_encoder_decoder_pretrained(
        cls,
        encoder_pretrained_model_name_or_path: str | Path | None = None,
        decoder_pretrained_model_name_or_path: str | Path | None = None,
        *,
        encoder_model: Any = None,
        decoder_model: Any = None,
        tokenizer: Any = None,
        feature_extractor: Any = None,
        **kwargs: Any,
    ) -> Self:
        """Warm-start from a speech checkpoint and a text checkpoint; tensors that neither holds are initialised.

        Args:
            encoder_pretrained_model_name_or_path: A local folder or hub id with a speech encoder; heads are left out.
            decoder_pretrained_model_name_or_path: A local folder or hub id with a language model or a
                sequence-to-sequence model, whose decoder is taken.
            encoder_model: A ready-made encoder instead.
            decoder_model: A ready-made decoder instead.
            tokenizer: The decoder's tokenizer: sets the special ids, and is saved with the model. With
                `fusion="prefix"` its chat template stands around the speech, unless `fusion_prompt` is given.
            feature_extractor: The encoder's feature extractor: is saved with the model.
            **kwargs: `encoder_config=`, `decoder_config=`; `encoder_*` and `decoder_*` go to that part (fields of its
                configuration, loader options); loader options without a prefix go to both parts; options of `generate`
                (`max_length=200`, `num_beams=5`) go to `generation_config`; the rest are fields of the joint
                configuration.

        Returns:
            The model, in evaluation mode; `load_report` names the new tensors, and they are logged.

        Raises:
            ConfigError: If a part is missing, or the parts cannot be joined.
            ModelNotFoundError: If a checkpoint is not found.
            CheckpointError: If tensors of a checkpoint do not fit.
        """
        return warm_start(
            cls._backend,
            cls,
            encoder_model if encoder_model is not None else encoder_pretrained_model_name_or_path,
            decoder_model if decoder_model is not None else decoder_pretrained_model_name_or_path,
            kwargs,
            tokenizer=tokenizer,
            feature_extractor=feature_extractor,
        )

    def _scoring(
        self,
        audio: Any,
        attention_mask: Any,
        encoder_outputs: Any,
        *,
        tokens: Any,
        token_mask: Any,
        cache: Any,
        all_states: bool | None,
        weights: bool | None,
        embeds: Any = None,
        labels: Any = None,
        smoothing: float = 0.0,
        use_cache: bool = False,
    ) -> tuple[Speech, dict[str, Any]]:
        """Return what the encoder gets, and the arguments of `Joint.score`, for a call of the model."""
        token_mask = checked_mask(self._arrays, "decoder_attention_mask", token_mask)
        spec, shifts = self.decoder.spec, tokens is None and embeds is None
        tokens, embeds, labels = decoder_inputs(
            self._arrays, self.config, spec, tokens, embeds, cache, labels, smoothing
        )
        if shifts:
            self._warn_of_start(labels)
        rows, count = (tokens if embeds is None else embeds).shape[:2]
        speech = encoder_inputs(self._arrays, self.encoder, audio, attention_mask, encoder_outputs)
        inputs, _, encoded = speech
        check_rows(rows, (inputs if encoded is None else encoded.last_hidden_state).shape[0])
        if cache is None and use_cache:
            cache = self.decoder.new_cache(rows, count + self.bridge.length(self._frames(inputs, encoded)))
        return speech, {
            "tokens": tokens,
            "embeds": embeds,
            "token_mask": token_mask,
            "labels": labels,
            "label_smoothing": smoothing,
            "cache": cache,
            "all_states": chosen(all_states, self.config.output_hidden_states),
            "weights": chosen(weights, self.config.output_attentions),
        }

    def prepare_decoder_input_ids_from_labels(self, labels: Int[Any, "batch tokens"]) -> Any:
        """Return the decoder input for labels: the start id, then all but the last label, padding in place of −100."""
        vocab_size = self.decoder.spec.vocab_size
        labels = checked_tokens(self._arrays, "labels", labels, vocab_size, ignored=True)
        tokens = shift_right(self._arrays, labels, self.config, vocab_size)
        self._warn_of_start(labels)
        return tokens

    def _warn_of_start(self, labels: Any) -> None:
        """Warn once about labels that begin with the start id."""
        self._warned_of_start = self._warned_of_start or warn_of_start(self._arrays, labels, self.config)

    def add_lora(
        self,
        rank: int = 8,
        alpha: float = 16.0,
        targets: str | Sequence[str] = ("q_proj", "v_proj"),
        *,
        dropout: float = 0.0,
        encoder: bool = False,
    ) -> None:
        """Add LoRA to linear layers of the text model; it changes nothing until it is trained.

        In PyTorch the text model is frozen, and so is the encoder if it gets a LoRA; in JAX a `Trainer` leaves the text
        model as it is. `save_pretrained` folds the LoRA in; `save_adapter` writes it alone.

        Args:
            rank: Width of the two matrices of a layer.
            alpha: Their product is scaled by `alpha / rank`.
            targets: Last words of the names of layers, ours or the checkpoint's ("q_proj", "o_proj", "query", "c_attn",
                …), one or several; "all-linear" for all. Never those of cross-attention.
            dropout: Dropout before the first matrix.
            encoder: Add it to the layers of the encoder's blocks that have these names, too.

        Raises:
            ConfigError: If there is a LoRA already, or a target does not exist.
        """
        words = (targets,) if isinstance(targets, str) else tuple(targets)
        add_lora(self._backend, self, LoraSpec(rank=rank, alpha=alpha, targets=words, dropout=dropout), encoder=encoder)
        self._layers_changed(added=True)

    def merge_lora(self) -> None:
        """Fold the LoRA into the weights of its layers; the outputs stay the same."""
        merge_lora(self._backend, self)
        self._layers_changed()

    def save_adapter(self, folder: str | Path) -> None:
        """Write what its base lacks in PEFT's file format: LoRA, cross-attention, bridge, and what else was trained.

        The base is the model as it was when the LoRA was added, with the vocabulary that it was loaded with: encoder,
        norms or embeddings that were trained since are in the file too, and so is a resized embedding. A model that was
        trained before is a base of its own: save it with `save_pretrained`.

        Raises:
            ConfigError: If there is no LoRA.
            CheckpointError: If the checkpoint's format stores one of its layers fused or transposed.
        """
        save_adapter(self._backend, self, as_path(folder, "`folder`"))

    def load_adapter(self, folder: str | Path) -> None:
        """Load what `save_adapter` wrote, with either backend, from a model of the same encoder and text model.

        A folder that PEFT wrote for a model of dragoman (`get_peft_model`, a `Trainer`) is loaded, too: a plain LoRA of
        any linear layers, and `modules_to_save`.

        Raises:
            ModelNotFoundError: If there is no adapter.
            ConfigError: If there is a LoRA already, or a target does not exist.
            CheckpointError: If it is of another kind or of another model; the model is then unchanged.
        """
        load_adapter(self._backend, self, as_path(folder, "`folder`"))
        self._layers_changed(added=True)

    def added_names(self) -> Sequence[str]:
        """Return the names of the tensors of modules that a subclass adds: none in JAX, where a network is fixed."""
        return ()

    def _layers_changed(self, *, added: bool = False) -> None:
        """Follow a change of the decoder's layers; `added` is true after a LoRA was added."""
        raise NotImplementedError

    def set_padding(self, padding: Padding | str) -> None:
        """Choose how padding is treated: `"exact"` (it changes nothing, the default) or `"reference"`.

        `"reference"` gives the numbers of `transformers`, where padding changes the outputs of some encoders.
        """
        self.encoder.padding = Padding(padding)

    def hub_card(self, repo_id: str) -> str:
        """Return the README.md of a new repository on the hub."""
        return card_of(self, repo_id)

    def _get_feat_extract_output_lengths(self, input_lengths: Any, add_adapter: bool | None = None) -> Any:
        return self.encoder._get_feat_extract_output_lengths(input_lengths, add_adapter)

    def get_encoder(self) -> Any:
        """Return the encoder."""
        return self.encoder

    def get_decoder(self) -> Any:
        """Return the decoder."""
        return self.decoder

    def get_input_embeddings(self) -> Any:
        """Return the decoder's token embedding."""
        return self.decoder.get_input_embeddings()
