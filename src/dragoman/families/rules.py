"""Rules for tensor names that all kinds of families share."""

from dragoman.checkpoint.keymap import Alias, Drop, Rename, Rule

# Spelling drift in any checkpoint: TensorFlow's names of a LayerNorm, the two generations of weight norm.
ANY_SPELLING = (
    Alias("*.LayerNorm.gamma", "*.LayerNorm.weight"),
    Alias("*.LayerNorm.beta", "*.LayerNorm.bias"),
    Alias("*.weight_g", "*.parametrizations.weight.original0"),
    Alias("*.weight_v", "*.parametrizations.weight.original1"),
)

# The cross-attention of a decoder, which no checkpoint of a text model holds.
CROSS = ("stack.layers.{i}.cross_attn.*", "stack.layers.{i}.cross_attn_norm.*")
# Inserted into a text model without cross-attention; the gate starts closed.
INSERTED = (*CROSS, "stack.layers.{i}.cross_attn_gate")


def head_rule(tied: bool, theirs: str = "lm_head.weight") -> Rule:
    """Return the rule for the output layer."""
    if tied:
        return Drop(theirs, why="tied to the token embedding", same_as="embed.tokens.weight")
    return Rename(theirs, "head.weight")


def other_heads(*theirs: str) -> tuple[Rule, ...]:
    """Return rules that drop heads for other tasks."""
    return tuple(Drop(name, why="a head that a decoder does not need") for name in theirs)


def inserted_rules(layer: str) -> tuple[Rule, ...]:
    """Return the rules for inserted cross-attention; `layer` is the family's name of a layer ("model.layers.{i}")."""
    return tuple(Rename(ours.replace("stack.layers.{i}", layer), ours) for ours in INSERTED)
