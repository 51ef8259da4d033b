"""The flags that several commands have: names, types and help. Their defaults stand with each command."""

from pathlib import Path
from typing import Annotated, Literal

from typer import Option

__all__ = [
    "ChunkLengthS",
    "Debug",
    "Device",
    "HfToken",
    "Hotwords",
    "JsonLogs",
    "Language",
    "LocalFilesOnly",
    "Model",
    "ModelDir",
    "Revision",
    "TargetLanguage",
    "Task",
    "Threads",
    "VadThreshold",
    "Verbose",
]

Model = Annotated[str | None, Option("--model", help="Folder or hub id. Without it: Whisper tiny.en (English only).")]
ModelDir = Annotated[Path | None, Option("--model_dir", help="Where models from the hub are kept.")]
Revision = Annotated[str | None, Option("--revision", help="Branch, tag or commit of the model on the hub.")]
LocalFilesOnly = Annotated[bool, Option("--local_files_only", help="Never ask the hub.")]
HfToken = Annotated[str | None, Option("--hf_token", help="Hub token, for private and gated models.")]
Device = Annotated[str, Option("--device", help="auto, cpu, cuda, cuda:1, …")]
Threads = Annotated[int | None, Option("--threads", min=1, help="Threads of the processor; by default all.")]
Language = Annotated[str | None, Option("--language", help="Spoken language, as en or english; found out without.")]
Task = Annotated[Literal["transcribe", "translate"], Option("--task", help="transcribe, or translate into English.")]
TargetLanguage = Annotated[
    str | None, Option("--target_language", help="Language to write, as de or german, if the model has several.")
]
Hotwords = Annotated[str | None, Option("--hotwords", help="Phrases to expect, separated by commas.")]
ChunkLengthS = Annotated[
    float | None,
    Option("--chunk_length_s", help="Longest window in seconds; by default the model's."),
]
VadThreshold = Annotated[float, Option("--vad_threshold", help="Probability from which on it is speech.")]
Verbose = Annotated[bool, Option("--verbose", help="Say on stderr what is being done.")]
JsonLogs = Annotated[bool, Option("--json_logs", help="Messages as JSON, one object a line.")]
Debug = Annotated[bool, Option("--debug", help="Say everything, with tracebacks.")]
