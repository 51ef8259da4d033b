"""A family: its configuration class, a table of tensor names for each of its parts, and all other facts about it.

No mathematics lives here: `ModelConfig.speech_spec` and `text_spec` describe the network, and `Rename`, `Split` and
`Drop` map the names of its tensors.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dragoman.checkpoint.keymap import Alias, KeyMap, Rule
from dragoman.families.config import ModelConfig
from dragoman.families.rules import ANY_SPELLING, INSERTED

__all__ = ["TINY_IDS", "TINY_TEXT", "Card", "Family", "Part"]

# The fields of a tiny text decoder that most families name alike, and its special tokens.
TINY_TEXT: dict[str, Any] = {
    "vocab_size": 99,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
TINY_IDS: dict[str, Any] = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}


@dataclass(frozen=True, kw_only=True)
class Part:
    """How one part of a family (its speech encoder or its text decoder) lies in checkpoints.

    Attributes:
        rules: Table of tensor names for a configuration (tied or not, pre-norm or post-norm).
        classes: The names of this part's classes in `transformers`; the first is written as `architectures`.
        public: Whether `dragoman` offers them by these names: not where `transformers` has no such classes.
        prefixes: Words that head checkpoints put before the names of the base model, or base checkpoints leave out.
        aliases: Spellings of this family alone.
        fresh: Templates of our tensors that its pretrained checkpoints do not hold and a warm start begins at random.
        copies: Our tensors that begin as copies of others where a checkpoint holds them under one name.
        computed: Our tensors that checkpoints may leave out, because they follow from the configuration.
    """

    rules: Callable[[Any], tuple[Rule, ...]]
    classes: tuple[str, ...]
    public: bool = True
    prefixes: tuple[str, ...] = ()
    aliases: tuple[Alias, ...] = ()
    fresh: tuple[str, ...] = ()
    computed: tuple[str, ...] = ()
    copies: tuple[tuple[str, str], ...] = ()

    @property
    def cross_attends(self) -> bool:
        """Whether this text decoder has cross-attention of its own; otherwise dragoman inserts it."""
        return INSERTED[-1] not in self.fresh

    def keymap(self, config: ModelConfig) -> KeyMap:
        """Return the name table for a configuration."""
        return KeyMap(self.rules(config), self.aliases + ANY_SPELLING, self.prefixes)


@dataclass(frozen=True, kw_only=True)
class Card:
    """What people ask about a family before they use it; the tables of `docs/families.md` are generated from it.

    Attributes:
        name: What people call it.
        paper: Address of the paper, or of what stands for it.
        checkpoints: Well-known hub ids.
        licence: The licence that the cards of these checkpoints state.
        ends: For a text decoder, where its start and end ids come from.
        own: What distinguishes its network from that of others, or what is not supported.
    """

    name: str
    paper: str
    checkpoints: tuple[str, ...]
    licence: str
    ends: str = "from the checkpoint"
    own: str = ""


@dataclass(frozen=True, kw_only=True)
class Family:
    """One family: its configuration, its parts, the processing its checkpoints were trained with, and its card.

    Attributes:
        config: Its configuration class.
        also: Other `model_type`s whose `config.json` this class reads, and whose checkpoints the tables fit.
        speech: Its speech encoder.
        text: Its text decoder.
        whole: The class in `transformers` of a model of both parts under one configuration, where there is one. In its
            checkpoints the encoder's names begin with `model.encoder.`, and the decoder's are those of the part alone.
        feature_extractor: Class of the feature extractor of its encoder.
        tokenizer: Class of the tokenizer (see `dragoman.text.kinds`) where the files of a checkpoint name none; `None`
            where they hold a tokenizer.json, which needs no class.
        processor: Class of the processor that joins the two.
        card: What people ask about it.
        tiny: Fields of a configuration that builds in milliseconds and still has every part of the real network.
        variants: Fields of other tiny configurations, on top of `tiny`, by name. Together they ask for everything that
            a `config.json` of this family can ask for; the tests compare each with `transformers`.
    """

    config: type[ModelConfig]
    card: Card
    tiny: Mapping[str, Any]
    also: tuple[str, ...] = ()
    speech: Part | None = None
    text: Part | None = None
    whole: str | None = None
    feature_extractor: str | None = None
    tokenizer: str | None = None
    processor: str | None = None
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def model_type(self) -> str:
        """The name in `config.json`."""
        return self.config.model_type
