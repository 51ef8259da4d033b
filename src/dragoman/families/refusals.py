"""Why well-known families are not supported: the reason that the error for one of them gives."""

from collections.abc import Mapping
from types import MappingProxyType

_REASONS: dict[str, tuple[str, ...]] = {
    "it attends in both directions and has no decoder": (
        "albert", "big_bird", "convbert", "deberta", "deberta-v2", "distilbert", "ernie", "esm", "flaubert", "funnel",
        "longformer", "mobilebert", "modernbert", "mpnet", "nystromformer", "rembert", "squeezebert",
    ),
    "its layers keep a running state in place of keys and values, before which no speech can be put": (
        "bamba", "falcon_mamba", "jamba", "mamba", "mamba2", "recurrent_gemma", "rwkv",
    ),
    "its layers choose among experts, which is not supported": (
        "dbrx", "deepseek_v2", "deepseek_v3", "gpt_oss", "granitemoe", "llama4", "mixtral", "nllb-moe", "olmoe",
        "phimoe", "qwen2_moe", "qwen3_moe", "switch_transformers",
    ),
    "its positions are slopes of attention (ALiBi), which is not supported": ("bloom", "mpt"),
    "it encodes images and has no text decoder": ("beit", "clip", "deit", "dinov2", "siglip", "swin", "vit"),
    "it is a streaming transducer, whose encoder attends within windows. The nearest encoder is parakeet_encoder": (
        "nemotron_asr_streaming",
    ),
    "it has an encoder of its own before a Qwen 3, and no half of it can be loaded. The nearest is an encoder of "
    "whisper joined to qwen3 with `fusion='prefix'`": ("fun_asr_nano",),
    "it has a variant of Whisper's encoder before a Llama, and no half of it can be loaded. The nearest is an encoder "
    "of whisper joined to llama with `fusion='prefix'`": ("ultravox", "voxtral_realtime"),
    "it has a Conformer of its own before a Granite, and no half of it can be loaded. The nearest is "
    "wav2vec2-conformer joined to granite with `fusion='prefix'`": (
        "granite_speech", "granite_speech5", "granite_speech_plus",
    ),
    "its encoder attends in chunks, and no half of it can be loaded. The nearest is wav2vec2-bert joined to m2m_100": (
        "seamless_m4t", "seamless_m4t_v2",
    ),
    "it is a Moonshine with windows, which are not supported. The nearest is moonshine": ("moonshine_streaming",),
    "it generates sound, not text": (
        "bark", "dac", "encodec", "fastspeech2_conformer", "mimi", "musicgen", "univnet", "vits",
    ),
    "it is an encoder-decoder itself; save its decoder and use that": ("encoder-decoder", "vision-encoder-decoder"),
}  # fmt: skip

WHY: Mapping[str, str] = MappingProxyType({name: reason for reason, names in _REASONS.items() for name in names})
"""The reason, by `model_type`. Families that are neither here nor in `FAMILIES` are not supported yet."""
