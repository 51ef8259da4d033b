"""The steps of training in PyTorch: gradients over several batches and processes, clipping, AdamW, averages.

The random numbers of a step follow from the seed and the number of the step, so a run that continues draws the same.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dragoman.api.checks import IGNORED
from dragoman.checkpoint.tensors import save_safetensors
from dragoman.errors import OutOfMemoryError, is_out_of_memory
from dragoman.model.learning import LearnerOptions, StepResult
from dragoman.torch.backend import own_tensors
from dragoman.torch.frozen import FrozenEncoder
from dragoman.torch.fsdp import Shards, leave_out_unused, restore_shards, whole, write_shards
from dragoman.torch.model import SpeechEncoderDecoderModel
from dragoman.torch.net.loss import cross_entropy
from dragoman.torch.objective import Objective
from dragoman.torch.parameters import groups, set_trained
from dragoman.torch.processes import Processes
from dragoman.torch.saved import optimizer_tensors, restore_optimizer, restore_weights

Part = Mapping[str, Any]
"""A batch: `input_values` or `input_features`, perhaps `attention_mask`, and `labels`, as NumPy arrays."""

_log = logging.getLogger("dragoman")


class Learner:
    """Trains a model step by step.

    Args:
        model: The model, on the device of `processes`; it is changed in place.
        options: How.
        processes: All processes of the run, each with a learner of its own.
    """

    def __init__(self, model: SpeechEncoderDecoderModel, options: LearnerOptions, processes: Processes) -> None:
        self.model, self.processes, self._options = model, processes, options
        self._seed(0, 2**32 - 1, 0)  # a new head is the same in all processes
        self._objective = Objective(model, options)
        self._shards: Shards | None = None
        if options.fsdp and processes.world > 1:
            set_trained(model, options.freezing, 0)
            self._shards = Shards(self._objective, options, processes)
        own = groups(model, options.rates) + groups(self._objective.beside, options.rates)
        self._names = [name for group in own for name in group.pop("names")]
        self._rates = [group["lr"] for group in own]
        self._optimizer = torch.optim.AdamW(own, betas=options.betas, eps=options.epsilon, fused=True)
        self._scaler = torch.amp.GradScaler(processes.device.type, enabled=options.fp16)
        self._frozen: tuple[bool, bool] | None = None
        self._encoder = None if options.states is None else FrozenEncoder(model, options.states)
        self._last: list[Part] = []
        self._most_numbers = float("inf")  # of a batch's audio that fits into memory
        self._average = (
            {name: parameter.detach().clone() for name, parameter in self._objective.own_parameters().items()}
            if options.ema_decay
            else {}
        )

    @property
    def sharded(self) -> bool:
        """Whether checkpoints are written in shards, by all processes."""
        return self._shards is not None

    def _seed(self, step: int, place: int, rank: int) -> None:
        entropy = [self._options.seed, step, place, rank]
        torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> 1))

    def step(self, parts: Sequence[Part], number: int, rate: float) -> StepResult:
        """Take one step.

        Args:
            parts: Batches, whose gradients are summed; the loss is the mean over the labels of all.
            number: Number of steps before it.
            rate: Share of the highest learning rates.

        Raises:
            OutOfMemoryError: If even one clip alone does not fit into memory.
        """
        frozen = self._options.freezing.at(number)
        if frozen != self._frozen:
            set_trained(self.model, self._options.freezing, number)
            self._frozen = frozen
        self.model.train()
        aligning = number < self._options.alignment.steps
        if number == self._options.alignment.steps:
            self._optimizer.state.clear()  # what it knows of gradients of CTC
        (tokens,) = self.processes.sum(float(sum((part["labels"] != IGNORED).sum() for part in parts)))
        loss = self._gradients(list(parts), number, max(tokens, 1.0))
        parameters = [parameter for group in self._optimizer.param_groups for parameter in group["params"]]
        if self._shards is None:
            self.processes.sum_gradients(parameters)
        else:
            leave_out_unused(parameters, self.processes)
        self._scaler.unscale_(self._optimizer)
        (loss,) = self.processes.sum(loss)
        limit = self._options.max_grad_norm or float("inf")
        norm = float(whole(nn.utils.clip_grad_norm_([p for p in parameters if p.grad is not None], limit)))
        skipped = not np.isfinite([loss, norm]).all()
        if not skipped:
            for group, highest in zip(self._optimizer.param_groups, self._rates, strict=True):
                group["lr"] = self._options.alignment.rate if aligning else highest * rate
            self._scaler.step(self._optimizer)
            self._update_average()
        self._scaler.update()  # a smaller scale after infinite gradients
        self._optimizer.zero_grad()
        return StepResult(loss=loss, grad_norm=norm, tokens=int(tokens), skipped=skipped)

    def _update_average(self) -> None:
        with torch.no_grad():
            own = self._objective.own_parameters()
            for name, mean in self._average.items():
                mean.lerp_(own[name], 1 - self._options.ema_decay)

    def _gradients(self, parts: list[Part], number: int, tokens: float) -> float:
        """Add up the gradients of all parts and return their loss; what does not fit into memory is split."""
        if self._shards is not None:
            return self._sharded_gradients(parts, number, tokens)
        while True:
            parts = [half for part in parts for half in self._fitting(part)]
            at = 0
            total = 0.0
            try:
                for at, part in enumerate(parts):
                    self._seed(number, at, self.processes.rank)
                    total += self._backward(part, tokens, number)
                return total
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            self._optimizer.zero_grad()  # after the error is gone, which holds memory
            if self.processes.device.type == "cuda":
                torch.cuda.empty_cache()
            if len(parts[at]["labels"]) == 1:
                raise OutOfMemoryError(
                    f"One clip of {_numbers(parts[at]):,} samples or features does not fit into memory. Lower "
                    "`data.max_duration_in_seconds`, or turn on `training.gradient_checkpointing` or `training.bf16`."
                )
            self._most_numbers = _numbers(parts[at]) - 1
            _log.warning("Out of memory: batches of this size are split from now on. Lower `data.seconds_per_batch`.")

    def _sharded_gradients(self, parts: list[Part], number: int, tokens: float) -> float:
        """The same with shared out parameters; a process without a batch computes an old one, which does not count."""
        assert self._shards is not None
        factor, self._last = (1.0, parts[-1:]) if parts else (0.0, self._last)
        total = 0.0
        for at, part in enumerate(parts or self._last):
            self._seed(number, at, self.processes.rank)
            with self._shards.backward(last=at == len(parts or self._last) - 1):
                total += self._backward(part, tokens, number, factor)
        return total

    def _fitting(self, part: Part) -> Iterator[Part]:
        """Yield a batch in halves that are small enough."""
        rows = len(part["labels"])
        if rows < 2 or _numbers(part) <= self._most_numbers:
            yield part
            return
        for half in slice(0, rows // 2), slice(rows // 2, rows):
            yield from self._fitting({name: array[half] for name, array in part.items()})

    def _backward(self, part: Part, tokens: float, number: int, factor: float = 1.0) -> float:
        inputs = self._tensors(part)
        device, options = self.processes.device.type, self._options
        with torch.enable_grad():
            half = torch.float16 if options.fp16 else torch.bfloat16
            with torch.autocast(device, half, enabled=options.bf16 or options.fp16):
                loss = factor * self._objective(inputs, tokens, number < options.alignment.steps)
            self._scaler.scale(loss).backward()
        return loss.item()

    def _tensors(self, part: Part) -> dict[str, Any]:
        """Return a batch as arguments of the model, with kept states in place of the audio if there are any."""
        device = self.processes.device
        if self._encoder is not None:
            return {"encoder_outputs": self._encoder(part), "labels": torch.from_numpy(part["labels"]).to(device)}
        return {name: torch.from_numpy(array).to(device) for name, array in part.items()}

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Evaluate in the `with` block: in evaluation mode, with averaged weights if there are any."""
        with self._averaged(), torch.inference_mode():
            yield

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Have the weights to evaluate and save in the `with` block, whole on every process."""
        self._exchange()
        self.model.eval()
        try:
            with nullcontext() if self._shards is None else self._shards.whole():
                self._objective.set_ctc_head()
                yield
        finally:
            self._exchange()

    def _exchange(self) -> None:
        """Exchange the weights and their averages."""
        own = self._objective.own_parameters()
        with torch.no_grad():
            for name, mean in self._average.items():
                kept = own[name].detach().clone()
                own[name].copy_(mean)
                mean.copy_(kept)

    def loss(self, part: Part) -> tuple[float, int]:
        """Return the summed loss of a batch's labels, and their number."""
        inputs = self._tensors(part)
        output = self.model(**inputs)
        labels = inputs["labels"]
        return cross_entropy(output.logits, labels, 1.0).item(), int((labels != IGNORED).sum())

    def transcribe(self, part: Part, **options: Any) -> list[list[int]]:
        """Return the token ids that `generate` gives for the clips of a batch."""
        inputs = self._tensors(part)
        del inputs["labels"]
        ids: list[list[int]] = self.model.generate(**inputs, **options).tolist()
        return ids

    def save_model(self, folder: Path) -> None:
        """Write the model as a Hugging Face folder; all processes call this, and the first writes."""
        if self._shards is None and self.processes.rank > 0:
            return
        with self._averaged(), torch.no_grad():
            # taking the state of a module with FSDP shares its weights out again
            own = None if self._shards is None else {name: whole(t) for name, t in own_tensors(self.model).items()}
            if self.processes.rank == 0:
                self.model.save_pretrained(folder, state_dict=own)

    def write_weights(self, path: Path) -> None:
        """Write all weights exactly, by our names."""
        save_safetensors(self._state(), path)

    def write_optimizer(self, path: Path) -> None:
        """Write the optimizer's state, the averages, and the scale of the loss."""
        save_safetensors(optimizer_tensors(self._optimizer, self._names, self._beside()), path)

    def _beside(self) -> dict[str, Tensor]:
        """Return what changes with the steps beside weights and optimizer."""
        scale = {f"scaler/{name}": torch.tensor(value) for name, value in self._scaler.state_dict().items()}
        return {f"average/{name}": mean for name, mean in self._average.items()} | scale

    def _state(self) -> dict[str, Tensor]:
        return {**own_tensors(self.model), **nn.Module.state_dict(self._objective.beside)}

    def write_shards(self, folder: Path) -> None:
        """Write weights and optimizer into a folder; every process writes its share."""
        held = optimizer_tensors(self._optimizer, self._names, self._beside())
        write_shards(folder, {f"weights/{name}": tensor for name, tensor in self._state().items()} | held)

    def restore_shards(self, folder: Path) -> None:
        """Continue from what `write_shards` wrote, with any number of processes; raises as `restore` does."""
        weights = {f"weights/{name}": tensor for name, tensor in self._state().items()}
        restore_shards(folder, self._optimizer, self._names, weights | self._beside())

    def restore(self, weights: Path, optimizer: Path) -> None:
        """Continue from what was written.

        Raises:
            CheckpointError: If it is of another model, or of a run with other options.
        """
        restore_weights(self._state(), weights)
        beside = self._beside()
        restore_optimizer(self._optimizer, self._names, beside, optimizer)
        if self._scaler.is_enabled():
            self._scaler.load_state_dict({name: beside[f"scaler/{name}"].item() for name in self._scaler.state_dict()})


def _numbers(part: Part) -> int:
    return max(int(array.size) for array in part.values())
