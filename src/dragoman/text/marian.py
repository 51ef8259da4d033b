"""Marian's tokenizer: a SentencePiece model for the source language and one for the target, one vocabulary for both."""

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as RustTokenizer

from dragoman.errors import TokenizerError
from dragoman.files import parse_json
from dragoman.text.pieces import MarianPieces, PythonPieces, with_pieces, without_pieces
from dragoman.text.tokenizer import Tokenizer

__all__ = ["MarianTokenizer"]


class MarianTokenizer(Tokenizer):
    """`text </s>`; `tokenizer(text_target=…)` cuts as the target language is cut.

    What a decoder of speech learns is in the target language, so its labels are made by `text_target`. With
    `separate_vocabs` the source's vocabulary has no use here, and both ways of calling take the target's.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        name = "target_vocab.json" if self.init_kwargs.get("separate_vocabs") else "vocab.json"
        if not {name, "target.spm"} <= self._vocabulary.keys():
            raise TokenizerError(f"A MarianTokenizer needs {name} and target.spm.")
        vocab = parse_json(self._vocabulary[name], Path(name))
        pieces = MarianPieces(self._vocabulary["target.spm"], "target.spm", vocab, self.unk_token)
        self._target_pieces = PythonPieces(pieces, {i: piece for piece, i in vocab.items()})

    def _engine(self, *, target: bool) -> RustTokenizer:
        if not target:
            return super()._engine(target=False)
        # Made for each call, since tokens may be added at any time; the vocabulary itself is shared, not copied.
        return with_pieces(without_pieces(self.backend_tokenizer), self._target_pieces)
