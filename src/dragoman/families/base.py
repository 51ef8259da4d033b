"""A family: its configuration class, a table of tensor names for each of its parts, and all other facts about it.

No mathematics lives here: `ModelConfig.speech_spec` and `text_spec` describe the network, and `Rename`, `Split` and
`Drop` map the names of its tensors.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dragoman.checkpoint.keymap import Alias, KeyMap, Rule
from dragoman.families.composite import Composite
from dragoman.families.config import ModelConfig
from dragoman.families.rules import ANY_SPELLING, INSERTED

# The fields of a tiny text decoder that most families name alike, and its special tokens.
TINY_TEXT: dict[str, Any] = {
    "vocab_size": 99,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
TINY_IDS: dict[str, Any] = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}


def never(config: Any) -> bool:
    """Return `False`."""
    return False


def always(config: Any) -> bool:
    """Return `True`."""
    return True


@dataclass(frozen=True, kw_only=True)
class Part:
    """How checkpoints store one part of a family, its speech encoder or its text decoder.

    Attributes:
        rules: Returns the table of tensor names for a configuration (tied or not, pre-norm or post-norm).
        classes: The names of this part's classes in `transformers`; the first is written as `architectures`.
        public: Whether `dragoman` offers them by these names: not where `transformers` has no such classes.
        prefixes: Prefixes that names have in checkpoints of models with a head, and lack in those of the base model.
        aliases: Other spellings of names in checkpoints of this family.
        fresh: Templates of our tensors that pretrained checkpoints lack; a warm start initialises them at random.
        shifts_labels: Whether the loss of this text decoder alone compares position `t` with label `t + 1`; otherwise
            with label `t`. Both exist in `transformers`.
        copies: Pairs of our tensors: where a checkpoint lacks the first, it starts as a copy of the second.
        computed: Our tensors that checkpoints may omit, because they follow from the configuration.
        apart: Whether, by a configuration, the joint model of `transformers` cannot have this part.
    """

    rules: Callable[[Any], tuple[Rule, ...]]
    classes: tuple[str, ...]
    public: bool = True
    prefixes: tuple[str, ...] = ()
    aliases: tuple[Alias, ...] = ()
    fresh: tuple[str, ...] = ()
    computed: tuple[str, ...] = ()
    shifts_labels: bool = True
    copies: tuple[tuple[str, str], ...] = ()
    apart: Callable[[Any], bool] = never

    @property
    def cross_attends(self) -> bool:
        """Whether this text decoder has cross-attention of its own; otherwise it can be inserted."""
        return INSERTED[-1] not in self.fresh

    def keymap(self, config: ModelConfig) -> KeyMap:
        """Return the tensor names for a configuration."""
        return KeyMap(self.rules(config), self.aliases + ANY_SPELLING, self.prefixes)


@dataclass(frozen=True, kw_only=True)
class Card:
    """Facts for people who choose a family; the tables of `docs/families.md` are generated from them.

    Attributes:
        name: What people call it.
        paper: Address of the paper, or of the best substitute.
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
    """One family: its configuration, its parts, the processing that its checkpoints were trained with, and its card.

    Attributes:
        config: Its configuration class.
        also: Other `model_type`s that the configuration class and the tensor names also fit.
        speech: Its speech encoder.
        text: Its text decoder.
        whole: The class in `transformers` of a model of both parts under one configuration, where there is one. In its
            checkpoints the encoder's names begin with `model.encoder.`, and the decoder's are those of the part alone.
        composite: The checkpoints that hold its encoder, a bridge and a text model of another family.
        bridge: The name of the projection between its parts in checkpoints of the whole model.
        feature_extractor: Class of the feature extractor of its encoder.
        tokenizer: Class of the tokenizer (see `dragoman.text.kinds`) where the files of a checkpoint name none; `None`
            where they hold a tokenizer.json, which needs no class.
        other_tokenizers: Other classes of its tokenizers in `transformers`; `dragoman` has them under these names.
        processor: Class of the processor that joins the two.
        card: Answers to what people ask about it.
        tiny: Fields of a configuration that builds in milliseconds and still has every part of the real network.
        variants: Named sets of fields that replace those of `tiny` for the other options of the family; the tests
            compare each with `transformers`.
    """

    config: type[ModelConfig]
    card: Card
    tiny: Mapping[str, Any]
    also: tuple[str, ...] = ()
    speech: Part | None = None
    text: Part | None = None
    whole: str | None = None
    composite: Composite | None = None
    bridge: str | None = None
    feature_extractor: str | None = None
    tokenizer: str | None = None
    other_tokenizers: tuple[str, ...] = ()
    processor: str | None = None
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def model_type(self) -> str:
        """The `model_type` in `config.json`."""
        return self.config.model_type
