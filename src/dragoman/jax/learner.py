"""The steps of training in JAX, over the batches and checkpoints of `dragoman.training`.

Batches of a step are padded to one shape, and shapes are rounded up, so that few programs are compiled; what is padded
has no part in the loss.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from dragoman.api.checks import IGNORED
from dragoman.checkpoint.tensors import SafetensorsFile, save_safetensors
from dragoman.errors import CheckpointError, ConfigError
from dragoman.jax.model import FlaxSpeechEncoderDecoderModel
from dragoman.jax.net.loss import cross_entropy
from dragoman.jax.net.tree import flat, nested
from dragoman.jax.optimizer import adamw
from dragoman.jax.processes import Processes
from dragoman.jax.train import Trainer, TrainState
from dragoman.model.learning import LearnerOptions, StepResult

Part = Mapping[str, Any]
"""A batch: `input_values` or `input_features`, perhaps `attention_mask`, and `labels`, as NumPy arrays."""

_MOMENTS = ("exp_avg", "exp_avg_sq")


class Learner:
    """Trains a model step by step.

    Args:
        model: The model; its parameters are replaced when it is evaluated or saved.
        options: How.
        processes: The one process.

    Raises:
        ConfigError: If an option is only for PyTorch.
    """

    def __init__(self, model: FlaxSpeechEncoderDecoderModel, options: LearnerOptions, processes: Processes) -> None:
        self.model, self.processes, self._options = model, processes, options
        freezing = options.freezing
        foreign = {
            "training.ctc_weight": options.ctc_weight,
            "training.ema_decay": options.ema_decay,
            "training.fp16": options.fp16,
            "training.fsdp": options.fsdp,
            "training.align_steps": options.alignment.steps,
            "training.cache_encoder_states": options.states,
            "model.unfreeze_encoder_step": freezing.encoder_until,
            "model.unfreeze_decoder_step": freezing.decoder_until,
        }
        wrong = [name for name, value in foreign.items() if value]
        if wrong:
            raise ConfigError(f"{', '.join(f'`{name}`' for name in wrong)} needs `model.backend: torch`.")
        self._trainer = Trainer(
            model,
            adamw(options),
            dtype=jnp.bfloat16 if options.bf16 else None,
            freeze_feature_encoder=freezing.feature_encoder,
            freeze_encoder=freezing.encoder,
            freeze_decoder=freezing.decoder,
            label_smoothing=options.label_smoothing,
        )
        self._state = self._trainer.begin(model.tree, seed=options.seed)

    def step(self, parts: Sequence[Part], number: int, rate: float) -> StepResult:
        """Take one step.

        Args:
            parts: Batches, whose gradients are summed; the loss is the mean over the labels of all.
            number: Number of steps before it.
            rate: Share of the highest learning rates.
        """
        tokens = int(sum((part["labels"] != IGNORED).sum() for part in parts))
        random = np.random.default_rng([self._options.seed, number])
        batch = self._trainer.batch(_alike(parts), random)
        state = replace(self._state, step=jnp.asarray(number, jnp.int32))
        state = _with(state, {"share": jnp.asarray(rate, jnp.float32)})
        self._state, loss = self._trainer.step(state, batch)
        found = _held(self._state)
        return StepResult(
            loss=float(loss), grad_norm=float(found["grad_norm"]), tokens=tokens, skipped=not bool(found["finite"])
        )

    @property
    def sharded(self) -> bool:
        """Whether checkpoints are written in shards: never."""
        return False

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Evaluate, or save, in the `with` block, with the parameters of the last step."""
        self.model.params = jax.tree.map(jnp.copy, self._state.params)  # the next step reuses the memory
        yield

    def loss(self, part: Part) -> tuple[float, int]:
        """Return the summed loss of a batch's labels, and their number."""
        (padded,) = _alike([part])
        labels = jnp.asarray(padded["labels"])
        return float(cross_entropy(self.model(**padded).logits, labels, 1.0)), int((part["labels"] != IGNORED).sum())

    def transcribe(self, part: Part, **options: Any) -> list[list[int]]:
        """Return the token ids that `generate` gives for the clips of a batch."""
        inputs: dict[str, Any] = {name: array for name, array in part.items() if name != "labels"}
        ids: list[list[int]] = np.asarray(self.model.generate(**inputs, **options)).tolist()
        return ids

    def save_model(self, folder: Path) -> None:
        """Write the model as a Hugging Face folder."""
        with self.evaluating():
            self.model.save_pretrained(folder)

    def write_weights(self, path: Path) -> None:
        """Write all parameters exactly, under the names of both backends."""
        save_safetensors(_arrays(self._state.params), path, "np")

    def write_optimizer(self, path: Path) -> None:
        """Write the optimizer's state as PyTorch's learner does."""
        held = _held(self._state)
        moments = {f"{kind}/{name}": array for kind in _MOMENTS for name, array in _arrays(held[kind]).items()}
        step = np.asarray(held["step"], np.float32)
        steps = {f"step/{name}": step for name in _arrays(held["exp_avg"])}
        save_safetensors({**moments, **steps}, path, "np")

    def restore(self, weights: Path, optimizer: Path) -> None:
        """Continue from what was written, by either backend.

        Raises:
            CheckpointError: If it is of another model, or of a run with other options.
        """
        params = flat(self._state.params)
        held, moments = _held(self._state), {}
        with SafetensorsFile(weights, "np") as file:
            known = set(file.keys())
            _check(weights, set(params) - known)
            params = {name: jnp.asarray(file.read(name)) for name in params}
        with SafetensorsFile(optimizer, "np") as file:
            kept = set(file.keys())
            steps = {float(file.read(key)) for key in kept if key.startswith("step/")}
            _check(optimizer, {key for key in kept if key.partition("/")[2] not in params})
            for kind in _MOMENTS:
                own = flat(held[kind])
                read = {name: file.read(f"{kind}/{name}") if f"{kind}/{name}" in kept else own[name] for name in own}
                moments[kind] = _like(held[kind], read)
        step = jnp.asarray(max(steps, default=0), jnp.int32)
        self._state = _with(replace(self._state, params=nested(params)), {**moments, "step": step})


def _held(state: TrainState) -> dict[str, Any]:
    """Return the state of our optimizer, inside that of the trainer's."""
    held: dict[str, Any] = state.optimizer.inner_states["trained"].inner_state
    return held


def _with(state: TrainState, changes: Mapping[str, Any]) -> TrainState:
    outer = state.optimizer
    masked = outer.inner_states["trained"]
    masked = masked._replace(inner_state={**masked.inner_state, **changes})
    return replace(state, optimizer=outer._replace(inner_states={**outer.inner_states, "trained": masked}))


def _arrays(tree: Any) -> dict[str, np.ndarray[Any, Any]]:
    """Return the arrays of a tree by name, without the gaps where parameters are frozen."""
    return {name: np.asarray(leaf) for name, leaf in flat(tree).items() if isinstance(leaf, Array)}


def _like(tree: Any, leaves: Mapping[str, Any]) -> Any:
    arrays = {n: jnp.asarray(leaf) if isinstance(leaf, Array | np.ndarray) else leaf for n, leaf in leaves.items()}
    return nested(arrays) if isinstance(tree, Mapping) else tree


def _check(path: Path, wrong: set[str]) -> None:
    if wrong:
        raise CheckpointError(
            f"{path} is of another model or run: {len(wrong)} tensors differ, such as {min(wrong)}. Resume with the "
            "options under `model` that the run began with."
        )


def _alike(parts: Sequence[Part]) -> list[dict[str, Any]]:
    """Return batches of one shape: rows, samples and labels rounded up to an eighth of a power of two."""
    names = [name for name in parts[0] if name != "labels"]
    rows = _rounded(max(len(part["labels"]) for part in parts))
    width = _rounded(max(part["labels"].shape[1] for part in parts))
    waves = all(part[name].ndim == 2 for part in parts for name in names)  # spectrograms keep their lengths
    shapes = {name: np.max([part[name].shape[1:] for part in parts], axis=0).tolist() for name in names}
    shapes = {name: [_rounded(size) for size in shape] if waves else shape for name, shape in shapes.items()}
    return [
        {
            **{name: _padded(part[name], rows, shapes[name]) for name in names},
            "labels": np.pad(
                part["labels"],
                ((0, rows - len(part["labels"])), (0, width - part["labels"].shape[1])),
                constant_values=IGNORED,
            ),
        }
        for part in parts
    ]


def _padded(array: np.ndarray[Any, Any], rows: int, shape: Sequence[int]) -> np.ndarray[Any, Any]:
    """Return an array with zeros after the ends of its rows, and the first row again for each row that lacks."""
    wide = np.pad(array, [(0, 0), *((0, size - own) for size, own in zip(shape, array.shape[1:], strict=True))])
    return np.concatenate([wide, np.repeat(wide[:1], rows - len(wide), axis=0)])


def _rounded(number: int) -> int:
    unit = 1 << max(0, number.bit_length() - 4)
    return -(-number // unit) * unit
