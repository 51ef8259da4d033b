"""Check whether real speech gets the same transcript alone, in batches, as a stream and in other windows.

    python benchmarks/same_text.py FOLDER [--clips 100] [--seed 0]

The clips of `recipes/amazon-queen/clips.py` are downloaded to FOLDER unless they exist. They are joined into one
recording, three seconds apart, so that each clip has its own windows, which are decoded one by one ("single"). These
transcripts are compared with those of

    batched    the same recording, 16 windows at once
    streamed   the same recording, sent to `Transcriber.stream` in chunks of 0.1 s; final transcripts
    alone      each clip as its own recording, so that its window starts and ends at slightly different times
    chunked    one recording of all clips, half a second apart, in windows of 30 s and of 10 s, which contain several
               clips each; clips cut by a window boundary are left out

The table shows the number of clips with identical transcripts, the number with identical words (after
`normalize_english`), and the word error rate of all clips. Greedy search, one thread. The script prints every
transcript that differs.
"""

import argparse
import warnings
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from difflib import SequenceMatcher
from pathlib import Path
from typing import NamedTuple

import jiwer

from clips import RATE, Clip, fetch_clips, joined
from dragoman import Transcriber
from dragoman.evaluation.normalizers import normalize_english

PIECE = RATE // 10
OPTIONS = {"beam_size": 1}


class Timed(NamedTuple):
    """A transcript with its start and end in seconds."""

    start: float
    end: float
    text: str


def of_clips(said: Iterable[Timed], begins: Sequence[float], pause_s: float) -> list[str]:
    """Assign each transcript to the clip during which it starts; return one transcript per clip."""
    edges = [begin - pause_s / 2 for begin in begins[1:]]
    texts: list[list[str]] = [[] for _ in begins]
    for one in said:
        texts[bisect_right(edges, one.start)].append(one.text)
    return [" ".join(parts) for parts in texts]


def streamed(transcriber: Transcriber, samples) -> list[Timed]:
    """Return the final transcripts of a stream."""
    pieces = (samples[start : start + PIECE] for start in range(0, len(samples), PIECE))
    return [Timed(one.start, one.end, one.text) for one in transcriber.stream(pieces, **OPTIONS) if one.is_final]


def differing(single: Sequence[str], text: str) -> dict[int, str]:
    """Return the indices of the transcripts that differ in the joint transcript, with the words found there instead."""
    words = [(place, word) for place, one in enumerate(single) for word in one.split()]
    found_words = text.split()
    found: dict[int, str] = {}
    matcher = SequenceMatcher(None, [word for _, word in words], found_words, autojunk=False)
    for tag, first, last, left, right in matcher.get_opcodes():
        if tag == "equal":
            continue
        for place in {place for place, _ in words[first:last] or words[max(first - 1, 0) : first]}:
            found[place] = " ".join([*filter(None, [found.get(place)]), *found_words[left:right]])
    return found


def compare_chunked(
    clips: Sequence[Clip],
    single: Sequence[str],
    said: Sequence[Timed],
    begins: Sequence[float],
    form: Callable[[str], str],
) -> tuple[int, dict[int, str]]:
    """Return the number of clips within a single window, and those among them whose transcript differs."""
    inside: dict[int, list[int]] = {}
    cut = 0
    for place, (clip, begin) in enumerate(zip(clips, begins, strict=True)):
        end = begin + len(clip.waveform) / RATE
        windows = [number for number, one in enumerate(said) if one.start < end and begin < one.end]
        if len(windows) > 1:
            cut += 1
        else:
            inside.setdefault(windows[0] if windows else -1, []).append(place)
    found: dict[int, str] = {}
    for number, places in inside.items():
        text = said[number].text if number >= 0 else ""
        others = differing([form(single[place]) for place in places], form(text))
        found |= {places[place]: instead for place, instead in others.items()}
    return len(clips) - cut, found


def error_rate(clips: Sequence[Clip], texts: Iterable[str]) -> str:
    """Return the word error rate over all clips."""
    words, found_words = (normalize_english(" ".join(some)) for some in ([clip.text for clip in clips], texts))
    return f"{jiwer.wer(words, found_words):.2%}"


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    clips = fetch_clips(options.folder, options.clips, options.seed)
    transcriber = Transcriber(device="cpu", threads=1)

    def texts(samples, **others) -> list[Timed]:
        segments = transcriber.transcribe(samples, **OPTIONS, **others).segments
        return [Timed(one.start, one.end, one.text) for one in segments]

    apart, begins = joined(clips, 3.0)
    single = of_clips(texts(apart, batch_size=1), begins, 3.0)
    print(
        f"{len(clips)} clips, {sum(len(clip.waveform) for clip in clips) / RATE:.0f} s, seed {options.seed}\n",
        flush=True,
    )
    print("| run | clips | identical transcripts | identical words | word error rate |\n|---|---|---|---|---|")
    print(f"| single | {len(clips)} | | | {error_rate(clips, single)} |", flush=True)
    runs: dict[str, Callable[[], list[str]]] = {
        "batched": lambda: of_clips(texts(apart, batch_size=16), begins, 3.0),
        "streamed": lambda: of_clips(streamed(transcriber, apart), begins, 3.0),
        "alone": lambda: [" ".join(one.text for one in texts(clip.waveform)) for clip in clips],
    }
    differ: list[tuple[str, int, str]] = []
    for name, run in runs.items():
        found = run()
        same = sum(a == b for a, b in zip(single, found, strict=True))
        words = sum(normalize_english(a) == normalize_english(b) for a, b in zip(single, found, strict=True))
        print(f"| {name} | {len(clips)} | {same} | {words} | {error_rate(clips, found)} |", flush=True)
        differ += [(name, place, text) for place, text in enumerate(found) if text != single[place]]
    near, begins = joined(clips, 0.5)
    for seconds in (30, 10):
        said = texts(near, chunk_length_s=seconds)
        count, signs = compare_chunked(clips, single, said, begins, str)
        _, words = compare_chunked(clips, single, said, begins, normalize_english)
        rate = error_rate(clips, (one.text for one in said))
        print(f"| chunked, {seconds} s | {count} | {count - len(signs)} | {count - len(words)} | {rate} |", flush=True)
        differ += [(f"chunked, {seconds} s", place, text) for place, text in signs.items()]
    for name, place, text in differ:
        print(f"\n{name}: {clips[place].id}\n    single: {single[place]}\n    here:   {text}")


if __name__ == "__main__":
    main()
