"""The prompt of a speech language model, as the token ids around its speech."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from dragoman.checkpoint.folder import Checkpoint
from dragoman.errors import ModelNotFoundError
from dragoman.families.composite import CompositeCheckpoint
from dragoman.processing.from_files import read_tokenizer

_log = logging.getLogger("dragoman")


def with_prompt(checkpoint: Checkpoint, given: Mapping[str, Any]) -> Checkpoint:
    """Return a checkpoint of a whole speech language model with its prompt, in the ids of its own tokenizer.

    The last token of the prompt becomes the start token of every transcript. Other checkpoints stay as they are.

    Args:
        checkpoint: The checkpoint.
        given: Fields of the configuration that the caller chose; with a prompt, there is nothing to do.
    """
    known = "fusion_prompt" in {**checkpoint.config, **given}
    if known or not isinstance(checkpoint, CompositeCheckpoint):
        return checkpoint
    try:
        tokenizer = read_tokenizer(checkpoint.folder, {})
    except ModelNotFoundError:
        _log.warning(
            "%s has no tokenizer, so the prompt around the speech is unknown and none is used. Pass fusion_prompt="
            "[ids before the speech, ids after it] and decoder_start_token_id=, the last id before the transcript.",
            checkpoint.folder,
        )
        return checkpoint
    before, after = (
        list(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in checkpoint.composite.prompt
    )
    added = {"fusion_prompt": [before, after[:-1]], "decoder_start_token_id": after[-1]}
    return replace(checkpoint, config={**checkpoint.config, **added})
