"""What the processors of Canary and of Cohere Transcribe do besides: prompts that state languages and punctuation."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dragoman.batch import Batch
from dragoman.text.nemo import PROMPTS


class CanaryPrompts:
    """The prompts of Canary."""

    tokenizer: Any

    def get_decoder_prompt_ids(
        self, source_language: str = "en", target_language: str | None = None, punctuation: bool = True
    ) -> list[int]:
        """Return the ids before a transcript, for `decoder_input_ids` of `generate`.

        Args:
            source_language: Of the speech: `de` or `german`.
            target_language: Of the text, for translation; by default that of the speech.
            punctuation: Whether the text has punctuation and capital letters.

        Raises:
            ConfigError: If the model does not know a language.
            TokenizerError: If the tokenizer is of another model.
        """
        prompt = PROMPTS["CanaryProcessor"]
        return prompt.ids(self.tokenizer, source_language, target_language, punctuation=punctuation)

    def apply_transcription_request(
        self,
        audio: Any,
        source_language: str | Sequence[str] = "en",
        target_language: str | Sequence[str] | None = None,
        punctuation: bool = True,
        **kwargs: Any,
    ) -> Batch:
        """Return the arguments of `generate` for recognition or translation.

        Args:
            audio: A waveform `[samples]` or several.
            source_language: Of the speech, one for all clips or one for each.
            target_language: Of the text, likewise; by default that of the speech.
            punctuation: Whether the text has punctuation and capital letters.
            kwargs: Arguments of the processor's call, such as `sampling_rate` and `return_tensors`.

        Raises:
            ConfigError: If the model does not know a language, or their number is not that of the clips.
        """
        call: Any = self
        batch, prompt = call(audio, **kwargs), PROMPTS["CanaryProcessor"]
        count = len(batch["input_features"])
        rows = prompt.rows(self.tokenizer, count, source_language, target_language, punctuation)
        return Batch({**batch, **Batch({"decoder_input_ids": np.asarray(rows)}, kwargs.get("return_tensors"))})


class CoherePrompts:
    """The prompts of Cohere Transcribe."""

    tokenizer: Any

    def get_decoder_prompt_ids(self, language: str, punctuation: bool = True) -> list[int]:
        """Return the ids before a transcript, for `decoder_input_ids` of `generate`.

        Args:
            language: Of the speech: `de` or `german`.
            punctuation: Whether the text has punctuation and capital letters.

        Raises:
            ConfigError: If the model does not know the language.
            TokenizerError: If the tokenizer is of another model.
        """
        return PROMPTS["CohereAsrProcessor"].ids(self.tokenizer, language, punctuation=punctuation)
