"""Mistral's Tekken tokenizers (`tekken.json`): byte-level BPE whose merges follow from the ranks of the tokens."""

from base64 import b64decode
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as RustTokenizer

from dragoman.errors import TokenizerError
from dragoman.files import VOCABULARY_BYTES, parse_json, read_bytes
from dragoman.text.rust_errors import rust_errors
from dragoman.text.tokenizer import Tokenizer

FILE = "tekken.json"
_MOST_TOKENS = 400_000  # each is an object in the file; those in use have 150,000
_ROLES = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}


def tekken_tokenizer(path: Path, settings: Mapping[str, Any]) -> Tokenizer:
    """Read a tokenizer; it is saved as a tokenizer.json.

    Args:
        path: Its `tekken.json`.
        settings: Settings, such as special tokens, in place of those in the file.

    Raises:
        TokenizerError: If it is malformed, or older than the names of its special tokens.
    """
    data = parse_json(
        read_bytes(path, VOCABULARY_BYTES, TokenizerError), path, TokenizerError, max_containers=_MOST_TOKENS
    )
    try:
        count, size = (int(data["config"][f"default_{name}"]) for name in ("num_special_tokens", "vocab_size"))
        pattern, named = (
            str(data["config"]["pattern"]),
            {int(x["rank"]): str(x["token_str"]) for x in data["special_tokens"]},
        )
        pieces = [b64decode(token["token_bytes"], validate=True) for token in data["vocab"][: size - count]]
    except (KeyError, TypeError, ValueError) as error:
        raise TokenizerError(
            f"{path} must have the fields `config`, `vocab` and `special_tokens` of a Tekken tokenizer of version 7 or "
            f"later, but {type(error).__name__}: {error}. Download it again, or put a tokenizer.json next to it."
        ) from error
    special = [named.get(rank, f"<SPECIAL_{rank}>") for rank in range(count)]
    letters = _letters()
    texts = ["".join(map(letters.__getitem__, piece)) for piece in pieces]
    ranks = {text: rank for rank, text in enumerate(texts)}
    with rust_errors(f"{path} is malformed", "Download it again."):
        vocab = {text: i for i, text in enumerate([*special, *texts])}
        backend = RustTokenizer(models.BPE(vocab, [*_merges(ranks)], ignore_merges=True))
        split = pre_tokenizers.Split(Regex(pattern), "isolated")
    bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([split, bytes_only])
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
    roles = {role: token for role, token in _ROLES.items() if token in special}
    return Tokenizer(backend, {**roles, **settings})


def _merges(ranks: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """Yield the pairs of tokens that make a token, for each token by its rank."""
    for text in ranks:
        pairs = ((text[:i], text[i:]) for i in range(1, len(text)))
        yield from sorted(
            (pair for pair in pairs if pair[0] in ranks and pair[1] in ranks),
            key=lambda pair: (ranks[pair[0]], ranks[pair[1]]),
        )


def _letters() -> list[str]:
    """Return the character that stands for each byte in byte-level BPE: itself if it is visible in Latin-1."""
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = iter(range(0x100, 0x200))
    return [chr(byte if byte in visible else next(hidden)) for byte in range(0x100)]
