"""Algorithms that the Rust library does not reproduce exactly: SentencePiece, single characters, and BPE with `@@`.

Each is a callable from text to ids. `PythonPieces` is its wrapper as the pre-tokenizer of a `tokenizers.Tokenizer`,
which does everything else (matching of added tokens, templates, ids to text).

SentencePiece is not converted to the Rust model because the Rust normaliser works on grapheme clusters, while
SentencePiece takes the longest match: vocalised Arabic, for instance, would get other ids than in training.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import chain, pairwise

import sentencepiece
from tokenizers import PreTokenizedString, Token, pre_tokenizers
from tokenizers import Tokenizer as RustTokenizer

from dragoman._lazy import require
from dragoman.errors import TokenizerError


class PythonPieces:
    """A pre-tokenizer that encodes the text between added tokens.

    Args:
        encode: Text to ids; picklable.
        tokens: Token by id, for every id that `encode` can return.
    """

    def __init__(self, encode: Callable[[str], list[int]], tokens: Mapping[int, str]) -> None:
        self.encode = encode
        self.tokens = tokens

    def pre_tokenize(self, text: PreTokenizedString) -> None:
        """Split `text`; called by the Rust library."""
        # Offsets are not computed: no caller reads them.
        text.tokenize(lambda part: [Token(i, self.tokens[i], (0, 0)) for i in self.encode(part)])


def with_pieces(backend: RustTokenizer, pieces: PythonPieces | None) -> RustTokenizer:
    """Make `pieces` the pre-tokenizer of `backend`, whose model then only maps tokens to ids and back."""
    if pieces is not None:
        backend.pre_tokenizer = pre_tokenizers.PreTokenizer.custom(pieces)
    return backend


def without_pieces(backend: RustTokenizer) -> RustTokenizer:
    """Return a copy of `backend` without a pre-tokenizer in Python, so that it can be pickled."""
    copy = RustTokenizer(backend.model)
    copy.decoder = backend.decoder
    copy.post_processor = backend.post_processor
    copy.add_tokens([token for _, token in sorted(backend.get_added_tokens_decoder().items())])
    return copy


def _ids(pieces: Iterable[str], vocab: Mapping[str, int], unk: int | None) -> list[int]:
    ids = []
    for piece in pieces:
        known = vocab.get(piece, unk)
        if known is None:
            raise TokenizerError(f"{piece!r} is not in the vocabulary, and there is no unknown token.")
        ids.append(known)
    return ids


@dataclass(frozen=True, kw_only=True)
class Numbering:
    """The ids of a tokenizer class, if they differ from those of its SentencePiece model.

    Attributes:
        first: Tokens with the first ids, which replace the model's first pieces.
        replaced: Number of pieces that they replace; the ids of all others are shifted accordingly.
        unk: Id of the unknown token, if it is not shifted like the others.
        layout: The ids that the model must have for `<unk>`, `<s>` and `</s>`; -1 for none.
    """

    first: tuple[str, ...]
    replaced: int
    unk: int | None
    layout: tuple[int, int, int]


FAIRSEQ = Numbering(first=("<s>", "<pad>", "</s>", "<unk>"), replaced=3, unk=3, layout=(0, 1, 2))
CAMEMBERT = Numbering(
    first=("<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED"), replaced=1, unk=3, layout=(0, 1, 2)
)
PEGASUS = Numbering(
    first=("<pad>", "</s>", "<mask_1>", "<mask_2>", *(f"<unk_{i}>" for i in range(2, 103))),
    replaced=2,
    unk=None,
    layout=(2, -1, 1),
)


class SentencePieces:
    """A SentencePiece model, run by the SentencePiece library.

    Args:
        proto: Content of the `.model` file.
        where: Name of the file, for messages.
        numbering: The ids, if they differ from the model's.
    """

    def __init__(self, proto: bytes, where: str, numbering: Numbering | None = None) -> None:
        self.numbering = numbering
        self.processor = sentencepiece.SentencePieceProcessor()
        try:
            self.processor.LoadFromSerializedProto(proto)
        except RuntimeError as error:
            raise TokenizerError(f"{where} is not a SentencePiece model: {error}.") from error
        layout = (self.processor.unk_id(), self.processor.bos_id(), self.processor.eos_id())
        if numbering is not None and layout != numbering.layout:
            raise TokenizerError(
                f"{where} has the ids {layout} for <unk>, <s>, </s>, but a model of this class has {numbering.layout}. "
                "Correct `tokenizer_class` in tokenizer_config.json."
            )

    def __call__(self, text: str) -> list[int]:
        ids: list[int] = self.processor.encode(text)
        if self.numbering is None:
            return ids
        shift = len(self.numbering.first) - self.numbering.replaced
        unk, named = self.numbering.layout[0], self.numbering.unk
        return [named if named is not None and i == unk else i + shift for i in ids]

    def vocab(self) -> dict[str, int]:
        """Return every piece with its id, in order."""
        pieces: list[str] = self.processor.id_to_piece(list(range(self.processor.get_piece_size())))
        if self.numbering is not None:
            pieces = [*self.numbering.first, *pieces[self.numbering.replaced :]]
        return {piece: i for i, piece in enumerate(pieces)}


class NumberedPieces:
    """SentencePiece with the ids of another file (Speech to Text).

    Args:
        proto: Content of the SentencePiece file.
        where: Name of the file, for messages.
        vocab: Id by piece.
        unk_token: Token for pieces outside the vocabulary.
        lower: Lower-case the text first.
    """

    def __init__(
        self, proto: bytes, where: str, vocab: Mapping[str, int], unk_token: str | None, *, lower: bool = False
    ) -> None:
        self.processor = SentencePieces(proto, where).processor
        self.vocab = vocab
        self.unk = vocab.get(unk_token or "")
        self.lower = lower

    def __call__(self, text: str) -> list[int]:
        return _ids(self.processor.encode(text.lower() if self.lower else text, out_type=str), self.vocab, self.unk)


class MarianPieces(NumberedPieces):
    """Marian's: a prefix such as `>>fra<<` is a language token."""

    def __call__(self, text: str) -> list[int]:
        code, mark, rest = text.partition("<<")
        language = [code + mark] if mark and code.startswith(">>") else []
        return _ids([*language, *self.processor.encode(rest if language else text, out_type=str)], self.vocab, self.unk)


class CharacterPieces:
    """One id per character, as in CTC models: wav2vec 2.0, HuBERT, MMS.

    Args:
        vocab: Id by character.
        unk_token: Token for characters outside the vocabulary.
        delimiter: Character for a space.
        upper: Upper-case the text first.
    """

    def __init__(self, vocab: Mapping[str, int], unk_token: str | None, delimiter: str, *, upper: bool) -> None:
        self.vocab = vocab
        self.unk = vocab.get(unk_token or "")
        self.delimiter = delimiter
        self.upper = upper

    def __call__(self, text: str) -> list[int]:
        characters = (text.upper() if self.upper else text).replace(" ", self.delimiter)
        return _ids(characters, self.vocab, self.unk)


class WordPieces:
    """The BPE of fairseq's speech translation decoders: words split at spaces, all pieces but the last end in `@@`.

    Args:
        vocab: Id by piece.
        merges: Pairs in order of preference; the last letter of a word has the suffix `</w>`. `None` is for decoding
            only.
        unk_token: Token for pieces outside the vocabulary.
        lower: Lower-case the text first.
    """

    def __init__(
        self, vocab: Mapping[str, int], merges: list[tuple[str, str]] | None, unk_token: str | None, *, lower: bool
    ) -> None:
        self.vocab = vocab
        self.ranks = None if merges is None else {pair: rank for rank, pair in enumerate(merges)}
        self.unk = vocab.get(unk_token or "")
        self.lower = lower

    def __call__(self, text: str) -> list[int]:
        if self.ranks is None:
            raise TokenizerError("merges.txt is missing: without it this tokenizer can decode, but not encode.")
        words = (text.lower() if self.lower else text).split()
        split = (_byte_pairs(word, self.ranks) for word in words)
        pieces = [[*(f"{piece}@@" for piece in inner), last.removesuffix("</w>")] for *inner, last in split]
        return _ids(chain.from_iterable(pieces), self.vocab, self.unk)


class BlenderbotPieces(WordPieces):
    """The BPE of Blenderbot small: punctuation is separated from words, and line ends are a token."""

    def __call__(self, text: str) -> list[int]:
        lines = " __newln__ ".join(text.split("\n"))
        return super().__call__(re.sub(r"([.,!?()'])", r" \1 ", lines))


class MosesPieces:
    """Words of the Moses scripts, with brackets and quotes escaped as in XML, then BPE (BioGPT).

    Args:
        vocab: Id by piece; the last piece of a word ends in `</w>`.
        merges: Pairs in order of preference.
        unk_token: Token for pieces outside the vocabulary.

    Raises:
        MissingDependencyError: If the package `sacremoses` is not installed.
    """

    def __init__(self, vocab: Mapping[str, int], merges: list[tuple[str, str]], unk_token: str | None) -> None:
        moses = require("sacremoses", "BioGPT's tokenizer")
        self.words, self.sentences = moses.MosesTokenizer(lang="en"), moses.MosesDetokenizer(lang="en")
        self.vocab = vocab
        self.ranks = {pair: rank for rank, pair in enumerate(merges)}
        self.unk = vocab.get(unk_token or "")

    def __call__(self, text: str) -> list[int]:
        words = self.words.tokenize(text, aggressive_dash_splits=True, return_str=False, escape=True)
        return _ids((piece for word in words if word for piece in _byte_pairs(word, self.ranks)), self.vocab, self.unk)

    def text(self, tokens: Iterable[str]) -> str:
        """Return the text of pieces."""
        words = "".join(token.replace("</w>", " ") for token in tokens).split()
        return str(self.sentences.detokenize(words))


def _byte_pairs(word: str, ranks: Mapping[tuple[str, str], int]) -> list[str]:
    """Return the pieces of `word` after all merges, the last one with the suffix `</w>`."""
    pieces = [*word[:-1], word[-1] + "</w>"]
    while len(pieces) > 1:
        best = min(pairwise(pieces), key=lambda pair: ranks.get(pair, len(ranks)))
        if best not in ranks:
            break
        merged: list[str] = []
        for piece in pieces:
            if merged and (merged[-1], piece) == best:
                merged[-1] += piece
            else:
                merged.append(piece)
        pieces = merged
    return pieces
