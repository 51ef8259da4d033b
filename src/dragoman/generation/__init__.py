"""Text generation: options, the search over any array library, its Python driver and results."""

from dragoman._lazy import lazy_names

__all__ = ["GenerationConfig", "HotWords", "Scorer"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "GenerationConfig": "dragoman.generation.options",
        "HotWords": "dragoman.generation.scorers.hotwords",
        "Scorer": "dragoman.generation.scorers.fusion",
    },
)
