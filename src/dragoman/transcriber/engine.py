"""A model with its processor: from waveforms to encoder outputs, and from tokens to text.

Not here: loading (`loading`), decoding windows (`fallback`), audio files.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from dragoman.audio import SAMPLING_RATE
from dragoman.audio.waveform import Waveform
from dragoman.errors import ConfigError
from dragoman.families.composite import Composite
from dragoman.families.composites import composite_of
from dragoman.generation.scorers.fusion import Scorer
from dragoman.model.runner import ModelFacts, Runner
from dragoman.spec import MelFrontendSpec
from dragoman.text.ctc import Wav2Vec2CTCTokenizer
from dragoman.transcriber.decoded import Decoded
from dragoman.transcriber.options import TranscribeOptions
from dragoman.transcriber.result import ModelInfo
from dragoman.transcriber.short_windows import ShortWindows

# Maximum window of encoders that state none: the longest clips that they are usually fine-tuned on.
_USUAL_SECONDS = 20.0


class Engine:
    """A model and its processor.

    Args:
        runner: The model, in any backend.
        processor: Its feature extractor and tokenizer.
        info: The model's name and commit, for transcripts.

    Attributes:
        language_model: The language model used last, and the options that it was loaded for.
        decode_windows: What replaces `fallback.decode`, so that a server can decode windows of several recordings
            together; `None` for none.
        short_windows: Encodes short windows, once that was asked for.
    """

    def __init__(self, runner: Runner, processor: Any, info: ModelInfo) -> None:
        self.runner = runner
        self.processor = processor
        self.info = info
        self.tokenizer = processor.tokenizer
        self.language_model: tuple[object, Scorer] | None = None
        self.decode_windows: Callable[..., list[Decoded]] | None = None
        self.short_windows: ShortWindows | None = None

    def clock(self) -> float:
        """Return the seconds of a clock that runs while the model works for the current thread."""
        return time.perf_counter()

    @property
    def facts(self) -> ModelFacts:
        """The facts about the model."""
        return self.runner.facts

    @property
    def inputs_per_second(self) -> float:
        """Samples, or frames of a spectrogram or filter bank, that the encoder takes per second."""
        return float(self.processor.feature_extractor.inputs_per_second)

    @property
    def window_seconds(self) -> float:
        """Maximum window length: what the model takes (Whisper: 30 s), or what it was probably trained on."""
        return float(self.processor.feature_extractor.chunk_length) if self.has_window_limit else _USUAL_SECONDS

    @property
    def has_window_limit(self) -> bool:
        """Whether the feature extractor would cut off longer windows."""
        return isinstance(self.facts.speech.frontend, MelFrontendSpec)

    def features(self, waveforms: Sequence[Waveform]) -> Any:
        """Return the encoder's input; a window that is too short for a single frame is padded with silence."""
        extractor = self.processor.feature_extractor
        shortest = 1 if self.has_window_limit else extractor.samples_for(self.facts.speech.shortest_input)
        waveforms = [np.pad(samples, (0, max(0, shortest - len(samples)))) for samples in waveforms]
        return extractor(
            waveforms,
            sampling_rate=SAMPLING_RATE,
            return_tensors="np",
            return_attention_mask=self.facts.speech.frontend.masked,
            **({} if self.has_window_limit else {"padding": True}),
        )

    def encode(self, waveforms: Sequence[Waveform], *, short: bool = False) -> Any:
        """Run the encoder over windows.

        Args:
            waveforms: The windows.
            short: Use `ShortWindows`.

        Raises:
            ConfigError: If there are no short windows.
        """
        inputs = self.features(waveforms)
        if not short:
            return self.runner.encode(inputs)
        if self.short_windows is None:
            self.short_windows = ShortWindows(self.runner, self.processor.feature_extractor)
        return self.short_windows.encode(inputs, [len(samples) for samples in waveforms])

    def text(self, ids: Sequence[int]) -> str:
        """Return the text of tokens, without special ones and surrounding blanks."""
        # A CTC tokenizer merges equal neighbours, which repeat in frames but not in the output of a decoder.
        kept = {"group_tokens": False} if isinstance(self.tokenizer, Wav2Vec2CTCTokenizer) else {}
        return str(self.tokenizer.decode(ids, skip_special_tokens=True, **kept)).strip()

    @property
    def composite(self) -> Composite | None:
        """How the model is made of those of two families, if it is one such."""
        return composite_of(self.facts.config.composite or {})

    def first_of_text(self, tokens: Sequence[int]) -> int:
        """Return the number of tokens before the text: those in which a model tells the language."""
        marker = self.composite.marker if self.composite else ""
        ids = self.tokenizer(marker, add_special_tokens=False)["input_ids"] if marker else []
        return tokens.index(ids[0]) + 1 if len(ids) == 1 and ids[0] in tokens else 0

    def own_prompt(self) -> list[int]:
        """Return the tokens that a transcript starts with unless the user chooses others.

        Raises:
            ConfigError: If the model has no start token.
        """
        facts = self.facts
        if facts.start_id is None:
            raise ConfigError(
                f"{self.info.name} has no `decoder_start_token_id`, with which a transcript starts. Set it in "
                "config.json; for BERT-like models, to the id of [CLS]."
            )
        first = facts.special_id("forced_bos_token_id")
        forced = sorted(facts.generation.forced_decoder_ids or [])
        return [
            facts.start_id,
            *([] if first is None else [first]),
            *(token for _, token in forced if token is not None),
        ]

    def with_own_values(self, options: TranscribeOptions) -> TranscribeOptions:
        """Return the options with the checkpoint's values where the user set none."""
        own = self.facts.generation
        unset = [
            name
            for name in ("length_penalty", "repetition_penalty", "no_repeat_ngram_size", "ctc_weight")
            if getattr(options, name) is None
        ]
        return replace(options, **{name: getattr(own, name) for name in unset})

    def search_options(self, options: TranscribeOptions) -> dict[str, Any]:
        """Return how the search scores transcripts and ends.

        A beam search ends as Whisper's does, with as many finished hypotheses as beams. To go on while a running one
        may still become better, as `generate` does, rewards loops: divided by its length, a loop is very likely.
        """
        own, options = self.facts.generation, self.with_own_values(options)
        return {
            "length_penalty": options.length_penalty,
            "repetition_penalty": options.repetition_penalty,
            "no_repeat_ngram_size": options.no_repeat_ngram_size,
            "ctc_weight": options.ctc_weight,
            "early_stopping": own.early_stopping or True,
            # the prompt says that there are none
            **({"return_timestamps": False} if own.return_timestamps else {}),
        }

    def suppressed_tokens(self, options: TranscribeOptions) -> dict[str, list[int]]:
        """Return `suppress_tokens` for the search, if the user set any; -1 stands for the checkpoint's own."""
        if options.suppressed is None:
            return {}
        own = self.facts.generation.suppress_tokens or ()
        ids = {one for given in options.suppressed for one in (own if given == -1 else (given,))}
        return {"suppress_tokens": sorted(ids)}

    def likeliest(self, waveform: Waveform, prompt: Sequence[int], candidates: Sequence[int]) -> int:
        """Return the candidate token with the highest probability after a prompt."""
        (log_probs,) = self.runner.next_log_probs(self.encode([waveform]), np.asarray([prompt]))
        return candidates[int(log_probs[list(candidates)].argmax())]
