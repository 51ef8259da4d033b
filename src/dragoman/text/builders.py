"""Builders: from vocabulary files and settings to the backend of a tokenizer, one for each way to split text."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as RustTokenizer

from dragoman.errors import TokenizerError
from dragoman.files import parse_json
from dragoman.text.nllb import M2M100_LANGUAGES
from dragoman.text.pieces import (
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
from dragoman.text.speech2text import LANGUAGES

Settings = Mapping[str, Any]


class File(NamedTuple):
    """A vocabulary file and its content."""

    path: Path
    content: bytes


@dataclass(frozen=True, kw_only=True)
class Built:
    """Arguments of a `Tokenizer`, and special tokens that the files imply."""

    backend: RustTokenizer
    pieces: PythonPieces | None = None
    extra_special_tokens: list[str] = field(default_factory=list)


Builder = Callable[[list[File], Settings], Built]


def word_piece(files: list[File], settings: Settings) -> Built:
    # not `splitlines`: vocabularies contain other characters that it splits at
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


def byte_level(files: list[File], settings: Settings) -> Built:
    backend = RustTokenizer(models.BPE(_vocab(files[0]), _merges(files[1])))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=bool(flag(settings, "add_prefix_space")))
    backend.decoder = decoders.ByteLevel()
    return Built(backend=backend)


def spaced_bytes(files: list[File], settings: Settings) -> Built:
    return byte_level(files, {"add_prefix_space": True, **settings})


def characters(files: list[File], settings: Settings) -> Built:
    vocab = _vocab(files[0], settings.get("target_lang"))
    delimiter = str(settings.get("word_delimiter_token") or "|")
    upper = bool(flag(settings, "do_lower_case"))
    pieces = CharacterPieces(vocab, _token(settings, "unk_token"), delimiter, upper=upper)
    built = _with_pieces(vocab, pieces)
    # entries of several characters are matched whole, with the spaces around them
    names = [AddedToken(token, lstrip=True, rstrip=True, normalized=False) for token in vocab if len(token) > 1]
    built.backend.add_tokens(names)
    return built


def words(files: list[File], settings: Settings) -> Built:
    vocab = _vocab(files[0])
    merges = _merges(files[1]) if len(files) > 1 else None
    lower = bool(flag(settings, "do_lower_case"))
    return _with_pieces(vocab, WordPieces(vocab, merges, _token(settings, "unk_token"), lower=lower))


def blenderbot_words(files: list[File], settings: Settings) -> Built:
    vocab = _vocab(files[0])
    pieces = BlenderbotPieces(vocab, _merges(files[1]), _token(settings, "unk_token"), lower=True)
    return _with_pieces(vocab, pieces)


def marian(files: list[File], settings: Settings) -> Built:
    source, target, vocab_file, *others = files
    if others and flag(settings, "separate_vocabs"):  # a decoder has the vocabulary of the target only
        source, vocab_file = target, others[0]
    vocab = _vocab(vocab_file)
    built = _with_pieces(vocab, MarianPieces(source.content, str(source.path), vocab, _token(settings, "unk_token")))
    built.backend.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    return built


def numbered(files: list[File], settings: Settings) -> Built:
    vocab, model = _vocab(files[0]), files[1]
    lower = bool(flag(settings, "do_lower_case"))
    pieces = NumberedPieces(model.content, str(model.path), vocab, _token(settings, "unk_token"), lower=lower)
    return _with_pieces(vocab, pieces, [f"<lang:{code}>" for code in _codes(settings, "lang_codes", LANGUAGES)])


def many_languages(files: list[File], settings: Settings) -> Built:
    codes = _codes(settings, "language_codes", M2M100_LANGUAGES) or M2M100_LANGUAGES["m2m100"]
    built = numbered(files, {**settings, "lang_codes": None})
    names = [f"__{code}__" for code in codes]
    built.backend.add_special_tokens(names)  # here, since their ids follow this order, not that of the settings
    return replace(built, extra_special_tokens=names)


def _codes(settings: Settings, name: str, known: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    value = settings.get(name)
    if value is None:
        return ()
    if not isinstance(value, str) or value not in known:
        raise TokenizerError(f"`{name}` must be null or one of {', '.join(known)}, but is {value!r}.")
    return known[value]


def moses(files: list[File], settings: Settings) -> Built:
    vocab = _vocab(files[0])
    return _with_pieces(vocab, MosesPieces(vocab, _merges(files[1]), _token(settings, "unk_token")))


def sentence_piece(
    numbering: Numbering | None = None,
    *,
    mask: bool = False,
    more: Callable[[Settings], list[str]] = lambda settings: [],
) -> Builder:
    """Return a builder of SentencePiece tokenizers, with the tokens of `more`, and perhaps a mask, after the pieces."""

    def build(files: list[File], settings: Settings) -> Built:
        pieces = SentencePieces(files[0].content, str(files[0].path), numbering)
        vocab = pieces.vocab()
        extra = more(settings)
        for token in [*extra, _token(settings, "mask_token") or "<mask>"] if mask else extra:
            vocab.setdefault(token, len(vocab))
        if numbering is not None:
            named = {_token(settings, role) for role in ROLES}
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


def extra_ids(settings: Settings) -> list[str]:
    count = settings.get("extra_ids", 100)
    if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= 10_000:
        raise TokenizerError(f"`extra_ids` must be a whole number from 0 to 10000, but is {count!r}.")
    return [f"<extra_id_{i}>" for i in reversed(range(count))]


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
    if language is not None:  # MMS has one vocabulary per language
        if not isinstance(vocab.get(language), dict):
            raise TokenizerError(f"{file.path} has no `target_lang` {language!r}, only: {', '.join(vocab)}.")
        vocab = vocab[language]
    if any(type(i) is not int or not 0 <= i < 2**31 for i in vocab.values()) or len(set(vocab.values())) < len(vocab):
        raise TokenizerError(f"{file.path} must map each token to a different number, from 0 up.")
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
