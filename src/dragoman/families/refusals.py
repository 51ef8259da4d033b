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
        "dbrx", "deepseek_v2", "deepseek_v3", "gpt_oss", "llama4", "mixtral", "nllb-moe", "olmoe", "phimoe",
        "qwen2_moe", "qwen3_moe", "switch_transformers",
    ),
    "its positions are slopes of attention (ALiBi), which is not supported": ("bloom", "mpt"),
    "it encodes images and has no text decoder": ("beit", "clip", "deit", "dinov2", "siglip", "swin", "vit"),
    "it generates sound, not text": (
        "bark", "dac", "encodec", "fastspeech2_conformer", "mimi", "musicgen", "univnet", "vits",
    ),
    "it is an encoder-decoder itself; save its decoder and use that": ("encoder-decoder", "vision-encoder-decoder"),
}  # fmt: skip

WHY: Mapping[str, str] = MappingProxyType({name: reason for reason, names in _REASONS.items() for name in names})
"""The reason, by `model_type`. Families that are neither here nor in `FAMILIES` are not supported yet."""
