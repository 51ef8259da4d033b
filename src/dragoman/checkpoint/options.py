"""The options of every `from_pretrained` and `save_pretrained`, in both backends."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

from dragoman.checkpoint.folder import Checkpoint, open_folder
from dragoman.checkpoint.idle import IDLE_OPTIONS, INSTEAD
from dragoman.checkpoint.source import resolve
from dragoman.errors import ConfigError, ModelNotFoundError, did_you_mean
from dragoman.files import read_json
from dragoman.hub import with_token
from dragoman.publishing import PUSH_OPTIONS

# Options of `save_pretrained` of `transformers` that have no effect here.
_IDLE_SAVING = frozenset({"safe_serialization", "save_function", "save_peft_format", "token"})


def check_saving(keywords: Mapping[str, Any]) -> None:
    """Check the keywords of `save_pretrained` that are not its own options.

    Raises:
        ConfigError: If a keyword is unknown or asks for something that is not supported.
    """
    known_ways = _IDLE_SAVING | PUSH_OPTIONS if keywords.get("push_to_hub") else _IDLE_SAVING
    asked = {name: value for name, value in keywords.items() if name not in known_ways and value}
    if asked:
        known = {"is_main_process", "max_shard_size", "params", "push_to_hub", "state_dict"}
        name = next(iter(asked))
        raise ConfigError(f"`{name}` is not an option of `save_pretrained`.{did_you_mean(name, known)}")


def tensors_to_save(own: Mapping[str, Any], given: Mapping[str, Any] | None, name: str) -> Mapping[str, Any]:
    """Return the tensors of a model, or those that the caller passes instead.

    Args:
        own: The model's tensors.
        given: The caller's, under the same names; for instance gathered by a distributed trainer.
        name: Name of the argument, for the message.

    Raises:
        ConfigError: If they are not the tensors of this model.
    """
    if given is None:
        return own
    wrong = sorted(own.keys() ^ given.keys()) or [n for n in own if tuple(own[n].shape) != tuple(given[n].shape)]
    if wrong:
        raise ConfigError(
            f"`{name}` must hold the tensors of this model, but {len(wrong)} are missing, unknown or of another shape: "
            f"{', '.join(wrong[:3])}{', …' if len(wrong) > 3 else ''}."
        )
    return given


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """The options of every `from_pretrained`.

    Attributes:
        revision: Branch, tag or commit on the hub.
        cache_dir: Folder of the hub's files, instead of the standard cache.
        token: Hub token, for private or gated models.
        local_files_only: Never ask the hub.
        force_download: Download files again that the cache has.
        subfolder: Folder inside the repository.
        proxies: For a local folder, without effect; the hub's client reads its proxies from the environment.
        use_safetensors: `True` accepts only safetensors, `False` only other formats; by default safetensors come first.
        variant: The word in `model.<variant>.safetensors`.
        dtype: Data type of the floating-point tensors, by name or as an object of the backend; `"auto"` takes the
            checkpoint's; the default is float32.
        torch_dtype: The older name of `dtype`.
        device: Device of the tensors, as the backend names it.
        device_map: The same in the form of `transformers`: one device, `"auto"` for an accelerator, or `{"": device}`.
        target_lang: Language adapter of the speech encoder, for models that have them (MMS).
        allow_new: Templates of tensors that may be initialised at random although the checkpoint should hold them.
        copy_weights: Copy the tensors, instead of using the mapped file as PyTorch's memory, so that the file may be
            cut or overwritten; hashes are checked where the hub's cache states them.
        ignore_mismatched_sizes: Initialise tensors at random whose shape is not that of the configuration, instead of
            refusing the checkpoint.
        allow_nan: Load tensors that have NaN or infinite values, instead of refusing the checkpoint.
    """

    revision: str | None = None
    cache_dir: str | Path | None = None
    token: str | bool | None = None
    local_files_only: bool = False
    force_download: bool = False
    subfolder: str | None = None
    proxies: Mapping[str, str] | None = None
    use_safetensors: bool | None = None
    variant: str | None = None
    dtype: Any = None
    torch_dtype: Any = None
    device: Any = None
    device_map: Any = None
    target_lang: str | None = None
    allow_new: Sequence[str] = ()
    copy_weights: bool = False
    ignore_mismatched_sizes: bool = False
    allow_nan: bool = False

    def __post_init__(self) -> None:
        """Check `allow_new`: a plain string would be read as a list of letters.

        Raises:
            ConfigError: If it is not a list of strings.
        """
        given = self.allow_new
        if (
            isinstance(given, str)
            or not isinstance(given, Sequence)
            or not all(isinstance(name, str) for name in given)
        ):
            raise ConfigError(
                f'`allow_new` must be a list of templates such as ["decoder.head.*"], but is {given!r:.80}.'
            )

    @classmethod
    def split(cls, keywords: Mapping[str, Any]) -> tuple[Self, dict[str, Any]]:
        """Return these options out of `keywords`, and the rest without those that have no effect here.

        Raises:
            ConfigError: If one of them is not supported.
        """
        names = {field.name for field in fields(cls)}
        keywords = with_token(keywords)
        for name, instead in INSTEAD.items():
            if keywords.get(name):
                raise ConfigError(f"`{name}` is not supported: {instead}.")
        own = {name: value for name, value in keywords.items() if name in names}
        return cls(**own), {name: value for name, value in keywords.items() if name not in names | IDLE_OPTIONS}

    def find(self, name_or_path: str | Path, **wanted: Any) -> Path:
        """Return the local folder of a model, downloaded if necessary; `wanted` chooses the files (see `resolve`).

        Raises:
            ModelNotFoundError: If it cannot be found.
        """
        return resolve(
            name_or_path,
            revision=self.revision,
            cache_dir=self.cache_dir,
            token=self.token,
            local_files_only=self.local_files_only,
            force_download=self.force_download,
            subfolder=self.subfolder,
            proxies=self.proxies,
            **wanted,
        )

    def announced(self, name_or_path: str | Path) -> Mapping[str, Any]:
        """Return the content of `config.json` without downloading anything else; empty if it names no family.

        A caller can so refuse a model before `open` downloads gigabytes.
        """
        try:
            path = self.find(name_or_path, patterns=["config.json"]) / "config.json"
        except ModelNotFoundError:
            return {}  # `open` raises the error
        data = read_json(path) if path.is_file() else {}
        return data if "model_type" in data else {}

    def open(self, name_or_path: str | Path, *, pickles: bool = True) -> Checkpoint:
        """Open a checkpoint, downloaded if necessary.

        Args:
            name_or_path: A local folder or a hub id.
            pickles: Whether the caller can read `.bin` files; if not, Flax weights are preferred.

        Raises:
            ModelNotFoundError: If it cannot be found.
        """
        folder = self.find(name_or_path, use_safetensors=self.use_safetensors, variant=self.variant, pickles=pickles)
        found = open_folder(folder, use_safetensors=self.use_safetensors, variant=self.variant, pickles=pickles)
        return replace(found, copied=self.copy_weights)

    @property
    def wanted_dtype(self) -> Any:
        """`dtype` or `torch_dtype`, `None` if neither is given."""
        return self.dtype if self.dtype is not None else self.torch_dtype

    @property
    def wanted_device(self) -> Any:
        """`device` or the one in `device_map`, `None` if neither is given.

        Raises:
            ConfigError: If `device_map` names several.
        """
        if self.device is not None or not isinstance(self.device_map, Mapping):
            return self.device_map if self.device is None else self.device
        places = list(dict.fromkeys(self.device_map.values()))
        if len(places) != 1:
            raise ConfigError(
                f"A model must be on one device, but `device_map` names {len(places)}: {str(places)[:80]}. Pass "
                'device="cuda:0".'
            )
        return places[0]

    def new_within(self, prefix: str) -> list[str]:
        """Return the templates of `allow_new` for the part `prefix` ("encoder."), without the prefix."""
        own = [template.removeprefix(prefix) for template in self.allow_new if template.startswith(prefix)]
        return own + [template for template in self.allow_new if template == "*"]
