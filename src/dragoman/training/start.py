"""The model that training starts from: two checkpoints joined, or a model that was saved before, with its processor."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dragoman._lazy import require
from dragoman.checkpoint.report import LoadReport
from dragoman.errors import ConfigError
from dragoman.files import as_path
from dragoman.processing import AutoFeatureExtractor, AutoProcessor, AutoTokenizer
from dragoman.processing.processor import SpeechProcessor

# The ids that training and generation need, and what is wrong without them.
_NEEDED_IDS = {
    "decoder_start_token_id": "the decoder has no token to start with",
    "eos_token_id": "the model cannot learn where a transcript ends",
    "pad_token_id": "transcripts of different lengths cannot be batched",
}


_CLASSES = {
    "torch": ("dragoman.torch.model", "SpeechEncoderDecoderModel"),
    "jax": ("dragoman.jax.model", "FlaxSpeechEncoderDecoderModel"),
}


def _model_class(backend: str) -> Any:
    module, name = _CLASSES[backend]
    return getattr(require(module, "Training"), name)


def join(
    encoder: str | Path,
    decoder: str | Path,
    *,
    seed: int = 42,
    backend: str = "torch",
    source: Mapping[str, Any] | None = None,
    fields: Mapping[str, Any] | None = None,
) -> tuple[Any, SpeechProcessor]:
    """Return a model warm-started from two checkpoints, and its processor.

    Args:
        encoder: A folder or hub id with a speech encoder and its feature extractor.
        decoder: A folder or hub id with a text model and its tokenizer.
        seed: Of the tensors that neither checkpoint holds; PyTorch draws them for both backends.
        backend: `"torch"` or `"jax"`.
        source: `cache_dir`, `token`, `local_files_only`: where to find the files.
        fields: `encoder_*` and `decoder_*` fields of the parts' configurations, and fields of the joint one, such as
            `fusion`.

    Raises:
        ModelNotFoundError: If a checkpoint or a file of it is not found.
        ConfigError: If the parts cannot be joined, or the tokenizer does not fit the decoder.
        CheckpointError: If tensors do not fit.
    """
    source, fields = source or {}, fields or {}
    extractor = AutoFeatureExtractor.from_pretrained(encoder, **source)
    tokenizer = AutoTokenizer.from_pretrained(decoder, **source)
    torch = require("torch", "Joining two checkpoints")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = _model_class("torch").from_encoder_decoder_pretrained(
            encoder, decoder, tokenizer=tokenizer, feature_extractor=extractor, dtype="float32", **source, **fields
        )
    processor = SpeechProcessor(extractor, tokenizer)
    check_trainable(model, processor)
    if backend != "torch":
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            return load(folder, backend=backend)
    return model, processor


def load(
    name: str | Path,
    *,
    backend: str = "torch",
    source: Mapping[str, Any] | None = None,
    fields: Mapping[str, Any] | None = None,
) -> tuple[Any, SpeechProcessor]:
    """Return a whole model from a folder or the hub, in float32, and its processor.

    Args:
        name: The folder or hub id.
        backend: `"torch"` or `"jax"`.
        source: `revision`, `cache_dir`, `token`, `local_files_only`.
        fields: Fields of the configuration that win over the file's, as in `join`.

    Raises:
        ModelNotFoundError: If it, or a file of it, is not found.
        ConfigError: If it is no speech encoder-decoder, or its tokenizer does not fit.
        CheckpointError: If tensors do not fit.
    """
    source = source or {}
    processor = AutoProcessor.from_pretrained(name, **source)
    model = _model_class(backend).from_pretrained(name, dtype="float32", **source, **(fields or {}))
    if backend == "jax":  # there `dtype` is that of the computation
        model.params = model.to_fp32(model.tree)
    model.processing = (processor.feature_extractor, processor.tokenizer)
    check_trainable(model, processor)
    return model, processor


def init(
    encoder: str | Path,
    decoder: str | Path,
    folder: str | Path,
    *,
    overwrite: bool = False,
    seed: int = 42,
    source: Mapping[str, Any] | None = None,
    fields: Mapping[str, Any] | None = None,
) -> LoadReport:
    """Write a warm-started model as a complete Hugging Face folder: weights, configuration, processor.

    Args:
        encoder: See `join`, as for the arguments that are not explained here.
        decoder: The same.
        folder: Made if it does not exist.
        overwrite: Replace a model that is in it.
        seed: The same.
        source: The same.
        fields: The same.

    Returns:
        Which tensors were loaded, which are new, and which were left out.

    Raises:
        ConfigError: If there is a model in `folder` already; and as for `join`.
        DragomanError: If the folder cannot be written.
    """
    folder = as_path(folder, "`folder`")
    if (folder / "config.json").exists() and not overwrite:
        raise ConfigError(
            f"{folder} holds a model already. Choose another folder, or replace it with --overwrite_output_dir."
        )
    model, _ = join(encoder, decoder, seed=seed, source=source, fields=fields)
    model.save_pretrained(folder)
    report: LoadReport = model.load_report
    return report


def check_trainable(model: Any, processor: Any) -> None:
    """Refuse a model whose training would fail or be for nothing.

    Raises:
        ConfigError: If a special id is missing, or the tokenizer has tokens that the decoder lacks.
    """
    vocab_size = model.config.decoder.text_spec().vocab_size
    for name, consequence in _NEEDED_IDS.items():
        value = model.config.special_id(name)
        if value is None:
            raise ConfigError(
                f"The model has no `{name}`, and its tokenizer names none: {consequence}. Add the token to "
                "tokenizer_config.json, or the id to config.json."
            )
        if np.min(value) < 0 or np.max(value) >= vocab_size:
            raise ConfigError(f"`{name}` is {value}, but the decoder has only the ids 0 to {vocab_size - 1}.")
    if len(processor.tokenizer) > vocab_size:
        raise ConfigError(
            f"The tokenizer has {len(processor.tokenizer)} tokens, but the decoder only {vocab_size}: they do not "
            "belong together. Choose a decoder with its own tokenizer, or resize its embeddings."
        )
