"""Recordings to transcripts: cut at pauses, decoded window by window, joined, written as text or subtitles."""

from dragoman._lazy import lazy_names

__all__ = [
    "FORMATS",
    "ModelInfo",
    "Segment",
    "SegmentStream",
    "TranscribeOptions",
    "Transcriber",
    "Transcript",
    "render",
    "write_transcript",
]

# Lazy, so that the command can name the options and formats in its help before anything heavy is imported.
__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "FORMATS": "dragoman.transcriber.writers",
        "ModelInfo": "dragoman.transcriber.result",
        "Segment": "dragoman.transcriber.result",
        "SegmentStream": "dragoman.transcriber.transcriber",
        "TranscribeOptions": "dragoman.transcriber.options",
        "Transcriber": "dragoman.transcriber.transcriber",
        "Transcript": "dragoman.transcriber.result",
        "render": "dragoman.transcriber.writers",
        "write_transcript": "dragoman.transcriber.writers",
    },
)
