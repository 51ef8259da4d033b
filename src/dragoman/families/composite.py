"""Checkpoints of one model with two inside it: an encoder, a bridge and a text model, each under a name of its own.

A `Composite` states which keys and names are whose. Reading one gives the joint configuration and names of a
`SpeechEncoderDecoderModel`, which is written back as what it was read from. Not here: the networks, which are those of
the two families, and the prompt's token ids (`dragoman.processing.prompts`).
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from dragoman.checkpoint.folder import Checkpoint, PickleReader
from dragoman.checkpoint.keymap import Alias, KeyMap, Rename
from dragoman.checkpoint.tensors import Framework, TensorFile
from dragoman.errors import ConfigError
from dragoman.spec import SpecialIds

JOINT = "speech-encoder-decoder"
# What a joint configuration sets in its decoder, and what it keeps in itself instead.
_JOINT_ONLY = ("is_decoder", "add_cross_attention", "tie_word_embeddings", "cross_attention_hidden_size")
_INNER = {"fusion_prompt", *SpecialIds.names()}  # what files hold at the top and the joint configuration has itself
_OUTER = ("architectures", "dtype", "torch_dtype", "transformers_version", "tie_word_embeddings")

# The names of most: below `model.` in a model that was made new, without it in files.
PROJECTOR: tuple[Rename, ...] = (
    # theirs                                  ours
    Rename("audio_tower.*",                   "encoder.*"),
    Rename("multi_modal_projector.linear_1.*", "speech_proj.in_proj.*"),
    Rename("multi_modal_projector.linear_2.*", "speech_proj.out_proj.*"),
    Rename("language_model.model.*",          "decoder.model.*"),
    Rename("language_model.lm_head.*",        "decoder.lm_head.*"),
)  # fmt: skip
PROJECTOR_SPELLINGS = (
    Alias("model.audio_tower.*", "audio_tower.*"),
    Alias("model.multi_modal_projector.*", "multi_modal_projector.*"),
    Alias("model.language_model.*", "language_model.model.*"),
    Alias("lm_head.*", "language_model.lm_head.*"),
)


@dataclass(frozen=True, kw_only=True)
class Composite:
    """How a checkpoint of a whole speech language model is made of those of two families.

    Attributes:
        model_type: In its `config.json`.
        architecture: Its class in `transformers`.
        encoder: `model_type` of its encoder where the inner configuration names none.
        decoder: `model_type` of its text model, likewise.
        inside: The key of older files that have everything below it, with other names of the two.
        encoder_key: The key of the encoder's configuration.
        decoder_key: The key of the text model's configuration.
        decoder_defaults: Fields of the text model where its configuration lacks them.
        complete: Whether they are those of a text model whose configuration is absent; one that is there is complete.
        defaults: Its own fields where the file lacks them.
        tied: Whether the head is the token embedding where the file does not say.
        bridge: Returns `fusion_stacking` and the fields of `fusion_bridge` for its own fields and those of both parts.
        rules: Names of its tensors, in the spelling of its files, and ours.
        aliases: Other spellings.
        prompt: The text before the speech, and that between it and the transcript.
        language: What chooses a language, whose English name replaces the braces, or its code if it leads.
        language_leads: Whether that comes before the last token of the prompt; otherwise after it.
        marker: The token before the transcript; the model tells the language before it.
    """

    model_type: str
    architecture: str
    encoder: str
    decoder: str
    inside: str = ""
    encoder_key: str = "audio_config"
    decoder_key: str = "text_config"
    decoder_defaults: Mapping[str, Any] = field(default_factory=dict)
    complete: bool = False
    defaults: Mapping[str, Any] = field(default_factory=dict)
    tied: bool = False
    bridge: Callable[[Mapping[str, Any]], tuple[int, dict[str, Any]]]
    rules: tuple[Rename, ...] = PROJECTOR
    aliases: tuple[Alias, ...] = PROJECTOR_SPELLINGS
    prompt: tuple[str, str] = ("", "")
    language: str = ""
    language_leads: bool = False
    marker: str = ""

    @property
    def keymap(self) -> KeyMap:
        """The table of names."""
        return KeyMap(self.rules, self.aliases)

    def joint(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return the joint configuration, as a dictionary, for the content of a `config.json`.

        Raises:
            ConfigError: If one of the two inner configurations is not a dictionary.
        """
        inner, older = {}, data.get(self.inside) if self.inside else None
        data = data if not isinstance(older, Mapping) else {**data, **older}
        for key, kind in (self.encoder_key, self.encoder), (self.decoder_key, self.decoder):
            own = data.get(key) or {}
            if not isinstance(own, Mapping):
                raise ConfigError(f"`{key}` of a {self.model_type!r} model must be a dictionary, but is {own!r:.80}.")
            inner[key] = {"model_type": kind, **own} if older is None else {**own, "model_type": kind}
        whole = self.complete and bool(data.get(self.decoder_key))
        decoder = {**({} if whole else self.decoder_defaults), **inner[self.decoder_key]}
        if "mrope_section" in (decoder.get("rope_scaling") or {}):  # with speech alone, all three positions are equal
            decoder = {name: value for name, value in decoder.items() if name != "rope_scaling"}
        decoder["tie_word_embeddings"] = data.get("tie_word_embeddings", self.tied)
        own = {**self.defaults, **{n: v for n, v in data.items() if n not in (*inner, *_OUTER, self.inside)}}
        kept = {name: own.pop(name) for name in _INNER & own.keys()}
        everything = {**own, self.encoder_key: inner[self.encoder_key], self.decoder_key: decoder}
        stacking, bridge = self.bridge(everything)
        return {
            **kept,
            "model_type": JOINT,
            "encoder": inner[self.encoder_key],
            "decoder": decoder,
            "dtype": data.get("dtype", data.get("torch_dtype")),
            "fusion": "prefix",
            "fusion_stacking": stacking,
            "fusion_bridge": bridge,
            "composite": {**own, "model_type": self.model_type},
        }

    def outer(self, joint: Mapping[str, Any]) -> dict[str, Any]:
        """Return the content of its `config.json` for a joint configuration that `joint` gave; the inverse of it."""
        encoder = {name: value for name, value in joint["encoder"].items() if name not in _JOINT_ONLY}
        decoder = {name: value for name, value in joint["decoder"].items() if name not in _JOINT_ONLY}
        kept = {name: joint[name] for name in _INNER & joint.keys()}
        return {
            **kept,
            **joint["composite"],
            self.encoder_key: encoder,
            self.decoder_key: decoder,
            "architectures": [self.architecture],
            "dtype": joint.get("dtype"),
            "tie_word_embeddings": joint["decoder"].get("tie_word_embeddings", self.tied),
        }

    def fits(self, joint: Mapping[str, Any]) -> bool:
        """Return whether a joint configuration is still one of these: both families, and the bridge."""
        if (joint["encoder"]["model_type"], joint["decoder"]["model_type"]) != (self.encoder, self.decoder):
            return False
        again = self.joint(self.outer(joint))
        return all(joint.get(name) == again[name] for name in ("fusion", "fusion_stacking", "fusion_bridge"))


class Renamed:
    """The tensors of such a checkpoint under the names of a joint model, or those of one part under its own names.

    Args:
        file: The open checkpoint.
        composite: Its kind.
        part: "encoder." or "decoder.", for the part alone; "" for all.
    """

    def __init__(self, file: TensorFile, composite: Composite, part: str) -> None:
        keymap = composite.keymap
        self._file = file
        self._theirs: dict[str, str] = {}
        for name in file.keys():  # noqa: SIM118
            (ours, *_) = (*keymap.ours(keymap.canonical_name(name)), name)
            if ours.startswith(part):
                self._theirs[ours.removeprefix(part)] = name

    def keys(self) -> list[str]:
        """Return the names of all tensors."""
        return [*self._theirs]

    def shape(self, key: str) -> tuple[int, ...]:
        """Return the shape of a tensor."""
        return self._file.shape(self._theirs[key])

    def dtype(self, key: str) -> str:
        """Return the data type of a tensor."""
        return self._file.dtype(self._theirs[key])

    def read(self, key: str) -> Any:
        """Return a tensor."""
        return self._file.read(self._theirs[key])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@dataclass(frozen=True, kw_only=True)
class CompositeCheckpoint(Checkpoint):
    """Such a checkpoint, presented as that of a joint model, or of one part.

    Attributes:
        composite: Its kind.
        part: As of `Renamed`.
    """

    composite: Composite
    part: str = ""

    @contextmanager
    def tensors(self, framework: Framework, read_pickle: PickleReader | None = None) -> Iterator[TensorFile]:
        """Open the tensors; see `Checkpoint.tensors`."""
        with super().tensors(framework, read_pickle) as file:
            yield Renamed(file, self.composite, self.part)
