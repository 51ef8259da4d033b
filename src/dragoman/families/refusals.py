"""Why well-known families that are not here cannot join, for the error that somebody sees who tries one."""

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["WHY"]

_REASONS: dict[str, tuple[str, ...]] = {
    "it only reads, in both directions, and has no decoder": (
        "albert", "big_bird", "convbert", "deberta", "deberta-v2", "distilbert", "ernie", "esm", "flaubert", "funnel",
        "longformer", "mobilebert", "modernbert", "mpnet", "nystromformer", "rembert", "squeezebert",
    ),
    "its layers keep a running state in the place of keys and values, behind which no speech can stand": (
        "bamba", "falcon_mamba", "jamba", "mamba", "mamba2", "recurrent_gemma", "rwkv",
    ),
    "its layers choose among experts, a part that is not here": (
        "dbrx", "deepseek_v2", "deepseek_v3", "gpt_oss", "llama4", "mixtral", "nllb-moe", "olmoe", "phimoe",
        "qwen2_moe", "qwen3_moe", "switch_transformers",
    ),
    "its positions are slopes of attention (ALiBi), a part that is not here": ("bloom", "mpt"),
    "it sees images and writes no text": ("beit", "clip", "deit", "dinov2", "siglip", "swin", "vit"),
    "it writes sound and no text": (
        "bark", "dac", "encodec", "fastspeech2_conformer", "mimi", "musicgen", "univnet", "vits",
    ),
    "it is a joint model itself; save its decoder alone and name that": ("encoder-decoder", "vision-encoder-decoder"),
}  # fmt: skip

WHY: Mapping[str, str] = MappingProxyType({name: reason for reason, names in _REASONS.items() for name in names})
"""The reason by `model_type`; a family that is neither here nor in `FAMILIES` is one that nobody has described yet."""
