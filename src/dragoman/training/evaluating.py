"""What a model is worth on the validation set: loss, word and character error rates."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dragoman._lazy import require
from dragoman.data import BucketSampler
from dragoman.evaluation.normalizers import NORMALIZERS
from dragoman.training.batches import Item, Preparation, epoch_batches
from dragoman.training.learning import Learner


@dataclass(frozen=True, kw_only=True)
class Evaluator:
    """Evaluates a model in training.

    Attributes:
        preparation: Makes batches.
        items: The validation set.
        seconds_per_batch: Limit of a batch.
        threads: That prepare batches.
        transcribe: Whether transcripts are made, for WER and CER.
        generation: Options of `generate`.
        normalizer: `"basic"`, `"english"` or `"none"`.
    """

    preparation: Preparation
    items: Sequence[Item]
    seconds_per_batch: float
    threads: int
    transcribe: bool
    generation: dict[str, Any]
    normalizer: str

    def __call__(self, learner: Learner, stop: Callable[[], bool] = lambda: False) -> dict[str, float] | None:
        """Return `loss` and perhaps `wer` and `cer`; `None` if `stop` asked to stop.

        All processes call this, each evaluates some batches, and all return the same.
        """
        processes = learner.processes
        sampler = BucketSampler(
            [item.seconds for item in self.items],
            seconds_per_batch=self.seconds_per_batch,
            world=processes.world,
            rank=processes.rank,
            shuffle=False,
        )
        loss, tokens, texts = 0.0, 0, []
        with learner.evaluating():
            for batch in epoch_batches(self.preparation, self.items, sampler, threads=self.threads, augment=False):
                if any(processes.gather(stop())):
                    return None
                if not batch.arrays:
                    continue
                summed, count = learner.loss(batch.arrays)
                loss, tokens = loss + summed, tokens + count
                if self.transcribe:
                    texts += self._pairs(learner, batch.arrays, batch.items)
        loss, total = processes.sum(loss, tokens)
        found = {"loss": loss / max(total, 1)}
        if self.transcribe:
            found |= error_rates([pair for part in processes.gather(texts) for pair in part], self.normalizer)
        return found

    def _pairs(self, learner: Learner, arrays: dict[str, Any], items: Sequence[Item]) -> list[tuple[str, str]]:
        """Return reference and transcript of each item."""
        ids = learner.transcribe(arrays, **self.generation)
        texts = self.preparation.processor.tokenizer.batch_decode(ids, skip_special_tokens=True)
        return [(item.utterance.text, text) for item, text in zip(items, texts, strict=True)]


def error_rates(pairs: Sequence[tuple[str, str]], normalizer: str) -> dict[str, float]:
    """Return word and character error rates of pairs of reference and transcript.

    Args:
        pairs: References that the normaliser leaves empty do not count.
        normalizer: `"basic"`, `"english"` or `"none"`.
    """
    jiwer = require("jiwer", "`evaluation.predict_with_generate`")
    normalise = NORMALIZERS[normalizer]
    kept = [(normalise(reference), normalise(text)) for reference, text in pairs]
    references, texts = zip(*[pair for pair in kept if pair[0].strip()] or [("", "")], strict=True)
    if not references[0]:
        return {"wer": float("nan"), "cer": float("nan")}
    return {
        "wer": float(jiwer.wer(list(references), list(texts))),
        "cer": float(jiwer.cer(list(references), list(texts))),
    }
