"""Tokenizers of word pieces: BERT's, fairseq's for speech translation, Blenderbot small's and BioGPT's."""

from collections.abc import Sequence

from dragoman.text.clean_up import clean_up_tokenization
from dragoman.text.pieces import MosesPieces
from dragoman.text.tokenizer import Tokenizer


class BertTokenizer(Tokenizer):
    """WordPiece: `[CLS] text [SEP]`, or `[CLS] text [SEP] text [SEP]` with a token type for each of the two."""

    model_input_names: Sequence[str] = ("input_ids", "token_type_ids", "attention_mask")


class _WordTokenizer(Tokenizer):
    """Word pieces; all but the last of a word end in `@@`. The template adds no special tokens."""

    def convert_tokens_to_string(self, tokens: Sequence[str]) -> str:
        """Return the text of tokens."""
        return " ".join(tokens).replace("@@ ", "")

    def _decode(self, ids: list[int], skip_special_tokens: bool, clean: bool) -> str:
        text = self.convert_tokens_to_string(self._tokens_of(ids, skip_special_tokens))
        return clean_up_tokenization(text) if clean else text


class Speech2Text2Tokenizer(_WordTokenizer):
    """fairseq's, of facebook/s2t-wav2vec2-large-en-*. Older checkpoints lack merges.txt and only decode."""


class BlenderbotSmallTokenizer(_WordTokenizer):
    """Blenderbot small's: lower-case, with punctuation separated from words."""


class BioGptTokenizer(Tokenizer):
    """`</s> text`. Decoding joins words by the rules of English, which may differ from the original text."""

    def convert_tokens_to_string(self, tokens: Sequence[str]) -> str:
        """Return the text of tokens."""
        assert self._pieces is not None
        moses = self._pieces.encode
        assert isinstance(moses, MosesPieces)
        return moses.text(tokens)

    def _decode(self, ids: list[int], skip_special_tokens: bool, clean: bool) -> str:
        text = self.convert_tokens_to_string(self._tokens_of(ids, skip_special_tokens))
        return clean_up_tokenization(text) if clean else text
