"""Heads that are tied to the token embedding: what a checkpoint holds, against what a configuration asks for."""

import logging
from collections.abc import Mapping
from typing import Any

from dragoman.checkpoint.filling import Readable
from dragoman.checkpoint.keymap import Drop, KeyMap
from dragoman.errors import ConfigError
from dragoman.families import ModelConfig, config_from_dict, text_part

HEAD_COPIES = (("head.weight", "embed.tokens.weight"),)
"""An untied head of a checkpoint that has none, because it is tied there, begins as a copy of the embedding."""

_log = logging.getLogger("dragoman")


def is_tied_in(data: Mapping[str, Any]) -> bool:
    """Return whether the head of the text decoder is tied by a `config.json`, that of a whole model or of a part."""
    own = data.get("decoder", data)
    try:
        return isinstance(own, Mapping) and config_from_dict(own).text_spec().head.tied
    except ConfigError:  # of a caller who passed another configuration
        return False


def untie_other_head(config: ModelConfig, file: Readable, prefix: str = "") -> bool:
    """Untie the head in a configuration, with a warning, if the file holds a head that is not the embedding.

    Such files were trained untied, or edited, and `transformers` uses the head of the file too.

    Args:
        config: Of a text decoder.
        file: The checkpoint.
        prefix: Prefix of the decoder's names in it.

    Returns:
        Whether it was untied.
    """
    if not config.tie_word_embeddings or not config.text_spec().head.tied:
        return False
    keymap = text_part(config).keymap(config)
    heads, tables = [], []
    for name in file.keys():  # noqa: SIM118
        if name.startswith(prefix):
            canonical = keymap.canonical_name(name.removeprefix(prefix))
            rule = keymap.rule_for(canonical)
            if isinstance(rule, Drop) and rule.same_as == HEAD_COPIES[0][1]:
                heads.append(name)
            elif keymap.ours(canonical) == (HEAD_COPIES[0][1],):
                tables.append((name, canonical))
    tables.sort(key=lambda names: names[0] != prefix + names[1])  # its own name before others of the same tensor
    if not heads or not tables or _equal(keymap, file, heads[0], tables[0]):
        return False
    config.tie_word_embeddings = False
    if config.text_spec().head.tied:
        config.tie_word_embeddings = True
        return False
    _log.warning(
        "The configuration ties the head to the token embedding, but the checkpoint holds another one (%s), which is "
        "used: it is untied now. Set tie_word_embeddings=False in the decoder's config.json.",
        heads[0],
    )
    return True


def _equal(keymap: KeyMap, file: Readable, head: str, table: tuple[str, str]) -> bool:
    incoming, canonical = table
    ((_, embedding),) = keymap.read(canonical, file.read(incoming))
    weight = file.read(head)
    return tuple(weight.shape) == tuple(embedding.shape) and bool((weight == embedding).all())
