"""Evaluation of transcripts and translations: error rates, translation scores, intervals, significance, reports."""

from dragoman._lazy import lazy_names

__all__ = [
    "METRICS",
    "NORMALIZERS",
    "Comparison",
    "Evaluation",
    "Figure",
    "compare",
    "evaluate",
    "html_report",
    "interval",
    "measure",
    "score",
    "transcribe_all",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "METRICS": "dragoman.evaluation.metrics",
        "NORMALIZERS": "dragoman.evaluation.normalizers",
        "Comparison": "dragoman.evaluation.bootstrap",
        "Evaluation": "dragoman.evaluation.scoring",
        "Figure": "dragoman.evaluation.bootstrap",
        "compare": "dragoman.evaluation.bootstrap",
        "evaluate": "dragoman.evaluation.running",
        "html_report": "dragoman.evaluation.html",
        "interval": "dragoman.evaluation.bootstrap",
        "measure": "dragoman.evaluation.metrics",
        "score": "dragoman.evaluation.scoring",
        "transcribe_all": "dragoman.evaluation.running",
    },
)
