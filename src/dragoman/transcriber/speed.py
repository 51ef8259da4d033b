"""How fast a model runs on this machine, part by part, and how near to the limits of the machine.

Each time is the median of several after one that is not counted. Work is counted by the matrix products of the layers
and of the output matrix alone, so that shares of the limits are a little too small: front ends, norms and caches also
take time.
"""

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from dragoman.audio import SAMPLING_RATE
from dragoman.audio.waveform import Waveform
from dragoman.spec import StackSpec
from dragoman.transcriber.transcriber import Transcriber

_FEW, _MANY = 4, 20  # tokens of two searches, whose difference is that of the steps between
_SIZE: Final = 1024  # of the matrices whose product is timed
_READ: Final = 1 << 26  # numbers that are read


@dataclass(frozen=True, kw_only=True)
class Speed:
    """What was measured; times in milliseconds.

    Attributes:
        seconds: Length of the recording.
        features: From samples to the input of the encoder.
        encoder: The encoder, on a window.
        start: The decoder's memory and first token.
        greedy_step: A further token of greedy search.
        beam_step: A further token of beam search.
        total: From samples to the transcript.
        real_time_factor: Seconds of audio per second, from samples to the transcript.
        matrix_rate: Measured limit of float32 matrix products (NumPy), in GFLOP/s.
        read_rate: Measured limit of reading memory with one thread (NumPy), in GB/s.
        encoder_share: What the encoder reaches of `matrix_rate`.
        step_share: What a greedy step reaches of `read_rate`, with weights in float32.
        peak_memory: Most memory that the process has had, in MB; `None` where that is not known.
    """

    seconds: float
    features: float
    encoder: float
    start: float
    greedy_step: float
    beam_step: float
    total: float
    real_time_factor: float
    matrix_rate: float
    read_rate: float
    encoder_share: float
    step_share: float
    peak_memory: float | None


def measure(transcriber: Transcriber, audio: Waveform, *, beams: int = 5, repeats: int = 5, **options: Any) -> Speed:
    """Measure a model on a recording.

    Args:
        transcriber: The model.
        audio: Samples at 16 kHz; the parts are measured on its first window.
        beams: Number of beams.
        repeats: Measurements of each part.
        **options: Of the transcription, for `total`.

    Raises:
        ConfigError: If an option is unknown or invalid.
    """
    engine = transcriber.engine
    runner, facts = engine.runner, engine.facts
    window = audio[: round(engine.window_seconds * SAMPLING_RATE)]
    inputs = engine.features([window])
    encoded = runner.encode(inputs)
    prompt = np.asarray([engine.own_prompt()])
    room = runner.max_text_length(encoded) - prompt.shape[1]
    few, many = min(_FEW, room - 1), min(_MANY, room)

    def step(num_beams: int) -> float:
        def search(tokens: int) -> Any:
            return runner.generate(
                encoded, prompt, num_beams=num_beams, min_new_tokens=tokens, max_new_tokens=tokens, do_sample=False
            )

        long, short = _milliseconds(lambda: search(many), repeats), _milliseconds(lambda: search(few), repeats)
        return float(max(long - short, 1e-6) / (many - few))

    total = _milliseconds(lambda: transcriber.transcribe(audio, beam_size=beams, **options), repeats)
    encoder, greedy = _milliseconds(lambda: runner.encode(inputs), repeats), step(1)
    matrix_rate, read_rate = _matrix_rate(repeats), _read_rate(repeats)
    work = 2 * _frames(encoded) * _weights(facts.speech.stack) / 1e6
    read = 4 * (_weights(facts.text.stack) + facts.text.vocab_size * facts.text.token_width) / 1e6
    return Speed(
        seconds=len(audio) / SAMPLING_RATE,
        features=_milliseconds(lambda: engine.features([window]), repeats),
        encoder=encoder,
        start=_milliseconds(lambda: runner.next_log_probs(encoded, prompt), repeats),
        greedy_step=greedy,
        beam_step=step(beams),
        total=total,
        real_time_factor=len(audio) / SAMPLING_RATE / total * 1e3,
        matrix_rate=matrix_rate,
        read_rate=read_rate,
        encoder_share=work / encoder / matrix_rate,
        step_share=read / greedy / read_rate,
        peak_memory=_peak_memory(),
    )


def _milliseconds(run: Callable[[], Any], repeats: int) -> float:
    times: list[float] = []
    for _ in range(1 + repeats):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return 1e3 * statistics.median(times[1:])


def _matrix_rate(repeats: int) -> float:
    a = np.random.default_rng(0).standard_normal((_SIZE, _SIZE), np.float32)
    return 2 * _SIZE**3 / _milliseconds(lambda: a @ a, repeats) / 1e6


def _read_rate(repeats: int) -> float:
    numbers = np.ones(_READ, np.float32)
    return numbers.nbytes / _milliseconds(numbers.max, repeats) / 1e6


def _weights(stack: StackSpec) -> int:
    """Return how many weights a frame or token is multiplied with, the memory's own projections left out."""
    block = stack.block
    width, attn = block.width, block.self_attn
    inside, shared = attn.num_heads * attn.head_dim, attn.kv_heads * attn.head_dim
    layer = 2 * width * (inside + shared) + (3 if block.ffn.gated else 2) * width * block.ffn.width
    return stack.num_layers * (layer + (0 if block.cross_attn is None else 2 * width * inside))


def _frames(encoded: Any) -> int:
    states = getattr(encoded, "last_hidden_state", None)
    return 0 if states is None else int(states.shape[1])


def _peak_memory() -> float | None:
    if sys.platform == "win32":
        return None
    import resource  # only now: Windows has none

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)
