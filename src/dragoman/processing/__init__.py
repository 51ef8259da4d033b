"""Feature extractors, tokenizers and processors by the name or folder of a model."""

from dragoman.processing.auto import AutoFeatureExtractor, AutoProcessor, AutoTokenizer
from dragoman.processing.processor import (
    CanaryProcessor,
    CohereAsrProcessor,
    GlmAsrProcessor,
    ParakeetProcessor,
    Qwen2AudioProcessor,
    Qwen3ASRProcessor,
    Speech2Text2Processor,
    Speech2TextProcessor,
    SpeechProcessor,
    VoxtralProcessor,
    Wav2Vec2BertProcessor,
    Wav2Vec2Processor,
    WhisperProcessor,
)

__all__ = [
    "AutoFeatureExtractor",
    "AutoProcessor",
    "AutoTokenizer",
    "CanaryProcessor",
    "CohereAsrProcessor",
    "GlmAsrProcessor",
    "ParakeetProcessor",
    "Qwen2AudioProcessor",
    "Qwen3ASRProcessor",
    "Speech2Text2Processor",
    "Speech2TextProcessor",
    "SpeechProcessor",
    "VoxtralProcessor",
    "Wav2Vec2BertProcessor",
    "Wav2Vec2Processor",
    "WhisperProcessor",
]
