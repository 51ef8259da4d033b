"""From a name to a folder on this machine: a local folder is itself, anything else is an id on the Hugging Face hub.

The hub's own client does the downloading, so its cache and its environment variables (`HF_HOME`, `HF_HUB_CACHE`,
`HF_HUB_OFFLINE`, `HF_ENDPOINT`, `HF_TOKEN`) work as everywhere else. It is imported when it is needed.
"""

import errno
import glob
import logging
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from dragoman.checkpoint.layout import pick_weights, read_index, shard_names
from dragoman.errors import DragomanError, ModelNotFoundError
from dragoman.files import as_path

__all__ = ["commit_of", "resolve"]

# Endings of configurations, tokenizers and preprocessors: everything of a model but its weights.
_SMALL_FILES = (".json", ".txt", ".model", ".spm")

_HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?", re.ASCII)

_log = logging.getLogger("dragoman")


def resolve(
    name_or_path: str | os.PathLike[str],
    *,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    token: str | bool | None = None,
    local_files_only: bool = False,
    force_download: bool = False,
    subfolder: str | None = None,
    patterns: Sequence[str] | None = None,
    use_safetensors: bool | None = None,
    variant: str | None = None,
    pickles: bool = True,
) -> Path:
    """Return the local folder of a model, downloading it if necessary.

    Of a repository come the configuration, the tokenizer and the weights in one format, the one that `find_weights`
    would choose: a repository that offers PyTorch, Flax and TensorFlow weights is not fetched three times.

    Args:
        name_or_path: A folder, or a hub id like "facebook/wav2vec2-base".
        revision: Branch, tag or commit on the hub; `main` by default.
        cache_dir: Where to keep what is downloaded; by default the hub's standard cache.
        token: For private and gated models; by default the one that `hf auth login` stored, or `HF_TOKEN`.
        local_files_only: Use what has been downloaded before and never ask the hub.
        force_download: Download again even if the files are there.
        subfolder: A folder inside the folder or repository.
        patterns: Fetch only the files that match, like "*.json", instead of choosing.
        use_safetensors: See `pick_weights`.
        variant: See `pick_weights`.
        pickles: See `pick_weights`.

    Raises:
        ModelNotFoundError: Whatever goes wrong: what was looked for, why it failed and what to do, in one line.
    """
    as_path(name_or_path, "The name of a model (a folder or a hub id)", ModelNotFoundError)
    if subfolder:
        subfolder = as_path(subfolder, "`subfolder`", ModelNotFoundError).as_posix().strip("/")
    name, subfolder = os.fspath(name_or_path), subfolder or ""
    local = Path(os.path.expanduser(name))
    if os.path.isdir(local):  # false for a name that is too long, without an exception
        return _within(local, subfolder)
    _expect_hub_id(name, local)
    repository = _Repository(name, revision, cache_dir, token, force_download, f"{subfolder}/" if subfolder else "")
    try:
        snapshot = repository.fetch(patterns, use_safetensors, variant, pickles=pickles, offline=local_files_only)
    except DragomanError:
        raise
    except Exception as error:  # the client's HTTP library, and so its errors, differs between versions
        raise ModelNotFoundError(_explain(error, name, revision)) from error
    return _within(snapshot, subfolder)


def commit_of(folder: str | Path) -> str | None:
    """Return the commit that a folder of the hub's cache holds, `None` for any other folder."""
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
    """Tell a folder that does not exist from an id, so that nobody waits for the hub because of a misspelt path."""
    if os.path.isfile(local):
        raise ModelNotFoundError(f"{name} is a file. Pass the folder that holds config.json and the weights.")
    if not _HUB_ID.fullmatch(name):
        raise ModelNotFoundError(
            f'There is no folder {name!r}, and it cannot be a hub id either: those look like "organisation/name". '
            "Check the path."
        )


@dataclass(frozen=True)
class _Repository:
    """A model on the hub, and how to fetch it."""

    name: str
    revision: str | None
    cache_dir: str | Path | None
    token: str | bool | None
    force: bool
    prefix: str  # "subfolder/" or nothing

    def fetch(
        self,
        patterns: Sequence[str] | None,
        use_safetensors: bool | None,
        variant: str | None,
        *,
        pickles: bool,
        offline: bool,
    ) -> Path:
        """Return the snapshot folder with the files that are wanted."""
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
            _log.warning("The hub cannot be asked about %s (%s): using what is cached.", self.name, _first_line(error))
            return snapshot
        names = [file.rfilename.removeprefix(self.prefix) for file in listed if file.rfilename.startswith(self.prefix)]
        names = [name for name in names if "/" not in name]
        picked = pick_weights(names, use_safetensors=use_safetensors, variant=variant, pickles=pickles)
        _, weights = picked or (None, "")
        if patterns is None:
            wanted = [name for name in names if name.endswith(_SMALL_FILES) or name == weights]
        else:
            wanted = [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]
        if not wanted:
            raise ModelNotFoundError(
                f"{self.name}/{self.prefix} on the hub holds no file of a model, only: "
                f"{', '.join(names[:12]) or 'nothing'}. Check the id and `subfolder`."
            )
        snapshot = self._download(wanted)
        if patterns is None and weights.endswith(".json"):
            self._download(shard_names(read_index(snapshot / self.prefix / weights)))
        return snapshot

    def _cached(self) -> Path:
        """Return the snapshot folder of an earlier download; whoever reads it says what it lacks."""
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
    """Say in one line what went wrong with the hub and what to do."""
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
            f"({_first_line(error)}). Go online, or pass a local folder."
        )
    if _is_disk_full(error):
        return f"The disk is full: {name!r} cannot be downloaded. Free some space, or choose another place by HF_HOME."
    return f"{name!r} cannot be fetched from {constants.ENDPOINT} ({_first_line(error)}). Try again, or pass a folder."


def _is_disk_full(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__ or error.__context__
    return False


def _first_line(error: Exception) -> str:
    line = str(error).strip().partition("\n")[0][:200]
    line = re.sub("Bearer .*", "Bearer [hidden]", line)  # the HTTP library quotes a token with impossible characters
    return f"{type(error).__name__}: {line}"
