"""How a checkpoint is found and read: the options that every `from_pretrained` takes, in either backend."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from dragoman.checkpoint.folder import Checkpoint, open_folder
from dragoman.checkpoint.source import resolve
from dragoman.errors import ConfigError, ModelNotFoundError, did_you_mean
from dragoman.files import read_json

__all__ = ["IDLE_OPTIONS", "LoadOptions", "check_saving", "tensors_to_save"]

# Options of transformers that are on for something which is not done here -> what to do instead.
_INSTEAD = {
    "ignore_mismatched_sizes": "load the checkpoint at its own sizes, then change them (`resize_token_embeddings`)",
    "load_in_4bit": 'weights are not quantised here; dtype="bfloat16" halves them',
    "load_in_8bit": 'weights are not quantised here; dtype="bfloat16" halves them',
    "output_loading_info": "what became of each tensor is in `model.load_report`",
    "proxies": "set HTTPS_PROXY in the environment",
    "quantization_config": 'weights are not quantised here; dtype="bfloat16" halves them',
    "tie_encoder_decoder": "speech and text have no weights in common",
    "use_auth_token": "its name is `token` now",
}
# Options of transformers that choose between ways to the same result, of which there is one here. Code from a
# repository is never run, so there is nothing to trust; and files of either framework are read by both.
IDLE_OPTIONS = frozenset(
    {
        "_fast_init",
        "attn_implementation",
        "code_revision",
        "from_flax",
        "from_pt",
        "low_cpu_mem_usage",
        "max_memory",
        "offload_buffers",
        "offload_folder",
        "offload_state_dict",
        "resume_download",
        "trust_remote_code",
        "use_flash_attention_2",
        "weights_only",
        *_INSTEAD,
    }
)

# Options of its `save_pretrained`: ways to write what is written here in one way.
_IDLE_SAVING = frozenset({"safe_serialization", "save_function", "save_peft_format", "token"})


def check_saving(keywords: Mapping[str, Any]) -> None:
    """Check what `save_pretrained` was given besides its own options.

    Raises:
        ConfigError: If a keyword asks for something that will not happen.
    """
    asked = {name: value for name, value in keywords.items() if name not in _IDLE_SAVING and value}
    if asked.pop("push_to_hub", None):
        raise ConfigError("`push_to_hub` is not done here: save into a folder, and run: hf upload NAME FOLDER.")
    if asked:
        known = {"is_main_process", "max_shard_size", "params", "state_dict"}
        name = next(iter(asked))
        raise ConfigError(f"`{name}` is no option of `save_pretrained`.{did_you_mean(name, known)}")


def tensors_to_save(own: Mapping[str, Any], given: Mapping[str, Any] | None, name: str) -> Mapping[str, Any]:
    """Return the tensors of a model, or those that the caller gives in their place.

    Args:
        own: The model's.
        given: The caller's, under the same names; such as a distributed trainer gathers.
        name: What the caller calls them.

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
    """How a checkpoint is found and read; the same for every `from_pretrained`.

    Attributes:
        revision: Branch, tag or commit on the hub.
        cache_dir: Where hub files are kept, instead of the standard cache.
        token: Hub token, for private or gated models.
        local_files_only: Never ask the hub.
        force_download: Fetch again what the cache has.
        subfolder: Folder inside the repository.
        use_safetensors: `True` accepts only safetensors, `False` only other formats; by default safetensors come first.
        variant: The word in `model.<variant>.safetensors`.
        dtype: Type of the floating tensors, by name or as the backend has it; `"auto"` takes the checkpoint's, by
            default float32.
        torch_dtype: The older name of `dtype`.
        device: Where the tensors go, as the backend has it.
        device_map: The same in words of transformers: one device, `"auto"` for an accelerator, or `{"": device}`.
        target_lang: Language whose small networks a speech encoder begins with, for the models that have such (MMS).
        allow_new: Templates of tensors that may start at random although the checkpoint should hold them.
    """

    revision: str | None = None
    cache_dir: str | Path | None = None
    token: str | bool | None = None
    local_files_only: bool = False
    force_download: bool = False
    subfolder: str | None = None
    use_safetensors: bool | None = None
    variant: str | None = None
    dtype: Any = None
    torch_dtype: Any = None
    device: Any = None
    device_map: Any = None
    target_lang: str | None = None
    allow_new: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Check `allow_new`, of which a text would be taken for a list of letters.

        Raises:
            ConfigError: If it is not a list of texts.
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
        """Take these options out of keywords, and those that mean nothing here; return them and the rest.

        Raises:
            ConfigError: If one of them asks for what is not done here.
        """
        names = {field.name for field in fields(cls)}
        for name, instead in _INSTEAD.items():
            if keywords.get(name):
                raise ConfigError(f"`{name}` is not done here: {instead}.")
        own = {name: value for name, value in keywords.items() if name in names}
        return cls(**own), {name: value for name, value in keywords.items() if name not in names | IDLE_OPTIONS}

    def find(self, name_or_path: str | Path, **wanted: Any) -> Path:
        """Return the folder of a model, on this machine or from the hub; `wanted` says of which files (see `resolve`).

        Raises:
            ModelNotFoundError: If it is nowhere.
        """
        return resolve(
            name_or_path,
            revision=self.revision,
            cache_dir=self.cache_dir,
            token=self.token,
            local_files_only=self.local_files_only,
            force_download=self.force_download,
            subfolder=self.subfolder,
            **wanted,
        )

    def announced(self, name_or_path: str | Path) -> Mapping[str, Any]:
        """Return what `config.json` says, and fetch nothing else; nothing if there is none that names its family.

        Who asks before `open` can refuse a model without gigabytes being fetched in vain.
        """
        try:
            path = self.find(name_or_path, patterns=["config.json"]) / "config.json"
        except ModelNotFoundError:
            return {}  # `open` says what is wrong
        data = read_json(path) if path.is_file() else {}
        return data if "model_type" in data else {}

    def open(self, name_or_path: str | Path, *, pickles: bool = True) -> Checkpoint:
        """Find a checkpoint, on this machine or on the hub.

        Args:
            name_or_path: A local folder or a hub id.
            pickles: Whether the caller reads `.bin` files; if not, Flax weights come before them.

        Raises:
            ModelNotFoundError: If it is nowhere.
        """
        folder = self.find(name_or_path, use_safetensors=self.use_safetensors, variant=self.variant, pickles=pickles)
        return open_folder(folder, use_safetensors=self.use_safetensors, variant=self.variant, pickles=pickles)

    @property
    def wanted_dtype(self) -> Any:
        """The type asked for under either name, `None` if under neither."""
        return self.dtype if self.dtype is not None else self.torch_dtype

    @property
    def wanted_device(self) -> Any:
        """The device asked for under either name, `None` if under neither.

        Raises:
            ConfigError: If several are.
        """
        if self.device is not None or not isinstance(self.device_map, Mapping):
            return self.device_map if self.device is None else self.device
        places = list(dict.fromkeys(self.device_map.values()))
        if len(places) != 1:
            raise ConfigError(
                f"A model is on one device here, but `device_map` names {len(places)}: {str(places)[:80]}. Pass "
                'device="cuda:0".'
            )
        return places[0]

    def new_within(self, prefix: str) -> list[str]:
        """Return the templates of `allow_new` that concern the part `prefix` ("encoder."), without its word."""
        own = [template.removeprefix(prefix) for template in self.allow_new if template.startswith(prefix)]
        return own + [template for template in self.allow_new if template == "*"]
