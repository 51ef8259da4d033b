"""Marian's tokenizer: SentencePiece models for the source and the target language, and one vocabulary for both."""

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as RustTokenizer

from dragoman.errors import TokenizerError
from dragoman.files import parse_json
from dragoman.text.pieces import MarianPieces, PythonPieces, with_pieces, without_pieces
from dragoman.text.tokenizer import Tokenizer


class MarianTokenizer(Tokenizer):
    """`text </s>`; `tokenizer(text_target=…)` uses the model of the target language.

    The labels of a decoder are in the target language, so pass them as `text_target`. With `separate_vocabs` the source
    vocabulary is not used, and `text` takes the target's too.
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
        # Built for each call, since tokens may be added at any time; the vocabulary itself is shared, not copied.
        return with_pieces(without_pieces(self.backend_tokenizer), self._target_pieces)
