"""Data sets: manifests to utterances, checks, filters, splits, mixtures, and batches by seconds of audio.

Nothing here knows a framework: items are paths, texts and NumPy arrays.
"""

from dragoman._lazy import lazy_names

__all__ = [
    "BucketSampler",
    "Manifest",
    "Problem",
    "Utterance",
    "load_audio",
    "read_manifest",
    "scan_manifest",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "BucketSampler": "dragoman.data.sampler",
        "Manifest": "dragoman.data.utterance",
        "Problem": "dragoman.data.utterance",
        "Utterance": "dragoman.data.utterance",
        "load_audio": "dragoman.data.audio",
        "read_manifest": "dragoman.data.manifest",
        "scan_manifest": "dragoman.data.manifest",
    },
)
