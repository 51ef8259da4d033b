"""Measure the word error rate of the default model on real speech, and of the same weights in `transformers`.

    python benchmarks/word_error_rate.py FOLDER [--clips 60] [--seed 0] [--beam_size 5] [--minutes 10]

The clips of `recipes/amazon-queen/clips.py` (English game dialogue, MP3 at 11,025 Hz) are downloaded to FOLDER unless
they exist. Random clips of at least three words are used. Four systems transcribe the same waveforms:

    transformers   WhisperForConditionalGeneration with the package's weights, the same prompt and suppressed tokens
    model          SpeechEncoderDecoderModel.generate
    Transcriber    the public API, with voice activity detection and windows
    JAX            the same with `Transcriber(backend="jax")`

With `--minutes`, clips are also joined into one file of that length, with pauses. The Transcriber transcribes it as one
file, as a stream and clip by clip.
Transcripts are compared after `dragoman.evaluation.normalizers.normalize_english`; the intervals are 95 % bootstrap
intervals over clips.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import torch

import dragoman
from clips import RATE, Clip, fetch_clips, joined
from dragoman.checkpoint.default_model import default_model_folder
from dragoman.checkpoint.folder import open_folder
from dragoman.evaluation.normalizers import normalize_english

PAUSE_S = 0.5  # after each clip of the long file


def in_transformers(folder: Path, processor: Any, beams: int) -> Callable[[np.ndarray], str]:
    """Return a transcription function of `transformers` with the same weights."""
    import transformers

    transformers.logging.set_verbosity_error()
    checkpoint = open_folder(folder)
    with checkpoint.tensors("np") as file:
        config = transformers.WhisperConfig(**checkpoint.config)
        model = transformers.WhisperForConditionalGeneration(config).eval()
        state = {name: torch.from_numpy(np.array(file.read(name), dtype=np.float32)) for name in file.keys()}  # noqa: SIM118
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert set(missing) <= {"proj_out.weight"}, missing
    assert not unexpected, unexpected
    model.tie_weights()
    options = dragoman.SpeechEncoderDecoderModel.from_pretrained(folder).generation_config
    prompt = torch.tensor([[options.decoder_start_token_id, *(token for _, token in options.forced_decoder_ids)]])
    extractor = transformers.WhisperFeatureExtractor()
    generation = transformers.GenerationConfig(
        num_beams=beams,
        max_length=448,
        suppress_tokens=options.suppress_tokens,
        begin_suppress_tokens=options.begin_suppress_tokens,
        eos_token_id=options.eos_token_id,
        pad_token_id=options.pad_token_id,
        decoder_start_token_id=options.decoder_start_token_id,
    )

    def transcribe(waveform: np.ndarray) -> str:
        features = extractor(waveform, sampling_rate=RATE, return_tensors="pt").input_features
        with torch.inference_mode():  # the general search; Whisper's `generate` adds its own rules
            ids = transformers.GenerationMixin.generate(
                model, features, generation_config=generation, decoder_input_ids=prompt
            )
        return str(processor.batch_decode(ids, skip_special_tokens=True)[0])

    return transcribe


def of_model(folder: Path, processor: Any, beams: int) -> Callable[[np.ndarray], str]:
    """Return a transcription function of the model alone."""
    model = dragoman.SpeechEncoderDecoderModel.from_pretrained(folder)

    def transcribe(waveform: np.ndarray) -> str:
        features = processor(waveform, sampling_rate=RATE, return_tensors="pt").input_features
        return str(processor.batch_decode(model.generate(features, num_beams=beams), skip_special_tokens=True)[0])

    return transcribe


def of_transcriber(backend: str, beams: int) -> Callable[[np.ndarray], str]:
    """Return a transcription function of `Transcriber`."""
    transcriber = dragoman.Transcriber(backend=backend)
    return lambda waveform: transcriber.transcribe(waveform, beam_size=beams).text


def report(name: str, references: list[str], texts: list[str], seconds: float) -> None:
    """Print a row: word error rate, its interval, and the elapsed time."""
    counts = []
    for reference, text in zip(references, texts, strict=True):
        out = jiwer.process_words(reference, text)
        counts.append((out.substitutions + out.deletions + out.insertions, len(reference.split())))
    errors = np.array(counts)
    rng = np.random.default_rng(0)
    draws = rng.integers(0, len(errors), (2000, len(errors)))
    rates = errors[draws, 0].sum(1) / errors[draws, 1].sum(1) * 100
    low, high = np.percentile(rates, [2.5, 97.5])
    rate = errors[:, 0].sum() / errors[:, 1].sum() * 100
    print(f"| {name} | {rate:.2f} % | {low:.1f}-{high:.1f} | {seconds:.1f} s |", flush=True)


def long_file(transcriber: Any, clips: list[Clip], minutes: float, beams: int) -> None:
    """Transcribe one long file as a whole, as a stream and clip by clip; print the rates and check the times."""
    ends = np.cumsum([len(clip.waveform) / RATE + PAUSE_S for clip in clips])
    clips = clips[: int(np.searchsorted(ends, minutes * 60)) + 1]
    words = normalize_english(" ".join(clip.text for clip in clips))
    audio, _ = joined(clips, PAUSE_S)
    length = len(audio) / RATE
    transcript = transcriber.transcribe(audio, beam_size=beams)
    times = [time for segment in transcript.segments for time in (segment.start, segment.end)]
    assert times == sorted(times), "the times are not monotone"
    assert times[-1] <= length + 0.01, "the last segment ends after the file"
    streamed = transcriber.stream(np.split(audio, range(RATE // 2, len(audio), RATE // 2)), beam_size=beams)
    texts = {
        "as a whole": transcript.text,
        "as a stream": " ".join(live.text for live in streamed if live.is_final),
        "clip by clip": " ".join(
            transcriber.transcribe(joined([clip], PAUSE_S)[0], beam_size=beams).text for clip in clips
        ),
    }
    print(f"\nOne file of {length / 60:.1f} minutes, {len(clips)} clips; {len(transcript.segments)} segments:")
    for name, text in texts.items():
        print(f"{name}: {jiwer.wer(words, normalize_english(text)) * 100:.2f} %", flush=True)


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clips", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--beam_size", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=0.0)
    parser.add_argument("--systems", nargs="*", help="names of the systems to run (default: all)")
    parser.add_argument("--verbose", action="store_true", help="print the transcripts that differ")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    folder = default_model_folder()
    processor = dragoman.AutoProcessor.from_pretrained(folder)
    clips = fetch_clips(options.folder, options.clips, options.seed)
    references = [normalize_english(text) for _, _, text in clips]
    systems: dict[str, Callable[[], Callable[[np.ndarray], str]]] = {
        "transformers": lambda: in_transformers(folder, processor, options.beam_size),
        "model": lambda: of_model(folder, processor, options.beam_size),
        "Transcriber": lambda: of_transcriber("torch", options.beam_size),
        "JAX": lambda: of_transcriber("jax", options.beam_size),
    }
    seconds = sum(len(waveform) for _, waveform, _ in clips) / RATE
    print(f"{len(clips)} clips, {seconds:.0f} s, seed {options.seed}, beam {options.beam_size}\n")
    print("| system | word error rate | 95 % | time |\n|---|---|---|---|")
    found: dict[str, list[str]] = {}
    written: dict[str, list[str]] = {}
    for name, load in systems.items():
        if options.systems and name not in options.systems:
            continue
        transcribe = load()
        begin = time.perf_counter()
        written[name] = [transcribe(waveform) for _, waveform, _ in clips]
        found[name] = [normalize_english(text) for text in written[name]]
        report(name, references, found[name], time.perf_counter() - begin)
    for one, other in (("transformers", "model"), ("Transcriber", "JAX")):
        if one in written and other in written:
            same = sum(a.strip() == b.strip() for a, b in zip(written[one], written[other], strict=True))
            print(f"\n{one} and {other}: identical transcripts for {same} of {len(clips)} clips")
    if options.verbose:
        for (ident, _, _), *texts in zip(clips, references, *found.values(), strict=True):
            if len(set(texts[1:])) > 1:
                print(ident, *texts, sep="\n    ")
    if options.minutes:
        everything = fetch_clips(options.folder, min(3000, int(options.minutes * 40)), options.seed + 1)
        long_file(dragoman.Transcriber(), everything, options.minutes, options.beam_size)


if __name__ == "__main__":
    main()
