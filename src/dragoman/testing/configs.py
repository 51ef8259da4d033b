"""One tiny configuration a family: every part of the real network, thousands of weights instead of millions."""

from typing import Any

from dragoman.api.config import FUSIONS
from dragoman.errors import ConfigError
from dragoman.families import FAMILIES, find
from dragoman.families.base import ModelConfig

__all__ = ["DECODERS", "ENCODERS", "tiny_config"]

ENCODERS = [family.model_type for family in FAMILIES if family.speech]
"""The `model_type` of every family that hears."""

DECODERS = [
    (family.model_type, fusion)
    for family in FAMILIES
    if family.text
    for fusion in ((None,) if family.text.cross_attends else FUSIONS)
]
"""The `model_type` of every family that writes, with each `fusion` by which it can be joined."""

_SPEECH: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 37,
    "conv_dim": (16, 16, 16),
    "conv_stride": (5, 4, 2),
    "conv_kernel": (10, 3, 2),
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
_SEQ2SEQ: dict[str, Any] = {
    "vocab_size": 99,
    "d_model": 24,
    "encoder_layers": 2,
    "encoder_attention_heads": 4,
    "encoder_ffn_dim": 30,
    "decoder_layers": 2,
    "decoder_attention_heads": 4,
    "decoder_ffn_dim": 30,
}
_BERT: dict[str, Any] = {
    "vocab_size": 99,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 30,
    "max_position_embeddings": 64,
}
_ROBERTA = {**_BERT, "max_position_embeddings": 66}  # two of which no token takes
_IDS: dict[str, Any] = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 0}
_ALONE: dict[str, Any] = {
    "vocab_size": 99,
    "hidden_size": 24,
    "intermediate_size": 30,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
}
_GEMMA2 = {**_ALONE, "head_dim": 8, "query_pre_attn_scalar": 12, "sliding_window": 5}
_GPT2: dict[str, Any] = {
    "vocab_size": 99,
    "n_embd": 24,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 64,
    "bos_token_id": 0,
    "eos_token_id": 2,
}
_T5: dict[str, Any] = {
    "vocab_size": 99,
    "d_model": 24,
    "d_kv": 8,
    "d_ff": 30,
    "num_layers": 2,
    "num_heads": 4,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 20,
}
_SMALL: dict[str, dict[str, Any]] = {
    "wav2vec2": _SPEECH,
    "hubert": _SPEECH,
    "wavlm": {**_SPEECH, "num_buckets": 32, "max_bucket_distance": 40},
    "unispeech": _SPEECH,
    "unispeech-sat": _SPEECH,
    "data2vec-audio": {**_SPEECH, "num_conv_pos_embeddings": 2, "conv_pos_kernel_size": 5},
    "sew": _SPEECH,
    "sew-d": {**_SPEECH, "position_buckets": 4, "max_position_embeddings": 8},
    "wav2vec2-conformer": {**_SPEECH, "conv_depthwise_kernel_size": 7},
    "wav2vec2-bert": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 37,
        "feature_projection_input_dim": 8,
        "left_max_position_embeddings": 5,
        "right_max_position_embeddings": 2,
        "conv_depthwise_kernel_size": 7,
    },
    "bert": _BERT,
    "gpt2": _GPT2,
    "gpt_bigcode": _GPT2,
    "llama": {**_ALONE, "attention_bias": True, "mlp_bias": True},
    "mistral": {**_ALONE, "head_dim": 8, "sliding_window": 5},
    "qwen2": {**_ALONE, "use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1},
    "qwen3": {**_ALONE, "head_dim": 8},
    "gemma": {**_ALONE, "head_dim": 8, "num_key_value_heads": 1},
    # caps so low that tiny weights come near them
    "gemma2": {**_GEMMA2, "attn_logit_softcapping": 1.5, "final_logit_softcapping": 2.0},
    "gemma3_text": {**_GEMMA2, "_sliding_window_pattern": 2},
    "phi": {**_ALONE, "hidden_size": 32},  # half of a head of 8 is turned
    "phi3": {
        **_ALONE,
        "hidden_size": 32,  # three quarters of a head of 8 are turned
        "rope_parameters": {"partial_rotary_factor": 0.75},
        "sliding_window": 5,
    },
    "smollm3": {**_ALONE, "no_rope_layer_interval": 2, "use_sliding_window": True, "sliding_window": 5},
    "gpt_neo": {
        "vocab_size": 99,
        "hidden_size": 24,
        "num_layers": 2,
        "num_heads": 4,
        "intermediate_size": 30,
        "attention_types": [[["global", "local"], 1]],
        "window_size": 5,
        "max_position_embeddings": 64,
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 2,
    },
    "gpt_neox": {
        **{name: value for name, value in _ALONE.items() if name != "num_key_value_heads"},
        "hidden_size": 32,  # a quarter of a head of 8 is turned
    },
    "opt": {
        "vocab_size": 99,
        "hidden_size": 24,
        "ffn_dim": 30,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        "word_embed_proj_dim": 24,
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 2,
    },
    "bart": {**_SEQ2SEQ, "max_position_embeddings": 64},
    "mbart": {**_SEQ2SEQ, "max_position_embeddings": 64, "scale_embedding": True},
    "speech_to_text": {
        **_SEQ2SEQ,
        "conv_channels": 12,
        "input_feat_per_channel": 8,
        "max_target_positions": 64,
        "decoder_start_token_id": 0,
    },
    "pegasus": {**_SEQ2SEQ, **_IDS, "max_position_embeddings": 64, "scale_embedding": True},
    "marian": {**_SEQ2SEQ, **_IDS, "max_position_embeddings": 64, "activation_function": "swish"},
    "blenderbot": {**_SEQ2SEQ, **_IDS, "max_position_embeddings": 64},
    "blenderbot-small": {**_SEQ2SEQ, **_IDS, "max_position_embeddings": 64},
    "trocr": {
        "vocab_size": 99,
        "d_model": 24,
        "decoder_layers": 2,
        "decoder_attention_heads": 4,
        "decoder_ffn_dim": 30,
        "max_position_embeddings": 64,
    },
    "speech_to_text_2": {
        "vocab_size": 99,
        "d_model": 24,
        "decoder_layers": 2,
        "decoder_attention_heads": 4,
        "decoder_ffn_dim": 30,
        "max_target_positions": 64,
    },
    "xglm": {
        "vocab_size": 99,
        "d_model": 24,
        "num_layers": 2,
        "attention_heads": 4,
        "ffn_dim": 30,
        "max_position_embeddings": 64,
    },
    "t5": _T5,
    "mt5": _T5,
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "camembert": _ROBERTA,
    "electra": {**_BERT, "embedding_size": 16},
    "bert-generation": _BERT,
    "biogpt": _BERT,
    "whisper": {
        **_SEQ2SEQ,
        **_IDS,
        "num_mel_bins": 8,
        "max_source_positions": 30,
        "max_target_positions": 64,
        "begin_suppress_tokens": None,
    },
}


def tiny_config(model_type: str, **fields: Any) -> ModelConfig:
    """Return a configuration of a family that builds in milliseconds and still has every part of the real network.

    The speech encoders take a frame every 40 samples; Whisper takes spectrograms of 8 bins and 60 frames, Speech to
    Text and wav2vec2-bert filter banks of 8 bins. The text
    decoders have 99 tokens (0 begins, 1 pads, 2 ends, in the families that have such ids) and 64 positions.

    Args:
        model_type: As in `config.json`: "wav2vec2", "bert", …
        **fields: Fields of the family's configuration that are to be different.

    Raises:
        ConfigError: If the family is unknown, a field is unknown, or a value does not fit.

    Example:
        >>> config = SpeechEncoderDecoderConfig(encoder=tiny_config("wav2vec2"), decoder=tiny_config("bert"))
        >>> model = SpeechEncoderDecoderModel(config=config)
    """
    family = find(model_type)
    try:
        return family.config(**{**_SMALL[family.model_type], **fields})
    except TypeError as error:
        raise ConfigError(f"A {model_type!r} configuration cannot be built: {error}.") from error
