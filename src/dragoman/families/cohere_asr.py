"""Cohere Transcribe (https://huggingface.co/CohereLabs/cohere-transcribe-03-2026): recognition of 14 languages."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from dragoman.checkpoint.keymap import Alias, Drop, Rename, Rule
from dragoman.errors import ConfigError
from dragoman.families import canary_like as like
from dragoman.families.base import Card, Family, Part, always
from dragoman.families.fastconformer_like import nemo_aliases
from dragoman.spec import TextDecoderSpec

_ENCODER: dict[str, Any] = {
    "hidden_size": 1280, "num_hidden_layers": 48, "intermediate_size": 5120, "num_mel_bins": 128, "dropout": 0.0,
    "layerdrop": 0.0, "activation_dropout": 0.0, "attention_dropout": 0.0, "scale_input": False,
}  # fmt: skip


@dataclass(kw_only=True, init=False, eq=False)
class CohereAsrConfig(like.CanaryLikeConfig):
    """Fields and defaults of a Cohere Transcribe `config.json`."""

    model_type: ClassVar[str] = "cohere_asr"

    tie_word_embeddings: bool = False

    def encoder_fields(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of the encoder."""
        return {**_ENCODER, **given}

    def text_spec(self) -> TextDecoderSpec:
        width = (self.encoder_config or {})["hidden_size"]
        if width == self.hidden_size:
            raise ConfigError(
                "The encoder of a 'cohere_asr' model must have another width than its decoder, between which there is "
                f"a projection, but both `hidden_size`s are {width}."
            )
        return super().text_spec()


# fmt: off
def _speech_rules(config: CohereAsrConfig) -> tuple[Rule, ...]:
    decoder = ("transf_decoder.*", "encoder_decoder_proj.*", "model.transf_decoder.*", "model.encoder_decoder_proj.*")
    return (
        *like.speech_rules(config),
        *(Drop(name,                           why="the text decoder is not used") for name in decoder),
        Drop("log_softmax.*",                  why="a head that an encoder does not need"),
    )


def _text_rules(config: CohereAsrConfig) -> tuple[Rule, ...]:
    return (
        *like.text_rules(config),
        Rename("model.decoder.pos_emb.weight", "embed.positions.weight"),
        Drop("model.decoder.proj.*",           why="the projection belongs to the bridge"),
    )


def _aliases() -> tuple[Alias, ...]:
    """Return the names of the published file, with `model.` before them or without."""
    layer, theirs, kinds = "layers.{i}.", "transf_decoder._decoder.layers.{i}.", ("weight", "bias")
    nets = {"query_net": "q_proj", "key_net": "k_proj", "value_net": "v_proj", "out_projection": "o_proj"}
    subs = {"first_sub_layer": "self_attn", "second_sub_layer": "encoder_attn"}
    norms = {"layer_norm_1": "input", "layer_norm_2": "post_attention", "layer_norm_3": "final"}
    pairs = {f"{theirs}{a}.{c}": f"{layer}{b}.{d}" for a, b in subs.items() for c, d in nets.items()}
    pairs |= {f"{theirs}third_sub_layer.dense_{a}": f"{layer}mlp.fc{i}" for i, a in ((1, "in"), (2, "out"))}
    pairs |= {f"{theirs}{a}": f"{layer}{b}_layernorm" for a, b in norms.items()}
    pairs |= {
        "transf_decoder._embedding.layer_norm":         "embedding_layernorm",
        "transf_decoder._decoder.final_layer_norm":     "norm",
        "encoder_decoder_proj":                         "proj",
    }
    named = {f"{a}.{kind}": f"model.decoder.{b}.{kind}" for a, b in pairs.items() for kind in kinds}
    named["transf_decoder._embedding.token_embedding.weight"] = "model.decoder.embed_tokens.weight"
    named["transf_decoder._embedding.position_embedding.pos_enc"] = "model.decoder.pos_emb.weight"
    named |= {f"model.{a}": b for a, b in named.items()}
    named |= {f"log_softmax.mlp.layer0.{kind}": f"proj_out.{kind}" for kind in kinds}
    return tuple(Alias(a, b) for a, b in named.items())
# fmt: on


FAMILY = Family(
    config=CohereAsrConfig,
    speech=Part(
        rules=_speech_rules, classes=("CohereAsrEncoder",), prefixes=("model.encoder.", "encoder."),
        aliases=nemo_aliases(), public=False, apart=always,
    ),
    text=Part(
        rules=_text_rules, classes=("CohereAsrDecoder",), prefixes=("model.",), aliases=_aliases(), public=False,
        apart=always,
    ),
    whole="CohereAsrForConditionalGeneration",
    bridge="model.decoder.proj",
    feature_extractor="CohereAsrFeatureExtractor",
    processor="CohereAsrProcessor",
    card=Card(
        name="Cohere Transcribe",
        paper="https://huggingface.co/CohereLabs/cohere-transcribe-03-2026",
        checkpoints=("CohereLabs/cohere-transcribe-03-2026",),
        licence="Apache-2.0, on request",
        own="a FastConformer, a projection and a decoder; languages and punctuation are a prompt",
    ),
    tiny=like.TINY | {"encoder_config": like.TINY_ENCODER | {"hidden_size": 24}},
    variants={"tied": {"tie_word_embeddings": True, "attention_bias": False, "hidden_act": "gelu"}},
)  # fmt: skip
