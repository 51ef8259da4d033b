"""From ids to text."""

from collections.abc import Sequence
from typing import Any

from tokenizers import models as rust_models

from dragoman.text.clean_up import clean_up_tokenization
from dragoman.text.ids import id_rows
from dragoman.text.rust_errors import rust_errors
from dragoman.text.vocabulary import Vocabulary

# Options of `decode` in some classes of `transformers` that the others may be given.
_WITHOUT_EFFECT = frozenset({"group_tokens", "num_processes", "spaces_between_special_tokens", "use_source_tokenizer"})


class Decoder(Vocabulary):
    """A vocabulary whose ids are decoded to text.

    Attributes:
        decode_options: Those of the options without effect below that have one in this class.
        clean_up_tokenization_spaces: Default of the option of `decode` with this name.
    """

    decode_options: frozenset[str] = frozenset()
    clean_up_tokenization_spaces: bool

    def decode(
        self,
        token_ids: Any,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
        **options: Any,
    ) -> Any:
        """Convert ids to text.

        Args:
            token_ids: The ids of one text or of several: lists, arrays or tensors, `[length]` or `[batch, length]`.
            skip_special_tokens: Omit special tokens.
            clean_up_tokenization_spaces: Remove the spaces before English punctuation and contractions; by default the
                attribute of the same name, which has no effect on BPE, as it keeps the spaces of the text.
            options: Options of some classes (`Wav2Vec2CTCTokenizer`, `WhisperTokenizer`). `group_tokens` and
                `spaces_between_special_tokens` have no effect in the others, `num_processes` and
                `use_source_tokenizer` in any.

        Returns:
            A string; for several texts a list of strings.

        Raises:
            TokenizerError: If the ids are not whole numbers from 0 up.
        """
        ignored = _WITHOUT_EFFECT - self.decode_options
        options = {name: value for name, value in options.items() if name not in ignored}
        rows, batched = id_rows(token_ids)
        clean = clean_up_tokenization_spaces
        if clean is None:
            clean = self.clean_up_tokenization_spaces and not isinstance(self.backend_tokenizer.model, rust_models.BPE)
        texts = [self._decode(row, skip_special_tokens, clean, **options) for row in rows]
        return texts if batched else texts[0]

    def batch_decode(
        self,
        sequences: Any,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
        **options: Any,
    ) -> Any:
        """Convert rows of ids to a list of texts; see `decode`."""
        texts = self.decode(sequences, skip_special_tokens, clean_up_tokenization_spaces, **options)
        return [texts] if isinstance(texts, str) else texts

    def convert_tokens_to_string(self, tokens: Sequence[str]) -> Any:
        """Return the text of tokens."""
        decoder = self.backend_tokenizer.decoder
        with rust_errors("The tokens cannot be joined", "Check the tokenizer's files."):
            return " ".join(tokens) if decoder is None else decoder.decode(list(tokens))

    def _decode(self, ids: list[int], skip_special_tokens: bool, clean: bool) -> Any:
        with rust_errors("The ids cannot be decoded", "Check the tokenizer's files."):
            text = self.backend_tokenizer.decode(ids, skip_special_tokens=skip_special_tokens)
        return clean_up_tokenization(text) if clean else text
