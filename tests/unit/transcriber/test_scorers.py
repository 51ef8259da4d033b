"""Hot words and language models, by name."""

import numpy as np
import pytest
import torch

from dragoman import GPT2LMHeadModel
from dragoman.errors import ConfigError, ModelNotFoundError
from dragoman.generation.scorers.word_ngram import WordNGramModel
from dragoman.testing import tiny_config
from dragoman.transcriber import TranscribeOptions
from dragoman.transcriber.scorers import phrase_tokens, scorers_for

WEIGHT = 40  # so much that the end of a text is put off

pytestmark = pytest.mark.filterwarnings("ignore:.*words may be missing")


def texts(transcriber, sample, **options):
    options = {"chunk_length_s": 3, "stride_length_s": 0, "temperature": 0, "max_new_tokens": 7, **options}
    options["no_speech_threshold"] = None
    return [segment.text for segment in transcriber.transcribe(sample, **options).segments]


def test_hot_words_with_a_large_weight_are_written(transcriber, sample):
    plain = texts(transcriber, sample)
    assert not any("lamp" in text for text in plain)
    loud = texts(transcriber, sample, hotwords="lamp, moon", hotwords_weight=WEIGHT)
    assert all("lamp" in text or "moon" in text for text in loud)
    assert texts(transcriber, sample, hotwords=["lamp", "moon"], hotwords_weight=WEIGHT) == loud
    assert texts(transcriber, sample, hotwords="lamp", hotwords_weight=0) == plain


def test_confidence_is_that_of_the_decoder_alone(transcriber, sample):
    options = {"temperature": 0, "hotwords": "lamp", "hotwords_weight": WEIGHT, "no_speech_threshold": None}
    assert all(segment.avg_logprob < 0 for segment in transcriber.transcribe(sample, **options).segments)


def test_phrases_have_forms_with_and_without_a_blank(transcriber):
    tokenizer = transcriber.processor.tokenizer
    assert phrase_tokens(tokenizer, "ab") == [tuple(tokenizer.encode("ab", add_special_tokens=False))]
    with pytest.raises(ConfigError, match="`hotwords`: '§' cannot be written with the tokens of this model"):
        phrase_tokens(tokenizer, "§")


def test_an_arpa_file_over_tokens(transcriber, sample, tmp_path):
    path = tmp_path / "letters.arpa"
    path.write_text("\\data\\\nngram 1=3\n\n\\1-grams:\n-99\t<s>\n-9\t</s>\n-0.01\t##z\n\n\\end\\\n")
    assert set("".join(texts(transcriber, sample, lm=path, lm_weight=50))) == {"z", "#"}
    assert texts(transcriber, sample, lm=str(path), lm_weight=0) == texts(transcriber, sample)


def test_an_arpa_file_over_words(transcriber, sample, tmp_path):
    path = tmp_path / "words.arpa"
    path.write_text("\\data\\\nngram 1=4\n\n\\1-grams:\n-9\t<unk>\n-99\t<s>\n-9\t</s>\n-0.01\tlamps\n\n\\end\\\n")
    options = TranscribeOptions(lm=path, lm_weight=40)
    (scorer,) = scorers_for(transcriber._engine, options)
    assert isinstance(scorer.model, WordNGramModel)
    (again,) = scorers_for(transcriber._engine, TranscribeOptions(lm=str(path), lm_weight=1))
    assert (again.model, again.weight) == (scorer.model, 1), "a language model is read once for many recordings"
    swayed = texts(transcriber, sample, lm=path, lm_weight=40)
    path.touch()
    (anew,) = scorers_for(transcriber._engine, options)
    assert anew.model is not scorer.model
    assert texts(transcriber, sample, lm=path, lm_weight=0) == texts(transcriber, sample) != swayed
    with pytest.raises(ConfigError, match="has none of its"):
        transcriber.transcribe(sample, lm=path, lm_unit="tokens")
    with pytest.raises(ConfigError, match="`lm_unit` must be 'words', 'tokens' or None, but is 'letters'"):
        transcriber.transcribe(sample, lm=path, lm_unit="letters")


def test_a_neural_language_model(transcriber, sample, tmp_path):
    torch.manual_seed(1)
    vocab = transcriber.model.decoder.spec.vocab_size
    lm = GPT2LMHeadModel(tiny_config("gpt2", vocab_size=vocab, initializer_range=0.5, bos_token_id=2)).eval()
    lm.save_pretrained(tmp_path)
    assert texts(transcriber, sample, lm=tmp_path, lm_weight=0) == texts(transcriber, sample)
    options = TranscribeOptions(lm=tmp_path)
    (scorer,) = scorers_for(transcriber._engine, options)
    first = scorer.model.start(torch.tensor([[2]])).logits
    assert torch.allclose(first, lm(torch.tensor([[2]])).logits[:, -1], atol=1e-5)
    swayed = transcriber.transcribe(sample, lm=tmp_path, lm_weight=100, temperature=0, no_speech_threshold=None)
    assert all(segment.tokens[0] == int(first.argmax()) for segment in swayed.segments)


def test_language_models_that_do_not_fit_are_refused(transcriber, sample, tmp_path):
    GPT2LMHeadModel(tiny_config("gpt2", vocab_size=99)).save_pretrained(tmp_path / "other")
    (tmp_path / "notes.txt").write_text("hello")
    for lm, error, told in (
        (tmp_path / "other", ConfigError, "`lm` must have the vocabulary of the model"),
        (tmp_path / "notes.txt", ConfigError, "`lm` must be an ARPA file"),
        (tmp_path / "gone.arpa", ConfigError, "gone.arpa"),
        (tmp_path / "gone", ModelNotFoundError, "gone"),
    ):
        with pytest.raises(error, match=told):
            transcriber.transcribe(np.asarray(sample), lm=lm)


@pytest.mark.parametrize("hotwords", ["", " , ", []])
def test_empty_hot_words_are_refused(hotwords):
    with pytest.raises(ConfigError, match="`hotwords` must name at least one phrase"):
        TranscribeOptions(hotwords=hotwords)
