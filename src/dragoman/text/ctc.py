"""The tokenizer of CTC models: one id per character; decoding merges repeats."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from dragoman.batch import Batch
from dragoman.text.clean_up import clean_up_tokenization
from dragoman.text.tokenizer import Tokenizer


class Wav2Vec2CTCTokenizer(Tokenizer):
    """Characters, as in the fine-tuned checkpoints of wav2vec 2.0, HuBERT and MMS.

    Decoding is for frame-by-frame output: repeats are merged, and the pad token, CTC's blank, is removed. For the
    output of a text decoder use `group_tokens=False`, which keeps double letters.

    `decode` and `batch_decode` have the options `group_tokens` (true), `spaces_between_special_tokens` (false), and
    `output_char_offsets` and `output_word_offsets` (false). With one of the last two they return a batch of `text`,
    `char_offsets` and `word_offsets`. Offsets are in frames; multiplied by `config.inputs_to_logits_ratio /
    sampling_rate` they are in seconds.
    """

    decode_options = frozenset({"group_tokens", "spaces_between_special_tokens"})

    @property
    def word_delimiter_token(self) -> str:
        """The character for a space."""
        return str(self.init_kwargs.get("word_delimiter_token") or "|")

    @property
    def word_delimiter_token_id(self) -> int | None:
        """The id of `word_delimiter_token`."""
        return self.convert_tokens_to_ids(self.word_delimiter_token)

    def decode(self, *args: Any, **options: Any) -> Any:
        """Convert ids to text; see `Tokenizer.decode` and the options above."""
        decoded = super().decode(*args, **options)
        if isinstance(decoded, list) and decoded and isinstance(decoded[0], Batch):
            return Batch({name: [item[name] for item in decoded] for name in decoded[0]})
        return decoded

    def convert_tokens_to_string(
        self,
        tokens: Sequence[str],
        group_tokens: bool = True,
        spaces_between_special_tokens: bool = False,
        output_char_offsets: bool = False,
        output_word_offsets: bool = False,
    ) -> Batch:
        """Return a batch of `text`, `char_offsets` and `word_offsets` for tokens; see the options above."""
        return self._text(
            enumerate(tokens), group_tokens, spaces_between_special_tokens, output_char_offsets, output_word_offsets
        )

    def _decode(
        self,
        ids: list[int],
        skip_special_tokens: bool,
        clean: bool,
        *,
        group_tokens: bool = True,
        spaces_between_special_tokens: bool = False,
        output_char_offsets: bool = False,
        output_word_offsets: bool = False,
    ) -> Any:
        special = set(self.all_special_tokens) - {self.pad_token} if skip_special_tokens else set()
        frames = ((frame, token) for frame, token in enumerate(self._tokens_of(ids)) if token not in special)
        decoded = self._text(
            frames, group_tokens, spaces_between_special_tokens, output_char_offsets, output_word_offsets
        )
        text = clean_up_tokenization(decoded["text"]) if clean else decoded["text"]
        return decoded | {"text": text} if output_char_offsets or output_word_offsets else text

    def _text(
        self, frames: Iterable[tuple[int, str]], group: bool, spaces: bool, char_offsets: bool, word_offsets: bool
    ) -> Batch:
        """Return the text and offsets of tokens with their frames."""
        space = str(self.init_kwargs.get("replace_word_delimiter_char") or " ")
        characters = [
            {**run, "char": space if run["char"] == self.word_delimiter_token else run["char"]}
            for run in _runs(frames, group)
            if run["char"] != self.pad_token  # after grouping: a blank between two equal letters keeps both
        ]
        text = (" " if spaces else "").join(c["char"] for c in characters).strip()
        return Batch(
            {
                "text": text.lower() if self.init_kwargs.get("do_lower_case") else text,
                "char_offsets": characters if char_offsets else None,
                "word_offsets": _words(characters, space) if word_offsets else None,
            }
        )


def _runs(frames: Iterable[tuple[int, str]], group: bool) -> list[dict[str, Any]]:
    """Return the tokens with their frames, from `start_offset` up to `end_offset`."""
    runs: list[dict[str, Any]] = []
    for frame, token in frames:
        if group and runs and runs[-1]["char"] == token:
            runs[-1]["end_offset"] = frame + 1
        else:
            runs.append({"char": token, "start_offset": frame, "end_offset": frame + 1})
    return runs


def _words(characters: list[dict[str, Any]], space: str) -> list[dict[str, Any]]:
    words = []
    for is_space, run in groupby(characters, key=lambda character: character["char"] == space):
        letters = list(run)
        if not is_space:
            word = "".join(letter["char"] for letter in letters)
            ends = {"start_offset": letters[0]["start_offset"], "end_offset": letters[-1]["end_offset"]}
            words.append({"word": word, **ends})
    return words
