"""BioGPT's tokenizer: the words of the Moses scripts, in pieces."""

from dragoman.text.clean_up import clean_up_tokenization
from dragoman.text.pieces import MosesPieces
from dragoman.text.tokenizer import Tokenizer

__all__ = ["BioGptTokenizer"]


class BioGptTokenizer(Tokenizer):
    """`</s> text`. The way back joins words as English does; it is not always the text that went in."""

    def _decode(self, ids: list[int], skip_special_tokens: bool, clean: bool) -> str:
        assert self._pieces is not None
        moses = self._pieces.encode
        assert isinstance(moses, MosesPieces)
        text = moses.text(self._written(ids, skip_special_tokens))
        return clean_up_tokenization(text) if clean else text
