"""The checkpoints that the page's programs name, as folders with the layout of the hub.

`write(folder)` makes all of them small; `python page_checkpoints.py FOLDER [NAME…] --full` makes them at their
published sizes, with random weights. Everything is written by transformers, except what it no longer writes: the files
of the translation checkpoint are those of 2021 (release 4.12), tensor by tensor and field by field.
"""

import argparse
import json
from collections.abc import Iterable
from itertools import chain, islice, product
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from sentencepiece import sentencepiece_model_pb2 as protocol
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{letter}" for letter in LETTERS), "'")
TRANSLATOR = "facebook/wav2vec2-xls-r-300m-en-to-15"
LANGUAGES = 52  # language codes after the pieces of mBART-50, then a mask token

_SMALL_SPEECH = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "conv_dim": (16,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
_FULL_SPEECH = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
_LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
_SMALL_SEQ2SEQ = {
    "d_model": 24,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 256,
}


def write(folder: Path, names: Iterable[str] = (), *, full: bool = False) -> Path:
    """Write the named checkpoints, or all, below `folder`; existing ones are kept."""
    for name in names or CHECKPOINTS:
        if not (folder / name).is_dir():
            torch.manual_seed(0)
            (folder / name).mkdir(parents=True)
            CHECKPOINTS[name](folder / name, full)
    return folder


def _extractor(folder: Path, *, mask: bool) -> None:
    transformers.Wav2Vec2FeatureExtractor(return_attention_mask=mask).save_pretrained(folder)


def _wav2vec2(folder: Path, full: bool) -> None:
    """A CTC model with group norm and without attention mask."""
    sizes = {} if full else _SMALL_SPEECH
    transformers.Wav2Vec2ForCTC(transformers.Wav2Vec2Config(**sizes)).save_pretrained(folder)
    _extractor(folder, mask=False)


def _hubert(folder: Path, full: bool) -> None:
    sizes = _FULL_SPEECH if full else _SMALL_SPEECH
    transformers.HubertModel(transformers.HubertConfig(**sizes, **_LARGE)).save_pretrained(folder)
    _extractor(folder, mask=True)


def _bert(folder: Path, full: bool) -> None:
    small = {"vocab_size": len(WORDS), "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    small |= {"intermediate_size": 48, "max_position_embeddings": 128}
    config = transformers.BertConfig(**({} if full else small))
    transformers.BertForMaskedLM(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": true, "model_max_length": 512}')


def _gpt2(folder: Path, full: bool) -> None:
    small = {"vocab_size": 60, "n_positions": 128, "n_embd": 24, "n_layer": 2, "n_head": 2}
    config = transformers.GPT2Config(**({} if full else {**small, "bos_token_id": 0, "eos_token_id": 0}))
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)


def _llama(folder: Path, full: bool) -> None:
    """A modern text model without cross-attention, and its tokenizer: bytes, and one start and end token."""
    end, alphabet = "<|endoftext|>", sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate([end, *alphabet])}, []))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(False), decoders.ByteLevel()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=end, eos_token=end, unk_token=end
    ).save_pretrained(folder)
    sizes: dict[str, Any] = {"vocab_size": 1 + len(alphabet), "hidden_size": 24, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 3, "num_key_value_heads": 1, "intermediate_size": 48}
    if full:
        sizes = {"vocab_size": 49152, "hidden_size": 576, "num_hidden_layers": 30}
        sizes |= {"num_attention_heads": 9, "num_key_value_heads": 3, "intermediate_size": 1536}
    config = transformers.LlamaConfig(**sizes, bos_token_id=0, eos_token_id=0, tie_word_embeddings=True)
    transformers.LlamaForCausalLM(config).save_pretrained(folder)


def _only_shared(folder: Path) -> None:
    """Keep the token embedding under the one name it has in published sequence-to-sequence checkpoints."""
    tensors = load_file(folder / "model.safetensors")
    embedding = tensors.pop("model.shared.weight")
    tensors = {
        name: tensor for name, tensor in tensors.items() if "embed_tokens" not in name and name != "lm_head.weight"
    }
    save_file({**tensors, "model.shared.weight": embedding}, folder / "model.safetensors", {"format": "pt"})


def _bart(folder: Path, full: bool) -> None:
    config = transformers.BartConfig(**({} if full else {**_SMALL_SEQ2SEQ, "vocab_size": 60}))
    transformers.BartForConditionalGeneration(config).save_pretrained(folder)
    _only_shared(folder)


def _mbart(folder: Path, full: bool) -> None:
    sizes = {"vocab_size": 250054} if full else {**_SMALL_SEQ2SEQ, "vocab_size": 60}
    config = transformers.MBartConfig(**sizes, activation_function="relu", scale_embedding=True)
    transformers.MBartForConditionalGeneration(config).save_pretrained(folder)
    _only_shared(folder)


def _nllb(folder: Path, full: bool) -> None:
    """The files of the hub's oldest revisions, which name the languages by the tokenizer's class alone."""
    pieces = 256_000 if full else 60
    (folder / "sentencepiece.bpe.model").write_bytes(_sentencepiece(pieces))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "NllbTokenizer"}')
    sizes = {"vocab_size": 256_206} if full else {**_SMALL_SEQ2SEQ, "vocab_size": 1 + pieces + 202 + 1}
    transformers.M2M100ForConditionalGeneration(transformers.M2M100Config(**sizes)).save_pretrained(folder)
    _only_shared(folder)


def _translator(folder: Path, full: bool) -> None:
    """Exactly the files of the hub: a pickle, a complete configuration that includes generation options, …"""
    pieces = 250_000 if full else 60
    (folder / "sentencepiece.bpe.model").write_bytes(_sentencepiece(pieces))
    speech = {**(_FULL_SPEECH if full else _SMALL_SPEECH), **_LARGE, "add_adapter": True}
    text = {"decoder_layers": 12, "max_position_embeddings": 1024} if full else _SMALL_SEQ2SEQ
    text = {**text, "vocab_size": 1 + pieces + LANGUAGES + 1, "activation_function": "relu", "scale_embedding": True}
    config = transformers.SpeechEncoderDecoderConfig.from_encoder_decoder_configs(
        transformers.Wav2Vec2Config(**speech),
        transformers.MBartConfig(**text, is_decoder=True, add_cross_attention=True),
    )
    tensors = transformers.SpeechEncoderDecoderModel(config=config).state_dict()
    torch.save({_old_spelling(name): tensor for name, tensor in tensors.items()}, folder / "pytorch_model.bin")
    german = pieces + 3  # the third code: 250003 in the real vocabulary
    about = {
        "config.json": _dump_of_2021(config, german),
        "generation_config.json": {**_generation(german), "_from_model_config": True, "transformers_version": "4.26.0"},
        "preprocessor_config.json": _PREPROCESSOR,
        "special_tokens_map.json": {**_SPECIAL, "mask_token": _MASK},
        "tokenizer_config.json": {
            **_SPECIAL,
            "mask_token": {**_MASK, "__type": "AddedToken"},
            "name_or_path": "facebook/mbart-large-50-one-to-many-mmt",
            "sp_model_kwargs": {},
            "src_lang": "en_XX",
            "tgt_lang": "de_DE",
            "tokenizer_class": "MBart50Tokenizer",
        },
    }
    for name, content in about.items():
        (folder / name).write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


def _old_spelling(name: str) -> str:
    name = name.replace("parametrizations.weight.original0", "weight_g")
    return name.replace("parametrizations.weight.original1", "weight_v")


def _sentencepiece(pieces: int) -> bytes:
    """Return a unigram model: letters with and without a space before them, then longer and ever rarer pieces."""
    letters = ["\u2581", *(f"{space}{letter}" for letter in LETTERS for space in ("\u2581", ""))]
    longer = ("".join(x) for length in (2, 3, 4) for x in product(LETTERS, repeat=length))
    model = protocol.ModelProto()
    model.trainer_spec.model_type = 1  # unigram
    model.trainer_spec.vocab_size = pieces
    for text, kind in ("<unk>", 2), ("<s>", 3), ("</s>", 3):  # kinds: unknown, control
        model.pieces.add(piece=text, score=0.0, type=kind)
    for rank, text in enumerate(islice(chain(letters, longer), pieces - 3)):
        model.pieces.add(piece=text, score=-1.0 - rank / 1000, type=1)
    return model.SerializeToString()


_SPECIAL = {
    "bos_token": "<s>",
    "cls_token": "<s>",
    "eos_token": "</s>",
    "pad_token": "<pad>",
    "sep_token": "</s>",
    "unk_token": "<unk>",
}
_MASK = {"content": "<mask>", "lstrip": True, "normalized": True, "rstrip": False, "single_word": False}
_PREPROCESSOR = {
    "do_normalize": True,
    "feature_extractor_type": "Wav2Vec2FeatureExtractor",
    "feature_size": 1,
    "padding_side": "right",
    "padding_value": 0,
    "return_attention_mask": True,
    "sampling_rate": 16000,
}
# What every configuration object of release 4.12 wrote into its file.
_EVERYWHERE = {
    "add_cross_attention": False,
    "architectures": None,
    "bad_words_ids": None,
    "bos_token_id": None,
    "chunk_size_feed_forward": 0,
    "cross_attention_hidden_size": None,
    "decoder_start_token_id": None,
    "diversity_penalty": 0.0,
    "do_sample": False,
    "early_stopping": False,
    "encoder_no_repeat_ngram_size": 0,
    "eos_token_id": None,
    "finetuning_task": None,
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
    "id2label": {"0": "LABEL_0", "1": "LABEL_1"},
    "is_decoder": False,
    "is_encoder_decoder": False,
    "label2id": {"LABEL_0": 0, "LABEL_1": 1},
    "length_penalty": 1.0,
    "max_length": 20,
    "min_length": 0,
    "no_repeat_ngram_size": 0,
    "num_beam_groups": 1,
    "num_beams": 1,
    "num_return_sequences": 1,
    "output_attentions": False,
    "output_hidden_states": False,
    "output_scores": False,
    "pad_token_id": None,
    "prefix": None,
    "problem_type": None,
    "pruned_heads": {},
    "remove_invalid_values": False,
    "repetition_penalty": 1.0,
    "return_dict": True,
    "return_dict_in_generate": False,
    "sep_token_id": None,
    "task_specific_params": None,
    "temperature": 1.0,
    "tie_encoder_decoder": False,
    "tie_word_embeddings": True,
    "tokenizer_class": None,
    "top_k": 50,
    "top_p": 1.0,
    "torch_dtype": None,
    "torchscript": False,
    "transformers_version": "4.12.0.dev0",
    "use_bfloat16": False,
}


def _generation(forced_bos: int) -> dict[str, Any]:
    ids = {"bos_token_id": 0, "decoder_start_token_id": 2, "eos_token_id": 2, "pad_token_id": 1}
    forced = {"forced_bos_token_id": forced_bos, "forced_eos_token_id": 2}
    return {**ids, **forced, "early_stopping": True, "max_length": 200, "num_beams": 5}


def _dump_of_2021(config: Any, forced_bos: int) -> dict[str, Any]:
    parts = {name: {**_EVERYWHERE, **_own(getattr(config, name))} for name in ("encoder", "decoder")}
    parts["encoder"] |= {"_name_or_path": "facebook/wav2vec2-xls-r-300m", "architectures": ["Wav2Vec2ForPreTraining"]}
    parts["decoder"] |= {"_name_or_path": "./mbart-large-50", "architectures": ["MBartForConditionalGeneration"]}
    parts["decoder"] |= {"is_decoder": True, "add_cross_attention": True, "is_encoder_decoder": True}
    return {
        **_generation(forced_bos),
        **parts,
        "_name_or_path": "wav2vec2-xls-r-300m-en-to-15",
        "architectures": ["SpeechEncoderDecoderModel"],
        "feature_extractor_type": "wav2vec2",
        "is_encoder_decoder": True,
        "model_type": "speech-encoder-decoder",
        "processor_class": "Wav2Vec2Processor",
        "tie_word_embeddings": False,
        "tokenizer_class": "mbart50",
        "torch_dtype": "float32",
        "transformers_version": None,
    }


def _own(config: Any) -> dict[str, Any]:
    """Return the fields of a family, without what release 5 has added to all of them."""
    return {name: value for name, value in config.to_dict().items() if name != "dtype" and not name.startswith("_")}


CHECKPOINTS = {
    "facebook/bart-large": _bart,
    "facebook/hubert-large-ll60k": _hubert,
    "facebook/mbart-large-50": _mbart,
    "facebook/nllb-200-distilled-600M": _nllb,
    "facebook/wav2vec2-base-960h": _wav2vec2,
    TRANSLATOR: _translator,
    "google-bert/bert-base-uncased": _bert,
    "HuggingFaceTB/SmolLM2-135M": _llama,
    "openai-community/gpt2": _gpt2,
}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", choices=[*CHECKPOINTS, []])
    parser.add_argument("--full", action="store_true", help="published sizes")
    options = parser.parse_args()
    write(options.folder, options.names, full=options.full)
