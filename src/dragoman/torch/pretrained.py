"""What users of `from_pretrained` and `save_pretrained` find on every module of ours, a part alone or a whole model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from dragoman.checkpoint.options import LoadOptions, check_saving, tensors_to_save
from dragoman.errors import ConfigError
from dragoman.families import ModelConfig
from dragoman.files import as_path
from dragoman.model.load import load_part, log_new
from dragoman.model.save import save_part
from dragoman.spec.checks import check_sizes
from dragoman.torch.backend import BACKEND
from dragoman.torch.net.block import Stack
from dragoman.torch.net.frontend import ConvFrontend

__all__ = ["PretrainedModule", "PretrainedPart"]


class PretrainedModule(nn.Module):
    """A module that knows where it is, of what type it is, and how to save memory in training."""

    supports_gradient_checkpointing = True

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the parameters."""
        return next(self.parameters()).dtype

    def num_parameters(self, only_trainable: bool = False, exclude_embeddings: bool = False) -> int:
        """Count the parameters, tied ones once, all or without the tables of vectors."""
        tables = [m.weight for m in self.modules() if exclude_embeddings and isinstance(m, nn.Embedding)]
        left_out = {id(table) for table in tables}
        counted = (p for p in self.parameters() if id(p) not in left_out)
        return sum(p.numel() for p in counted if p.requires_grad or not only_trainable)

    def get_memory_footprint(self, return_buffers: bool = True) -> int:
        """Return how many bytes the parameters take, and the buffers too unless told otherwise."""
        tensors = [*self.parameters(), *(self.buffers() if return_buffers else ())]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    @classmethod
    def can_generate(cls) -> bool:
        """Whether texts come of it: of a whole model, not of a part."""
        return "generate" in dir(cls)

    def tie_weights(self, **_: Any) -> None:
        """Do nothing, as upstream's code calls it: a tied head has no weights that could come apart."""

    @property
    def is_gradient_checkpointing(self) -> bool:
        """Whether activations are computed again in the backward pass."""
        return any(getattr(module, "gradient_checkpointing", False) for module in self.modules())

    def gradient_checkpointing_enable(
        self,
        gradient_checkpointing_kwargs: dict[str, Any] | None = None,
        every_n_layers: int = 1,
        offload: bool = False,
    ) -> None:
        """Keep only the input of each layer for the backward pass: less memory, about a third more time.

        Args:
            gradient_checkpointing_kwargs: Accepted as upstream has it; the non-reentrant kind is always used.
            every_n_layers: Only of the first of every so many layers, for less of both.
            offload: Must be `False`.

        Raises:
            ConfigError: If `every_n_layers` is below 1, or inputs should go to the host.
        """
        check_sizes("Gradient checkpointing", {"every_n_layers": every_n_layers})
        if offload:
            raise ConfigError(
                "`offload` is not done here: the inputs of layers stay on the device. Pass offload=False."
            )
        self._set_checkpointing(every_n_layers)

    def activation_checkpointing_enable(
        self,
        activation_checkpointing_kwargs: dict[str, Any] | None = None,
        every_n_layers: int = 1,
        offload: bool = False,
    ) -> None:
        """Do the same; upstream's newer name, which its `Trainer` calls."""
        self.gradient_checkpointing_enable(activation_checkpointing_kwargs, every_n_layers, offload)

    def gradient_checkpointing_disable(self) -> None:
        """Keep all activations again."""
        self._set_checkpointing(0)

    def activation_checkpointing_disable(self) -> None:
        """Do the same."""
        self.gradient_checkpointing_disable()

    def _set_checkpointing(self, every: int) -> None:
        for module in self.modules():
            if isinstance(module, Stack | ConvFrontend):
                module.gradient_checkpointing = every


class PretrainedPart(PretrainedModule):
    """A part that loads and saves alone."""

    config: ModelConfig
    spec: Any  # a `SpeechEncoderSpec` or a `TextDecoderSpec`

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, **kwargs: Any) -> Self:
        """Load this part from a checkpoint of its own, of its head model, or of a sequence-to-sequence model.

        Args:
            name_or_path: A local folder or a hub id.
            **kwargs: Loader options (`dragoman.checkpoint.options.LoadOptions`), `config=`, and fields of the
                configuration that win over the file's.

        Returns:
            The part, in evaluation mode. What its family declares new is random and logged.

        Raises:
            ModelNotFoundError: If it is nowhere.
            ConfigError: If it is of an unknown type or cannot play this role.
            CheckpointError: If its tensors do not fit; the message lists them all.
        """
        options, overrides = LoadOptions.split(kwargs)
        part, report = load_part(BACKEND, cls, name_or_path, options, overrides.pop("config", None), **overrides)
        log_new(report)
        return part

    def save_pretrained(
        self,
        save_directory: str | Path,
        is_main_process: bool = True,
        state_dict: Mapping[str, Tensor] | None = None,
        *,
        max_shard_size: int | str = "5GB",
        **ways: Any,
    ) -> None:
        """Write configuration and weights under Hugging Face's names; all files or none.

        Args:
            save_directory: Made if it does not exist; other files in it stay.
            is_main_process: Where several processes train one model, only the main one writes.
            state_dict: Tensors to write instead of the model's own: what a trainer gathered from several devices.
            max_shard_size: Bytes of one weight file, or a text like "5GB".
            **ways: Options of transformers without effect here; others are refused.

        Raises:
            ConfigError: If a keyword asks for something that is not done, or `state_dict` is not of this model.
            DragomanError: If the folder cannot be written.
        """
        check_saving(ways)
        if is_main_process:
            tensors = tensors_to_save(self.state_dict(), state_dict, "state_dict")
            save_part(BACKEND, self, tensors, as_path(save_directory, "`save_directory`"), max_shard_size)
