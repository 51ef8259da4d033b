"""How subtitles are laid out."""

from dataclasses import dataclass
from functools import partial

from dragoman.errors import ConfigError
from dragoman.transcriber.fields import documented, option, too_small

__all__ = ["Layout"]

_output = partial(option, group="Output")


@documented
@dataclass(frozen=True, kw_only=True)
class Layout:
    """The layout of subtitles, named as in the `whisper` command. By default a segment is a cue of one line.

    A cue never holds words of two segments. Words without timestamps share the time of their segment by their letters.

    Raises:
        ConfigError: If a number is below 1, or there is no rule that breaks lines to count.
    """

    max_line_width: int | None = _output(
        None,
        "Maximum characters per line of a subtitle (`srt`, `vtt`). Combining marks do not count; a longer word has a "
        "line of its own.",
        at_least=1,
    )
    max_line_count: int | None = _output(
        None,
        "Maximum lines per subtitle; further text moves to the next one.",
        unset="as many as a segment needs, or 1 if only words are counted",
        at_least=1,
    )
    max_words_per_line: int | None = _output(None, "Maximum words per line of a subtitle.", at_least=1)
    highlight_words: bool = _output(False, "Underline each word of a subtitle as it is spoken.")

    def __post_init__(self) -> None:
        problems = list(too_small(self))
        if self.max_line_count is not None and not self._breaks_lines:
            problems.append("`max_line_count` needs `max_line_width` or `max_words_per_line`: a segment is one line.")
        if problems:
            raise ConfigError(" ".join(problems))

    @property
    def _breaks_lines(self) -> bool:
        return self.max_line_width is not None or self.max_words_per_line is not None

    @property
    def is_plain(self) -> bool:
        """Whether segments are shown as they are."""
        return not self._breaks_lines and not self.highlight_words
