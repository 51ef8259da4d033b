"""The options of `generate`: names, types, defaults and meanings, as in a `generation_config.json`.

Which values they may have is in `rules.py`; reading, changing and writing them in `options.py`.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from dragoman.spec.ids import GenerationId


@dataclass(kw_only=True, init=False)
class OptionFields:
    """The fields of `GenerationConfig`. Special ids are shared with the model's configuration (`GenerationId`).

    Length
        max_length: Maximum number of tokens, the prompt included, but not the first ones of a Whisper (start, language,
            task). `None` or 0: as many as the decoder can take.
        max_new_tokens: Maximum number of tokens after the prompt; takes precedence over `max_length`.
        min_length, min_new_tokens: The minimum, counted likewise; no end token is generated before.
        early_stopping: When beam search ends for an utterance. `False`: when the best running hypothesis, scored at its
            present length, cannot beat the worst finished one. `True`: as soon as `num_beams` hypotheses have finished.
            `"never"`: when no running hypothesis could beat them at any length.
        max_time: Seconds after which every sequence ends.
        stop_strings: Strings that end a sequence; `generate` needs the tokenizer for them.

    Strategy
        do_sample: Sample tokens instead of taking the most likely ones.
        num_beams: Hypotheses kept per utterance; 1 is greedy search.
        num_return_sequences: Sequences returned per utterance.
        length_penalty: A finished hypothesis scores the sum of its log-probabilities / generated tokens **
            length_penalty: values above 0 favour long hypotheses, values below 0 short ones.
        num_beam_groups: Groups of beams that search for different sequences (diverse beam search).
        diversity_penalty: Subtracted from a token's score for each beam of an earlier group that has just chosen it.
        penalty_alpha: Contrastive search: weight of the penalty for repeating earlier content, from 0 to 1; each step
            tries `top_k` tokens.
        force_words_ids: Constrained beam search: words that each sequence must contain, as lists of ids; or lists of
            such lists, of which it must contain one.
        num_assistant_tokens: Speculative decoding: maximum number of tokens that the draft model proposes before the
            main model checks them.
        assistant_confidence_threshold: The draft model stops before a token that is less probable than this.

        ctc_weight: Joint CTC/attention decoding, for models trained with `training.ctc_weight`: share of CTC in the
            score, (1 - ctc_weight) · decoder + ctc_weight · CTC, up to a factor; 0.3 is usual.

    Sampling
        temperature: Scores are divided by it.
        top_k: Keep this many tokens; 0 keeps all.
        top_p: Keep the most likely tokens that together have this probability.
        min_p: Keep tokens with at least this probability relative to the most likely one.
        typical_p, epsilon_cutoff, eta_cutoff: See `dragoman.generation.sampling`.

    Scores
        repetition_penalty, no_repeat_ngram_size, bad_words_ids, sequence_bias, forced_bos_token_id,
        forced_eos_token_id, suppress_tokens, begin_suppress_tokens, exponential_decay_length_penalty,
        remove_invalid_values, renormalize_logits:
            See `dragoman.generation.processors`.

    Results
        return_dict_in_generate: Return an output object instead of the ids alone.
        output_scores, output_logits, output_attentions, output_hidden_states: Optional contents of that object.

    Languages
        language: Of the transcript: a code (`"de"`), an English name (`"german"`) or a token (`"<|de|>"`), or one for
            each utterance; a multilingual Whisper detects it by default. The languages are those of `lang_to_id`.
        task: Of a multilingual Whisper: `"transcribe"`, or `"translate"` into English.
        return_timestamps: Of a Whisper: write timestamps, as tokens of the transcript.
        is_multilingual, lang_to_id, task_to_id, no_timestamps_token_id, max_initial_timestamp_index, prev_sot_token_id,
        alignment_heads, forced_decoder_ids:
            Ids of languages, tasks and timestamps, and the attention heads that follow the speech.

    Attributes:
        extra: Entries of a file with unknown names; written back unchanged.
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
    ctc_weight: float = 0.0
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

    pad_token_id: Any = GenerationId()
    bos_token_id: Any = GenerationId()
    eos_token_id: Any = GenerationId()
    decoder_start_token_id: Any = GenerationId()
    forced_bos_token_id: Any = GenerationId()
    forced_eos_token_id: Any = GenerationId()

    language: str | list[str] | None = None
    task: str | None = None
    return_timestamps: bool | None = None
    is_multilingual: bool | None = None
    lang_to_id: dict[str, int] | None = None
    task_to_id: dict[str, int] | None = None
    no_timestamps_token_id: int | None = None
    max_initial_timestamp_index: int | None = None
    prev_sot_token_id: int | None = None
    alignment_heads: list[list[int]] | None = None
    forced_decoder_ids: list[list[int | None]] | None = None

    # Options of `transformers` that are not implemented; `validate` refuses them when they are on.
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

    _from_model_config: ClassVar[bool] = False  # read by `Seq2SeqTrainer` of `transformers`
