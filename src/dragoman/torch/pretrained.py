"""Methods that users of `transformers` know on every PyTorch module: an encoder, a decoder or a whole model."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from dragoman.checkpoint.options import LoadOptions, check_saving, tensors_to_save
from dragoman.errors import ConfigError
from dragoman.families import ModelConfig
from dragoman.model.following import changed_spec, numbers_of
from dragoman.model.load import load_part, log_new
from dragoman.model.naming import loading_info
from dragoman.model.save import save_part
from dragoman.model.state import Section, from_either, part_sections
from dragoman.publishing import PushModelMethods, pushed
from dragoman.spec.checks import check_sizes
from dragoman.torch.backend import BACKEND, own_tensors
from dragoman.torch.forks import mind_forks
from dragoman.torch.naming import NamedModule
from dragoman.torch.net.block import Stack
from dragoman.torch.net.frontend import ConvFrontend
from dragoman.torch.net.init import redraw
from dragoman.torch.places import names_of
from dragoman.torch.state import check_plain, rename, state_dict, warn_of_adapter

mind_forks()


class PretrainedModule(NamedModule):
    """A module with the attributes and the gradient checkpointing of a `PreTrainedModel`."""

    supports_gradient_checkpointing = True
    _supports_sdpa = _supports_flash_attn = _supports_flash_attn_2 = True

    def _sections(self) -> tuple[Section, ...]:
        """Return the names of its tensors, ours and those of checkpoints."""
        raise NotImplementedError

    def state_dict(self, *args: Any, destination: Any = None, prefix: str = "", keep_vars: bool = False) -> Any:
        """Return all tensors under the names that `transformers` gives them; look-ups by our names work too.

        So what a trainer writes is a checkpoint. The weights of a layer with a LoRA are folded; its parts are there
        too, under our names. The tensors of a model inside a wrapper have our names.
        """
        if args or destination is not None or prefix:
            warn_of_adapter(self, prefix)
            return super().state_dict(*args, destination=destination, prefix=prefix, keep_vars=keep_vars)
        return state_dict(self, self._sections(), keep_vars)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        rename(state_dict, prefix, self, self._sections())
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Copy tensors into the model, under our names or those of `transformers`, as `nn.Module.load_state_dict` does.

        Args:
            state_dict: The tensors.
            strict: Refuse missing and unexpected ones.
            assign: Take the tensors themselves instead of copying them.

        Returns:
            What is missing and unexpected, in the naming of `state_dict`.

        Raises:
            RuntimeError: If shapes differ, or with `strict` if tensors are missing or unexpected.
        """
        found = super().load_state_dict(state_dict, strict=False, assign=assign)
        ours = own_tensors(self, keep_vars=True)
        if found.missing_keys and not any(name in ours for name in list(state_dict)):
            names = dict(names_of(self).pairs())
            found.missing_keys[:] = dict.fromkeys(names.get(name, name) for name in found.missing_keys)
        kinds = ("Missing", found.missing_keys), ("Unexpected", found.unexpected_keys)
        wrong = [f"{kind} key(s) in state_dict: {', '.join(map(repr, names))}." for kind, names in kinds if names]
        if strict and wrong:
            raise RuntimeError(f"Error(s) in loading state_dict for {type(self).__name__}:\n\t" + "\n\t".join(wrong))
        return found

    def _tensors_to_save(self, given: Mapping[str, Tensor] | None) -> Mapping[str, Tensor]:
        """Return the tensors by our names, or those that a caller passes instead, whichever names they have."""
        own = own_tensors(self)
        check_plain(own)
        renamed = None if given is None else from_either(self._sections(), given, own)
        return tensors_to_save(own, renamed, "state_dict")

    def set_attn_implementation(self, attn_implementation: str | dict[str, str]) -> None:
        """Name the way to compute attention, which changes no number."""
        self.config.attn_implementation = attn_implementation

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the parameters."""
        return next(self.parameters()).dtype

    def num_parameters(self, only_trainable: bool = False, exclude_embeddings: bool = False) -> int:
        """Return the number of parameters; tied ones count once.

        Args:
            only_trainable: Leave out the frozen ones.
            exclude_embeddings: Leave out those of embeddings.
        """
        left_out = {id(m.weight) for m in self.modules() if exclude_embeddings and isinstance(m, nn.Embedding)}
        counted = [p for p in self.parameters() if p.requires_grad or not only_trainable]
        return sum(p.numel() for p in counted if id(p) not in left_out)

    def get_memory_footprint(self, return_buffers: bool = True) -> int:
        """Return the memory of parameters and, by default, buffers in bytes."""
        return sum(x.nbytes for x in (*self.parameters(), *(self.buffers() if return_buffers else ())))

    @classmethod
    def can_generate(cls) -> bool:
        """Whether there is a `generate`: on a whole model and on a text decoder."""
        return "generate" in dir(cls)

    def tie_weights(self, **_: Any) -> None:
        """Do nothing; `transformers` calls it, but a tied head here has no weights of its own."""

    post_init = tie_weights  # subclasses call it at the end of `__init__`

    @property
    def base_model(self) -> nn.Module:
        """The module itself, as it is where `transformers` has no head around another model."""
        return self

    def enable_input_require_grads(self) -> None:
        """Let gradients reach the inputs of layers although embeddings are frozen, as code for adapters asks."""
        self.disable_input_require_grads()
        self.__dict__["_grad_hooks"] = [
            module.register_forward_hook(_require_grad)
            for name, module in nn.Module.named_modules(self)
            if str(name).rpartition(".")[2] in ("frontend", "embed")
        ]

    def disable_input_require_grads(self) -> None:
        """Undo `enable_input_require_grads`."""
        for hook in self.__dict__.pop("_grad_hooks", ()):
            hook.remove()

    @property
    def is_gradient_checkpointing(self) -> bool:
        """Whether activations are recomputed in the backward pass."""
        return any(getattr(module, "gradient_checkpointing", 0) for module in self.modules())

    def gradient_checkpointing_enable(
        self,
        gradient_checkpointing_kwargs: dict[str, Any] | None = None,
        every_n_layers: int = 1,
        offload: bool = False,
    ) -> None:
        """Store only the input of each layer for the backward pass: less memory, about a third more time.

        Args:
            gradient_checkpointing_kwargs: Accepted for `transformers`; the non-reentrant kind is always used.
            every_n_layers: Checkpoint only the first of every N layers: more memory, less time.
            offload: Must be `False`.

        Raises:
            ConfigError: If `every_n_layers` is below 1, or `offload` is set.
        """
        check_sizes("Gradient checkpointing", {"every_n_layers": every_n_layers})
        if offload:
            raise ConfigError("`offload` is not supported: layers keep their inputs on the device. Pass offload=False.")
        self._set_checkpointing(every_n_layers)

    def activation_checkpointing_enable(
        self,
        activation_checkpointing_kwargs: dict[str, Any] | None = None,
        every_n_layers: int = 1,
        offload: bool = False,
    ) -> None:
        """Do the same, as the newer `Trainer` of `transformers` calls it."""
        self.gradient_checkpointing_enable(activation_checkpointing_kwargs, every_n_layers, offload)

    def gradient_checkpointing_disable(self) -> None:
        """Store all activations again."""
        self._set_checkpointing(0)

    activation_checkpointing_disable = gradient_checkpointing_disable

    def _set_checkpointing(self, every: int) -> None:
        for module in self.modules():
            if isinstance(module, Stack | ConvFrontend):
                module.gradient_checkpointing = every


def _require_grad(module: nn.Module, inputs: Any, output: Any) -> None:
    for tensor in output if isinstance(output, tuple) else (output,):
        if isinstance(tensor, Tensor) and tensor.is_leaf and torch.is_grad_enabled():
            tensor.requires_grad_(True)


class PretrainedPart(PretrainedModule, PushModelMethods):
    """An encoder or a decoder, which loads and saves alone."""

    spec: Any  # a `SpeechEncoderSpec` or a `TextDecoderSpec`
    _network: Callable[..., nn.Module]  # builds a network from a spec

    @property
    def config(self) -> ModelConfig:
        """The configuration that it was built from; what is set there later takes effect at once, or is refused."""
        found: ModelConfig = self.__dict__["config"]
        return found

    @config.setter
    def config(self, config: ModelConfig) -> None:
        self.__dict__["config"] = config
        config.follow_by(self)
        config.settle_attention()
        if config.gradient_checkpointing:
            self._set_checkpointing(1)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the state of a copy or a pickle."""
        super().__setstate__(state)
        self.config.follow_by(self)

    def config_changed(self, name: str) -> None:
        """Take over a field that was set in the configuration.

        Raises:
            ConfigError: If it would need another network.
        """
        if name == "gradient_checkpointing":
            return self._set_checkpointing(int(bool(self.config.gradient_checkpointing)))
        spec = changed_spec(self.spec, self.config, name)
        if spec == self.spec:
            return None
        self.spec, own = spec, dict(nn.Module.named_modules(self))
        for path, new in nn.Module.named_modules(type(self)._network(spec, empty=True)):
            if path and isinstance(own.get(path), type(new)):
                for key, value in numbers_of(new).items():
                    setattr(own[path], key, value)
        return None

    def _sections(self) -> tuple[Section, ...]:
        return part_sections(self)

    def _init_weights(self, module: nn.Module) -> None:
        """Draw new values for the tensors that a module of this part has itself: `part.apply(part._init_weights)`."""
        redraw(self, module, self.spec)

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, **kwargs: Any) -> Self:
        """Load a part from its own checkpoint, from that of its head model, or from a sequence-to-sequence model.

        Args:
            name_or_path: A local folder or a hub id.
            **kwargs: Loader options (`dragoman.checkpoint.options.LoadOptions`), `config=`, and fields of the
                configuration that win over the file's; `output_loading_info=True` returns `loading_info`, too.

        Returns:
            The part, in evaluation mode. Tensors that its family declares fresh are initialised, and logged.

        Raises:
            ModelNotFoundError: If it is not found.
            ConfigError: If it is of an unknown type or cannot play this role.
            CheckpointError: If its tensors do not fit; the message lists them all.
        """
        wanted = kwargs.pop("output_loading_info", False)
        options, overrides = LoadOptions.split(kwargs)
        part, report = load_part(BACKEND, cls, name_or_path, options, overrides.pop("config", None), **overrides)
        log_new(report)
        return cast(Self, (part, loading_info(part, own_tensors(part), report))) if wanted else part

    def save_pretrained(
        self,
        save_directory: str | Path,
        is_main_process: bool = True,
        state_dict: Mapping[str, Tensor] | None = None,
        *,
        max_shard_size: int | str = "5GB",
        **ways: Any,
    ) -> None:
        """Write configuration and weights under the names of `transformers`; all files or none.

        Args:
            save_directory: Made if it does not exist; other files in it stay.
            is_main_process: If several processes train one model, only the main one writes.
            state_dict: Tensors to write instead of the model's own: what a trainer gathered from several devices.
            max_shard_size: Bytes of one weight file, or a string like "5GB".
            **ways: `push_to_hub=True` with the options of `push_to_hub`; others of `transformers` have no effect.

        Raises:
            ConfigError: If a keyword asks for what is not supported, or `state_dict` is not of this model.
            DragomanError: If the folder cannot be written.
        """
        check_saving(ways)
        if is_main_process:
            with pushed(self, save_directory, ways) as folder:
                save_part(BACKEND, self, self._tensors_to_save(state_dict), folder, max_shard_size)
