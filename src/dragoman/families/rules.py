"""Rules for tensor names that families of different kinds share."""

from dragoman.checkpoint.keymap import Alias, Drop, Rename, Rule

__all__ = ["ANY_SPELLING", "CROSS", "INSERTED", "head_rule", "inserted_rules", "other_heads"]

# Spelling drift that any checkpoint may show: TensorFlow's names of a LayerNorm, the two generations of weight norm.
ANY_SPELLING = (
    Alias("*.LayerNorm.gamma", "*.LayerNorm.weight"),
    Alias("*.LayerNorm.beta", "*.LayerNorm.bias"),
    Alias("*.weight_g", "*.parametrizations.weight.original0"),
    Alias("*.weight_v", "*.parametrizations.weight.original1"),
)

# The cross-attention of a decoder; no checkpoint of a text model alone holds it.
CROSS = ("stack.layers.{i}.cross_attn.*", "stack.layers.{i}.cross_attn_norm.*")
# What is inserted into a text model that has none.
INSERTED = (*CROSS, "stack.layers.{i}.cross_attn_gate")


def head_rule(tied: bool, theirs: str = "lm_head.weight") -> Rule:
    """Return the rule of the last layer."""
    return Drop(theirs, why="tied to the token embedding") if tied else Rename(theirs, "head.weight")


def other_heads(*theirs: str) -> tuple[Rule, ...]:
    """Return the rules of heads that do something else than write."""
    return tuple(Drop(name, why="a head that a decoder does not need") for name in theirs)


def inserted_rules(layer: str) -> tuple[Rule, ...]:
    """Return the rules of what is inserted; `layer` is how the family calls a layer ("model.layers.{i}")."""
    return tuple(Rename(ours.replace("stack.layers.{i}", layer), ours) for ours in INSERTED)
