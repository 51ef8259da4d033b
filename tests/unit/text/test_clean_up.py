"""The spaces that WordPiece adds in English."""

from dragoman.text.clean_up import clean_up_tokenization


def test_spaces_before_punctuation_are_removed() -> None:
    assert (
        clean_up_tokenization("it 's fine , I do n't care . we 've won ! ok ?")
        == "it's fine, I don't care. we've won! ok?"
    )
    assert clean_up_tokenization("rock ' n ' roll") == "rock'n'roll"
    assert clean_up_tokenization("مرحبا ، كيف") == "مرحبا ، كيف"
