"""The kinds of tokenizer files, one for each class that a tokenizer_config.json may name, and how each is built.

Which kind the models of a family have is declared by the family, not here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as RustTokenizer

from dragoman.errors import TokenizerError
from dragoman.files import parse_json
from dragoman.text.ctc import Wav2Vec2CTCTokenizer
from dragoman.text.marian import MarianTokenizer
from dragoman.text.mbart import MBART50_LANGUAGES, MBART_LANGUAGES, MBart50Tokenizer, MBartTokenizer
from dragoman.text.pieces import (
    CAMEMBERT,
    FAIRSEQ,
    PEGASUS,
    BlenderbotPieces,
    CharacterPieces,
    MarianPieces,
    MosesPieces,
    NumberedPieces,
    Numbering,
    PythonPieces,
    SentencePieces,
    WordPieces,
)
from dragoman.text.settings import flag
from dragoman.text.special_tokens import ROLES, added_token
from dragoman.text.speech2text import LANGUAGES, Speech2TextTokenizer
from dragoman.text.tokenizer import Tokenizer
from dragoman.text.whisper import WhisperTokenizer
from dragoman.text.words import BioGptTokenizer, BlenderbotSmallTokenizer, Speech2Text2Tokenizer

__all__ = ["GENERAL", "KINDS", "File", "Kind", "kind_named"]

Settings = Mapping[str, Any]


class File(NamedTuple):
    """A vocabulary file and its content."""

    path: Path
    content: bytes


@dataclass(frozen=True, kw_only=True)
class Built:
    """What a builder makes of vocabulary files: arguments of a `Tokenizer`, and special tokens the files imply."""

    backend: RustTokenizer
    pieces: PythonPieces | None = None
    extra_special_tokens: list[str] = field(default_factory=list)


Builder = Callable[[list[File], Settings], Built]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A class of tokenizers.

    Attributes:
        name: Hugging Face's class name.
        tokenizer: Our class.
        files: The vocabulary files, each with the names it may have; the first is the one that is written.
        optional_files: The same, for files that may be absent.
        build: Builds it from those files and the settings.
        reads_json: Whether a tokenizer.json takes the place of those files.
        roles: Special tokens where the files do not say, as far as the vocabulary has them.
        around: What stands around a text (`"$A"`), by role; `None` leaves it to `add_bos_token` and `add_eos_token`.
        add_bos_token: The default of the setting with this name.
    """

    name: str
    tokenizer: type[Tokenizer] = Tokenizer
    files: tuple[tuple[str, ...], ...] = ()
    optional_files: tuple[tuple[str, ...], ...] = ()
    build: Builder | None = None
    reads_json: bool = True
    roles: Mapping[str, str | AddedToken] = field(default_factory=dict)
    around: tuple[str, ...] | None = None
    add_bos_token: bool = False

    @property
    def all_files(self) -> tuple[tuple[str, ...], ...]:
        """`files`, then `optional_files`."""
        return self.files + self.optional_files


def _word_piece(files: list[File], settings: Settings) -> Built:
    # Only line feeds end a line: vocabularies contain other characters that `splitlines` would split at.
    lines = _text(files[0]).replace("\r\n", "\n").removesuffix("\n").split("\n")
    vocab = {token: i for i, token in enumerate(lines)}
    backend = RustTokenizer(models.WordPiece(vocab, unk_token=_token(settings, "unk_token") or "[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(
        lowercase=bool(flag(settings, "do_lower_case", True)),
        strip_accents=flag(settings, "strip_accents", None),
        handle_chinese_chars=bool(flag(settings, "tokenize_chinese_chars", True)),
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix="##")
    return Built(backend=backend)


def _byte_level(files: list[File], settings: Settings) -> Built:
    backend = RustTokenizer(models.BPE(_vocab(files[0]), _merges(files[1])))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=bool(flag(settings, "add_prefix_space")))
    backend.decoder = decoders.ByteLevel()
    return Built(backend=backend)


def _spaced_bytes(files: list[File], settings: Settings) -> Built:
    return _byte_level(files, {"add_prefix_space": True, **settings})


def _characters(files: list[File], settings: Settings) -> Built:
    vocab = _vocab(files[0], settings.get("target_lang"))
    delimiter = str(settings.get("word_delimiter_token") or "|")
    upper = bool(flag(settings, "do_lower_case"))
    pieces = CharacterPieces(vocab, _token(settings, "unk_token"), delimiter, upper=upper)
    built = _with_pieces(vocab, pieces)
    # Entries of several characters are matched whole, together with the spaces around them.
    names = [AddedToken(token, lstrip=True, rstrip=True, normalized=False) for token in vocab if len(token) > 1]
    built.backend.add_tokens(names)
    return built


def _words(files: list[File], settings: Settings) -> Built:
    vocab = _vocab(files[0])
    merges = _merges(files[1]) if len(files) > 1 else None
    lower = bool(flag(settings, "do_lower_case"))
    return _with_pieces(vocab, WordPieces(vocab, merges, _token(settings, "unk_token"), lower=lower))


def _blenderbot_words(files: list[File], settings: Settings) -> Built:
    vocab = _vocab(files[0])
    pieces = BlenderbotPieces(vocab, _merges(files[1]), _token(settings, "unk_token"), lower=True)
    return _with_pieces(vocab, pieces)


def _marian(files: list[File], settings: Settings) -> Built:
    source, target, vocab_file, *others = files
    if others and flag(settings, "separate_vocabs"):  # a decoder has the target's vocabulary, and nothing else
        source, vocab_file = target, others[0]
    vocab = _vocab(vocab_file)
    built = _with_pieces(vocab, MarianPieces(source.content, str(source.path), vocab, _token(settings, "unk_token")))
    built.backend.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    return built


def _numbered(files: list[File], settings: Settings) -> Built:
    vocab, model = _vocab(files[0]), files[1]
    lower = bool(flag(settings, "do_lower_case"))
    pieces = NumberedPieces(model.content, str(model.path), vocab, _token(settings, "unk_token"), lower=lower)
    return _with_pieces(vocab, pieces, [f"<lang:{code}>" for code in _codes(settings)])


def _codes(settings: Settings) -> tuple[str, ...]:
    name = settings.get("lang_codes")
    if name is None:
        return ()
    if not isinstance(name, str) or name not in LANGUAGES:
        raise TokenizerError(f"`lang_codes` must be null or one of {', '.join(LANGUAGES)}, but is {name!r}.")
    return LANGUAGES[name]


def _moses(files: list[File], settings: Settings) -> Built:
    vocab = _vocab(files[0])
    return _with_pieces(vocab, MosesPieces(vocab, _merges(files[1]), _token(settings, "unk_token")))


def _sentence_piece(
    numbering: Numbering | None = None,
    *,
    mask: bool = False,
    more: Callable[[Settings], list[str]] = lambda settings: [],
) -> Builder:
    """Return a builder of SentencePiece, with the special tokens `more`, and perhaps a mask, after the pieces."""

    def build(files: list[File], settings: Settings) -> Built:
        pieces = SentencePieces(files[0].content, str(files[0].path), numbering)
        vocab = pieces.vocab()
        extra = more(settings)
        for token in [*extra, _token(settings, "mask_token") or "<mask>"] if mask else extra:
            vocab.setdefault(token, len(vocab))
        if numbering is not None:
            named = _named(settings)
            extra = [*(token for token in numbering.first if token not in named), *extra]
        built = _with_pieces(vocab, pieces, extra)
        built.backend.decoder = decoders.Sequence(
            [decoders.ByteFallback(), decoders.Metaspace(replacement="▁", prepend_scheme="always")]
        )
        return built

    return build


def _with_pieces(vocab: dict[str, int], encode: Callable[[str], list[int]], extra: list[str] | None = None) -> Built:
    tokens = {i: token for token, i in vocab.items()}
    pieces = PythonPieces(encode, tokens)
    return Built(backend=RustTokenizer(models.WordLevel(vocab)), pieces=pieces, extra_special_tokens=extra or [])


def _extra_ids(settings: Settings) -> list[str]:
    count = settings.get("extra_ids", 100)
    if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= 10_000:
        raise TokenizerError(f"`extra_ids` must be a number from 0 to 10000, but is {count!r}.")
    return [f"<extra_id_{i}>" for i in reversed(range(count))]


def _named(settings: Settings) -> set[str | None]:
    """Return the special tokens that have a role."""
    return {_token(settings, role) for role in ROLES}


def _token(settings: Settings, role: str) -> str | None:
    value = settings.get(role)
    return None if value is None else added_token(value, f"`{role}`").content


def _text(file: File) -> str:
    try:
        return file.content.decode()
    except UnicodeDecodeError as error:
        raise TokenizerError(f"{file.path} is not UTF-8: {error}.") from error


def _vocab(file: File, language: str | None = None) -> dict[str, int]:
    vocab = parse_json(file.content, file.path, TokenizerError)
    if language is not None:  # MMS: one vocabulary a language
        if not isinstance(vocab.get(language), dict):
            raise TokenizerError(f"{file.path} has no `target_lang` {language!r}, only: {', '.join(vocab)}.")
        vocab = vocab[language]
    if any(type(i) is not int or not 0 <= i < 2**31 for i in vocab.values()) or len(set(vocab.values())) < len(vocab):
        raise TokenizerError(f"{file.path} must map each token to a number of its own, from 0 up.")
    return vocab


def _merges(file: File) -> list[tuple[str, str]]:
    lines = _text(file).replace("\r\n", "\n").split("\n")
    merges = []
    for number, line in enumerate(lines, start=1):
        parts = line.split(" ")
        if not line or line.startswith("#version"):
            continue
        if len(parts) < 2:
            raise TokenizerError(
                f"{file.path}, line {number}: a merge is two pieces with a space between, not {line!r:.60}."
            )
        merges.append((parts[0], parts[1]))
    return merges


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

GENERAL = Kind(name="PreTrainedTokenizerFast")

_KINDS = (
    GENERAL,
    Kind(
        name="BertTokenizer",
        files=(("vocab.txt",),),
        build=_word_piece,
        roles=_BERT,
        around=("cls_token", "$A", "sep_token"),
    ),
    Kind(
        name="GPT2Tokenizer",
        files=_BYTES,
        build=_byte_level,
        roles={"unk_token": _END, "bos_token": _END, "eos_token": _END},
    ),
    Kind(
        name="RobertaTokenizer",
        files=_BYTES,
        build=_byte_level,
        roles=_ROBERTA | _MASK,
        around=("cls_token", "$A", "sep_token"),
    ),
    Kind(
        name="WhisperTokenizer",
        tokenizer=WhisperTokenizer,
        files=_BYTES,
        build=_byte_level,
        roles={"unk_token": _END, "bos_token": _END, "eos_token": _END, "pad_token": _END},
    ),
    Kind(
        name="Speech2Text2Tokenizer",
        tokenizer=Speech2Text2Tokenizer,
        files=(("vocab.json",),),
        optional_files=(("merges.txt",),),
        build=_words,
        reads_json=False,
        roles=_FAIRSEQ | {"bos_token": "<s>"},
        around=("$A",),
    ),
    Kind(
        name="Speech2TextTokenizer",
        tokenizer=Speech2TextTokenizer,
        files=(("vocab.json",), ("sentencepiece.bpe.model",)),
        build=_numbered,
        reads_json=False,
        roles=_FAIRSEQ | {"bos_token": "<s>"},
        around=("$A", "eos_token"),
    ),
    Kind(
        name="BioGptTokenizer",
        tokenizer=BioGptTokenizer,
        files=_BYTES,
        build=_moses,
        reads_json=False,
        roles=_FAIRSEQ | {"bos_token": "<s>", "sep_token": "</s>"},
        around=("sep_token", "$A"),
    ),
    Kind(
        name="Wav2Vec2CTCTokenizer",
        tokenizer=Wav2Vec2CTCTokenizer,
        files=(("vocab.json",),),
        build=_characters,
        reads_json=False,
        roles=_FAIRSEQ | {"bos_token": "<s>"},
        around=("$A",),
    ),
    Kind(
        name="MBartTokenizer",
        tokenizer=MBartTokenizer,
        files=(_SENTENCEPIECE,),
        build=_sentence_piece(FAIRSEQ, mask=True, more=lambda settings: list(MBART_LANGUAGES)),
        roles=_ROBERTA | _MASK,
    ),
    Kind(
        name="MBart50Tokenizer",
        tokenizer=MBart50Tokenizer,
        files=(_SENTENCEPIECE,),
        build=_sentence_piece(FAIRSEQ, mask=True, more=lambda settings: list(MBART50_LANGUAGES)),
        roles=_FAIRSEQ | {"cls_token": "<s>", "sep_token": "</s>"} | _MASK,
    ),
    Kind(
        name="XLMRobertaTokenizer",
        files=(_SENTENCEPIECE,),
        build=_sentence_piece(FAIRSEQ, mask=True),
        roles=_ROBERTA | _MASK,
        around=("bos_token", "$A", "eos_token"),
    ),
    Kind(
        name="CamembertTokenizer",
        files=(_SENTENCEPIECE,),
        build=_sentence_piece(CAMEMBERT, mask=True),
        roles=_ROBERTA | _MASK,
        around=("bos_token", "$A", "eos_token"),
    ),
    Kind(
        name="XGLMTokenizer",
        files=(_SENTENCEPIECE,),
        build=_sentence_piece(FAIRSEQ, more=lambda settings: [f"<madeupword{i}>" for i in range(7)]),
        roles=_ROBERTA,
        around=("eos_token", "$A"),
    ),
    Kind(
        name="PegasusTokenizer",
        files=(("spiece.model", *_SENTENCEPIECE),),
        build=_sentence_piece(PEGASUS),
        roles=_FAIRSEQ | {"mask_token": "<mask_2>"},
        around=("$A", "eos_token"),
    ),
    Kind(
        name="BertGenerationTokenizer",
        files=(("spiece.model", *_SENTENCEPIECE),),
        build=_sentence_piece(),
        roles=_FAIRSEQ | {"bos_token": "<s>", "sep_token": "<::::>"},
        around=("$A",),
    ),
    Kind(
        name="MarianTokenizer",
        tokenizer=MarianTokenizer,
        files=(("source.spm",), ("target.spm",), ("vocab.json",)),
        optional_files=(("target_vocab.json",),),
        build=_marian,
        reads_json=False,
        roles=_FAIRSEQ,
        around=("$A", "eos_token"),
    ),
    Kind(
        name="BlenderbotTokenizer",
        files=_BYTES,
        build=_spaced_bytes,
        roles=_ROBERTA | _MASK,
        around=("$A", "eos_token"),
    ),
    Kind(
        name="BlenderbotSmallTokenizer",
        tokenizer=BlenderbotSmallTokenizer,
        files=_BYTES,
        build=_blenderbot_words,
        reads_json=False,
        roles={"bos_token": "__start__", "eos_token": "__end__", "unk_token": "__unk__", "pad_token": "__null__"},
        around=("$A",),
    ),
    Kind(
        name="T5Tokenizer",
        files=(("spiece.model", *_SENTENCEPIECE),),
        build=_sentence_piece(more=_extra_ids),
        roles=_FAIRSEQ,
        around=("$A", "eos_token"),
    ),
    Kind(
        name="LlamaTokenizer",
        files=(("tokenizer.model", *_SENTENCEPIECE),),
        build=_sentence_piece(),
        roles={"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"},
        add_bos_token=True,
    ),
)

# Other names of the same kinds: classes, and types of models without a family here that old files put in their place.
_SYNONYMS = {
    "BartTokenizer": "RobertaTokenizer",
    "DistilBertTokenizer": "BertTokenizer",
    "ElectraTokenizer": "BertTokenizer",
    "MobileBertTokenizer": "BertTokenizer",
    "distilbert": "BertTokenizer",
    "mbart50": "MBart50Tokenizer",
    "TokenizersBackend": "PreTrainedTokenizerFast",
    "PreTrainedTokenizer": "PreTrainedTokenizerFast",
}

KINDS = {kind.name: kind for kind in _KINDS}


def kind_named(name: str) -> Kind | None:
    """Return the kind that a file calls `name`, or `None` if there is none."""
    if name in KINDS:
        return KINDS[name]
    name = name.removesuffix("Fast")
    return KINDS.get(_SYNONYMS.get(name, name))
