"""Low-rank adapters of linear layers (LoRA, https://arxiv.org/abs/2106.09685)."""

from dataclasses import dataclass
from typing import Any

from dragoman.errors import ConfigError
from dragoman.spec.checks import check_numbers, check_sizes

__all__ = ["LoraSpec"]


@dataclass(frozen=True, kw_only=True)
class LoraSpec:
    """Beside each chosen layer of the text model a product of two narrow matrices, times `alpha / rank`.

    `targets` are the last words of layers' names, ours ("out_proj") or those of the checkpoint ("o_proj", "c_attn").
    """

    rank: int = 8
    alpha: float = 16.0
    targets: tuple[str, ...] = ("q_proj", "v_proj")
    dropout: float = 0.0

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_sizes("A LoRA", {"rank": self.rank}, at_most=10_000)
        check_numbers("A LoRA", {"alpha": self.alpha}, at_most=1e6)
        check_numbers("A LoRA", {"dropout": self.dropout})
        if not self.targets or not all(isinstance(word, str) and word for word in self.targets):
            raise ConfigError(f"The `targets` of a LoRA must be names of layers, but are {self.targets!r}.")

    @property
    def scale(self) -> float:
        """What the product is multiplied by."""
        return self.alpha / self.rank

    def folded(self, weight: Any, lora_a: Any, lora_b: Any) -> Any:
        """Return the weight of a plain layer that does the same, from arrays of any framework."""
        return weight + lora_b @ lora_a * self.scale
