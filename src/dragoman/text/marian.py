"""Marian's tokenizer: a SentencePiece model for the source language and one for the target, one vocabulary for both."""

from pathlib import Path
from typing import Any

from dragoman.errors import TokenizerError
from dragoman.files import parse_json
from dragoman.text.pieces import MarianPieces
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
        self._target = MarianPieces(self._vocabulary["target.spm"], "target.spm", vocab, self.unk_token)

    def _encode(self, texts: Any, *, limit: int | None, add_special_tokens: bool, target: bool) -> list[list[int]]:
        if not target:
            return super()._encode(texts, limit=limit, add_special_tokens=add_special_tokens, target=target)
        end = [self.eos_token_id] if add_special_tokens and self.eos_token_id is not None else []
        texts = [texts] if isinstance(texts, str) else texts
        room = None if limit is None else limit - len(end)
        return [self._target(text)[:room] + end for text in texts]
