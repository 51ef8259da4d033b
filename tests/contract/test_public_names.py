"""The public names are a promise: adding one is a line here, and removing one breaks somebody's program."""

import sys

import pytest

import dragoman

PUBLIC = {
    "AudioError",
    "AutoConfig",
    "AutoFeatureExtractor",
    "AutoModelForSpeechSeq2Seq",
    "AutoProcessor",
    "AutoTokenizer",
    "BartConfig",
    "BartForCausalLM",
    "BertConfig",
    "BertForCausalLM",
    "BertGenerationConfig",
    "BertGenerationDecoder",
    "BertLMHeadModel",
    "BioGptConfig",
    "BioGptForCausalLM",
    "BlenderbotConfig",
    "BlenderbotForCausalLM",
    "BlenderbotSmallConfig",
    "BlenderbotSmallForCausalLM",
    "CamembertConfig",
    "CamembertForCausalLM",
    "CheckpointError",
    "ConfigError",
    "Data2VecAudioConfig",
    "Data2VecAudioModel",
    "DragomanError",
    "ElectraConfig",
    "ElectraForCausalLM",
    "FlaxSpeechEncoderDecoderModel",
    "GPT2Config",
    "GPT2LMHeadModel",
    "GPTBigCodeConfig",
    "GPTBigCodeForCausalLM",
    "GPTNeoXConfig",
    "GPTNeoXForCausalLM",
    "Gemma2Config",
    "Gemma2ForCausalLM",
    "Gemma3ForCausalLM",
    "Gemma3TextConfig",
    "GemmaConfig",
    "GemmaForCausalLM",
    "GenerationConfig",
    "GenerationError",
    "HubertConfig",
    "HubertModel",
    "LlamaConfig",
    "LlamaForCausalLM",
    "MBartConfig",
    "MBartForCausalLM",
    "MT5Config",
    "MarianConfig",
    "MarianForCausalLM",
    "MissingDependencyError",
    "MistralConfig",
    "MistralForCausalLM",
    "ModelNotFoundError",
    "OPTConfig",
    "OPTForCausalLM",
    "OutOfMemoryError",
    "PegasusConfig",
    "PegasusForCausalLM",
    "Qwen2Config",
    "Qwen2ForCausalLM",
    "Qwen3Config",
    "Qwen3ForCausalLM",
    "RobertaConfig",
    "RobertaForCausalLM",
    "SEWConfig",
    "SEWDConfig",
    "SEWDModel",
    "SEWModel",
    "Speech2Text2Config",
    "Speech2Text2ForCausalLM",
    "Speech2Text2Processor",
    "SeamlessM4TFeatureExtractor",
    "Speech2TextConfig",
    "Speech2TextDecoder",
    "Speech2TextEncoder",
    "Speech2TextFeatureExtractor",
    "Speech2TextProcessor",
    "SpeechEncoder",
    "SpeechEncoderDecoderConfig",
    "SpeechEncoderDecoderModel",
    "T5Config",
    "TextDecoder",
    "TokenizerError",
    "TrOCRConfig",
    "TrOCRForCausalLM",
    "Transcriber",
    "UniSpeechConfig",
    "UniSpeechModel",
    "UniSpeechSatConfig",
    "UniSpeechSatModel",
    "UntrustedFileError",
    "Wav2Vec2BertConfig",
    "Wav2Vec2BertModel",
    "Wav2Vec2BertProcessor",
    "Wav2Vec2Config",
    "Wav2Vec2ConformerConfig",
    "Wav2Vec2ConformerModel",
    "Wav2Vec2FeatureExtractor",
    "Wav2Vec2Model",
    "Wav2Vec2Processor",
    "WavLMConfig",
    "WavLMModel",
    "WhisperConfig",
    "WhisperEncoder",
    "WhisperFeatureExtractor",
    "WhisperForCausalLM",
    "WhisperProcessor",
    "XGLMConfig",
    "XGLMForCausalLM",
    "XLMRobertaConfig",
    "XLMRobertaForCausalLM",
    "__version__",
    "load_audio",
}


def test_names_are_the_promised_ones() -> None:
    assert sorted(dragoman.__all__) == sorted(PUBLIC)


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_name_is_there(name: str) -> None:
    found = getattr(dragoman, name)
    if isinstance(found, type):
        assert found.__name__ == name
        assert found.__doc__
        assert getattr(sys.modules[found.__module__], name) is found


def test_a_wrong_name_is_answered_with_the_right_one() -> None:
    with pytest.raises(AttributeError, match=r'Did you mean "Wav2Vec2Processor"\?'):
        dragoman.Wav2Vec2Procesor  # noqa: B018
