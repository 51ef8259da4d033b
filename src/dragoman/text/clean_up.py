"""The spaces that a WordPiece vocabulary adds in English text, and the normalisation of Whisper's evaluation."""

import re
import unicodedata

# In the order in which the tokenizers of `transformers` replace them.
_SEPARATED = (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're")


def clean_up_tokenization(text: str) -> str:
    """Remove the spaces before English punctuation and contractions ("it 's fine ." becomes "it's fine.")."""
    for separated in _SEPARATED:
        text = text.replace(separated, separated.strip())
    return text


_BRACKETS, _PARENTHESES = re.compile(r"[<\[][^>\]]*[>\]]"), re.compile(r"\([^)]+\)")
# Latin letters that Unicode does not decompose.
_PLAIN = str.maketrans({"œ": "oe", "ø": "o", "æ": "ae", "ß": "ss", "đ": "d", "ð": "d", "þ": "th", "ł": "l"})


def normalize_for_whisper(text: str, *, remove_diacritics: bool = False) -> str:
    """Reduce a text of any language to lower-case words, as in the evaluation of Whisper (appendix C of the paper).

    What stands in brackets goes; marks, symbols and punctuation become spaces, and runs of spaces one. With
    `remove_diacritics`, marks above and below letters are removed instead, also where they distinguish words.
    """
    text = _PARENTHESES.sub("", _BRACKETS.sub("", text.lower()))
    if remove_diacritics:
        text = unicodedata.normalize("NFKD", text).translate(_PLAIN)
        text = "".join(c for c in text if unicodedata.category(c) != "Mn")
    else:
        text = unicodedata.normalize("NFKC", text)
    text = "".join(" " if unicodedata.category(c)[0] in "MSP" else c for c in text)
    return re.sub(r"\s+", " ", text.lower())
