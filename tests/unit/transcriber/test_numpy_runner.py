"""A model in plain NumPy transcribes: all that transcription needs of one is `Runner`."""

from typing import Any, NamedTuple

import numpy as np
import pytest

from dragoman import AutoProcessor, GenerationConfig, SpeechEncoderDecoderConfig
from dragoman.errors import CheckpointError, ConfigError
from dragoman.generation.decoder import Step
from dragoman.generation.loop import generate
from dragoman.model.runner import ModelFacts, Runner
from dragoman.testing import tiny_config
from dragoman.transcriber import Transcriber
from dragoman.transcriber.result import compression_ratio

START, END, LETTERS, PARTS = 2, 3, 4, 30  # of the tokenizer: letters that begin a word, letters inside one
FRAMES_PER_LETTER = 10  # 0.2 s
LETTERS_PER_WORD = 4


class Encoded(NamedTuple):
    """Letters int `[rows, letters]`, how many of them count in each row, and the number of frames."""

    letters: np.ndarray
    counts: np.ndarray
    frames: int


class Speller:
    """A `StepDecoder`: each 0.2 s is a letter, chosen by how loud it is.

    The state is the number of letters so far and the utterance of each row, so that beams share what is encoded.
    """

    def __init__(self, encoded: Encoded, vocab_size: int, certainty: float) -> None:
        self.encoded, self.vocab_size, self.certainty = encoded, vocab_size, certainty

    def start(self, prompt: np.ndarray) -> Step:
        return self._step(0, np.arange(len(prompt)))

    def expand(self, state: tuple, copies: int) -> tuple:
        return state[0], np.repeat(state[1], copies)

    def step(self, tokens: np.ndarray, state: tuple) -> Step:
        return self._step(state[0] + 1, state[1])

    def select(self, state: tuple, rows: np.ndarray) -> tuple:
        return state[0], state[1][rows]

    def _step(self, place: int, rows: np.ndarray) -> Step:
        logits = np.zeros((len(rows), self.vocab_size), np.float32)
        logits[:, :LETTERS] = -20  # no special tokens
        for row, utterance in enumerate(rows):
            if place < self.encoded.counts[utterance]:
                form = LETTERS if place % LETTERS_PER_WORD == 0 else PARTS
                logits[row, form + self.encoded.letters[utterance, place]] = self.certainty
            else:
                logits[row, END] = 100
        return Step(logits=logits, state=(place, rows))


class NumpyRunner:
    """What a third backend has to provide: facts, an encoder, and a decoder for the shared search."""

    def __init__(self, vocab_size: int, certainty: float = 9.0) -> None:
        ids = {"decoder_start_token_id": START, "eos_token_id": END, "pad_token_id": 0}
        self.config = SpeechEncoderDecoderConfig(
            encoder=tiny_config("wav2vec2", conv_stride=(5, 8, 8)),
            decoder=tiny_config("gpt2", vocab_size=vocab_size, n_positions=64, add_cross_attention=True),
            **ids,
        )
        self.generation, self.certainty = GenerationConfig(), certainty

    @property
    def facts(self) -> ModelFacts:
        return ModelFacts(
            config=self.config,
            generation=self.generation,
            speech=self.config.encoder.speech_spec(),
            text=self.config.decoder.text_spec(),
        )

    @property
    def loaded(self) -> Any:
        return self

    def encode(self, inputs: Any) -> Encoded:
        spec, audio = self.facts.speech, np.abs(inputs["input_values"])
        size = FRAMES_PER_LETTER * spec.hop
        starts = range(0, audio.shape[1], size)
        levels = np.stack([audio[:, start : start + size].sum(axis=1) for start in starts], axis=1)  # padding is 0
        counts = np.ceil(inputs["attention_mask"].sum(axis=1) / size)
        return Encoded(levels.astype(int) % 26, counts, spec.frame_lengths(audio.shape[1]))

    def take(self, encoded: Encoded, rows: Any) -> Encoded:
        return encoded._replace(letters=encoded.letters[list(rows)], counts=encoded.counts[list(rows)])

    def max_text_length(self, encoded: Encoded) -> int:
        return self.facts.text.num_positions

    def generate(self, encoded: Encoded, prompt: np.ndarray, **options: Any) -> tuple[np.ndarray, np.ndarray]:
        scorers, seed = options.pop("scorers"), options.pop("seed")
        settings = GenerationConfig(eos_token_id=END, pad_token_id=0, **options)
        found = generate(
            self.decoder(encoded),
            prompt,
            settings,
            capacity=self.max_text_length(encoded),
            seed=seed,
            scorers=scorers,
            token_log_probs=True,
        )
        return found.sequences[:, prompt.shape[1] :], found.token_log_probs

    def decoder(self, encoded: Encoded) -> Speller:
        return Speller(encoded, self.facts.text.vocab_size, self.certainty)

    def next_log_probs(self, encoded: Encoded, prompt: np.ndarray) -> np.ndarray:
        logits = self.decoder(encoded).start(prompt).logits
        return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))

    def cross_attention(self, encoded: Encoded, tokens: np.ndarray, heads: Any) -> Any:
        frames = np.arange(encoded.frames)
        for _ in tokens:
            centres = (np.arange(tokens.shape[1])[:, None] + 0.5) * FRAMES_PER_LETTER
            weights = np.exp(-(((frames - centres) / FRAMES_PER_LETTER) ** 2))
            yield np.stack([weights / weights.sum(axis=1, keepdims=True)] * len(heads))

    def language_model(self, name: str) -> Any:
        raise ConfigError(f"There are no language models in NumPy, but `lm` is {name}.")

    def free_memory(self) -> None:
        pass


class Looper(Speller):
    """Ends after a letter with a probability of 0.4; otherwise it repeats the next letter, and is ever surer to."""

    def _step(self, place: int, rows: np.ndarray) -> Step:
        probabilities = np.full((len(rows), self.vocab_size), 1e-6, np.float32)
        likely = {LETTERS: 1.0} if place == 0 else {END: 0.4, PARTS: 0.6} if place == 1 else {END: 0.01, PARTS: 0.99}
        probabilities[:, list(likely)] = list(likely.values())
        return Step(logits=np.log(probabilities), state=(place, rows))


class LoopingRunner(NumpyRunner):
    def decoder(self, encoded: Encoded) -> Looper:
        return Looper(encoded, self.facts.text.vocab_size, self.certainty)


@pytest.fixture(scope="module")
def processor(tiny_checkpoint):
    return AutoProcessor.from_pretrained(tiny_checkpoint)


@pytest.fixture
def runner(processor):
    return NumpyRunner(len(processor.tokenizer))


@pytest.fixture
def speller(runner, processor):
    return Transcriber(runner, processor)


OPTIONS = {"chunk_length_s": 2, "no_speech_threshold": None, "word_timestamps": True}


def test_the_runner_protocol(runner, speller):
    assert isinstance(runner, Runner)
    assert speller.model is runner


@pytest.mark.parametrize("beam_size", [1, 3])
def test_several_windows_in_batches(speller, sample, beam_size):
    one, many = (speller.transcribe(sample, **OPTIONS, beam_size=beam_size, batch_size=size) for size in (1, 8))
    assert (one.text, one.words) == (many.text, many.words)
    assert many.model.name == "NumpyRunner"
    assert len(many.segments) > 3
    assert len(set(many.text.split())) > 3
    assert all(segment.avg_logprob > -0.1 and segment.temperature == 0 for segment in many.segments)


def test_word_timestamps(speller, sample):
    transcript = speller.transcribe(sample, **OPTIONS)
    assert transcript.text == " ".join("".join(word.word for word in s.words).strip() for s in transcript.segments)
    times = [time for word in transcript.words for time in (word.start, word.end)]
    assert times == sorted(times)
    whole = [word for word in transcript.words if len(word.word.strip()) == LETTERS_PER_WORD]
    lengths = [word.end - word.start for word in whole]
    assert np.median(lengths) == pytest.approx(LETTERS_PER_WORD * 0.2, abs=0.25)


def test_a_repetitive_window_is_sampled_at_the_next_temperature(processor, sample):
    unsure = Transcriber(NumpyRunner(len(processor.tokenizer), certainty=4.0), processor)
    steady = np.full(240_000, 0.1, np.float32)  # the same letter over and over
    audio = np.concatenate([sample, steady])
    options = {"chunk_length_s": 5, "vad_filter": False, "no_speech_threshold": None, "logprob_threshold": None}
    cold = unsure.transcribe(audio, **options, temperature=0).segments
    fails = [compression_ratio(segment.text) > 1.2 for segment in cold]
    assert set(fails) == {True, False}
    options |= {"compression_ratio_threshold": 1.2, "temperature": (0, 1.0)}
    warm = unsure.transcribe(audio, **options, batch_size=8).segments
    assert [segment.temperature == 1 for segment in warm] == fails
    assert [one.tokens != other.tokens for one, other in zip(cold, warm, strict=True)] == fails
    assert warm == unsure.transcribe(audio, **options, batch_size=1).segments, "seeds are those of the windows"


def test_live_transcription_with_hot_words(speller, sample):
    options = OPTIONS | {"word_timestamps": False, "temperature": 0, "hotwords": "zebra", "hotwords_weight": 15}
    whole = speller.transcribe(sample, **options, batch_size=1)
    assert "zebra" in whole.text
    chunks = np.array_split(sample, 40)
    finals = [live.text for live in speller.stream(chunks, interval_s=0.5, **options) if live.is_final]
    assert " ".join(finals) == whole.text


def test_errors(speller, runner, processor, sample, tmp_path):
    with pytest.raises(ConfigError, match="no language models in NumPy"):
        speller.transcribe(sample, lm=tmp_path)
    runner.generation.alignment_heads = [[9, 9]]
    with pytest.raises(CheckpointError, match="`alignment_heads` must be pairs"):
        speller.transcribe(sample, word_timestamps=True)
    with pytest.raises(ConfigError, match="cannot be set for a runner"):
        Transcriber(runner, processor, backend="torch")
    with pytest.raises(ConfigError, match="needs its `processor` too"):
        Transcriber(runner)
    with pytest.raises(ConfigError, match="`model` must be a folder, a hub id, a model of dragoman or a runner"):
        Transcriber(Encoded(np.zeros(1), np.zeros(1), 1), processor)


@pytest.mark.filterwarnings("ignore:.*reached its limit:UserWarning")
@pytest.mark.parametrize(("own", "loops"), [(False, False), (True, False), ("never", True)])
def test_a_beam_search_ends_with_as_many_transcripts_as_beams(processor, sample, own, loops):
    """A checkpoint may ask for the search of `generate`, which prefers the likelier loop."""
    runner = LoopingRunner(len(processor.tokenizer))
    runner.generation.early_stopping = own
    found = Transcriber(runner, processor).transcribe(sample, beam_size=2, temperature=0, no_speech_threshold=None)
    lengths = {len(segment.tokens) for segment in found.segments}
    assert lengths == ({63} if loops else {1}), "tokens that fit after the prompt, or one"
    encoded, prompt = Encoded(np.zeros((1, 1), int), np.ones(1), 100), np.array([[START]])
    plain = {"scorers": [], "seed": [0], "num_beams": 2, "max_new_tokens": 30}
    assert runner.generate(encoded, prompt, **plain)[0].shape[1] == 30, "`generate` keeps its rule"


def test_a_checkpoint_that_asks_for_times_gives_text(speller, runner, sample):
    plain = speller.transcribe(sample, chunk_length_s=2).text
    runner.generation.return_timestamps = True  # of `generate`; a transcript's times come from elsewhere
    assert speller.transcribe(sample, chunk_length_s=2).text == plain
