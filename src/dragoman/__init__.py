"""dragoman: speech to text with any pretrained speech encoder joined to any pretrained text decoder.

Every public name is imported when it is first used, so `import dragoman` is quick and needs neither PyTorch nor JAX.
"""

from importlib import import_module

from dragoman._lazy import lazy_names

_NAMES = {
    "__version__": "dragoman._version",
    # models
    "FlaxSpeechEncoderDecoderModel": "dragoman.jax.model",
    "FlaxAutoModelForSpeechSeq2Seq": "dragoman.jax.flax_names",
    "OnnxSpeechEncoderDecoderModel": "dragoman.onnx.model",
    "SpeechEncoderDecoderModel": "dragoman.torch.model",
    "SpeechEncoder": "dragoman.torch.parts",
    "TextDecoder": "dragoman.torch.parts",
    "AutoModelForSpeechSeq2Seq": "dragoman.torch.model",
    # configurations
    "AutoConfig": "dragoman.api.config",
    "GenerationConfig": "dragoman.generation.options",
    "SpeechEncoderDecoderConfig": "dragoman.api.config",
    # processing
    "AutoFeatureExtractor": "dragoman.processing",
    "AutoProcessor": "dragoman.processing",
    "AutoTokenizer": "dragoman.processing",
    "CanaryProcessor": "dragoman.processing",
    "CohereAsrProcessor": "dragoman.processing",
    "CohereAsrFeatureExtractor": "dragoman.audio.features.parakeet",
    "DataCollatorSpeechSeq2SeqWithPadding": "dragoman.api.collator",
    "ParakeetFeatureExtractor": "dragoman.audio.features.parakeet",
    "ParakeetProcessor": "dragoman.processing",
    "GlmAsrFeatureExtractor": "dragoman.audio.features.windows",
    "GlmAsrProcessor": "dragoman.processing",
    "Qwen2AudioFeatureExtractor": "dragoman.audio.features.windows",
    "Qwen2AudioProcessor": "dragoman.processing",
    "shift_tokens_right": "dragoman.generation.shifting",
    "Qwen3ASRFeatureExtractor": "dragoman.audio.features.qwen3_asr",
    "Qwen3ASRProcessor": "dragoman.processing",
    "Speech2Text2Processor": "dragoman.processing",
    "SeamlessM4TFeatureExtractor": "dragoman.audio.features.filter_banks",
    "Speech2TextFeatureExtractor": "dragoman.audio.features.filter_banks",
    "Speech2TextProcessor": "dragoman.processing",
    "VoxtralFeatureExtractor": "dragoman.audio.features.windows",
    "VoxtralProcessor": "dragoman.processing",
    "Wav2Vec2BertProcessor": "dragoman.processing",
    "Wav2Vec2FeatureExtractor": "dragoman.audio.features.wav2vec2",
    "Wav2Vec2Processor": "dragoman.processing",
    "WhisperFeatureExtractor": "dragoman.audio.features.whisper",
    "WhisperProcessor": "dragoman.processing",
    "load_audio": "dragoman.audio.reading.io",
    # the whole job
    "Transcriber": "dragoman.transcriber",
    # outputs, which a subclass with its own `forward` returns
    "CausalLMOutput": "dragoman.api.outputs",
    "Seq2SeqLMOutput": "dragoman.api.outputs",
    # errors
    "AudioError": "dragoman.errors",
    "CheckpointError": "dragoman.errors",
    "ConfigError": "dragoman.errors",
    "DataError": "dragoman.errors",
    "DragomanError": "dragoman.errors",
    "GenerationError": "dragoman.errors",
    "MissingDependencyError": "dragoman.errors",
    "ModelNotFoundError": "dragoman.errors",
    "OutOfMemoryError": "dragoman.errors",
    "TokenizerError": "dragoman.errors",
    "UntrustedFileError": "dragoman.errors",
}


def _family_names() -> dict[str, str]:
    """Return the modules of the configuration classes, part classes and tokenizers of the families."""
    families = import_module("dragoman.families").FAMILIES
    tokenizers = import_module("dragoman.processing.tokenizers").TOKENIZERS
    configs = {family.config.__name__: family.config.__module__ for family in families}
    parts = [part for family in families for part in (family.speech, family.text) if part and part.public]
    classes = {name: "dragoman.torch.parts" for part in parts for name in part.classes}
    classes |= {f"Flax{name}": "dragoman.jax.flax_names" for name in classes}
    return configs | classes | dict.fromkeys(tokenizers, "dragoman.processing.tokenizers")


__getattr__, __dir__ = lazy_names("dragoman", _NAMES, _family_names)
