"""Generation of token sequences: options, search strategies, scorers, streamers and results.

Everything is written over the array API, for NumPy, PyTorch and JAX. The names below are loaded when they are used.
"""

from dragoman._lazy import lazy_names

_HOMES = {
    "GenerationConfig": "dragoman.generation.options",
    "HotWords": "dragoman.generation.scorers.hotwords",
    "NGramModel": "dragoman.generation.scorers.ngram",
    "Scorer": "dragoman.generation.scorers.fusion",
    "Step": "dragoman.generation.decoder",
    "StepDecoder": "dragoman.generation.decoder",
    "Streamer": "dragoman.generation.streamers",
    "TextIteratorStreamer": "dragoman.generation.streamers",
    "TextStreamer": "dragoman.generation.streamers",
    "WordNGramModel": "dragoman.generation.scorers.word_ngram",
    "word_starts": "dragoman.generation.scorers.word_ngram",
}

__all__ = [*_HOMES]

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
