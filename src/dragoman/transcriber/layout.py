"""How subtitles are laid out."""

from dataclasses import dataclass
from functools import partial

from dragoman.errors import ConfigError
from dragoman.transcriber.fields import documented, option, too_small

_output = partial(option, group="Output")


@documented
@dataclass(frozen=True, kw_only=True)
class Layout:
    """The layout of subtitles, named as in the `whisper` command.

    By default cues end with sentences and at pauses, have at most two lines of 42 characters and last 1 to 7 seconds.
    Once a number is set, only it counts, and a cue never holds words of two segments. Words without timestamps share
    the time of their segment by their letters.

    Raises:
        ConfigError: If a number is below 1, or there is no rule that breaks lines to count.
    """

    max_line_width: int | None = _output(
        None,
        "Maximum characters per line of a subtitle (`srt`, `vtt`). Combining marks do not count; a longer word has a "
        "line of its own.",
        unset="42, in cues of 1 to 7 seconds and two lines that end with sentences and at pauses",
        at_least=1,
    )
    max_line_count: int | None = _output(
        None,
        "Maximum lines per subtitle; further text moves to the next one.",
        unset="2; as many as a segment needs with `max_line_width`, 1 with `max_words_per_line` alone",
        at_least=1,
    )
    max_words_per_line: int | None = _output(None, "Maximum words per line of a subtitle.", at_least=1)
    highlight_words: bool = _output(False, "Underline each word of a subtitle as it is spoken.")

    def __post_init__(self) -> None:
        problems = list(too_small(self))
        if self.max_line_count is not None and not self.breaks_lines:
            problems.append("`max_line_count` needs `max_line_width` or `max_words_per_line` too.")
        if problems:
            raise ConfigError(" ".join(problems))

    @property
    def breaks_lines(self) -> bool:
        """Whether the user's numbers decide which words are shown together."""
        return self.max_line_width is not None or self.max_words_per_line is not None
