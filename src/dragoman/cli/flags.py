"""The options of the commands that are not options of a transcription: model, output, live audio, messages."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dragoman import transcriber
from dragoman.audio import SAMPLING_RATE
from dragoman.errors import ConfigError
from dragoman.transcriber.fields import option

__all__ = ["InspectFlags", "LiveFlags", "MessageFlags", "ModelFlags", "OutputFlags"]

_MODEL, _OUTPUT, _AUDIO, _MESSAGES = "Model", "Output", "Audio", "Messages"


@dataclass(frozen=True, kw_only=True)
class ModelFlags:
    """Which model, from where, and what it runs on."""

    model: str | None = option(None, "Model folder or hub id.", group=_MODEL, unset="Whisper tiny.en, English only")
    model_dir: Path | None = option(
        None, "Where to keep models downloaded from the hub.", group=_MODEL, unset="the hub's cache"
    )
    revision: str | None = option(None, "Branch, tag or commit of the model on the hub.", group=_MODEL)
    local_files_only: bool = option(False, "Use local files only; never contact the hub.", group=_MODEL)
    hf_token: str | None = option(None, "Hugging Face token, for private and gated models.", group=_MODEL)
    backend: Literal["torch", "jax"] | None = option(
        None, "`torch` or `jax`.", group=_MODEL, unset="torch if it is installed, otherwise jax"
    )
    device: str = option("auto", "`auto`, `cpu`, `cuda`, `cuda:1`, …", group=_MODEL)
    threads: int | None = option(None, "Number of CPU threads.", group=_MODEL, unset="all")

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise ConfigError(f"`--threads` must be at least 1, but is {self.threads}.")

    def source(self) -> dict[str, Any]:
        """Return where to look for files, as arguments of `from_pretrained`."""
        return {
            "revision": self.revision,
            "cache_dir": self.model_dir,
            "token": self.hf_token,
            "local_files_only": self.local_files_only,
        }

    def load(self) -> Any:
        """Return the `Transcriber`."""
        return transcriber.Transcriber(
            self.model,
            model_dir=self.model_dir,
            revision=self.revision,
            local_files_only=self.local_files_only,
            token=self.hf_token,
            device=self.device,
            threads=self.threads,
            backend=self.backend,
        )


@dataclass(frozen=True, kw_only=True)
class OutputFlags:
    """Where transcripts and plots go."""

    output_format: str | None = option(
        None,
        "Write files: `txt`, `vtt`, `srt`, `tsv`, `json` or `all`.",
        group=_OUTPUT,
        short="-f",
        unset="print the transcript",
    )
    output_dir: Path | None = option(
        None,
        "Folder for the output files; without `output_format`, all formats are written.",
        group=_OUTPUT,
        short="-o",
        unset="the current folder",
    )
    skip_existing: bool = option(False, "Skip recordings whose output files all exist.", group=_OUTPUT)
    plot: Path | None = option(
        None,
        "Folder for a plot of each window: waveform, words, alignment; needs the extra `plots`.",
        group=_OUTPUT,
    )
    plot_format: Literal["png", "svg"] = option("png", "Format of the plots.", group=_OUTPUT)

    @property
    def format(self) -> str | None:
        """Format of the files; `None` prints transcripts instead."""
        return "all" if self.output_format is None and self.output_dir else self.output_format

    @property
    def folder(self) -> Path:
        """Folder of the files."""
        return self.output_dir or Path()


@dataclass(frozen=True, kw_only=True)
class LiveFlags:
    """Where live audio comes from, and how transcripts are printed."""

    microphone: str | None = option(None, "Number or name of the microphone.", group=_AUDIO, unset="the system's")
    sampling_rate: int = option(SAMPLING_RATE, "Sampling rate of raw samples, in Hz.", group=_AUDIO)
    interval_s: float = option(1.0, "Seconds of new speech before the next partial transcript.", group=_AUDIO)
    output_format: Literal["txt", "json"] = option(
        "txt",
        "`txt` prints one line per final transcript; `json` one object per line, partial transcripts included.",
        group=_OUTPUT,
        short="-f",
    )

    def __post_init__(self) -> None:
        if self.sampling_rate < 1:
            raise ConfigError(f"`--sampling_rate` must be at least 1, but is {self.sampling_rate}.")


@dataclass(frozen=True, kw_only=True)
class InspectFlags:
    """What to inspect besides a checkpoint."""

    families: bool = option(False, "Print the supported encoders and decoders, as Markdown.", group="Tables")


@dataclass(frozen=True, kw_only=True)
class MessageFlags:
    """The messages on standard error; `dragoman.cli.main` looks at them before the parser does."""

    verbose: bool = option(False, "Report progress on standard error.", group=_MESSAGES)
    json_logs: bool = option(False, "Messages as JSON, one object per line.", group=_MESSAGES)
    debug: bool = option(False, "Log everything, with tracebacks.", group=_MESSAGES)
