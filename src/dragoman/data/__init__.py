"""Data sets: manifests to utterances, checks, filters, splits, mixtures, and batches by seconds of audio.

Nothing here knows a framework: items are paths, texts and NumPy arrays.
"""

from dragoman._lazy import lazy_names

__all__ = [
    "BucketSampler",
    "Limits",
    "Manifest",
    "Mixture",
    "Problem",
    "Utterance",
    "filtered",
    "load_audio",
    "read_manifest",
    "scan_manifest",
    "split",
    "with_duration",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "BucketSampler": "dragoman.data.sampler",
        "Limits": "dragoman.data.selecting",
        "Manifest": "dragoman.data.utterance",
        "Mixture": "dragoman.data.selecting",
        "Problem": "dragoman.data.utterance",
        "Utterance": "dragoman.data.utterance",
        "filtered": "dragoman.data.selecting",
        "load_audio": "dragoman.data.audio",
        "read_manifest": "dragoman.data.manifest",
        "scan_manifest": "dragoman.data.manifest",
        "split": "dragoman.data.selecting",
        "with_duration": "dragoman.data.audio",
    },
)
