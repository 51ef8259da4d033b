"""The tokenizer classes of `transformers` by their names: `BertTokenizer.from_pretrained`, `Wav2Vec2CTCTokenizer(…)`.

Each name stands for one kind of `dragoman.text`; what it returns is the same as `AutoTokenizer` returns. Which names
there are is declared by the families.
"""

import os
from typing import Any

from dragoman.errors import TokenizerError
from dragoman.families import FAMILIES
from dragoman.hub import local_folder
from dragoman.processing.from_files import TOKENIZER_OF, read_tokenizer
from dragoman.text.kinds import GENERAL, kind_named
from dragoman.text.tokenizer import Tokenizer
from dragoman.text.vocab_files import stated_class, tokenizer_from_files

# The arguments of constructors in `transformers` by the first name of the file; the others have one of three.
_FILE_ARGUMENTS = {
    "merges.txt": ("merges_file", "merges"),
    "source.spm": ("source_spm",),
    "target.spm": ("target_spm",),
    "target_vocab.json": ("target_vocab_file",),
}


class _Named(type):
    """Makes `isinstance(tokenizer, BertTokenizer)` true for tokenizers of that kind."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, Tokenizer) and (
            instance.is_fast if kind_named(cls.__name__) is GENERAL else _same(cls.__name__, instance.tokenizer_class)
        )


class NamedTokenizer(metaclass=_Named):
    """A kind of tokenizer under its name in `transformers`."""

    def __new__(cls, *files: Any, **options: Any) -> Any:
        """Build a tokenizer from its vocabulary, such as `GPT2Tokenizer("vocab.json", "merges.txt")`.

        Args:
            files: The vocabulary files, in the order of the class in `transformers`; or what they hold: a dictionary
                `{token: id}` in place of vocab.txt and vocab.json, a list of pairs in place of merges.txt.
            options: The same by name (`vocab`, `merges`, `vocab_file`, `merges_file`, `spm_file`, `source_spm`,
                `target_spm`), or `tokenizer_file`, a tokenizer.json; settings as for `AutoTokenizer`.

        Raises:
            ModelNotFoundError: If a file does not exist.
            TokenizerError: If a file is missing or corrupt, or an option unknown.
        """
        kind = kind_named(cls.__name__) or GENERAL
        fast = options.pop("tokenizer_file", None)
        if fast is not None:
            return tokenizer_from_files(cls.__name__, [fast], options, fast=True)
        paths = list(files)
        for names in kind.all_files[len(files) :]:
            arguments = _FILE_ARGUMENTS.get(names[0], ("vocab_file", "vocab", "spm_file"))
            given = next((options.pop(name) for name in arguments if options.get(name) is not None), None)
            paths += [] if given is None else [given]
        if len(paths) < max(len(kind.files), 1):
            wanted = " and ".join(names[0] for names in kind.files) or "tokenizer_file=…"
            raise TokenizerError(f"A {cls.__name__} is built from {wanted}, or read with `from_pretrained`.")
        return tokenizer_from_files(cls.__name__, paths, options)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any) -> Tokenizer:
        """Read a tokenizer of this kind from a folder or the hub; see `AutoTokenizer.from_pretrained`.

        Raises:
            ModelNotFoundError: If there is no tokenizer; the message lists the files to provide.
            TokenizerError: If the files name a tokenizer of another kind, a file is corrupt, or a setting unknown.
        """
        folder, options = local_folder(pretrained_model_name_or_path, kwargs)
        name, found = cls.__name__, stated_class(folder)
        stated = TOKENIZER_OF.get(str(found), found)
        if kind_named(name) is GENERAL:
            return read_tokenizer(folder, options)
        if stated is not None and kind_named(stated) is not GENERAL and not _same(name, stated):
            raise TokenizerError(
                f"{folder} has a {stated}, not a {name}. Read it with {stated} or `AutoTokenizer`; if that is wrong, "
                f'with AutoTokenizer.from_pretrained(…, tokenizer_type="{name}").'
            )
        return read_tokenizer(folder, {"tokenizer_type": name, **options})


def _same(name: str, other: str) -> bool:
    """Return whether two class names mean the same kind of tokenizer."""
    kinds = kind_named(name), kind_named(other)
    return kinds[0] is kinds[1] is not None or name.removesuffix("Fast") == other.removesuffix("Fast")


def _names() -> list[str]:
    """Return the class names that the families declare, and for kinds with a tokenizer.json the `…Fast` ones."""
    declared = {name for family in FAMILIES for name in (family.tokenizer, *family.other_tokenizers) if name}
    fast = [f"{name}Fast" for name in declared if (kind_named(name) or GENERAL).reads_json]
    return sorted([*declared, *fast, GENERAL.name])


TOKENIZERS: dict[str, Any] = {
    name: _Named(name, (NamedTokenizer,), {"__doc__": NamedTokenizer.__doc__, "__module__": __name__})
    for name in _names()
}


def __getattr__(name: str) -> Any:
    if name not in TOKENIZERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return TOKENIZERS[name]
