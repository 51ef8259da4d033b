"""What a tokenizer makes of the texts of a data set: characters that it cannot write, and texts that are too long."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from dragoman.data.utterance import Problem, Utterance


@dataclass(frozen=True, kw_only=True)
class Unwritable:
    """A character that does not survive a tokenizer.

    Attributes:
        character: The character.
        written: What is written in its place: "" for nothing or the unknown token, "e" for "é".
        count: How often it comes.
        source: Where it comes first.
    """

    character: str
    written: str
    count: int
    source: str


def unwritable(utterances: Iterable[Utterance], tokenizer: Any) -> list[Unwritable]:
    """Return the characters that a tokenizer cannot write, the most frequent first.

    Lower case in place of upper case counts: a model with this tokenizer never writes capitals.
    """
    counts: dict[str, int] = {}
    sources: dict[str, str] = {}
    for utterance in utterances:
        for character in utterance.text:
            counts[character] = counts.get(character, 0) + 1
            sources.setdefault(character, utterance.source)
    found = [
        Unwritable(character=character, written=written, count=count, source=sources[character])
        for character, count in counts.items()
        if not character.isspace() and (written := _written(character, tokenizer)) != character
    ]
    return sorted(found, key=lambda one: (-one.count, one.character))


def _written(character: str, tokenizer: Any) -> str:
    """Return what is left of a character; it is tried between letters, as some tokenizers drop blanks at the ends."""
    for text in (character, f"a{character}"):  # a combining mark needs a letter before it
        ids = tokenizer.encode(text, add_special_tokens=False)
        if tokenizer.unk_token_id is not None and tokenizer.unk_token_id in ids:
            written = ""
            continue
        written = str(tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)).strip()
        if written == text:
            return character
        written = written.removeprefix("a").strip() if text != character else written
    return written


def too_long(utterances: Sequence[Utterance], tokenizer: Any, max_tokens: int) -> list[Problem]:
    """Return a problem for each text that does not fit a decoder.

    Args:
        utterances: The items.
        tokenizer: Of the model; its special tokens count.
        max_tokens: Number of positions of the decoder.
    """
    problems = []
    for utterance in utterances:
        count = len(tokenizer.encode(utterance.text))
        if count > max_tokens:
            message = f"the text has {count} tokens, but the decoder takes {max_tokens}. Split the item, or remove it."
            problems.append(Problem(kind="text too long", source=utterance.source, message=message))
    return problems
