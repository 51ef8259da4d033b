"""Encodings of the Rust library: texts and pairs of texts, truncation, and the columns of a batch."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from tokenizers import Encoding, processors

from dragoman.errors import TokenizerError

# The value of padding in each column but `input_ids`.
FILL: dict[str, Any] = {"token_type_ids": 0, "attention_mask": 0, "special_tokens_mask": 1, "offset_mapping": (0, 0)}

# Puts the texts of a pair next to each other.
JOINED = processors.TemplateProcessing(single="$A", pair="$A $B:1", special_tokens=[])


def pairs_of(text: Any, text_pair: Any) -> tuple[list[str], list[str] | None]:
    """Return the texts of a call, and for pairs the second texts.

    Args:
        text: A text, several, or several pairs.
        text_pair: The second text or texts; `None` if `text` has them or there are none.

    Raises:
        TokenizerError: If one is not text, or some texts have no second one.
    """
    firsts = _listed(text)
    if text_pair is None:
        if not firsts or not all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in firsts):
            return _strings(firsts), None
        return _strings([first for first, _ in firsts]), _strings([second for _, second in firsts])
    seconds = _listed(text_pair)
    if len(firsts) != len(seconds):
        raise TokenizerError(
            f"Pairs need as many second texts as first ones, but there are {len(seconds)} for {text!r:.80}."
        )
    return _strings(firsts), _strings(seconds)


def truncate(first: Encoding, second: Encoding | None, limit: int, strategy: bool | str, side: str) -> None:
    """Truncate a text or a pair to `limit` tokens together.

    Args:
        first: The first text.
        second: The second text of a pair.
        limit: In tokens, without special tokens.
        strategy: `"only_first"` and `"only_second"` truncate one text of a pair; `True` and `"longest_first"` the
            longer one, then both alike.
        side: `"right"` or `"left"`.

    Raises:
        TokenizerError: If the strategy is unknown, or the text to truncate is too short.
    """
    if strategy not in (True, "longest_first", "only_first", "only_second"):
        raise TokenizerError(
            '`truncation` must be True, False, "longest_first", "only_first", "only_second" or "do_not_truncate", but '
            f"is {strategy!r}."
        )
    if second is None:
        first.truncate(limit, direction=side)
        return
    sizes = [len(first), len(second)]
    excess = sum(sizes) - limit
    if excess <= 0:
        return
    if strategy in ("only_first", "only_second"):
        sizes[strategy == "only_second"] -= excess
    else:
        longer = int(sizes[1] >= sizes[0])
        half = limit // 2
        shorter = sizes[1 - longer] if sizes[1 - longer] <= half else half
        sizes = [shorter, shorter]
        sizes[longer] = limit - shorter
    if min(sizes) < 0:
        raise TokenizerError(f"The pair is {-min(sizes)} tokens too long for `truncation={strategy!r}`.")
    first.truncate(sizes[0], direction=side)
    second.truncate(sizes[1], direction=side)


def columns_of(
    names: Iterable[str], encodings: Sequence[tuple[Encoding, list[list[tuple[int, int]]]]]
) -> dict[str, list[Any]]:
    """Return columns of a batch.

    Args:
        names: `"input_ids"`, and any of `"token_type_ids"`, `"special_tokens_mask"` and `"offset_mapping"`.
        encodings: Encodings with special tokens, each with the offsets of its text or texts before they were added:
            some post-processors of `tokenizers` shift offsets each time they run.
    """
    read: dict[str, Callable[[Encoding, list[list[tuple[int, int]]]], Any]] = {
        "input_ids": lambda encoding, _: encoding.ids,
        "token_type_ids": lambda encoding, _: encoding.type_ids,
        "special_tokens_mask": lambda encoding, _: encoding.special_tokens_mask,
        "offset_mapping": _offsets,
    }
    return {name: [read[name](*encoding) for encoding in encodings] for name in names}


def _offsets(encoding: Encoding, texts: list[list[tuple[int, int]]]) -> list[tuple[int, int]]:
    rest = [iter(offsets) for offsets in texts]
    return [(0, 0) if place is None else next(rest[place]) for place in encoding.sequence_ids]


def _listed(text: Any) -> list[Any]:
    return list(text) if isinstance(text, Iterable) and not isinstance(text, (str, Mapping)) else [text]


def _strings(texts: list[Any]) -> list[str]:
    for text in texts:
        if not isinstance(text, str):
            raise TokenizerError(f"A tokenizer needs strings, but got a {type(text).__name__}: {text!r:.80}.")
    return texts
