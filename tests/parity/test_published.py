"""Published checkpoints: the facts of their config.json build the network, and every tensor of theirs has its place.

Nothing is downloaded: the tensors are those of the class in `transformers` on the meta device, which has no memory.
"""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
import transformers

from dragoman.families import config_from_dict, find
from dragoman.torch.backend import own_tensors
from dragoman.torch.parts import SpeechEncoder, TextDecoder


@dataclass(frozen=True)
class Published:
    """A checkpoint: the half of it that is used, its class in `transformers`, and what its config.json says."""

    part: str
    theirs: str
    config: dict[str, Any]


GRANITE = {"model_type": "granite", "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 40}
GRANITE |= {"num_attention_heads": 32, "num_key_value_heads": 8, "embedding_multiplier": 12.0, "logits_scaling": 8.0}
GRANITE |= {"residual_multiplier": 0.22, "attention_multiplier": 0.015625, "tie_word_embeddings": True}
OLMO2 = {"model_type": "olmo2", "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16}
OLMO2 |= {"num_attention_heads": 16, "num_key_value_heads": 16, "vocab_size": 100352, "rope_theta": 500000}
MOONSHINE = {"model_type": "moonshine", "vocab_size": 32768}
TINY = MOONSHINE | {"hidden_size": 288, "intermediate_size": 1152, "max_position_embeddings": 194}
BASE = MOONSHINE | {"hidden_size": 416, "intermediate_size": 1664, "partial_rotary_factor": 0.62}
BASE |= {"encoder_num_hidden_layers": 8, "decoder_num_hidden_layers": 8}
M2M100 = {"model_type": "m2m_100", "d_model": 1024, "encoder_attention_heads": 16, "decoder_attention_heads": 16}
NARROW = M2M100 | {"encoder_layers": 12, "decoder_layers": 12, "encoder_ffn_dim": 4096, "decoder_ffn_dim": 4096}
WIDE = M2M100 | {"encoder_layers": 24, "decoder_layers": 24, "encoder_ffn_dim": 8192, "decoder_ffn_dim": 8192}
FAST = {"hidden_size": 1024, "num_hidden_layers": 24, "intermediate_size": 4096, "num_mel_bins": 80}
CTC_06 = {"model_type": "parakeet_ctc", "vocab_size": 1025, "pad_token_id": 1024, "encoder_config": FAST}
CTC_11 = CTC_06 | {"encoder_config": FAST | {"num_hidden_layers": 42}}
TDT = {"model_type": "parakeet_tdt", "vocab_size": 8193, "encoder_config": FAST | {"num_mel_bins": 128}}
CANARY_ENCODER = FAST | {"model_type": "parakeet_encoder", "num_hidden_layers": 32, "num_mel_bins": 128}
CANARY_ENCODER |= {"scale_input": False}
CANARY_DECODER = {"vocab_size": 16384, "hidden_size": 1024, "num_hidden_layers": 8, "intermediate_size": 4096}
CANARY = {"model_type": "canary", "encoder_config": CANARY_ENCODER, "decoder_config": CANARY_DECODER}
COHERE = CANARY_DECODER | {"model_type": "cohere_asr", "encoder_config": {"hidden_size": 1280, "num_hidden_layers": 48}}
PUBLISHED = {
    **{
        f"{name}, {part}": Published(part, f"{kind}ForConditionalGeneration", config)
        for name, kind, config in (
            ("nvidia/canary-1b-v2", "Canary", CANARY),
            ("CohereLabs/cohere-transcribe-03-2026", "CohereAsr", COHERE),
        )
        for part in ("speech", "text")
    },
    "nvidia/parakeet-ctc-0.6b": Published("speech", "ParakeetForCTC", CTC_06),
    "nvidia/parakeet-ctc-1.1b": Published("speech", "ParakeetForCTC", CTC_11),
    "nvidia/parakeet-tdt-0.6b-v3": Published("speech", "ParakeetForTDT", TDT),
    "facebook/nllb-200-distilled-600M": Published(
        "text", "M2M100ForConditionalGeneration", NARROW | {"vocab_size": 256206}
    ),
    "facebook/nllb-200-distilled-1.3B": Published(
        "text", "M2M100ForConditionalGeneration", WIDE | {"vocab_size": 256206}
    ),
    **{
        f"UsefulSensors/moonshine-{size}, {part}": Published(part, "MoonshineForConditionalGeneration", config)
        for size, config in (("tiny", TINY), ("base", BASE))
        for part in ("speech", "text")
    },
    "ibm-granite/granite-3.3-2b-instruct": Published("text", "GraniteForCausalLM", GRANITE | {"vocab_size": 49159}),
    "allenai/OLMo-2-0425-1B": Published("text", "Olmo2ForCausalLM", OLMO2),
    "facebook/m2m100_418M": Published("text", "M2M100ForConditionalGeneration", NARROW | {"vocab_size": 128112}),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_tensor_has_its_place(name: str) -> None:
    published = PUBLISHED[name]
    config = config_from_dict(published.config)
    part = getattr(find(config.model_type), published.part)
    module = (SpeechEncoder if published.part == "speech" else TextDecoder)(config, empty=True)
    with torch.device("meta"):
        theirs = getattr(transformers, published.theirs)(transformers.AutoConfig.for_model(**published.config))
    tensors, keymap = theirs.state_dict(), part.keymap(config)
    unknown = [one for one in tensors if keymap.rule_for(keymap.canonical_name(one)) is None]
    assert unknown == []
    shapes = {
        ours: tuple(tensor.shape)
        for one in tensors
        for ours, tensor in keymap.read(keymap.canonical_name(one), tensors[one])
    }
    expected = {ours: tuple(tensor.shape) for ours, tensor in own_tensors(module).items()}
    assert shapes == {ours: shape for ours, shape in expected.items() if ours not in part.computed}
