"""Real Czech and Dutch speech with English translations: the dialogues of the game Fish Fillets.

Debian's packages `fillets-ng-data`, `-cs` and `-nl` (GPL-2) hold a recording of each line (Ogg, 22 kHz) and its text in
many languages. A level's lines are in `script/LEVEL/dialogs_LANGUAGE.lua`:

    dialogId("let-m-divna", "font_small", "What kind of strange ship is that?")
    dialogStr("Co je to za divnou loď?")

an identifier, the fish that speaks, the English text, and below it the translation. The recording is
`sound/LEVEL/LANGUAGE/IDENTIFIER.ogg`. The audio stays out of this repository.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LANGUAGES = ("cs", "nl")
KEPT_APART = frozenset({"atlantis", "barrel", "briefcase", "experiments", "library", "submarine"})
"""Levels that no set has: they are for evaluations of others."""

_CALL = re.compile(
    r'dialogId\(\s*"(?P<name>[^"]+)"\s*,\s*"(?P<font>[^"]*)"\s*,\s*"(?P<english>(?:[^"\\]|\\.)*)"\s*\)'
    r'|dialogStr\(\s*"(?P<text>(?:[^"\\]|\\.)*)"\s*\)'
)


@dataclass(frozen=True)
class Line:
    """A recorded line."""

    level: str
    name: str
    language: str
    speaker: str
    audio: Path
    sentence: str
    translation: str


def lines(root: Path) -> Iterator[Line]:
    """Return all recorded lines that have a translation, below the folder of the game's data."""
    for script in sorted(root.glob("script/*/dialogs_*.lua")):
        level, language = script.parent.name, script.stem.removeprefix("dialogs_")
        if language not in LANGUAGES or level in KEPT_APART:
            continue
        said = None
        for call in _CALL.finditer(script.read_text(encoding="utf-8")):
            if call["name"]:
                said = call
                continue
            if said is None:
                continue
            audio = root / "sound" / level / language / f"{said['name']}.ogg"
            sentence, translation = _plain(call["text"]), _plain(said["english"])
            if audio.is_file() and sentence and translation:
                speaker = f"{language}-{said['font'].removeprefix('font_')}"
                yield Line(level, said["name"], language, speaker, audio, sentence, translation)


def _plain(text: str) -> str:
    return " ".join(text.replace('\\"', '"').split())
