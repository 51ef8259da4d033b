"""Parameters and modules under the names that they have in `transformers`.

Code that freezes, replaces or hooks parts by these names ("encoder.feature_extractor", "bert.encoder.layer.0") works on
our modules: the tables that read checkpoints know both names. What is not one to one (a fused projection) raises an
error that says which modules are meant. Not here: the tables (`families`) and what follows from them (`model.naming`).
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from dragoman.api.config import SpeechEncoderDecoderConfig
from dragoman.errors import ConfigError
from dragoman.model.naming import first_words
from dragoman.model.tensor_name import ChildName, NamePairs, PrefixedName, TensorName
from dragoman.torch.places import is_there, names_of, parts_of
from dragoman.torch.views import replace, resolve

torch.serialization.add_safe_globals([TensorName])  # an optimizer keeps the names that it was given


class Dropouts(nn.Dropout):
    """Stands for all dropouts of a part in loops over `nn.Dropout` modules; they are numbers in its configuration.

    Setting `p` sets these numbers, which are in force at once.
    """

    _part: Any

    def __init__(self, part: nn.Module) -> None:
        nn.Module.__init__(self)
        self.__dict__.update(_part=part, training=part.training, inplace=False)  # it belongs to the part

    def _rates(self) -> dict[str, float]:
        fields = vars(self._part.config).items()
        words = ("dropout", "pdrop")
        return {
            name: rate for name, rate in fields if type(rate) in (int, float) and any(word in name for word in words)
        }

    @property
    def p(self) -> float:
        """The highest of the rates."""
        return max(self._rates().values(), default=0.0)

    @p.setter
    def p(self, rate: float) -> None:
        for name in self._rates():
            setattr(self._part.config, name, float(rate))

    def train(self, mode: bool = True) -> "Dropouts":
        """Check the mode, which is that of the part.

        Raises:
            ConfigError: If it is another one.
        """
        if mode != self._part.training:
            raise ConfigError(
                "The dropouts of a part have its mode and are no modules of their own. Set their rate, `p`, or the "
                "mode of the whole encoder or decoder; other noise is set in its configuration (layerdrop, "
                "apply_spec_augment)."
            )
        return self


class NamedModule(nn.Module):
    """A part or a whole model, whose parameters and modules are also found by their names in `transformers`."""

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield each parameter with our name, as `nn.Module` does.

        Tests of a name (`in`, `startswith`, `endswith`) are about the names in `transformers` if what they look for is
        in one of these: `"LayerNorm.weight" in name`. See `TensorName`.
        """
        named = super().named_parameters(prefix, recurse, remove_duplicate)
        if prefix or not recurse or "config" not in self.__dict__ or torch.compiler.is_compiling():
            yield from named
            return
        pairs = _name_pairs(self)
        for name, parameter in named:
            yield TensorName(name, pairs), parameter

    def named_modules(
        self, memo: set[nn.Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Module]]:
        """Yield each module with our name, which answers tests as those of `named_parameters` do.

        So PEFT finds `target_modules=["query", "value"]`. What is fused there is several modules here. The last module
        of a part is one `nn.Dropout` for all of its dropouts.
        """
        named = super().named_modules(memo, prefix, remove_duplicate)
        if "config" not in self.__dict__ or torch.compiler.is_compiling():
            yield from named
            return
        pairs = _name_pairs(self, f"{prefix}." if prefix else "")
        kind = PrefixedName if prefix else TensorName
        for name, module in named:
            yield kind(str(name), pairs), module
        if not isinstance(self.config, SpeechEncoderDecoderConfig):
            yield f"{prefix}.dropout" if prefix else "dropout", Dropouts(self)

    def named_children(self) -> Iterator[tuple[str, nn.Module]]:
        """Yield each child with our name; a comparison of it with a name of `transformers` warns if it is none here."""
        for name, child in super().named_children():
            yield ChildName(name, lambda: first_words(self)) if "config" in self.__dict__ else name, child

    def hf_named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield each parameter with its name in `transformers`, where `named_parameters` gives ours.

        A tensor that is fused there (q, k and v of GPT-2) is several parameters here, which share its name. One that
        `transformers` lacks (inserted cross-attention, LoRA) has a name in the style of the family.
        """
        named = dict(nn.Module.named_parameters(self))
        for ours, theirs in names_of(self).pairs():
            if ours in named:
                yield theirs, named[ours]

    def freeze(self, *names: str, trainable: bool = False) -> list[str]:
        """Freeze parameters by name.

        Args:
            *names: Names or beginnings of names up to a dot ("encoder.feature_extractor",
                "decoder.model.decoder.layers.0"), of `transformers` or ours; `*` stands for any characters.
            trainable: Train them again instead.

        Returns:
            The names of the chosen parameters in `transformers`.

        Raises:
            ConfigError: If a name chooses no parameter.
        """
        named = dict(nn.Module.named_parameters(self))
        chosen = {ours: theirs for ours, theirs in names_of(self).chosen(names).items() if ours in named}
        for ours in chosen:
            named[ours].requires_grad_(trainable)
        return list(dict.fromkeys(chosen.values()))

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if not self._is_theirs(name):
                raise
        return resolve(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        own = name in self._modules or name in self._parameters if "_modules" in self.__dict__ else True
        if not own and isinstance(value, nn.Module | nn.Parameter) and self._is_theirs(name) and is_there(self, name):
            replace(self, name, value)
        else:
            super().__setattr__(name, value)

    def _is_theirs(self, name: str) -> bool:
        return not name.startswith("_") and "config" in self.__dict__ and name in first_words(self)


def _name_pairs(root: nn.Module, prefix: str = "") -> NamePairs:
    return NamePairs(
        lambda: names_of(root).pairs(),
        lambda: names_of(root).modules().items(),
        lambda: names_of(root).same(),
        lambda test: parts_of(root, test),
        prefix,
    )
