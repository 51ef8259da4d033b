"""Record the tensor names in checkpoints of each family, as `transformers` and its predecessors write them.

    python tests/golden/record_keys.py

writes `<family>/keys.json` beside this file: a list of recordings, each with the `part` of the family, the `fields` in
which its configuration differs from `dragoman.testing.tiny_config`, and `keys`: from each name in the checkpoint to the
name of the same tensor in the plain part of `transformers` (`Wav2Vec2Model`, `BertLMHeadModel`, …), or null if that
has no such tensor. Equal tensors are found by their memory, not by their names.

Spellings that `transformers` no longer writes are derived from current ones by the functions below.
`tests/parity/test_golden.py` checks that the files equal the output of this script.
"""

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers as tf
from safetensors import safe_open

from dragoman.checkpoint.keymap import Drop
from dragoman.families import FAMILIES, Family, Part, find
from dragoman.families.rules import CROSS
from dragoman.testing import tiny_config

Rename = Callable[[str], str]


# Tensors that `transformers` has and never uses.
IDLE = ("wav2vec2-conformer", "encoder.pos_conv_embed."), ("wav2vec2-conformer", "encoder.embed_positions.inv_freq")


def same(name: str) -> str:
    return name


def without(prefix: str) -> Rename:
    return lambda name: name.removeprefix(prefix)


def with_prefix(prefix: str) -> Rename:
    return lambda name: prefix + name


def old_weight_norm(name: str) -> str:
    """PyTorch's names before 2.1."""
    weight = "parametrizations.weight.original"
    return name.replace(weight + "0", "weight_g").replace(weight + "1", "weight_v")


def older_head(name: str) -> str:
    """The name of GPT-NeoX's head in files; `transformers` 5 uses another one in memory only."""
    return name.replace("lm_head", "embed_out")


def tensorflow_norm(name: str) -> str:
    """TensorFlow's names, which the first BERT files for PyTorch kept."""
    return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")


@dataclass(frozen=True)
class Source:
    """A model of `transformers` whose checkpoint is recorded.

    Attributes:
        model: Its class.
        plain: The class of the plain part.
        plain_name: From a name in the model to the name that the plain part would have for it.
        fields: Of its configuration.
        spelling: How the file spells the model's names.
        aliases: Whether tied tensors are in the file under all their names (`pytorch_model.bin`) or under one.
        extras: Names that only files of old releases have; these tensors are not needed.
        inserted: Names that only our files have, of tensors that dragoman inserts into a text model.
        written: How `transformers` itself spells its names in files.
    """

    model: type[Any]
    plain: type[Any]
    plain_name: Rename = same
    fields: Mapping[str, Any] = field(default_factory=dict)
    spelling: Rename = same
    aliases: bool = False
    extras: tuple[str, ...] = ()
    inserted: tuple[str, ...] = ()
    written: Rename = same

    def record(self, family: str, part: str) -> dict[str, Any]:
        fields = {**one_layer(family), **self.fields}
        model = self.model(self._config(family, fields))
        known = {self.written(name) for name in self.plain(self._config(family, fields)).state_dict()}
        tensors = {self.written(name): tensor for name, tensor in model.state_dict(keep_vars=True).items()}
        plain: dict[int, str] = {}
        for name in sorted(tensors, key=lambda name: name in model.all_tied_weights_keys):
            idle = any(family == owner and self.plain_name(name).startswith(word) for owner, word in IDLE)
            if self.plain_name(name) in known and not idle:
                plain.setdefault(tensors[name].data_ptr(), self.plain_name(name))
        names = list(tensors) if self.aliases else _saved_names(model)
        keys = {self.spelling(name): plain.get(tensors[name].data_ptr()) for name in names}
        about = (
            f"{self.model.__name__}{', as spelled by ' + self.spelling.__name__ if self.spelling is not same else ''}"
        )
        return {
            "about": about,
            "part": part,
            "fields": fields,
            "keys": {**keys, **dict.fromkeys(self.extras), **{name: name for name in self.inserted}},
        }

    @staticmethod
    def _config(family: str, fields: Mapping[str, Any]) -> Any:
        return tf.AutoConfig.for_model(**tiny_config(family, **fields).to_dict())


def _saved_names(model: Any) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        with safe_open(Path(folder) / "model.safetensors", "np") as file:
            return list(file.keys())


# Fields with which one layer holds every tensor of a family.
COMPLETE: dict[str, dict[str, Any]] = {
    "wav2vec2": {"num_adapter_layers": 1},
    "wavlm": {"num_adapter_layers": 1},
    "wav2vec2-conformer": {"num_adapter_layers": 1, "vocab_size": 32},
    "wav2vec2-bert": {"vocab_size": 32},
    "data2vec-audio": {"num_adapter_layers": 1},
    "gpt_neo": {"attention_types": [[["local"], 1]]},
}
DEPTHS = (
    "encoder_num_hidden_layers",
    "decoder_num_hidden_layers",
    "num_hidden_layers",
    "encoder_layers",
    "decoder_layers",
    "n_layer",
    "num_layers",
)


def one_layer(model_type: str) -> dict[str, Any]:
    """The fields of a tiny model with one layer, and with cross-attention if the family has its own."""
    family = find(model_type)
    fields = {name: 1 for name in DEPTHS if name in family.tiny} | COMPLETE.get(model_type, {})
    # `transformers` 5 builds no cross-attention if GPT-BigCode has one head of keys
    if family.text and family.text.fresh[:2] == CROSS and family.text.cross_attends and model_type != "gpt_bigcode":
        encoder = not tiny_config(model_type).text_spec().causal
        fields |= {"is_decoder": True, "add_cross_attention": True} if encoder else {"add_cross_attention": True}
    return fields


LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
TIED, UNTIED = {"tie_word_embeddings": True}, {"tie_word_embeddings": False}
WEIGHTED = {"extra": {"use_weighted_layer_sum": True}}
Speech2TextEncoder = tf.models.speech_to_text.modeling_speech_to_text.Speech2TextEncoder
MoonshineEncoder = tf.models.moonshine.modeling_moonshine.MoonshineEncoder
SPEECH_LANGUAGE_MODELS = {
    "glmasr_encoder": tf.models.glmasr.modeling_glmasr.GlmAsrEncoder,
    "qwen2_audio_encoder": tf.Qwen2AudioEncoder,
    "qwen3_asr_encoder": tf.models.qwen3_asr.modeling_qwen3_asr.Qwen3ASREncoder,
    "voxtral_encoder": tf.VoxtralEncoder,
}
WhisperEncoder = tf.models.whisper.modeling_whisper.WhisperEncoder


class Speech2TextDecoder(tf.Speech2TextForConditionalGeneration):
    """The names of the whole model without those of its encoder."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        del self.model.encoder


class MoonshineDecoder(tf.MoonshineForConditionalGeneration):
    """The names of the whole model without those of its encoder."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        del self.model.encoder


class M2M100Decoder(tf.M2M100ForConditionalGeneration):
    """The names of the whole model without those of its encoder and of what they share."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        del self.model.encoder, self.model.shared
        if config.tie_word_embeddings:
            self.all_tied_weights_keys = {"lm_head.weight": "model.decoder.embed_tokens.weight"}


def _speech(word: str, plain: type[Any], *heads: type[Any]) -> Iterator[Source]:
    """The checkpoints of wav2vec 2.0 and similar models."""
    yield Source(plain, plain)
    yield Source(plain, plain, fields=LARGE, spelling=old_weight_norm)
    for head in heads:
        yield Source(head, plain, without(word), fields=WEIGHTED)


def _sources() -> Iterator[tuple[str, str, Source]]:
    """Every recording: family, part, source."""
    adapter = {**LARGE, "add_adapter": True, "output_hidden_size": 24}
    language = {**LARGE, "adapter_attn_dim": 4}
    wav2vec2 = tf.Wav2Vec2ForCTC, tf.Wav2Vec2ForSequenceClassification, tf.Wav2Vec2ForXVector
    old = Source(
        tf.Wav2Vec2ForPreTraining, tf.Wav2Vec2Model, without("wav2vec2."), LARGE, old_weight_norm,
        extras=("wav2vec2.mask_time_emb_vector",),
    )  # fmt: skip
    for source in (
        *_speech("wav2vec2.", tf.Wav2Vec2Model, *wav2vec2),
        Source(tf.Wav2Vec2Model, tf.Wav2Vec2Model, fields=adapter),
        Source(tf.Wav2Vec2ForCTC, tf.Wav2Vec2Model, without("wav2vec2."), fields=language),
        old,
    ):
        yield "wav2vec2", "speech", source
    wavlm = tf.WavLMForCTC, tf.WavLMForSequenceClassification, tf.WavLMForXVector
    for source in (*_speech("wavlm.", tf.WavLMModel, *wavlm), Source(tf.WavLMModel, tf.WavLMModel, fields=adapter)):
        yield "wavlm", "speech", source
    batch_norm = {"conv_pos_batch_norm": True, "feat_proj_layer_norm": False}
    fairseq = ("label_embs_concat", "final_proj.weight", "final_proj.bias")
    for source in (
        *_speech("hubert.", tf.HubertModel, tf.HubertForCTC, tf.HubertForSequenceClassification),
        Source(tf.HubertModel, tf.HubertModel, fields=batch_norm, extras=fairseq),
        Source(tf.HubertForCTC, tf.HubertModel, without("hubert."), fields=language),
    ):
        yield "hubert", "speech", source
    yield from _encoders(adapter, language)
    for source in (
        Source(WhisperEncoder, WhisperEncoder),
        Source(tf.WhisperModel, WhisperEncoder, without("encoder.")),
        Source(tf.WhisperForConditionalGeneration, WhisperEncoder, without("model.encoder."), aliases=True),
        Source(tf.WhisperForAudioClassification, WhisperEncoder, without("encoder."), fields=WEIGHTED),
    ):
        yield "whisper", "speech", source
    for source in (
        Source(tf.WhisperForCausalLM, tf.WhisperForCausalLM),
        Source(tf.WhisperForCausalLM, tf.WhisperForCausalLM, fields=UNTIED),
        Source(tf.WhisperModel, tf.WhisperForCausalLM, with_prefix("model.")),
        Source(tf.WhisperForConditionalGeneration, tf.WhisperForCausalLM, aliases=True),
    ):
        yield "whisper", "text", source
    for name, encoder in SPEECH_LANGUAGE_MODELS.items():
        yield name, "speech", Source(encoder, encoder)
    for part, source in _moonshine():
        yield "moonshine", part, source
    for family, text_sources in (*_text_sources().items(), *_alone()):
        for source in text_sources:
            yield family, "text", source


def _text_sources() -> dict[str, Iterator[Source]]:
    """The checkpoints of families that are text decoders only."""
    bart = (tf.BartForCausalLM, tf.BartModel, tf.BartForConditionalGeneration)
    mbart = (tf.MBartForCausalLM, tf.MBartModel, tf.MBartForConditionalGeneration)
    pegasus = (tf.PegasusForCausalLM, tf.PegasusModel, tf.PegasusForConditionalGeneration)
    marian = (tf.MarianForCausalLM, tf.MarianModel, tf.MarianMTModel)
    blenderbot = (tf.BlenderbotForCausalLM, tf.BlenderbotModel, tf.BlenderbotForConditionalGeneration)
    small = (tf.BlenderbotSmallForCausalLM, tf.BlenderbotSmallModel, tf.BlenderbotSmallForConditionalGeneration)
    return {
        "bert": _bert(),
        "roberta": _roberta(tf.RobertaForCausalLM, tf.RobertaModel, tf.RobertaForMaskedLM,
                            tf.RobertaForSequenceClassification, tf.RobertaForQuestionAnswering),
        "xlm-roberta": _roberta(tf.XLMRobertaForCausalLM, tf.XLMRobertaModel, tf.XLMRobertaForMaskedLM,
                                tf.XLMRobertaForSequenceClassification, tf.XLMRobertaForQuestionAnswering),
        "camembert": _roberta(tf.CamembertForCausalLM, tf.CamembertModel, tf.CamembertForMaskedLM,
                              tf.CamembertForSequenceClassification, tf.CamembertForQuestionAnswering),
        "electra": _electra(),
        "bert-generation": _bert_generation(),
        "gpt2": _gpt2(),
        "gpt_bigcode": _gpt_bigcode(),
        "xglm": _xglm(),
        "bart": _seq2seq(*bart, tf.BartForSequenceClassification, tf.BartForQuestionAnswering),
        "mbart": _seq2seq(*mbart, tf.MBartForSequenceClassification, tf.MBartForQuestionAnswering),
        "pegasus": _seq2seq(*pegasus),
        "m2m_100": _m2m_100(),
        "marian": _seq2seq(*marian),
        "blenderbot": _seq2seq(*blenderbot),
        "blenderbot-small": _seq2seq(*small),
        "trocr": _trocr(),
        "t5": _t5(),
        "mt5": _mt5(),
    }  # fmt: skip


def _encoders(adapter: Mapping[str, Any], language: Mapping[str, Any]) -> Iterator[tuple[str, str, Source]]:
    """Speech encoders similar to wav2vec 2.0."""
    plain = tf.UniSpeechModel
    heads = tf.UniSpeechForCTC, tf.UniSpeechForSequenceClassification, tf.UniSpeechForPreTraining
    for source in (*_speech("unispeech.", plain, *heads), Source(plain, plain, fields=language)):
        yield "unispeech", "speech", source
    plain = tf.UniSpeechSatModel
    heads = tf.UniSpeechSatForCTC, tf.UniSpeechSatForXVector, tf.UniSpeechSatForPreTraining
    for source in (*_speech("unispeech_sat.", plain, *heads), Source(plain, plain, fields=language)):
        yield "unispeech-sat", "speech", source
    plain = tf.Data2VecAudioModel
    heads = tf.Data2VecAudioForCTC, tf.Data2VecAudioForSequenceClassification, tf.Data2VecAudioForXVector
    for source in (*_speech("data2vec_audio.", plain, *heads), Source(plain, plain, fields=adapter)):
        yield "data2vec-audio", "speech", source
    for source in _speech("sew.", tf.SEWModel, tf.SEWForCTC, tf.SEWForSequenceClassification):
        yield "sew", "speech", source
    apart = {"share_att_key": False}
    for source in (
        *_speech("sew_d.", tf.SEWDModel, tf.SEWDForCTC, tf.SEWDForSequenceClassification),
        Source(tf.SEWDModel, tf.SEWDModel, fields=apart),
    ):
        yield "sew-d", "speech", source
    yield from _conformers(adapter)
    yield from _fastconformer()
    for source in _parakeet():
        yield "parakeet_encoder", "speech", source
    old = tuple(f"model.{half}.embed_positions.weights" for half in ("encoder", "decoder"))
    full = tf.Speech2TextForConditionalGeneration
    for part, plain, word in ("speech", Speech2TextEncoder, "encoder."), ("text", Speech2TextDecoder, ""):
        yield "speech_to_text", part, Source(plain, plain)
        base = without(word) if word else with_prefix("model.")
        yield "speech_to_text", part, Source(tf.Speech2TextModel, plain, base)
        whole = without("model." + word) if word else same
        yield "speech_to_text", part, Source(full, plain, whole, aliases=True, extras=old)
    yield "speech_to_text", "text", Source(Speech2TextDecoder, Speech2TextDecoder, fields=UNTIED)


def _conformers(adapter: Mapping[str, Any]) -> Iterator[tuple[str, str, Source]]:
    """wav2vec 2.0 with Conformer blocks, and wav2vec2-bert."""
    plain = tf.Wav2Vec2ConformerModel
    heads = tf.Wav2Vec2ConformerForCTC, tf.Wav2Vec2ConformerForXVector, tf.Wav2Vec2ConformerForPreTraining
    rotary = {"position_embeddings_type": "rotary"}
    for source in (
        *_speech("wav2vec2_conformer.", plain, *heads),
        Source(plain, plain, fields=adapter),
        Source(plain, plain, fields=rotary),
    ):
        yield "wav2vec2-conformer", "speech", source
    plain = tf.Wav2Vec2BertModel
    wide = {"add_adapter": True, "use_intermediate_ffn_before_adapter": True, "output_hidden_size": 24}
    yield "wav2vec2-bert", "speech", Source(plain, plain)
    yield "wav2vec2-bert", "speech", Source(plain, plain, fields=wide)
    yield "wav2vec2-bert", "speech", Source(plain, plain, fields={"position_embeddings_type": "relative"})
    for head in tf.Wav2Vec2BertForCTC, tf.Wav2Vec2BertForSequenceClassification, tf.Wav2Vec2BertForXVector:
        yield "wav2vec2-bert", "speech", Source(head, plain, without("wav2vec2_bert."), WEIGHTED)


def _moonshine() -> Iterator[tuple[str, Source]]:
    full = tf.MoonshineForConditionalGeneration
    yield "speech", Source(MoonshineEncoder, MoonshineEncoder)
    yield "speech", Source(tf.MoonshineModel, MoonshineEncoder, without("encoder."))
    yield "speech", Source(full, MoonshineEncoder, without("model.encoder."), aliases=True)
    yield "text", Source(MoonshineDecoder, MoonshineDecoder)
    yield "text", Source(MoonshineDecoder, MoonshineDecoder, fields=UNTIED)
    yield "text", Source(tf.MoonshineModel, MoonshineDecoder, with_prefix("model."))
    yield "text", Source(full, MoonshineDecoder, aliases=True)


def _bert() -> Iterator[Source]:
    plain = tf.BertLMHeadModel
    alone = {"is_decoder": False, "add_cross_attention": False}
    buffers = ("bert.embeddings.position_ids", "bert.embeddings.token_type_ids")
    yield Source(plain, plain)
    yield Source(plain, plain, fields=UNTIED)
    yield Source(tf.BertModel, plain, with_prefix("bert."), fields=alone)
    yield Source(tf.BertForMaskedLM, plain, fields=alone, aliases=True)
    yield Source(tf.BertForPreTraining, plain, fields=alone, aliases=True, spelling=tensorflow_norm, extras=buffers)
    yield Source(tf.BertForSequenceClassification, plain, fields=alone)
    yield Source(tf.BertForQuestionAnswering, plain, fields=alone)


def _gpt_bigcode() -> Iterator[Source]:
    plain = tf.GPTBigCodeForCausalLM
    yield Source(plain, plain)
    yield Source(plain, plain, fields={"multi_query": False, "add_cross_attention": True})
    yield Source(plain, plain, fields=UNTIED)
    yield Source(plain, plain, aliases=True)
    yield Source(tf.GPTBigCodeModel, plain, with_prefix("transformer."))
    yield Source(tf.GPTBigCodeForSequenceClassification, plain)
    yield Source(tf.GPTBigCodeForTokenClassification, plain)


def _roberta(plain: type[Any], base: type[Any], masked: type[Any], *others: type[Any]) -> Iterator[Source]:
    """The checkpoints of RoBERTa and similar models."""
    alone = {"is_decoder": False, "add_cross_attention": False}
    buffers = ("roberta.embeddings.position_ids", "roberta.embeddings.token_type_ids")
    yield Source(plain, plain)
    yield Source(plain, plain, fields=UNTIED)
    yield Source(base, plain, with_prefix("roberta."), fields=alone)
    yield Source(masked, plain, fields=alone, aliases=True, extras=buffers)
    for other in others:
        yield Source(other, plain, fields=alone)


def _electra() -> Iterator[Source]:
    plain = tf.ElectraForCausalLM
    alone = {"is_decoder": False, "add_cross_attention": False}
    buffers = ("electra.embeddings.position_ids", "electra.embeddings.token_type_ids")
    yield Source(plain, plain)
    yield Source(plain, plain, fields=UNTIED)
    yield Source(plain, plain, fields={"embedding_size": 24})
    yield Source(tf.ElectraModel, plain, with_prefix("electra."), fields=alone)
    yield Source(tf.ElectraForMaskedLM, plain, fields=alone, aliases=True, extras=buffers)
    yield Source(tf.ElectraForPreTraining, plain, fields=alone, spelling=tensorflow_norm)
    yield Source(tf.ElectraForSequenceClassification, plain, fields=alone)
    yield Source(tf.ElectraForQuestionAnswering, plain, fields=alone)
    yield Source(tf.ElectraForMultipleChoice, plain, fields=alone)


def _bert_generation() -> Iterator[Source]:
    plain = tf.BertGenerationDecoder
    alone = {"is_decoder": False, "add_cross_attention": False}
    yield Source(plain, plain)
    yield Source(plain, plain, fields=UNTIED)
    yield Source(plain, plain, fields=alone, aliases=True, extras=("bert.embeddings.position_ids",))
    yield Source(tf.BertGenerationEncoder, plain, with_prefix("bert."), fields=alone)


def _xglm() -> Iterator[Source]:
    plain = tf.XGLMForCausalLM
    alone = {"add_cross_attention": False}
    yield Source(plain, plain)
    yield Source(plain, plain, fields=UNTIED)
    yield Source(plain, plain, fields=alone, aliases=True, extras=("model.embed_positions.weights",))
    yield Source(tf.XGLMModel, plain, with_prefix("model."), fields=alone)


def _trocr() -> Iterator[Source]:
    plain = tf.TrOCRForCausalLM
    yield Source(plain, plain)
    yield Source(plain, plain, fields=UNTIED)
    yield Source(plain, plain, aliases=True)
    yield Source(plain, plain, fields={"use_learned_position_embeddings": False, "layernorm_embedding": False})


def _gpt2() -> Iterator[Source]:
    plain = tf.GPT2LMHeadModel
    alone = {"add_cross_attention": False}
    buffers = tuple(f"h.0.{part}.{name}" for part in ("attn", "crossattention") for name in ("bias", "masked_bias"))
    yield Source(plain, plain, aliases=True)
    yield Source(plain, plain, fields=UNTIED)
    yield Source(tf.GPT2Model, plain, with_prefix("transformer."), fields=alone, extras=buffers)
    yield Source(tf.GPT2DoubleHeadsModel, plain, fields=alone, aliases=True)
    for head in tf.GPT2ForSequenceClassification, tf.GPT2ForTokenClassification, tf.GPT2ForQuestionAnswering:
        yield Source(head, plain, fields=alone)


class T5(tf.T5ForConditionalGeneration):
    """T5 1.1 has an untied head, which `transformers` 5 builds as a part of the embedding."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        if not config.scale_decoder_outputs:
            self.lm_head.weight = torch.nn.Parameter(self.lm_head.weight.detach().clone())


class T5Decoder(T5):
    """`transformers` has no class for the decoder alone."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        del self.encoder


class MT5(tf.MT5ForConditionalGeneration):
    """Like T5 1.1."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.lm_head.weight = torch.nn.Parameter(self.lm_head.weight.detach().clone())


class MT5Decoder(MT5):
    """`transformers` has no class for the decoder alone."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        del self.encoder


def _t5() -> Iterator[Source]:
    gated = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
    old = ("decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",)
    yield Source(T5Decoder, T5Decoder)
    yield Source(T5Decoder, T5Decoder, fields=gated)
    yield Source(T5, T5Decoder)
    yield Source(T5, T5Decoder, aliases=True, extras=old)
    yield Source(T5, T5Decoder, fields=gated, aliases=True)
    yield Source(tf.T5ForQuestionAnswering, T5Decoder)


def _mt5() -> Iterator[Source]:
    old = ("decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",)
    yield Source(MT5Decoder, MT5Decoder)
    yield Source(MT5, MT5Decoder, aliases=True, extras=old)
    yield Source(tf.MT5ForQuestionAnswering, MT5Decoder)


def _m2m_100() -> Iterator[Source]:
    full, old = tf.M2M100ForConditionalGeneration, ("model.decoder.embed_positions.weights",)
    yield Source(M2M100Decoder, M2M100Decoder)
    yield Source(M2M100Decoder, M2M100Decoder, fields=UNTIED)
    yield Source(tf.M2M100Model, M2M100Decoder, with_prefix("model."))
    yield Source(full, M2M100Decoder)
    yield Source(full, M2M100Decoder, aliases=True, extras=(*old, "model.encoder.embed_positions.weights"))


class ParakeetForCTC(tf.ParakeetForCTC):
    """The recogniser, from the configuration of its encoder."""

    def __init__(self, config: Any) -> None:
        super().__init__(tf.ParakeetCTCConfig(encoder_config=config.to_dict()))


class ParakeetForTDT(tf.ParakeetForTDT):
    """The transducer, from the configuration of its encoder."""

    def __init__(self, config: Any) -> None:
        super().__init__(tf.ParakeetTDTConfig(encoder_config=config.to_dict()))


def nemo(name: str) -> str:
    """NeMo's names of the same tensors."""
    for theirs, here in NEMO:
        name = name.replace(here, theirs)
    return name


NEMO = (
    ("pre_encode.conv.", "subsampling.layers."), ("pre_encode.out.", "subsampling.linear."),
    ("self_attn.linear_q.", "self_attn.q_proj."), ("self_attn.linear_k.", "self_attn.k_proj."),
    ("self_attn.linear_v.", "self_attn.v_proj."), ("self_attn.linear_out.", "self_attn.o_proj."),
    ("self_attn.linear_pos.", "self_attn.relative_k_proj."), ("self_attn.pos_bias_", "self_attn.bias_"),
    ("conv.batch_norm.", "conv.norm."),
)  # fmt: skip


class OwnEncoder(tf.ParakeetEncoder):
    """The encoder alone, from the configuration of the whole model."""

    def __init__(self, config: Any) -> None:
        super().__init__(config.encoder_config)


class CanaryDecoder(tf.CanaryForConditionalGeneration):
    """The names of the whole model without those of its encoder."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        del self.model.encoder


class CohereAsrDecoder(tf.CohereAsrForConditionalGeneration):
    """The names of the whole model without those of its encoder and of the projection, which is our bridge."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        del self.model.encoder, self.model.decoder.proj


def published(name: str) -> str:
    """The names in files of Cohere Transcribe."""
    if "encoder.layers" in name or "subsampling" in name:
        return nemo(name)
    for theirs, here in COHERE:
        name = name.replace(here, theirs)
    return name


COHERE = (
    ("transf_decoder._embedding.position_embedding.pos_enc", "decoder.pos_emb.weight"),
    ("transf_decoder._embedding.token_embedding", "decoder.embed_tokens"),
    ("transf_decoder._embedding.layer_norm", "decoder.embedding_layernorm"),
    ("transf_decoder._decoder.final_layer_norm", "decoder.norm"),
    ("transf_decoder._decoder.layers", "decoder.layers"), ("encoder_decoder_proj.", "decoder.proj."),
    *((f"{i}_sub_layer.{net}", f"{attention}.{proj}")
      for i, attention in (("first", "self_attn"), ("second", "encoder_attn"))
      for net, proj in (("query_net", "q_proj"), ("key_net", "k_proj"), ("value_net", "v_proj"),
                        ("out_projection", "o_proj"))
      ),
    ("third_sub_layer.dense_in", "mlp.fc1"), ("third_sub_layer.dense_out", "mlp.fc2"),
    ("layer_norm_1.", "input_layernorm."), ("layer_norm_2.", "post_attention_layernorm."),
    ("layer_norm_3.", "final_layernorm."), ("log_softmax.mlp.layer0", "proj_out"),
)  # fmt: skip


def _fastconformer() -> Iterator[tuple[str, str, Source]]:
    """Recognisers of a FastConformer and a decoder; the files of Cohere Transcribe have names of their own."""
    word, features = without("model.encoder."), tuple(f"preprocessor.featurizer.{name}" for name in ("fb", "window"))
    canary, cohere = tf.CanaryForConditionalGeneration, tf.CohereAsrForConditionalGeneration
    yield "canary", "speech", Source(canary, OwnEncoder, word, extras=features)
    yield "canary", "speech", Source(tf.CanaryModel, OwnEncoder, without("encoder."))
    for fields in {}, UNTIED:
        yield "canary", "text", Source(canary, CanaryDecoder, fields=fields, aliases=True, extras=features)
    for spelling in same, published, without_model:
        files: dict[str, Any] = {"aliases": True, "spelling": spelling, "extras": features}
        yield "cohere_asr", "speech", Source(cohere, OwnEncoder, word, **files)
        yield "cohere_asr", "text", Source(cohere, CohereAsrDecoder, **files)
    yield "cohere_asr", "speech", Source(tf.CohereAsrModel, OwnEncoder, without("encoder."), aliases=True)
    yield "cohere_asr", "text", Source(cohere, CohereAsrDecoder, fields=TIED, aliases=True)


def without_model(name: str) -> str:
    """The names in the published file of Cohere Transcribe."""
    return published(name).removeprefix("model.")


def _parakeet() -> Iterator[Source]:
    plain, word = tf.ParakeetEncoder, without("encoder.")
    yield Source(plain, plain)
    yield Source(plain, plain, fields=find("parakeet_encoder").variants["plain"])
    yield Source(ParakeetForCTC, plain, word)
    yield Source(ParakeetForCTC, plain, word, spelling=nemo)
    yield Source(ParakeetForTDT, plain, word)


def _seq2seq(plain: type[Any], base: type[Any], full: type[Any], *others: type[Any]) -> Iterator[Source]:
    """The checkpoints of BART and similar models."""
    yield Source(plain, plain)
    yield Source(plain, plain, fields=UNTIED)
    yield Source(base, plain, with_prefix("model."))
    yield Source(full, plain)
    yield Source(full, plain, aliases=True)
    yield Source(full, plain, aliases=True, spelling=without("model."))
    for other in others:
        yield Source(other, plain)


def _alone() -> Iterator[tuple[str, Iterator[Source]]]:
    """The checkpoints of text models without cross-attention, and ours with inserted tensors."""
    for family in FAMILIES:
        if family.text and not family.text.cross_attends:
            yield family.model_type, _text_model(family, family.text)
    half = without_pictures
    yield "gemma3_text", iter([
        Source(Gemma3WithPictures, tf.Gemma3ForCausalLM, half, aliases=True),
        Source(Gemma3WithPictures, tf.Gemma3ForCausalLM, half, fields=UNTIED, aliases=True, spelling=pictures_apart),
    ])  # fmt: skip


class Gemma3WithPictures(tf.Gemma3ForConditionalGeneration):
    """The multimodal model, from the configuration of its text part."""

    def __init__(self, config: Any) -> None:
        eye = {"num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28, "hidden_size": 8}
        super().__init__(
            tf.Gemma3Config(
                text_config=config.to_dict(),
                vision_config={**eye, "intermediate_size": 8},
                mm_tokens_per_image=4,
                tie_word_embeddings=config.tie_word_embeddings,
            )
        )


def without_pictures(name: str) -> str:
    return name.replace("model.language_model.", "model.")


def pictures_apart(name: str) -> str:
    """The names in files, where the text part is a whole model."""
    name = "language_model." + without_pictures(name)
    return name.replace("language_model.model.vision", "vision").replace("language_model.model.multi", "multi")


def _text_model(family: Family, part: Part) -> Iterator[Source]:
    word = family.config.__name__.removesuffix("Config")
    plain = getattr(tf, part.classes[0])
    table = part.keymap(tiny_config(family.model_type))
    drops = [rule for rule in table.rules if isinstance(rule, Drop)]
    buffers = tuple(rule.theirs.replace("{i}", "0") for rule in drops if "buffer" in rule.why)
    written = {"gpt_neox": older_head}.get(family.model_type, same)
    yield Source(plain, plain, aliases=True, extras=buffers, written=written)
    yield Source(plain, plain, fields=UNTIED, written=written)
    yield Source(plain, plain, fields=TIED, aliases=True, written=written)
    yield Source(getattr(tf, f"{word}Model"), plain, with_prefix(part.prefixes[0]))
    # the answers of Llama's like stand over a network under another name, which is refused
    answers = ["QuestionAnswering"] if any(rule.theirs == "qa_outputs.*" for rule in drops) else []
    for task in ("SequenceClassification", "TokenClassification", *answers):
        if hasattr(tf, f"{word}For{task}"):
            yield Source(getattr(tf, f"{word}For{task}"), plain)
    layer = table.theirs("stack.layers.0.cross_attn_gate").removesuffix("cross_attn_gate")
    names = [f"cross_attn.{name}.weight" for name in ("q_proj", "k_proj", "v_proj", "out_proj")]
    inserted = tuple(layer + name for name in (*names, "cross_attn_norm.weight", "cross_attn_gate"))
    yield Source(plain, plain, fields={"add_cross_attention": True}, written=written, inserted=inserted)
    seen = {rule for tie in (TIED, UNTIED) for rule in part.rules(tiny_config(family.model_type, **tie))}
    for fields in family.variants.values():
        if not seen.issuperset(part.rules(tiny_config(family.model_type, **fields))):
            yield Source(plain, plain, fields=fields, written=written)


def recordings() -> dict[str, list[dict[str, Any]]]:
    """Return the contents of each family's file."""
    found: dict[str, list[dict[str, Any]]] = {}
    for family, part, source in _sources():
        found.setdefault(family, []).append(source.record(family, part))
    return found


if __name__ == "__main__":
    for family, content in recordings().items():
        path = Path(__file__).with_name(family) / "keys.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content, indent=1) + "\n")
