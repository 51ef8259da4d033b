"""Low-rank adapters of linear layers (LoRA, https://arxiv.org/abs/2106.09685)."""

from dataclasses import dataclass
from typing import Any

from dragoman.errors import ConfigError
from dragoman.spec.checks import check_numbers, check_sizes


@dataclass(frozen=True, kw_only=True)
class LoraSpec:
    """A product of two low-rank matrices beside each chosen linear layer of the text decoder."""

    rank: int = 8
    """Width between the two matrices."""
    alpha: float = 16.0
    """The product is multiplied by `alpha / rank`."""
    targets: tuple[str, ...] = ("q_proj", "v_proj")
    """Last words of the layers' names, ours ("out_proj") or the checkpoint's ("o_proj", "c_attn")."""
    dropout: float = 0.0
    """Probability that an input of the product is dropped in training."""

    def __post_init__(self) -> None:
        check_sizes("A LoRA", {"rank": self.rank}, at_most=10_000)
        check_numbers("A LoRA", {"alpha": self.alpha}, at_most=1e6)
        check_numbers("A LoRA", {"dropout": self.dropout})
        if not self.targets or not all(isinstance(word, str) and word for word in self.targets):
            raise ConfigError(f"The `targets` of a LoRA must be names of layers, but are {self.targets!r}.")

    @property
    def scale(self) -> float:
        """Factor of the product."""
        return self.alpha / self.rank

    def folded(self, weight: Any, lora_a: Any, lora_b: Any) -> Any:
        """Return the weight with the product added to it, from arrays of any framework."""
        return weight + lora_b @ lora_a * self.scale
