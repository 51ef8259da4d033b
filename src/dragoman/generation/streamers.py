"""Streamers: showing text while it is generated.

`generate` passes a streamer the prompt, then the new tokens of each step, then the end. `TextStreamer` prints;
`TextIteratorStreamer` is read by another thread. Text is passed on only as far as later tokens cannot change it.
"""

from collections.abc import Iterator
from queue import Queue
from typing import Any, Protocol

import numpy as np

from dragoman.errors import GenerationError


class Streamer(Protocol):
    """Receives the tokens of `generate` as they are chosen."""

    def put(self, value: np.ndarray[Any, Any]) -> None:
        """Receive first the prompt int `[batch, prompt_length]`, then the new tokens int `[batch]` of each step."""
        ...

    def end(self) -> None:
        """Called after the last token, or when `generate` fails."""
        ...


class TextStreamer:
    """Prints the text of one utterance while it is generated.

    Args:
        tokenizer: Anything with `decode(ids, **decode_kwargs)`.
        skip_prompt: Leave out the prompt.
        decode_kwargs: Passed to the tokenizer, such as `skip_special_tokens=True`.
    """

    def __init__(self, tokenizer: Any, skip_prompt: bool = False, **decode_kwargs: Any) -> None:
        self.tokenizer = tokenizer
        self.skip_prompt = skip_prompt
        self.decode_kwargs = decode_kwargs
        self._ids: list[int] = []
        self._shown = 0
        self._at_prompt = True

    def put(self, value: np.ndarray[Any, Any]) -> None:
        """Receive the prompt or the next token; pass on the text that is final.

        Raises:
            GenerationError: If there are several utterances.
        """
        if value.shape[0] > 1:
            raise GenerationError(
                f"A text streamer shows one utterance, but the batch has {value.shape[0]}. Call `generate` for each."
            )
        is_prompt, self._at_prompt = self._at_prompt, False
        if is_prompt and self.skip_prompt:
            return
        self._ids += np.ravel(value).tolist()
        text = self._decode()
        if text.endswith("\n"):  # tokens do not join across lines: start over, so that decoding stays short
            self.on_finalized_text(text[self._shown :])
            self._ids, self._shown = [], 0
        else:
            final = _final_length(text)
            if final > self._shown:
                self.on_finalized_text(text[self._shown : final])
                self._shown = final

    def end(self) -> None:
        """Pass on the rest of the text."""
        rest = self._decode()[self._shown :] if self._ids else ""
        self._ids, self._shown, self._at_prompt = [], 0, True
        self.on_finalized_text(rest, stream_end=True)

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Print `text`; override it to send the text elsewhere."""
        print(text, flush=True, end="\n" if stream_end else "")  # noqa: T201 (its purpose)

    def _decode(self) -> str:
        text: str = self.tokenizer.decode(self._ids, **self.decode_kwargs)
        return text


class TextIteratorStreamer(TextStreamer):
    """Passes the text of one utterance to another thread: `for piece in streamer`, while `generate` runs.

    Args:
        tokenizer: As for `TextStreamer`.
        skip_prompt: As for `TextStreamer`.
        timeout: Seconds to wait for the next piece before `queue.Empty` is raised. `None` waits forever.
        decode_kwargs: As for `TextStreamer`.
    """

    def __init__(
        self, tokenizer: Any, skip_prompt: bool = False, timeout: float | None = None, **decode_kwargs: Any
    ) -> None:
        super().__init__(tokenizer, skip_prompt, **decode_kwargs)
        self.timeout = timeout
        self.text_queue: Queue[str | None] = Queue()

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Put `text` into the queue of the iteration."""
        self.text_queue.put(text)
        if stream_end:
            self.text_queue.put(None)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        piece = self.text_queue.get(timeout=self.timeout)
        if piece is None:
            raise StopIteration
        return piece


# Hiragana and katakana; CJK ideographs: extension A, the main block, compatibility, extensions B and later.
_UNSPACED = ((0x3040, 0x30FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x2FA1F))


def _final_length(text: str) -> int:
    """Return the number of characters that will not change: up to the last space, or all if no spaces are written."""
    if text and any(first <= ord(text[-1]) <= last for first, last in _UNSPACED):
        return len(text)
    return text.rfind(" ") + 1
