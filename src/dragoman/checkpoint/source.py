"""Which files of a model are downloaded: its weights in one format, and the small files around them."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dragoman.checkpoint.ctc_head import CTC_HEAD
from dragoman.checkpoint.layout import pick_weights, read_index, shard_names
from dragoman.hub import SMALL_FILES, find_folder, matching


def resolve(
    name_or_path: str | os.PathLike[str],
    *,
    patterns: Sequence[str] | None = None,
    use_safetensors: bool | None = None,
    variant: str | None = None,
    pickles: bool = True,
    **hub: Any,
) -> Path:
    """Return the local folder of a model, downloading it if necessary.

    Of a repository come the configuration, the tokenizer and the weights in one format, the one that `find_weights`
    would choose: a repository that offers PyTorch, Flax and TensorFlow weights is not fetched three times.

    Args:
        name_or_path: A folder, or a hub id like "facebook/wav2vec2-base".
        patterns: Download only the files that match, like "*.json".
        use_safetensors: As for `pick_weights`.
        variant: As for `pick_weights`.
        pickles: As for `pick_weights`.
        hub: Arguments of `find_folder`: `revision`, `cache_dir`, `token`, `local_files_only`, `force_download`,
            `subfolder`.

    Raises:
        ModelNotFoundError: As for `find_folder`.
    """
    if patterns is not None:
        return find_folder(name_or_path, matching(patterns), **hub)
    small, index = matching((*SMALL_FILES, CTC_HEAD)), ""

    def choose(names: Sequence[str]) -> list[str]:
        nonlocal index
        picked = pick_weights(names, use_safetensors=use_safetensors, variant=variant, pickles=pickles)
        weights = picked[1] if picked else ""
        index = weights if weights.endswith(".json") else ""
        return sorted({*small(names), weights} - {""})

    def shards(folder: Path) -> list[str]:
        return shard_names(read_index(folder / index)) if index else []

    return find_folder(name_or_path, choose, complete=shards, **hub)
