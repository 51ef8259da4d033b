"""Parts and models from checkpoints: what to fetch, how to build it, what may be new."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self, TypeVar

import torch

from dragoman.checkpoint.folder import Checkpoint, open_folder
from dragoman.checkpoint.report import LoadReport
from dragoman.checkpoint.source import resolve
from dragoman.errors import ConfigError
from dragoman.families import ModelConfig, Part, config_from_dict, speech_part, text_part
from dragoman.torch.init import initialise
from dragoman.torch.speech_encoder import SpeechEncoder
from dragoman.torch.text_decoder import TextDecoder
from dragoman.torch.weights import PickleFile, fill, torch_dtype

__all__ = ["LoadOptions", "fill_part", "finish", "load_part", "log_new", "part_tables"]

_log = logging.getLogger("dragoman")

AnyPart = TypeVar("AnyPart", SpeechEncoder, TextDecoder)


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
        use_safetensors: `True` accepts only safetensors, `False` only `.bin`; by default safetensors come first.
        variant: The word in `model.<variant>.safetensors`.
        dtype: Type of the floating tensors; `"auto"` takes the checkpoint's, by default float32.
        torch_dtype: The older name of `dtype`.
        device: Where the tensors go.
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
    dtype: str | torch.dtype | None = None
    torch_dtype: str | torch.dtype | None = None
    device: str | torch.device | None = None
    allow_new: Sequence[str] = ()

    @classmethod
    def split(cls, keywords: Mapping[str, Any]) -> tuple[Self, dict[str, Any]]:
        """Take these options out of keywords; return them and the rest."""
        names = {field.name for field in fields(cls)}
        own = {name: value for name, value in keywords.items() if name in names}
        return cls(**own), {name: value for name, value in keywords.items() if name not in names}

    def open(self, name_or_path: str | Path) -> Checkpoint:
        """Find a checkpoint, on this machine or on the hub.

        Raises:
            ModelNotFoundError: If it is nowhere.
        """
        folder = resolve(
            name_or_path,
            revision=self.revision,
            cache_dir=self.cache_dir,
            token=self.token,
            local_files_only=self.local_files_only,
            force_download=self.force_download,
            subfolder=self.subfolder,
        )
        return open_folder(folder, use_safetensors=self.use_safetensors, variant=self.variant)

    def target_dtype(self, config: ModelConfig) -> torch.dtype | None:
        """Return the type to load with, `None` for that of the file."""
        dtype = self.dtype if self.dtype is not None else self.torch_dtype
        if dtype == "auto":
            return torch_dtype(config.dtype)
        return torch_dtype(dtype) or torch.float32

    @property
    def target_device(self) -> str | torch.device:
        """Where the tensors go."""
        return "cpu" if self.device is None else self.device


def part_tables(part: SpeechEncoder | TextDecoder) -> Part:
    """Return the name tables of a part's family."""
    return speech_part(part.config) if isinstance(part, SpeechEncoder) else text_part(part.config)


def fill_part(
    part: SpeechEncoder | TextDecoder, checkpoint: Checkpoint, options: LoadOptions, *, prefix: str = "", warm: bool
) -> LoadReport:
    """Move a checkpoint's tensors into a part that was built empty.

    Args:
        part: The part.
        checkpoint: Where the tensors are.
        options: Type, device, and what may be new.
        prefix: The part's word in the checkpoint of a whole model.
        warm: Whether what the family declares fresh may be absent.
    """
    tables = part_tables(part)
    with checkpoint.tensors("pt", PickleFile) as file:
        report = fill(
            part,
            tables.keymap(part.config),
            file,
            prefix=prefix,
            optional=tables.fresh,
            may_be_fresh=(*(tables.fresh if warm else ("mask_embed",)), *_within(options.allow_new, prefix)),
            dtype=options.target_dtype(part.config),
            device=options.target_device,
        )
    report.source = str(checkpoint.folder)
    return report


def _within(templates: Sequence[str], prefix: str) -> list[str]:
    """Return the templates of a whole model that concern a part, without its word."""
    return [t.removeprefix(prefix) for t in templates if t.startswith(prefix)] + [t for t in templates if t == "*"]


def finish(part: SpeechEncoder | TextDecoder, report: LoadReport, options: LoadOptions) -> None:
    """Give what is new its first values and set the part to evaluation."""
    dtype = options.target_dtype(part.config)
    if dtype is None:
        dtype = next((t.dtype for t in part.parameters() if not t.is_meta), torch.float32)
    initialise(part, report.fresh, part.spec, dtype, options.target_device)
    part.config.dtype = str(next(part.parameters()).dtype).removeprefix("torch.")
    part.eval()


def load_part(
    cls: type[AnyPart],
    name_or_path: str | Path,
    options: LoadOptions,
    config: ModelConfig | None = None,
    **overrides: Any,
) -> tuple[AnyPart, LoadReport]:
    """Load one part from a checkpoint of its own: an encoder's, a language model's, or a sequence-to-sequence model's half.

    Args:
        cls: `SpeechEncoder` or `TextDecoder`.
        name_or_path: A local folder or a hub id.
        options: How to find and read it.
        config: Used instead of the checkpoint's.
        **overrides: Fields that win over the checkpoint's.

    Raises:
        ModelNotFoundError: If it is nowhere.
        ConfigError: If it is of an unknown type or cannot play this role.
        CheckpointError: If its tensors do not fit.
    """
    checkpoint = options.open(name_or_path)
    if config is None:
        if checkpoint.config.get("model_type") == "speech-encoder-decoder":
            raise ConfigError(
                f"{name_or_path} holds a whole speech encoder-decoder. Load it with "
                "SpeechEncoderDecoderModel.from_pretrained and take its part."
            )
        config = config_from_dict(checkpoint.config, **overrides)
    config.name_or_path = str(name_or_path)
    part = cls(config, empty=True)
    report = fill_part(part, checkpoint, options, warm=True)
    report.raise_if_unfit()
    finish(part, report, options)
    return part, report


def log_new(report: LoadReport) -> None:
    """Tell the user what a model holds that no checkpoint gave it."""
    if report.fresh:
        _log.warning("%s", report.summary())
