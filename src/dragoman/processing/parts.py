"""The methods that a processor uses of its parts: those of dragoman have them, and those of `transformers`."""

import os
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class AnyFeatureExtractor(Protocol):
    """A feature extractor of either library."""

    sampling_rate: int

    def __call__(self, raw_speech: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the inputs of a model for waveforms."""

    def pad(self, processed_features: Any, *args: Any, **kwargs: Any) -> Any:
        """Return a batch of such inputs."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields of preprocessor_config.json."""


@runtime_checkable
class AnyTokenizer(Protocol):
    """A tokenizer of either library."""

    def __call__(self, text: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the ids of sequences."""

    def pad(self, encoded_inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Return a batch of such ids."""

    def decode(self, token_ids: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the text of ids."""

    def batch_decode(self, sequences: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the texts of rows of ids."""

    def convert_ids_to_tokens(self, ids: Any, skip_special_tokens: bool = False) -> Any:
        """Return the tokens of ids."""

    def save_pretrained(self, save_directory: str | os.PathLike[str]) -> tuple[str, ...]:
        """Write the files, and return their paths."""


@runtime_checkable
class WhisperPrompts(Protocol):
    """A tokenizer of Whisper, of either library."""

    def get_decoder_prompt_ids(
        self, task: str | None = None, language: str | None = None, no_timestamps: bool = True
    ) -> list[tuple[int, int]]:
        """Return (position, id) of each token to force after the start token."""

    def get_prompt_ids(self, text: str, return_tensors: str | None = "np") -> Any:
        """Return the ids of a prompt."""
