"""Real English speech with its words: the dialogues of the game Flight of the Amazon Queen.

    python recipes/amazon-queen/clips.py FOLDER

fetches Debian's package `flight-of-the-amazon-queen` (freeware: it may be copied, modified and redistributed), and
writes the clips as MP3 files (mono, 11,025 Hz: there is nothing above 5.5 kHz) with a `manifest.jsonl` beside them:
`id`, `audio_filepath`, `text`, `speaker`. Needs `apt-get` and `dpkg-deb`, and nothing else. The audio stays out of this
repository.

The package holds one file. It begins with "QTBL" and a table of members; the speech is in members `*.SB`, named after
the line they speak; the lines are in dialogue members (`*.DOG`) and in one text (`QUEEN2.JAS`). All numbers are
big-endian. A line is cut into clips at its stage directions, `*` and two letters.
"""

import hashlib
import json
import re
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "flight-of-the-amazon-queen"
GAME = "usr/share/scummvm/flight-of-the-amazon-queen/queen.1c"
GAME_SHA256 = "cc91960d133fcd4173eda4bac304e80d2bbdbaa085640287ab9e0507bd603f67"

_DIALOGUE_HEADER = 20  # bytes before the dialogue itself
_FIRST_JOE_TABLE = 32  # where Joe's lines begin, after tables of 96 bytes each
_JOE_TABLE = 96
_FIRST_NUMBERED_LINE = 41


@dataclass(frozen=True)
class Line:
    """A line of text and the beginning of its clips' names."""

    name: str
    text: str
    speaker: str
    kind: str  # "dog": a dialogue; "joe": what the hero says of things


class Game:
    """The members of the game's file, by name."""

    def __init__(self, data: bytes) -> None:
        if data[:4] != b"QTBL" or data[12] != 1:
            raise SystemExit("This is not the talking version of the game with MP3 speech.")
        self._data = data
        (count,) = struct.unpack_from(">H", data, 13)
        rows = (struct.unpack_from(">12sxII", data, 15 + 21 * row) for row in range(count))
        self._members = {name.split(b"\0")[0].decode("latin1"): (start, size) for name, start, size in rows}

    def names(self) -> list[str]:
        """Return the names of all members."""
        return sorted(self._members)

    def read(self, name: str) -> bytes:
        """Return a member."""
        start, size = self._members[name]
        return self._data[start : start + size]


def number(data: bytes, at: int) -> int:
    """Return the signed number of two bytes."""
    return int(struct.unpack_from(">h", data, at)[0])


def text_at(data: bytes, at: int, alignment: int) -> tuple[str, int]:
    """Return the text that begins with its length, and where the next thing begins."""
    length = data[at]
    if not length:
        return "", at + 1
    end = at + 1 + length
    return data[at + 1 : end].decode("cp850", "replace"), -(-end // alignment) * alignment


def dialogue_lines(data: bytes) -> Iterator[Line]:
    """Return the lines of one dialogue member."""
    data = data[_DIALOGUE_HEADER:]
    key = number(data, 4)
    other = f"npc{key:02d}"
    joe = _FIRST_JOE_TABLE + abs(number(data, 0)) * _JOE_TABLE
    if not number(data, joe + 2):
        yield Line(f"{key:2d}SSSSJ", text_at(data, joe + 4, 2)[0], "joe", "dog")
    greeting, after = text_at(data, number(data, 26), 2)
    yield Line(f"{key:2d}XXXXP", greeting, other, "dog")
    yield Line(f"{key:2d}XXXXJ", text_at(data, after, 2)[0], "joe", "dog")
    tables = ((joe, number(data, 6), "J", "joe"), (number(data, 22), number(data, 8), "P", other))
    for at, count, letter, speaker in tables:
        for _ in range(count):
            ident = number(data, at + 2) & 0xFFFF
            text, at = text_at(data, at + 4, 4)
            yield Line(f"{key:2d}{ident:4x}{letter}", text, speaker, "dog")


def all_lines(game: Game) -> Iterator[Line]:
    """Return every line of the game."""
    for name in game.names():
        if name.endswith(".DOG"):
            yield from dialogue_lines(game.read(name))
    numbered = game.read("QUEEN2.JAS").decode("cp850").replace("\r", "").split("\n")
    for index, text in enumerate(numbered, _FIRST_NUMBERED_LINE):
        if "*" in text and not text.endswith(".CUT"):
            yield Line(f"JOE{index:04d}", text, "joe", "joe")


def pieces(text: str) -> list[str]:
    """Cut a line at its stage directions: `*XYxxxxyyyyttt` places a figure, `*` and two letters do the rest."""
    return re.split(r"\*(?:XY.{11}|..)", text, flags=re.DOTALL)


def clips(game: Game) -> dict[str, tuple[Line, str]]:
    """Return for each speech member its line and the words it speaks."""
    found: dict[str, tuple[Line, str]] = {}
    members = set(game.names())
    for line in all_lines(game):
        for index, piece in enumerate(pieces(line.text), 1):
            member = f"{line.name}{index:X}".replace(" ", "0").upper() + ".SB"
            words = " ".join(piece.split())
            if words and member in members:
                found.setdefault(member, (line, words))
    return found


def fetch(folder: Path) -> Path:
    """Download and unpack the package; return the game's file."""
    game = folder / "package" / GAME
    if not game.exists():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "download", PACKAGE], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        package = next(folder.glob(f"{PACKAGE}_*.deb"))
        subprocess.run(["dpkg-deb", "-x", str(package), str(folder / "package")], check=True)
        package.unlink()
    found = hashlib.sha256(game.read_bytes()).hexdigest()
    if found != GAME_SHA256:
        raise SystemExit(f"{game} is not the known file: its SHA-256 is {found}, expected {GAME_SHA256}.")
    return game


def main(folder: Path) -> Path:
    """Write the clips and their manifest into a folder; return the manifest."""
    manifest = folder / "manifest.jsonl"
    if manifest.exists():
        return manifest
    game = Game(fetch(folder).read_bytes())
    rows = []
    for member, (line, words) in sorted(clips(game).items()):
        stem = member.removesuffix(".SB").lower()
        path = folder / line.kind / f"{stem}.mp3"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(game.read(member))
        row = {"id": f"{line.kind}/{stem}", "audio_filepath": str(path.relative_to(folder)), "text": words}
        rows.append(json.dumps({**row, "speaker": line.speaker}, ensure_ascii=False))
    manifest.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return manifest


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    written = main(Path(sys.argv[1]))
    print(f"{written}: {sum(1 for _ in written.open(encoding='utf-8'))} clips")
