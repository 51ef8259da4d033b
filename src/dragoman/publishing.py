"""Folders onto the Hugging Face hub: `push_to_hub`, and the README.md that describes a model there.

The hub's own client does the uploading, so its environment variables (`HF_ENDPOINT`, `HF_TOKEN`) work as usual.
Downloads are in `hub`.
"""

import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dragoman.errors import DragomanError
from dragoman.files import as_path
from dragoman.hub import first_line, is_hub_id

PUSH_OPTIONS = frozenset({
    "commit_description", "commit_message", "create_pr", "private", "push_to_hub", "repo_id", "revision", "tags",
    "token",
})  # fmt: skip
"""Options of `save_pretrained` about an upload."""

_README = "README.md"


class PushMethods:
    """`push_to_hub` for what has a `save_pretrained`."""

    save_pretrained: Callable[..., Any]

    def push_to_hub(
        self,
        repo_id: str,
        *,
        commit_message: str | None = None,
        commit_description: str | None = None,
        private: bool | None = None,
        token: str | bool | None = None,
        revision: str | None = None,
        create_pr: bool = False,
        tags: Sequence[str] | None = None,
        **saving: Any,
    ) -> Any:
        """Save into a repository of the hub, which is made if it does not exist; a model's first README.md is written.

        Args:
            repo_id: "organisation/name", or "name" for the owner of the token.
            commit_message: Of the commit; by default "Upload" and the class.
            commit_description: More about it.
            private: Whether a new repository is private; by default as its owner has chosen.
            token: That may write; by default the stored one, or `HF_TOKEN`.
            revision: Branch, made if it does not exist.
            create_pr: Open a pull request instead of committing.
            tags: For the README.md.
            **saving: Options of `save_pretrained`.

        Returns:
            The URL of the commit, with its attributes (`oid`, `pr_url`) from the hub's client.

        Raises:
            DragomanError: If it cannot be saved or uploaded.
        """
        options: dict[str, Any] = {
            "commit_message": commit_message,
            "commit_description": commit_description,
            "private": private,
        }
        options |= {"token": token, "revision": revision, "create_pr": create_pr, "tags": tags}
        with tempfile.TemporaryDirectory() as scratch:
            self.save_pretrained(scratch, **saving)
            return _upload(self, [path for path in Path(scratch).iterdir() if path.is_file()], repo_id, options)

    def hub_card(self, repo_id: str) -> str:
        """Return the README.md for a new repository; empty for none."""
        return ""


class PushModelMethods(PushMethods):
    """The same for a model or a part of one."""

    config: Any

    @property
    def name_or_path(self) -> str:
        """The folder or the hub id that it was loaded from; empty for a new one."""
        return str(self.config.name_or_path)


@contextmanager
def pushed(saved: PushMethods, folder: Any, options: Mapping[str, Any]) -> Iterator[Path]:
    """Yield the folder to save into; if `push_to_hub` is set, upload after that what was written there.

    Args:
        saved: What is saved.
        folder: The folder; its name is the default of `repo_id`.
        options: Those of `PUSH_OPTIONS`, others are ignored.

    Raises:
        DragomanError: If it cannot be uploaded; the folder is complete then.
    """
    path = as_path(folder, "`save_directory`")
    before = _times(path) if options.get("push_to_hub") else {}
    yield path
    if options.get("push_to_hub"):
        new = [path / name for name, time in _times(path).items() if before.get(name) != time]
        _upload(saved, new, options.get("repo_id") or path.absolute().name, options)


def model_card(
    repo_id: str,
    parts: Mapping[str, tuple[str, str]],
    *,
    parameters: int,
    languages: Sequence[str] = (),
    note: str = "",
    use: str,
) -> str:
    """Return a README.md with the front matter that the hub reads.

    Args:
        repo_id: The repository.
        parts: By role, the `model_type` of a part and the checkpoint that it began with, "" if unknown.
        parameters: Number of parameters.
        languages: Codes of the languages that it writes, if they are known.
        note: What else readers should know about loading it.
        use: A program in Python.
    """
    bases = list(dict.fromkeys(base for _, base in parts.values() if is_hub_id(base)))
    front = {
        "library_name": ["dragoman"],
        "pipeline_tag": ["automatic-speech-recognition"] if "encoder" in parts else [],
        "tags": [*dict.fromkeys(["speech-encoder-decoder", *(kind for kind, _ in parts.values())])],
        "language": list(languages),
        "base_model": bases,
    }
    rows = "\n".join(f"| {role} | {kind} | {base if base in bases else ''} |" for role, (kind, base) in parts.items())
    return f"""---
{_yaml(front)}
---

# {repo_id.rpartition("/")[2]}

A {" and a ".join(f"{kind} {role}" for role, (kind, _) in parts.items())}, {parameters:,} parameters.

| part | family | began with |
|---|---|---|
{rows}

## Use

```python
{use}
```

{note}

## Data, results, limits

Not described yet: what it was trained on, how it was evaluated, and where it fails. The licences of its data and of the
checkpoints that it began with apply.
"""


def _yaml(front: Mapping[str, list[str]]) -> str:
    lines = []
    for name, values in front.items():
        single = name in ("library_name", "pipeline_tag")
        if values:
            lines += [f"{name}: {values[0]}"] if single else [f"{name}:", *(f"- {value}" for value in values)]
    return "\n".join(lines)


def language_codes(names: Sequence[Any]) -> list[str]:
    """Return the codes among names such as "en", "<|en|>" and "en_XX", each once."""
    found = (re.fullmatch(r"(?:<\|)?([a-z]{2,3})(?:\|>|_[A-Za-z]+)?", name) for name in names if isinstance(name, str))
    return list(dict.fromkeys(match[1] for match in found if match))


def _times(folder: Path) -> dict[str, int]:
    """Return when each file of a folder was written."""
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*") if path.is_file()}


def _upload(saved: PushMethods, paths: Sequence[Path], repo_id: str, options: Mapping[str, Any]) -> Any:
    from huggingface_hub import CommitOperationAdd, HfApi

    api, revision = HfApi(token=options.get("token")), options.get("revision")
    try:
        repo_id = api.create_repo(repo_id, private=options.get("private"), exist_ok=True).repo_id
        if revision is not None and not revision.startswith("refs/pr"):
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        adds = [CommitOperationAdd(path_in_repo=path.name, path_or_fileobj=path) for path in paths]
        card = _card(api, saved, repo_id, options)
        if card and all(path.name != _README for path in paths):
            adds.append(CommitOperationAdd(path_in_repo=_README, path_or_fileobj=card.encode()))
        return api.create_commit(
            repo_id,
            adds,
            commit_message=options.get("commit_message") or f"Upload {type(saved).__name__}",
            commit_description=options.get("commit_description"),
            revision=revision,
            create_pr=options.get("create_pr") or None,
        )
    except Exception as error:  # the client's HTTP library, and so its errors, differs between versions
        raise DragomanError(
            f"{repo_id!r} cannot be uploaded to {api.endpoint} ({first_line(error)}). Check the name, and that the "
            "token may write: pass `token`, or set HF_TOKEN, or run: hf auth login."
        ) from error


def _card(api: Any, saved: PushMethods, repo_id: str, options: Mapping[str, Any]) -> str:
    """Return the README.md to upload: a new one, or the present one with more tags; empty for none."""
    from huggingface_hub import ModelCard

    tags = options.get("tags") or []
    if not api.file_exists(repo_id, _README, revision=options.get("revision")):
        text = saved.hub_card(repo_id)
        return str(_tagged(ModelCard(text), tags)) if text and tags else text
    return str(_tagged(ModelCard.load(repo_id, token=options.get("token")), tags)) if tags else ""


def _tagged(card: Any, tags: Sequence[str]) -> Any:
    card.data.tags = list(dict.fromkeys([*(card.data.tags or []), *tags]))
    return card
