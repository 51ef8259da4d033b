"""From a name to a folder on this machine: a local folder is itself, anything else is an id on the Hugging Face hub.

The hub's own client does the downloading, so its cache and its environment variables (`HF_HOME`, `HF_HUB_CACHE`,
`HF_HUB_OFFLINE`, `HF_ENDPOINT`, `HF_TOKEN`) work as usual. It is imported when it is needed. Which files a model
consists of is chosen by the callers, its weights in `dragoman.checkpoint.source`.
"""

import errno
import glob
import logging
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from dragoman.errors import DragomanError, ModelNotFoundError
from dragoman.files import as_path

# The arguments of `from_pretrained` that are about finding files.
HUB_OPTIONS = frozenset({
    "cache_dir", "force_download", "local_files_only", "proxies", "revision", "subfolder", "token"
})  # fmt: skip
# Configurations, tokenizers and preprocessors: all files of a model but its weights.
SMALL_FILES = ("*.json", "*.txt", "*.model", "*.spm")
# Arguments of `transformers` that choose between implementations, of which there is one here. Code from a repository is
# never run, so there is nothing to trust.
_IDLE_OPTIONS = frozenset({"code_revision", "from_slow", "legacy", "resume_download", "trust_remote_code", "use_fast"})

# Returns those of the file names in a repository that are to be downloaded.
Choose = Callable[[Sequence[str]], list[str]]

_HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?", re.ASCII)

_log = logging.getLogger("dragoman")


def matching(patterns: Iterable[str]) -> Choose:
    """Return a choice of the files that match a pattern such as "*.json"."""
    patterns = tuple(patterns)
    return lambda names: [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]


def local_folder(
    name_or_path: str | os.PathLike[str],
    options: Mapping[str, Any],
    *,
    patterns: Sequence[str] = SMALL_FILES,
    idle: Iterable[str] = _IDLE_OPTIONS,
) -> tuple[Path, dict[str, Any]]:
    """Return the folder of a model, without its weights, and the options that are not about finding it.

    Args:
        name_or_path: A folder or a hub id.
        options: The keyword arguments of a `from_pretrained`.
        patterns: Files to download.
        idle: Options that have no effect.

    Raises:
        ModelNotFoundError: As for `find_folder`.
    """
    options = with_token(options)
    hub = {name: value for name, value in options.items() if name in HUB_OPTIONS}
    rest = {name: value for name, value in options.items() if name not in HUB_OPTIONS.union(idle)}
    return find_folder(name_or_path, matching(patterns), **hub), rest


def with_token(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options with `token`, whose older name in `transformers` is `use_auth_token`."""
    rest = {name: value for name, value in options.items() if name != "use_auth_token"}
    old = options.get("use_auth_token")
    return rest if old is None or rest.get("token") is not None else rest | {"token": old}


def find_folder(
    name_or_path: str | os.PathLike[str],
    choose: Choose,
    *,
    complete: Callable[[Path], list[str]] = lambda folder: [],
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    token: str | bool | None = None,
    local_files_only: bool = False,
    force_download: bool = False,
    subfolder: str | None = None,
    proxies: Mapping[str, str] | None = None,
) -> Path:
    """Return the local folder of a model, downloading it if necessary.

    Args:
        name_or_path: A folder, or a hub id like "facebook/wav2vec2-base".
        choose: Chooses the files to download.
        complete: Names the files that are missing in the folder after that: the shards that an index lists.
        revision: Branch, tag or commit on the hub; `main` by default.
        cache_dir: Folder for downloads; by default the hub's standard cache.
        token: For private and gated models; by default the one that `hf auth login` stored, or `HF_TOKEN`.
        local_files_only: Use the cache and never ask the hub.
        force_download: Download again even if the files are there.
        subfolder: A folder inside the folder or repository.
        proxies: Must be empty for a model on the hub, whose client takes its proxies from the environment.

    Raises:
        ModelNotFoundError: If the model cannot be had for any reason: one line with the cause and the remedy.
    """
    as_path(name_or_path, "The name of a model (a folder or a hub id)", ModelNotFoundError)
    if subfolder:
        subfolder = as_path(subfolder, "`subfolder`", ModelNotFoundError).as_posix().strip("/")
    name, subfolder = os.fspath(name_or_path), subfolder or ""
    local = Path(os.path.expanduser(name))
    if os.path.isdir(local):  # false for a name that is too long, without an exception
        return _within(local, subfolder)
    _expect_hub_id(name, local)
    if proxies:
        raise ModelNotFoundError(
            f"`proxies` cannot be used to download {name!r}: the hub's client takes them from the environment. Set "
            "HTTPS_PROXY there, and leave `proxies` out."
        )
    repository = _Repository(name, revision, cache_dir, token, force_download, f"{subfolder}/" if subfolder else "")
    try:
        snapshot = repository.fetch(choose, complete, offline=local_files_only)
    except DragomanError:
        raise
    except Exception as error:  # the client's HTTP library, and so its errors, differs between versions
        raise ModelNotFoundError(_explain(error, name, revision)) from error
    return _within(snapshot, subfolder)


def commit_of(folder: str | Path) -> str | None:
    """Return the commit of a folder in the hub's cache, `None` for any other folder."""
    folder = Path(folder).absolute()
    for path in (folder, *folder.parents):
        if path.parent.name == "snapshots" and re.fullmatch(r"[0-9a-f]{40}", path.name):
            return path.name
    return None


def _within(folder: Path, subfolder: str) -> Path:
    if not os.path.isdir(folder / subfolder):
        raise ModelNotFoundError(f"There is no folder {subfolder!r} in {folder}. Check `subfolder`.")
    return folder / subfolder


def _expect_hub_id(name: str, local: Path) -> None:
    """Raise for a path that does not exist, so that a misspelt one is not looked up on the hub."""
    if os.path.isfile(local):
        raise ModelNotFoundError(f"{name} is a file. Pass the folder that holds config.json and the weights.")
    if not _HUB_ID.fullmatch(name):
        raise ModelNotFoundError(
            f'There is no folder {name!r}, and it cannot be a hub id either: those look like "organisation/name". '
            "Check the path."
        )


@dataclass(frozen=True)
class _Repository:
    """A model on the hub."""

    name: str
    revision: str | None
    cache_dir: str | Path | None
    token: str | bool | None
    force: bool
    prefix: str  # "subfolder/" or nothing

    def fetch(self, choose: Choose, complete: Callable[[Path], list[str]], *, offline: bool) -> Path:
        """Return the snapshot folder with the chosen files."""
        # The client takes half a second to import, and a local folder needs none of it.
        from huggingface_hub import HfApi, constants
        from huggingface_hub.errors import RevisionNotFoundError

        if offline or constants.HF_HUB_OFFLINE:
            return self._cached()
        try:
            listed = HfApi(token=self.token).model_info(self.name, revision=self.revision).siblings or []
        except RevisionNotFoundError:
            raise
        except Exception as error:
            try:
                snapshot = self._cached()
            except Exception:
                raise error from None
            _log.warning("The hub cannot be reached for %s (%s): using the cache.", self.name, first_line(error))
            return snapshot
        names = [file.rfilename.removeprefix(self.prefix) for file in listed if file.rfilename.startswith(self.prefix)]
        names = [name for name in names if "/" not in name]
        chosen = choose(names)
        if not chosen:
            raise ModelNotFoundError(
                f"{self.name}/{self.prefix} on the hub holds no file of a model, only: "
                f"{', '.join(names[:12]) or 'nothing'}. Check the id and `subfolder`."
            )
        snapshot = self._download(chosen)
        missing = complete(snapshot / self.prefix)
        if missing:
            self._download(missing)
        return snapshot

    def _cached(self) -> Path:
        """Return the snapshot folder of an earlier download; its reader reports the files that are missing."""
        return self._download(["config.json"], cached=True)

    def _download(self, names: Iterable[str], *, cached: bool = False) -> Path:
        from huggingface_hub import snapshot_download

        return Path(
            snapshot_download(
                self.name,
                revision=self.revision,
                cache_dir=self.cache_dir,
                token=self.token,
                force_download=self.force,
                local_files_only=cached,
                allow_patterns=[glob.escape(self.prefix + name) for name in names],
            )
        )


def _explain(error: Exception, name: str, revision: str | None) -> str:
    """Return one line with the cause of a failed download and the remedy."""
    from huggingface_hub import constants, errors

    page = f"{constants.ENDPOINT}/{name}"
    sign_in = "pass `token`, or set HF_TOKEN, or run: hf auth login"
    if isinstance(error, errors.GatedRepoError):
        return f"{name!r} is gated: accept its conditions at {page}, then {sign_in}."
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{name!r} has no revision {revision!r}. Pass a branch, a tag or a full commit that {page} lists."
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            f"{name!r} is neither a folder on this machine nor a model at {constants.ENDPOINT}, or it is private. "
            f"Check the spelling; for a private model {sign_in}."
        )
    if isinstance(error, errors.OfflineModeIsEnabled | errors.LocalEntryNotFoundError):
        return (
            f"{name!r} is neither a folder on this machine nor complete in the hub's cache, and cannot be downloaded "
            f"({first_line(error)}). Go online, or pass a local folder."
        )
    if _is_disk_full(error):
        return f"The disk is full: {name!r} cannot be downloaded. Free some space, or choose another place by HF_HOME."
    return f"{name!r} cannot be fetched from {constants.ENDPOINT} ({first_line(error)}). Try again, or pass a folder."


def _is_disk_full(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__ or error.__context__
    return False


def is_hub_id(name: str) -> bool:
    """Return whether a name is an id on the hub, and no folder of this machine."""
    return bool(_HUB_ID.fullmatch(name)) and not os.path.exists(name)


def first_line(error: Exception) -> str:
    """Return the class and the first line of an error, without tokens."""
    line = str(error).strip().partition("\n")[0][:200]
    line = re.sub("Bearer .*", "Bearer [hidden]", line)  # the HTTP library quotes a token with impossible characters
    return f"{type(error).__name__}: {line}"
