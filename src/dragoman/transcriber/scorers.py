"""Extra scores that the user adds to the decoder's: hot words and a language model, made from their names."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np

from dragoman.errors import ConfigError
from dragoman.generation.scorers.fusion import Scorer
from dragoman.generation.scorers.hotwords import HotWords
from dragoman.generation.scorers.ngram import NGramModel, read_arpa
from dragoman.generation.scorers.word_ngram import WordNGramModel, word_starts
from dragoman.transcriber.engine import Engine
from dragoman.transcriber.options import TranscribeOptions

_log = logging.getLogger("dragoman")


def scorers_for(engine: Engine, options: TranscribeOptions) -> list[Scorer]:
    """Return the scorers that the options ask for.

    Args:
        engine: The model whose scores they are added to, and its tokenizer.
        options: `hotwords`, `lm` and their weights.

    Raises:
        ConfigError: If a phrase has no tokens, or the language model does not fit the decoder.
        ModelNotFoundError: If there is no such language model.
    """
    scorers = []
    if options.phrases:
        phrases = {
            tokens: options.hotwords_weight
            for phrase in options.phrases
            for tokens in phrase_tokens(engine.tokenizer, phrase)
        }
        scorers.append(Scorer(model=HotWords(phrases, vocab_size=engine.facts.text.vocab_size)))
    if options.lm is not None:
        scorers.append(_language_model(engine, options))
    return scorers


def phrase_tokens(tokenizer: Any, phrase: str) -> list[tuple[int, ...]]:
    """Return the ids of a phrase at the beginning of a transcript, and after a blank.

    Raises:
        ConfigError: If the tokenizer has no tokens for it.
    """
    unknown = tokenizer.unk_token_id
    forms = {tuple(tokenizer.encode(form, add_special_tokens=False)) for form in (phrase, f" {phrase}")}
    known = sorted(form for form in forms if form and unknown not in form)
    if not known:
        raise ConfigError(f"`hotwords`: {phrase!r} cannot be written with the tokens of this model. Leave it out.")
    return known


def _language_model(engine: Engine, options: TranscribeOptions) -> Scorer:
    """Return the language model that `lm` names; the last one is kept for the next recordings."""
    path = Path(str(options.lm))
    wanted = (str(path), options.lm_unit, path.stat().st_mtime_ns if path.exists() else None)
    kept = engine.language_model
    if kept is None or kept[0] != wanted:
        kept = engine.language_model = wanted, _load_language_model(engine, options)
    return replace(kept[1], weight=options.lm_weight)


def _load_language_model(engine: Engine, options: TranscribeOptions) -> Scorer:
    name, vocab_size = str(options.lm), engine.facts.text.vocab_size
    if name.endswith((".arpa", ".arpa.gz")):
        return _ngrams(engine, name, options.lm_unit)
    if Path(name).is_file():
        raise ConfigError(
            f"`lm` must be an ARPA file (.arpa or .arpa.gz), or a folder or hub id of a language model, but is {name}."
        )
    decoder, size, begin = engine.runner.language_model(name)
    if size != vocab_size:
        raise ConfigError(
            f"`lm` must have the vocabulary of the model, {vocab_size} tokens, but {name} has {size}. "
            "A language model can only be added to a decoder with the same tokenizer."
        )
    prompt = np.array([[_start_and_end(engine)[0] if begin is None else begin]])
    return Scorer(model=decoder, normalize=True, prompt=prompt)


def _ngrams(engine: Engine, name: str, unit: str | None) -> Scorer:
    """Return the language model of an ARPA file."""
    start, end = _start_and_end(engine)
    tokens, vocab_size = engine.tokenizer.get_vocab(), engine.facts.text.vocab_size
    found: NGramModel | WordNGramModel
    if (unit or _unit_of(name, tokens)) == "tokens":
        found = NGramModel(name, tokens, vocab_size=vocab_size, start=start, end=end)
    else:
        starts = word_starts(engine.text, vocab_size)
        found = WordNGramModel(name, starts=starts, decode=engine.text, vocab_size=vocab_size, end=end)
    return Scorer(model=found, prompt=np.array([[start]]))


def _unit_of(name: str, tokens: Mapping[str, int]) -> str:
    """Return whether an ARPA file is over words or tokens."""
    unigrams = [words[0] for words, _, _ in takewhile(lambda entry: len(entry[0]) == 1, read_arpa(name))]
    known = [word in tokens for word in unigrams if word not in ("<s>", "</s>", "<unk>")]
    unit = "tokens" if sum(known) >= 0.95 * len(known) else "words"
    _log.info("%s is read as a language model over %s; lm_unit overrides this.", name, unit)
    return unit


def _start_and_end(engine: Engine) -> tuple[int, int]:
    """Return the ids that a transcript starts and ends with."""
    start, ends = engine.facts.start_id, engine.facts.end_ids
    if start is None or not ends:
        raise ConfigError(
            "A language model needs to know how a transcript starts and ends: set `decoder_start_token_id` and "
            "`eos_token_id` in the config.json of the speech model."
        )
    return start, ends[0]
