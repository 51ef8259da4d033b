"""The tokenizer in the metadata of a GGUF file: the byte-level BPE of Llama 3, Qwen and SmolLM."""

from collections.abc import Mapping
from typing import Any

from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as RustTokenizer

from dragoman.errors import TokenizerError
from dragoman.text.rust_errors import rust_errors
from dragoman.text.tokenizer import Tokenizer

_NORMAL = 1  # token type in ggml; 3 is control, 4 user-defined
# Splits a text before the merges: contractions, words, one or three digits, symbols, spaces.
_QWEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _pre_tokenizer(name: str) -> Any:
    """Return the `tokenizers.pre_tokenizers.PreTokenizer` with this name in ggml."""
    bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    if name in ("default", "gpt-2"):
        return pre_tokenizers.ByteLevel(add_prefix_space=False)
    if name == "smollm":
        words = pre_tokenizers.ByteLevel(add_prefix_space=False)
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), words])
    if name in ("qwen2", "llama-bpe"):
        pattern = _QWEN if name == "qwen2" else _QWEN.replace(r"\p{N}| ?", r"\p{N}{1,3}| ?")
        return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), bytes_only])
    raise TokenizerError(
        f"The GGUF file has the pre-tokenizer {name!r}; dragoman supports default, gpt-2, llama-bpe, qwen2 and smollm. "
        "Put the model's tokenizer.json next to it."
    )


def tokenizer_of(metadata: Mapping[str, Any], settings: Mapping[str, Any]) -> Tokenizer:
    """Build the tokenizer in the metadata of a GGUF file.

    Args:
        metadata: All metadata, by name.
        settings: Settings, such as special tokens, in place of those in the metadata.

    Raises:
        TokenizerError: If it is not byte-level BPE, or malformed.
    """
    kind = metadata.get("tokenizer.ggml.model")
    tokens, merges = (metadata.get(f"tokenizer.ggml.{name}") for name in ("tokens", "merges"))
    if kind != "gpt2" or not isinstance(tokens, list) or not isinstance(merges, list):
        raise TokenizerError(
            f"The GGUF file has a tokenizer of the kind {kind!r}; dragoman supports 'gpt2' (byte-level BPE) with its "
            "merges. Put the model's tokenizer.json next to it."
        )
    kinds = metadata.get("tokenizer.ggml.token_type") or []
    if not isinstance(kinds, list) or not all(isinstance(one, str) for one in (*tokens, *merges)):
        raise TokenizerError(
            "The tokens, merges and token types of the GGUF file must be lists, of strings and numbers."
        )
    with rust_errors("The tokenizer of the GGUF file is malformed", "Put the model's tokenizer.json next to it."):
        pairs = [(first, second) for first, second in (merge.split(" ") for merge in merges)]
        backend = RustTokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, pairs))
    backend.pre_tokenizer = _pre_tokenizer(str(metadata.get("tokenizer.ggml.pre", "default")))
    backend.decoder = decoders.ByteLevel()
    special = [token for token, number in zip(tokens, kinds, strict=False) if number != _NORMAL]
    backend.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
    roles = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
    ids = {role: metadata.get(f"tokenizer.ggml.{name}_token_id") for role, name in roles.items()}
    found = {role: tokens[i] for role, i in ids.items() if isinstance(i, int) and 0 <= i < len(tokens)}
    chat = metadata.get("tokenizer.chat_template")
    return Tokenizer(backend, {**found, **({} if chat is None else {"chat_template": chat}), **settings})
