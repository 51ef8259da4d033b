"""The kinds of tokenizers: for each class that a tokenizer_config.json may name, its files and special tokens.

Each family declares which kind its models have; this is not stated here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tokenizers import AddedToken

from dragoman.text.builders import (
    Builder,
    blenderbot_words,
    byte_level,
    characters,
    extra_ids,
    many_languages,
    marian,
    moses,
    numbered,
    sentence_piece,
    spaced_bytes,
    word_piece,
    words,
)
from dragoman.text.ctc import Wav2Vec2CTCTokenizer
from dragoman.text.marian import MarianTokenizer
from dragoman.text.mbart import MBART50_LANGUAGES, MBART_LANGUAGES, MBart50Tokenizer, MBartTokenizer
from dragoman.text.nllb import NLLB_LANGUAGES, M2M100Tokenizer, NllbTokenizer
from dragoman.text.pieces import CAMEMBERT, FAIRSEQ, PEGASUS
from dragoman.text.speech2text import Speech2TextTokenizer
from dragoman.text.tokenizer import Tokenizer
from dragoman.text.whisper import WhisperTokenizer
from dragoman.text.words import BertTokenizer, BioGptTokenizer, BlenderbotSmallTokenizer, Speech2Text2Tokenizer


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One class of tokenizers.

    Attributes:
        name: Name of the class in `transformers`.
        tokenizer: Our class.
        files: The vocabulary files, each with its possible names; the first is the one that is written.
        optional_files: The same, for files that may be absent.
        build: Builds it from these files and the settings.
        reads_json: Whether a tokenizer.json can replace these files.
        roles: Special tokens where the files name none, provided that the vocabulary has them.
        around: Roles of the special tokens before and after a sequence (`"$A"`); with `None`, `add_bos_token` and
            `add_eos_token` decide.
        pair: The same for two sequences (`"$A"` and `"$B"`), if the second does not directly follow the first; `:1` is
            the token type.
        add_bos_token: The default of this setting.
    """

    name: str
    tokenizer: type[Tokenizer] = Tokenizer
    files: tuple[tuple[str, ...], ...] = ()
    optional_files: tuple[tuple[str, ...], ...] = ()
    build: Builder | None = None
    reads_json: bool = True
    roles: Mapping[str, str | AddedToken] = field(default_factory=dict)
    around: tuple[str, ...] | None = None
    pair: tuple[str, ...] | None = None
    add_bos_token: bool = False

    @property
    def all_files(self) -> tuple[tuple[str, ...], ...]:
        """`files`, then `optional_files`."""
        return self.files + self.optional_files


_Roles = dict[str, str | AddedToken]
_BERT: _Roles = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}
_FAIRSEQ: _Roles = {"unk_token": "<unk>", "eos_token": "</s>", "pad_token": "<pad>"}
_ROBERTA: _Roles = _FAIRSEQ | {"bos_token": "<s>", "cls_token": "<s>", "sep_token": "</s>"}
_MASK: _Roles = {"mask_token": AddedToken("<mask>", lstrip=True, normalized=False, special=True)}
_END = "<|endoftext|>"
_BYTES = (("vocab.json",), ("merges.txt",))
_SENTENCEPIECE = ("sentencepiece.bpe.model", "spiece.model", "tokenizer.model")

_SEPARATED = ("bos_token", "$A", "eos_token", "eos_token", "$B", "eos_token")

GENERAL = Kind(name="PreTrainedTokenizerFast")

_KINDS = (
    GENERAL,
    Kind(
        name="BertTokenizer",
        tokenizer=BertTokenizer,
        files=(("vocab.txt",),),
        build=word_piece,
        roles=_BERT,
        around=("cls_token", "$A", "sep_token"),
        pair=("cls_token", "$A", "sep_token", "$B:1", "sep_token:1"),
    ),
    Kind(
        name="GPT2Tokenizer",
        files=_BYTES,
        build=byte_level,
        roles={"unk_token": _END, "bos_token": _END, "eos_token": _END},
    ),
    Kind(
        name="RobertaTokenizer",
        files=_BYTES,
        build=byte_level,
        roles=_ROBERTA | _MASK,
        around=("cls_token", "$A", "sep_token"),
        pair=_SEPARATED,
    ),
    Kind(
        name="WhisperTokenizer",
        tokenizer=WhisperTokenizer,
        files=_BYTES,
        build=byte_level,
        roles={"unk_token": _END, "bos_token": _END, "eos_token": _END, "pad_token": _END},
    ),
    Kind(
        name="Speech2Text2Tokenizer",
        tokenizer=Speech2Text2Tokenizer,
        files=(("vocab.json",),),
        optional_files=(("merges.txt",),),
        build=words,
        reads_json=False,
        roles=_FAIRSEQ | {"bos_token": "<s>"},
        around=("$A",),
    ),
    Kind(
        name="Speech2TextTokenizer",
        tokenizer=Speech2TextTokenizer,
        files=(("vocab.json",), ("sentencepiece.bpe.model",)),
        build=numbered,
        reads_json=False,
        roles=_FAIRSEQ | {"bos_token": "<s>"},
        around=("$A", "eos_token"),
    ),
    Kind(
        name="BioGptTokenizer",
        tokenizer=BioGptTokenizer,
        files=_BYTES,
        build=moses,
        reads_json=False,
        roles=_FAIRSEQ | {"bos_token": "<s>", "sep_token": "</s>"},
        around=("sep_token", "$A"),
        pair=("sep_token", "$A", "sep_token", "$B"),
    ),
    Kind(
        name="Wav2Vec2CTCTokenizer",
        tokenizer=Wav2Vec2CTCTokenizer,
        files=(("vocab.json",),),
        build=characters,
        reads_json=False,
        roles=_FAIRSEQ | {"bos_token": "<s>"},
        around=("$A",),
    ),
    Kind(
        name="MBartTokenizer",
        tokenizer=MBartTokenizer,
        files=(_SENTENCEPIECE,),
        build=sentence_piece(FAIRSEQ, mask=True, more=lambda settings: list(MBART_LANGUAGES)),
        roles=_ROBERTA | _MASK,
    ),
    Kind(
        name="MBart50Tokenizer",
        tokenizer=MBart50Tokenizer,
        files=(_SENTENCEPIECE,),
        build=sentence_piece(FAIRSEQ, mask=True, more=lambda settings: list(MBART50_LANGUAGES)),
        roles=_FAIRSEQ | {"cls_token": "<s>", "sep_token": "</s>"} | _MASK,
    ),
    Kind(
        name="NllbTokenizer",
        tokenizer=NllbTokenizer,
        files=(_SENTENCEPIECE,),
        build=sentence_piece(FAIRSEQ, mask=True, more=lambda settings: list(NLLB_LANGUAGES)),
        roles=_ROBERTA | _MASK,
    ),
    Kind(
        name="M2M100Tokenizer",
        tokenizer=M2M100Tokenizer,
        files=(("vocab.json",), ("sentencepiece.bpe.model",)),
        build=many_languages,
        reads_json=False,
        roles=_FAIRSEQ | {"bos_token": "<s>", "sep_token": "</s>"},
    ),
    Kind(
        name="XLMRobertaTokenizer",
        files=(_SENTENCEPIECE,),
        build=sentence_piece(FAIRSEQ, mask=True),
        roles=_ROBERTA | _MASK,
        around=("bos_token", "$A", "eos_token"),
        pair=_SEPARATED,
    ),
    Kind(
        name="CamembertTokenizer",
        files=(_SENTENCEPIECE,),
        build=sentence_piece(CAMEMBERT, mask=True),
        roles=_ROBERTA | _MASK,
        around=("bos_token", "$A", "eos_token"),
        pair=_SEPARATED,
    ),
    Kind(
        name="XGLMTokenizer",
        files=(_SENTENCEPIECE,),
        build=sentence_piece(FAIRSEQ, more=lambda settings: [f"<madeupword{i}>" for i in range(7)]),
        roles=_ROBERTA,
        around=("eos_token", "$A"),
        pair=("eos_token", "$A", "eos_token", "eos_token", "$B"),
    ),
    Kind(
        name="PegasusTokenizer",
        files=(("spiece.model", *_SENTENCEPIECE),),
        build=sentence_piece(PEGASUS),
        roles=_FAIRSEQ | {"mask_token": "<mask_2>"},
        around=("$A", "eos_token"),
    ),
    Kind(
        name="BertGenerationTokenizer",
        files=(("spiece.model", *_SENTENCEPIECE),),
        build=sentence_piece(),
        roles=_FAIRSEQ | {"bos_token": "<s>", "sep_token": "<::::>"},
        around=("$A",),
    ),
    Kind(
        name="MarianTokenizer",
        tokenizer=MarianTokenizer,
        files=(("source.spm",), ("target.spm",), ("vocab.json",)),
        optional_files=(("target_vocab.json",),),
        build=marian,
        reads_json=False,
        roles=_FAIRSEQ,
        around=("$A", "eos_token"),
    ),
    Kind(
        name="BlenderbotTokenizer",
        files=_BYTES,
        build=spaced_bytes,
        roles=_ROBERTA | _MASK,
        around=("$A", "eos_token"),
    ),
    Kind(
        name="BlenderbotSmallTokenizer",
        tokenizer=BlenderbotSmallTokenizer,
        files=_BYTES,
        build=blenderbot_words,
        reads_json=False,
        roles={"bos_token": "__start__", "eos_token": "__end__", "unk_token": "__unk__", "pad_token": "__null__"},
        around=("$A",),
    ),
    Kind(
        name="T5Tokenizer",
        files=(("spiece.model", *_SENTENCEPIECE),),
        build=sentence_piece(more=extra_ids),
        roles=_FAIRSEQ,
        around=("$A", "eos_token"),
        pair=("$A", "eos_token", "$B", "eos_token"),
    ),
    Kind(
        name="LlamaTokenizer",
        files=(("tokenizer.model", *_SENTENCEPIECE),),
        build=sentence_piece(),
        roles={"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"},
        add_bos_token=True,
    ),
)

# Synonyms of classes, and model types in old files: DistilBERT is no family here, and mBART-50 has mBART's type.
_SYNONYMS = {
    "BartTokenizer": "RobertaTokenizer",
    "DistilBertTokenizer": "BertTokenizer",
    "ElectraTokenizer": "BertTokenizer",
    "MT5Tokenizer": "T5Tokenizer",
    "MobileBertTokenizer": "BertTokenizer",
    "Wav2Vec2Tokenizer": "Wav2Vec2CTCTokenizer",
    "distilbert": "BertTokenizer",
    "mbart50": "MBart50Tokenizer",
    "TokenizersBackend": "PreTrainedTokenizerFast",
    "PreTrainedTokenizer": "PreTrainedTokenizerFast",
}

KINDS = {kind.name: kind for kind in _KINDS}


def kind_named(name: str) -> Kind | None:
    """Return the kind with a class name or one of its synonyms, or `None`."""
    if name in KINDS:
        return KINDS[name]
    name = name.removesuffix("Fast")
    return KINDS.get(_SYNONYMS.get(name, name))
