"""dragoman: speech to text with any pretrained speech encoder joined to any pretrained text decoder.

Every public name is imported when it is first used, so `import dragoman` is quick and needs neither PyTorch nor JAX.
"""

from dragoman._lazy import lazy_names
from dragoman._version import __version__

_NAMES = {
    # models
    "FlaxSpeechEncoderDecoderModel": "dragoman.jax.model",
    "SpeechEncoderDecoderModel": "dragoman.torch.model",
    "SpeechEncoder": "dragoman.torch.speech_encoder",
    "TextDecoder": "dragoman.torch.text_decoder",
    "AutoModelForSpeechSeq2Seq": "dragoman.torch.parts",
    "BartForCausalLM": "dragoman.torch.parts",
    "BertForCausalLM": "dragoman.torch.parts",
    "BertLMHeadModel": "dragoman.torch.parts",
    "Data2VecAudioModel": "dragoman.torch.parts",
    "GPT2LMHeadModel": "dragoman.torch.parts",
    "HubertModel": "dragoman.torch.parts",
    "MBartForCausalLM": "dragoman.torch.parts",
    "SEWModel": "dragoman.torch.parts",
    "Speech2TextDecoder": "dragoman.torch.parts",
    "Speech2TextEncoder": "dragoman.torch.parts",
    "UniSpeechModel": "dragoman.torch.parts",
    "UniSpeechSatModel": "dragoman.torch.parts",
    "Wav2Vec2Model": "dragoman.torch.parts",
    "WavLMModel": "dragoman.torch.parts",
    "WhisperEncoder": "dragoman.torch.parts",
    "WhisperForCausalLM": "dragoman.torch.parts",
    # configurations
    "AutoConfig": "dragoman.config",
    "BartConfig": "dragoman.families.bart",
    "BertConfig": "dragoman.families.bert",
    "Data2VecAudioConfig": "dragoman.families.data2vec_audio",
    "GPT2Config": "dragoman.families.gpt2",
    "GenerationConfig": "dragoman.generation.options",
    "HubertConfig": "dragoman.families.hubert",
    "MBartConfig": "dragoman.families.mbart",
    "Speech2TextConfig": "dragoman.families.speech_to_text",
    "SpeechEncoderDecoderConfig": "dragoman.config",
    "SEWConfig": "dragoman.families.sew",
    "UniSpeechConfig": "dragoman.families.unispeech",
    "UniSpeechSatConfig": "dragoman.families.unispeech_sat",
    "Wav2Vec2Config": "dragoman.families.wav2vec2",
    "WavLMConfig": "dragoman.families.wavlm",
    "WhisperConfig": "dragoman.families.whisper",
    # processing
    "AutoFeatureExtractor": "dragoman.processing",
    "AutoProcessor": "dragoman.processing",
    "AutoTokenizer": "dragoman.processing",
    "Speech2Text2Processor": "dragoman.processing",
    "Wav2Vec2FeatureExtractor": "dragoman.audio.features",
    "Wav2Vec2Processor": "dragoman.processing",
    "WhisperFeatureExtractor": "dragoman.audio.features",
    "WhisperProcessor": "dragoman.processing",
    "load_audio": "dragoman.audio.io",
    # the whole job
    "Transcriber": "dragoman.transcriber",
    # errors
    "AudioError": "dragoman.errors",
    "CheckpointError": "dragoman.errors",
    "ConfigError": "dragoman.errors",
    "DragomanError": "dragoman.errors",
    "GenerationError": "dragoman.errors",
    "MissingDependencyError": "dragoman.errors",
    "ModelNotFoundError": "dragoman.errors",
    "OutOfMemoryError": "dragoman.errors",
    "TokenizerError": "dragoman.errors",
    "UntrustedFileError": "dragoman.errors",
}

__all__ = ["__version__", *sorted(_NAMES)]
__getattr__, __dir__ = lazy_names("dragoman", _NAMES)
