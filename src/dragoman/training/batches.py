"""From utterances to the batches of a model: audio, features, labels, padding; prepared ahead by threads.

What is in a batch follows from its items, the seed and the epoch, so neither the number of threads nor a restart
changes it.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from dragoman.api.collator import DataCollatorSpeechSeq2SeqWithPadding
from dragoman.data import BucketSampler, Problem, Utterance, load_audio, with_duration
from dragoman.data.manifest import MAX_BAD, skipped
from dragoman.data.utterance import check_share
from dragoman.errors import AudioError, ConfigError
from dragoman.training.augmentation import Augmentation

_AHEAD = 2  # batches per thread
_MOST_UNKNOWN = 0.01  # share of unknown tokens above which there is a warning

Choose = Callable[[Sequence[Utterance]], tuple[list[Utterance], list[Problem]]]
"""Returns the items that are wanted, and why the others are not."""

_log = logging.getLogger("dragoman")


@dataclass(frozen=True, kw_only=True)
class Item:
    """An utterance that can be trained on.

    Attributes:
        utterance: Where the audio is, and its duration.
        labels: The token ids of its text, with the end token, without the start token.
    """

    utterance: Utterance
    labels: list[int]

    @property
    def seconds(self) -> float:
        """Its duration."""
        return self.utterance.duration or 0.0


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A batch.

    Attributes:
        arrays: `input_values` or `input_features`, `attention_mask` and `labels`; empty if no item could be read.
        items: The items, in the order of the rows.
        seconds: Duration of the speech.
        padded: Duration with padding: number of items times the longest.
    """

    arrays: dict[str, Any]
    items: Sequence[Item]
    seconds: float
    padded: float


class Preparation:
    """Turns items into batches.

    Args:
        processor: Of the model.
        config: The model's configuration.
        augmentation: What is changed in training.
        seed: Of the augmentation.
    """

    def __init__(self, processor: Any, config: Any, *, augmentation: Augmentation | None = None, seed: int = 0) -> None:
        self.processor, self._augmentation, self._seed = processor, augmentation, seed
        self._start, self._end = config.special_id("decoder_start_token_id"), config.special_id("eos_token_id")
        self._longest = config.decoder.text_spec().num_positions
        self._collate = DataCollatorSpeechSeq2SeqWithPadding(processor, self._start, True, return_tensors="np")
        self._bad = 0

    @property
    def rate(self) -> int:
        """Sampling rate of the model, in hertz."""
        return int(self.processor.feature_extractor.sampling_rate)

    def items(self, path: str, utterances: Sequence[Utterance], choose: Choose, *, threads: int) -> list[Item]:
        """Return the utterances that can be used, and warn of the others.

        Args:
            path: Name of the data set, for messages.
            utterances: All.
            choose: Returns those that are wanted, and why the others are not.
            threads: Number of threads that look at audio files.

        Raises:
            DataError: If too many cannot be read.
            ConfigError: If none is left.
        """
        with ThreadPoolExecutor(max(1, threads)) as pool:
            found = list(pool.map(_readable, utterances))
        unreadable = [one for one in found if isinstance(one, Problem)]
        check_share(path, unreadable, len(found), MAX_BAD)
        wanted, left_out = choose([one for one in found if isinstance(one, Utterance)])
        items = [Item(utterance=one, labels=self.labels(one.text)) for one in wanted]
        fitting = [item for item in items if len(item.labels) <= self.room]
        left_out += [
            Problem(kind="too many tokens", source=item.utterance.source, message=f"{len(item.labels)} tokens are more "
                    f"than the decoder's {self.room}.")
            for item in items if len(item.labels) > self.room
        ]  # fmt: skip
        if unreadable or left_out:
            _log.warning("%s: %s", path, skipped([*unreadable, *left_out], len(found)))
        if not fitting:
            raise ConfigError(f"{path}: no item is left. {skipped(left_out, len(found)) if left_out else ''}")
        self._warn_of_unknown(path, fitting)
        return fitting

    def _warn_of_unknown(self, path: str, items: Sequence[Item]) -> None:
        """Warn if texts have much that the tokenizer cannot write."""
        unknown = getattr(self.processor.tokenizer, "unk_token_id", None)
        total = sum(len(item.labels) for item in items)
        count = sum(item.labels.count(unknown) for item in items) if unknown is not None else 0
        if count > _MOST_UNKNOWN * total:
            _log.warning(
                "%s: %.1f %% of the tokens are unknown to the tokenizer, and the model learns to write its unknown "
                "token. `dragoman data check --model` lists the characters.", path, 100 * count / total,
            )  # fmt: skip

    @property
    def room(self) -> int:
        """Number of labels that the decoder has positions for."""
        return self._longest or 2**31

    def labels(self, text: str) -> list[int]:
        """Return the token ids of a text, with the end token, without the start token."""
        ids = [int(token) for token in self.processor.tokenizer(text)["input_ids"]]
        if len(ids) > 1 and ids[0] == self._start:
            ids = ids[1:]
        ends = self._end if isinstance(self._end, list) else [self._end]
        return ids if ids and ids[-1] in ends else [*ids, ends[0]]

    def batch(self, items: Sequence[Item], epoch: int | None = None, places: Sequence[int] = ()) -> Prepared:
        """Return a batch of items.

        Args:
            items: The items.
            epoch: Number of the epoch, for augmentation; `None` changes nothing.
            places: Numbers of the items in the data set, for augmentation.

        Raises:
            AudioError: If too many items cannot be read.
        """
        rows, kept, seconds = [], [], []
        for number, item in enumerate(items):
            waveform = self._waveform(item)
            if waveform is None:
                continue
            if epoch is not None and self._augmentation is not None:
                random = np.random.default_rng([self._seed, epoch, places[number]])
                waveform = self._augmentation(waveform, self.rate, random)
            features = self.processor.feature_extractor(waveform, sampling_rate=self.rate, return_attention_mask=True)
            rows.append({**{name: value[0] for name, value in features.items()}, "labels": item.labels})
            kept.append(item)
            seconds.append(len(waveform) / self.rate)
        arrays = {name: np.asarray(array) for name, array in self._collate(rows).items()} if rows else {}
        longest = max(seconds, default=0.0)
        return Prepared(arrays=arrays, items=kept, seconds=sum(seconds), padded=longest * len(seconds))

    def _waveform(self, item: Item) -> Any:
        try:
            return load_audio(item.utterance, self.rate)
        except AudioError as error:
            self._bad += 1
            if self._bad > 100:
                raise
            _log.warning("%s The item is left out.", error)
            return None


def _readable(utterance: Utterance) -> Utterance | Problem:
    try:
        return with_duration(utterance)
    except AudioError as error:
        return Problem(kind="unreadable audio", source="", message=str(error))


def epoch_batches(
    preparation: Preparation, items: Sequence[Item], sampler: BucketSampler, *, threads: int, augment: bool = True
) -> Iterator[Prepared]:
    """Yield the rest of a sampler's epoch, in its order.

    Args:
        preparation: Makes batches.
        items: What the sampler's indices mean.
        sampler: At the place to begin.
        threads: Number of threads that prepare batches ahead; 0 prepares each when it is asked for.
        augment: False changes nothing.
    """
    epoch = sampler.epoch if augment else None

    def prepare(indices: list[int]) -> Prepared:
        return preparation.batch([items[index] for index in indices], epoch, indices)

    if threads == 0:
        yield from map(prepare, sampler)
        return
    pool = ThreadPoolExecutor(threads)
    try:
        waiting: deque[Future[Prepared]] = deque()
        for indices in sampler:
            waiting.append(pool.submit(prepare, indices))
            if len(waiting) > _AHEAD * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
