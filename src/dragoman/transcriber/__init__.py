"""Recordings to transcripts: cut at pauses, decoded window by window, joined, written as text or subtitles."""

from dragoman._lazy import lazy_names

__all__ = [
    "FORMATS",
    "Alternative",
    "LiveText",
    "ModelInfo",
    "Segment",
    "SegmentStream",
    "Timings",
    "TranscribeOptions",
    "Transcriber",
    "Transcript",
    "Word",
    "render",
    "write_transcript",
]

# Lazy, so that the command can name the options and formats in its help before anything heavy is imported.
__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "FORMATS": "dragoman.transcriber.writers",
        "Alternative": "dragoman.transcriber.result",
        "LiveText": "dragoman.transcriber.live",
        "ModelInfo": "dragoman.transcriber.result",
        "Segment": "dragoman.transcriber.result",
        "SegmentStream": "dragoman.transcriber.segment_stream",
        "Timings": "dragoman.transcriber.result",
        "TranscribeOptions": "dragoman.transcriber.options",
        "Transcriber": "dragoman.transcriber.transcriber",
        "Transcript": "dragoman.transcriber.result",
        "Word": "dragoman.transcriber.result",
        "render": "dragoman.transcriber.writers",
        "write_transcript": "dragoman.transcriber.writers",
    },
)
