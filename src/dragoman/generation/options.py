"""`GenerationConfig`: what `generate` should do, with Hugging Face's names, meanings and file format.

Lives here: the options, their defaults, reading and writing. Their rules are in `rules.py`; what follows from them for
one call is in `plan.py`.
"""

import copy
import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from dragoman.errors import GenerationError, ModelNotFoundError, did_you_mean
from dragoman.files import as_path, read_json, write_bytes
from dragoman.generation.rules import problems
from dragoman.hub import find_folder, matching
from dragoman.spec.ids import SharedId

__all__ = ["GenerationConfig"]

_FILE_NAME = "generation_config.json"
_METADATA = ("_from_model_config", "transformers_version", "_commit_hash")


@dataclass(kw_only=True, init=False)
class GenerationConfig:
    """Options of `generate`. Attributes may be changed at any time; `validate` runs again before each use.

    The special ids are shared with the model's configuration: see `dragoman.spec.ids`.

    Length
        max_length: Greatest number of tokens, the prompt included. `None` or 0: as long as the decoder can go.
        max_new_tokens: Greatest number of tokens after the prompt; wins over `max_length`.
        min_length, min_new_tokens: The same for the least number; no end before.
        early_stopping: When beam search ends an utterance: `False`: when the best running hypothesis, scored at its
            present length, cannot beat the worst finished one; `True`: as soon as `num_beams` have finished; `"never"`:
            when none could at any length.
        max_time: Seconds after which every text ends.
        stop_strings: Strings that end a text; `generate` needs the tokenizer for them.

    Strategy
        do_sample: Draw tokens at random instead of taking the most likely ones.
        num_beams: Hypotheses kept for an utterance; 1 searches greedily.
        num_return_sequences: Texts returned for an utterance.
        length_penalty: A finished hypothesis scores the sum of its log-probabilities / tokens generated **
            length_penalty: above 0 long ones gain, below 0 short ones.
        num_beam_groups: Groups that the beams form, which search for different texts.
        diversity_penalty: What a token loses for each beam of an earlier group that has just chosen it.
        penalty_alpha: Contrastive search: how much a token loses for saying what was said before, from 0 to 1; `top_k`
            tokens are tried in each step.
        force_words_ids: Constrained beam search: words that each text must contain, as lists of ids; or lists of such
            lists, of which it must contain one.
        num_assistant_tokens: Speculative decoding: how many tokens the small decoder drafts at most before the large
            one checks them.
        assistant_confidence_threshold: It drafts less when its next token is less probable than this.

    Sampling
        temperature: Scores are divided by it.
        top_k: Keep so many tokens; 0 keeps all.
        top_p: Keep the likeliest tokens that hold this much probability together.
        min_p: Keep tokens at least so likely, relative to the likeliest.
        typical_p, epsilon_cutoff, eta_cutoff: See `dragoman.generation.sampling`.

    Scores
        repetition_penalty, no_repeat_ngram_size, bad_words_ids, sequence_bias, forced_bos_token_id,
        forced_eos_token_id, suppress_tokens, begin_suppress_tokens, exponential_decay_length_penalty,
        remove_invalid_values, renormalize_logits:
            See `dragoman.generation.processors`.

    Results
        return_dict_in_generate: Return an output object instead of the ids alone.
        output_scores, output_logits, output_attentions, output_hidden_states: What it holds besides.

    Whisper
        What the files of such models hold: the ids of languages and tasks, timestamps, attention heads that align.

    Attributes:
        extra: Entries of a file that are unknown here; written back unchanged.
    """

    max_length: int | None = None
    max_new_tokens: int | None = None
    min_length: int = 0
    min_new_tokens: int | None = None
    early_stopping: bool | Literal["never"] = False
    max_time: float | None = None
    stop_strings: str | list[str] | None = None

    do_sample: bool = False
    num_beams: int = 1
    num_return_sequences: int = 1
    length_penalty: float = 1.0
    num_beam_groups: int = 1
    diversity_penalty: float = 0.0
    penalty_alpha: float | None = None
    force_words_ids: list[Any] | None = None
    num_assistant_tokens: int = 20
    assistant_confidence_threshold: float = 0.4
    use_cache: bool = True

    temperature: float = 1.0
    top_k: int = 50
    top_p: float = 1.0
    min_p: float | None = None
    typical_p: float = 1.0
    epsilon_cutoff: float = 0.0
    eta_cutoff: float = 0.0

    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    bad_words_ids: list[list[int]] | None = None
    sequence_bias: dict[tuple[int, ...], float] | list[Any] | None = None
    remove_invalid_values: bool = False
    renormalize_logits: bool = False
    exponential_decay_length_penalty: tuple[int, float] | None = None
    suppress_tokens: list[int] | None = None
    begin_suppress_tokens: list[int] | None = None

    return_dict_in_generate: bool = False
    output_scores: bool = False
    output_logits: bool = False
    output_attentions: bool = False
    output_hidden_states: bool = False

    pad_token_id: Any = SharedId()
    bos_token_id: Any = SharedId()
    eos_token_id: Any = SharedId()
    decoder_start_token_id: Any = SharedId()
    forced_bos_token_id: Any = SharedId()
    forced_eos_token_id: Any = SharedId()

    is_multilingual: bool | None = None
    lang_to_id: dict[str, int] | None = None
    task_to_id: dict[str, int] | None = None
    no_timestamps_token_id: int | None = None
    max_initial_timestamp_index: int | None = None
    prev_sot_token_id: int | None = None
    alignment_heads: list[list[int]] | None = None
    forced_decoder_ids: list[list[int | None]] | None = None

    # Known to upstream, refused by `validate` when they are on.
    constraints: list[Any] | None = None
    dola_layers: str | list[int] | None = None
    guidance_scale: float | None = None
    top_h: float | None = None
    encoder_repetition_penalty: float = 1.0
    encoder_no_repeat_ngram_size: int = 0
    watermarking_config: dict[str, Any] | None = None
    prompt_lookup_num_tokens: int | None = None
    assistant_early_exit: int | None = None
    token_healing: bool = False

    extra: dict[str, Any] = field(default_factory=dict, repr=False)

    _from_model_config: ClassVar[bool] = False  # upstream's `Seq2SeqTrainer` looks

    def __init__(self, **values: Any) -> None:
        """Set the given options and the defaults of all others; `None` stands for a default, as in release 5.

        Raises:
            GenerationError: If a name is unknown or a value impossible; the message lists every fault.
        """
        self._set({**{name: _default(name) for name in _FIELDS}, "extra": {}, **self._known(values)})
        self.validate()

    def validate(self) -> None:
        """Check every option by itself and with its neighbours.

        Raises:
            GenerationError: Listing every fault.
        """
        faults = problems(self)
        if faults:
            raise GenerationError(" ".join(faults))

    def update(self, defaults_only: bool = False, **values: Any) -> dict[str, Any]:
        """Set options in place, as upstream does, and return those with unknown names.

        Args:
            defaults_only: Only those that are `None`.
            **values: Options and their new values.

        Raises:
            GenerationError: If a value is impossible. The options are then unchanged.
        """
        known = self._known({name: value for name, value in values.items() if name in _FIELDS})
        if defaults_only:
            known = {name: value for name, value in known.items() if getattr(self, name) is None}
        self.replace(**known)
        self._set(known)
        return {name: value for name, value in values.items() if name not in _FIELDS}

    def replace(self, **values: Any) -> Self:
        """Return a copy with some options changed; it shares no ids with this one.

        Raises:
            GenerationError: If a name is unknown or a value impossible.
        """
        changed = copy.deepcopy(self)
        changed._set(self._known(values))
        changed.validate()
        return changed

    def over(self, base: "GenerationConfig") -> "GenerationConfig":
        """Return a copy of `base` in which every option of this one that differs from its default wins."""
        merged = copy.deepcopy(base)
        merged._set({name: copy.deepcopy(value) for name, value in self._changed().items()})
        merged.extra = {**base.extra, **self.extra}
        return merged

    @classmethod
    def of(cls, options: Any) -> "GenerationConfig":
        """Return options that are ours already, or read those of upstream's `GenerationConfig`.

        Raises:
            GenerationError: If they are neither.
        """
        if isinstance(options, GenerationConfig):
            return options
        try:
            return cls.from_dict(options.to_diff_dict())
        except AttributeError:
            raise GenerationError(
                f"Options of `generate` come as a GenerationConfig, but got a {type(options).__name__}: "
                f"{options!r:.80}. Use GenerationConfig.from_dict for a dictionary, from_pretrained for a folder."
            ) from None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read the contents of a `generation_config.json`, of upstream's releases 4 and 5 alike.

        Unknown entries are kept in `extra`. Nothing is checked: a file may ask for what only `generate` can refuse.
        """
        config = cls()
        # Release 5 writes null where release 4 wrote the default.
        config._set({name: value for name, value in values.items() if name in _FIELDS and value is not None})
        config.extra = {n: v for n, v in values.items() if n not in _FIELDS and n not in _METADATA}
        return config

    def to_dict(self) -> dict[str, Any]:
        """Return the options that differ from their defaults, and the unknown ones that were read."""
        values = self._changed()
        if not self.max_length:  # 0 says the same as nothing, but not to upstream
            values.pop("max_length", None)
        if isinstance(self.sequence_bias, dict):  # JSON has no keys of several numbers
            values["sequence_bias"] = [[list(ids), bias] for ids, bias in self.sequence_bias.items()]
        return {**self.extra, **values}

    to_diff_dict = to_dict

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, *, revision: str | None = None) -> Self:
        """Read the `generation_config.json` of a model, a folder or an id on the hub.

        Raises:
            ModelNotFoundError: If there is no such model, or no such file.
            GenerationError: If the file holds no JSON object.
        """
        file = find_folder(name_or_path, matching([_FILE_NAME]), revision=revision) / _FILE_NAME
        if not file.is_file():
            raise ModelNotFoundError(
                f"{name_or_path} must hold a {_FILE_NAME}, but has none. Use `GenerationConfig()`."
            )
        return cls.from_json_file(file)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `generation_config.json` into a folder, which is made if it is not there."""
        self.to_json_file(as_path(folder, "`folder`") / _FILE_NAME)

    @classmethod
    def from_json_file(cls, path: str | Path) -> Self:
        """Read a `generation_config.json`.

        Raises:
            ModelNotFoundError: If there is no such file.
            GenerationError: If it holds no JSON object.
        """
        return cls.from_dict(read_json(path, GenerationError))

    def to_json_file(self, path: str | Path) -> None:
        """Write a `generation_config.json`."""
        write_bytes(path, self.to_json_string().encode())

    def to_json_string(self) -> str:
        """Return the text of a `generation_config.json`."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"

    def _changed(self) -> dict[str, Any]:
        return {name: value for name in _FIELDS if (value := getattr(self, name)) != _default(name)}

    def _set(self, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            setattr(self, name, value)

    @staticmethod
    def _known(values: Mapping[str, Any]) -> Mapping[str, Any]:
        strangers = [name for name in values if name not in _FIELDS]
        if strangers:
            hints = " ".join(f"`{name}` is not one.{did_you_mean(name, _FIELDS)}" for name in strangers)
            raise GenerationError(f"Only options of `generate` can be set. {hints}")
        return {name: value for name, value in values.items() if value is not None or _default(name) is None}

    @staticmethod
    def _get_default_generation_params() -> dict[str, Any]:
        """Return what upstream's `Seq2SeqTrainer` puts, through `update`, in place of `None` after its first batch.

        It only needs a number in `max_length`, up to which it pads. Upstream's own 20 would cut all later texts.
        """
        return {"max_length": 0}


_FIELDS = {option.name: option for option in fields(GenerationConfig) if option.name != "extra"}


def _default(name: str) -> Any:
    default = _FIELDS[name].default
    return None if default is MISSING else default
