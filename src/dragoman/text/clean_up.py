"""The spaces that a WordPiece vocabulary adds in English text."""

__all__ = ["clean_up_tokenization"]

# In the order in which the tokenizers of `transformers` replace them.
_SEPARATED = (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're")


def clean_up_tokenization(text: str) -> str:
    """Remove the spaces before English punctuation and contractions ("it 's fine ." becomes "it's fine.")."""
    for separated in _SEPARATED:
        text = text.replace(separated, separated.strip())
    return text
