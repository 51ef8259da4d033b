"""Tokenizers of words in pieces: fairseq's for speech translation (facebook/s2t-wav2vec2-large-en-*), and Blenderbot
small's.
"""

from dragoman.text.clean_up import clean_up_tokenization
from dragoman.text.tokenizer import Tokenizer

__all__ = ["BlenderbotSmallTokenizer", "Speech2Text2Tokenizer"]


class _WordTokenizer(Tokenizer):
    """Word pieces; those that their word goes on after end in `@@`. Nothing is put around a text."""

    def _decode(self, ids: list[int], skip_special_tokens: bool, clean: bool) -> str:
        text = " ".join(self._written(ids, skip_special_tokens)).replace("@@ ", "")
        return clean_up_tokenization(text) if clean else text


class Speech2Text2Tokenizer(_WordTokenizer):
    """fairseq's. Older checkpoints come without merges.txt: they decode, but cannot encode."""


class BlenderbotSmallTokenizer(_WordTokenizer):
    """Blenderbot's: lower-case, with punctuation parted from the words."""
