"""One training step as one compiled program: loss, gradients accumulated over several batches, optimizer update.

Parameters and optimizer state are arguments and results; random keys and SpecAugment's masks are arguments.
Axes: batch, samples (or mels and spectrogram frames), frames, tokens, width.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax  # type: ignore[import-untyped]
from jaxtyping import Array, Float, Int, PRNGKeyArray

from dragoman.api.checks import IGNORED
from dragoman.checkpoint.lora import is_new
from dragoman.errors import ConfigError
from dragoman.jax.backend import BACKEND
from dragoman.jax.masks import check_own, in_form
from dragoman.jax.model import FlaxSpeechEncoderDecoderModel
from dragoman.jax.net.joint import Joint
from dragoman.jax.net.tree import Tree, cast, flat, nested
from dragoman.spec.augment import Masks


def trained(params: Tree) -> Tree:
    """Return for each parameter of a model whether it is new: LoRA, cross-attention or bridge.

    It is a mask for optimizers that freezes encoder and text model (a `Trainer` has `freeze_encoder` and
    `freeze_decoder`):

        >>> labels = jax.tree.map(lambda new: "new" if new else "old", trained(model.tree))
        >>> optimizer = optax.multi_transform({"new": optax.adamw(1e-3), "old": optax.set_to_zero()}, labels)
        >>> state = optimizer.init(model.tree)

    Args:
        params: `model.tree`.

    Raises:
        ConfigError: If they have the names of Flax models, which do not tell.
    """
    check_own(params, "trained")
    return _trained(params, encoder=False, decoder=False)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Batch:
    """The data of one step, checked; made by `Trainer.batch`.

    Attributes:
        inputs: Audio, `[parts, batch, samples]` or `[parts, batch, mels, frames]`; gradients of parts are summed.
        lengths: Valid samples of each row, `[parts, batch]`; `None` if all are valid.
        tokens: What the decoder reads, `[parts, batch, tokens]`.
        labels: The targets, of the same shape.
        masks: What SpecAugment masks, with `parts` as first axis.
    """

    inputs: Float[Array, "parts batch samples"]
    lengths: Int[Array, "parts batch"] | None
    tokens: Int[Array, "parts batch tokens"]
    labels: Int[Array, "parts batch tokens"]
    masks: Masks


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class TrainState:
    """The state of training: parameters (float32), the optimizer's state, the number of steps and the random key."""

    params: Tree
    optimizer: Any
    step: Int[Array, ""]
    key: PRNGKeyArray


class Trainer:
    """Trains a model step by step.

    Args:
        model: The model. Training starts from its parameters, and does not change them: assign `model.params`.
        optimizer: An optimizer of optax.
        dtype: Type to compute in, such as `jnp.bfloat16`; parameters, gradients and the loss stay in float32.
        freeze_feature_encoder: Freeze the convolutional front end.
        freeze_encoder: Freeze the encoder; bridge and decoder are still trained.
        freeze_decoder: Freeze the text model; its cross-attention, its LoRA and the bridge are still trained. By
            default it is frozen if it has a LoRA, as in PyTorch.
        label_smoothing: Share of the target distribution spread evenly over the vocabulary.

    Example:
        >>> trainer = Trainer(model, optax.adamw(1e-4))
        >>> state = trainer.begin()
        >>> state, loss = trainer.step(state, trainer.batch([{"input_values": waves, "labels": labels}]))
        >>> model.params = state.params
    """

    def __init__(
        self,
        model: FlaxSpeechEncoderDecoderModel,
        optimizer: optax.GradientTransformation,
        *,
        dtype: Any = None,
        freeze_feature_encoder: bool = False,
        freeze_encoder: bool = False,
        freeze_decoder: bool | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        self._model, self._dtype = model, dtype
        frozen = bool(BACKEND.loras(model.decoder)) if freeze_decoder is None else freeze_decoder
        self._trained = _trained(model.tree, encoder=not freeze_encoder, decoder=not frozen)
        labels = jax.tree.map(lambda trained: "trained" if trained else "frozen", self._trained)
        # frozen parameters need no state of the optimizer, and its weight decay does not reach them
        self._optimizer = optax.multi_transform(
            {"trained": optimizer, "frozen": optax.set_to_zero()}, lambda params: in_form(model, labels, params)
        )
        self._fixed = {"frozen": freeze_feature_encoder, "label_smoothing": label_smoothing}
        self._compiled: Callable[..., tuple[TrainState, Array]] = jax.jit(
            self._step, donate_argnums=0, static_argnums=2
        )

    def begin(self, params: Mapping[str, Any] | None = None, seed: int = 0) -> TrainState:
        """Return the state before the first step.

        Args:
            params: Used instead of `model.params`, such as those that `sharding.place_params` put on a mesh. The
                state has the same form.
            seed: For dropout and LayerDrop; SpecAugment draws from the generator of `batch`.
        """
        own = jax.tree.map(jnp.copy, self._model.params if params is None else dict(params))  # steps reuse the memory
        return TrainState(
            params=own,
            optimizer=jax.jit(self._optimizer.init)(own),
            step=jnp.zeros((), jnp.int32),
            key=jax.random.key(seed),
        )

    def batch(self, parts: Sequence[Mapping[str, Any]], random: np.random.Generator | None = None) -> Batch:
        """Check batches of equal shapes and stack them.

        Args:
            parts: Batches as `processor(...)` returns them: `input_values` (or `input_features`), `labels` and, if
                clips differ in length, `attention_mask`. The loss is the mean over all labels of all parts.
            random: Draws the masks of SpecAugment; `None` masks nothing.

        Raises:
            ConfigError: If there is none, their shapes differ, or labels or ids cannot be used.
            AudioError: If the audio cannot be used.
        """
        if not parts:
            raise ConfigError("A training step needs at least one batch.")
        ready = [self._part(part, random) for part in parts]
        shapes = [jax.tree.map(np.shape, part) for part in ready]
        if any(shape != shapes[0] for shape in shapes):
            raise ConfigError(
                f"The batches of one step must have equal shapes, but have {[part['inputs'].shape for part in ready]} "
                f"and labels {[part['labels'].shape for part in ready]}. Pad them to the same lengths."
            )
        return Batch(**jax.tree.map(lambda *arrays: np.stack(arrays), *ready))

    def _part(self, given: Mapping[str, Any], random: np.random.Generator | None) -> dict[str, Any]:
        model, rest = self._model, dict(given)
        names = ("input_values", "input_features", "inputs")
        audio = [np.asarray(rest.pop(name)) for name in names if rest.get(name) is not None]
        given_labels, mask = rest.pop("labels", None), rest.pop("attention_mask", None)
        if len(audio) != 1 or given_labels is None or rest:
            raise ConfigError(
                f"A batch must hold one of `input_values` and `input_features`, `labels` and perhaps `attention_mask`, "
                f"but holds {', '.join(given)}."
            )
        inputs, lengths = model.encoder.prepare(audio[0], None if mask is None else np.asarray(mask))
        labels = np.asarray(given_labels)
        tokens = model.prepare_decoder_input_ids_from_labels(labels)
        masks = Masks() if random is None else model.encoder.draw_masks(inputs, lengths, random)
        return {"inputs": inputs, "lengths": lengths, "tokens": tokens, "labels": labels, "masks": masks}

    def step(self, state: TrainState, batch: Batch) -> tuple[TrainState, Array]:
        """Take one step; the memory of `state` is reused.

        Returns:
            The next state, and the loss before the step.
        """
        return self._compiled(state, batch, self._model.version)

    def _step(self, state: TrainState, batch: Batch, _version: int) -> tuple[TrainState, Array]:
        count = jnp.maximum((batch.labels != IGNORED).sum(), 1)
        key = jax.random.fold_in(state.key, state.step)

        def add(sums: tuple[Array, Tree], part: tuple[Batch, PRNGKeyArray]) -> tuple[tuple[Array, Tree], None]:
            found = jax.value_and_grad(self._loss)(state.params, *part, count)
            return jax.tree.map(jnp.add, sums, found), None

        keys = jax.random.split(key, batch.labels.shape[0])
        nothing = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, state.params))
        (loss, gradients), _ = jax.lax.scan(add, nothing, (batch, keys))
        updates, optimizer = self._optimizer.update(gradients, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        return TrainState(params=params, optimizer=optimizer, step=state.step + 1, key=state.key), loss

    def _loss(self, params: Tree, part: Batch, key: PRNGKeyArray, count: Array) -> Array:
        """Return the loss of one part, divided by the labels of all parts."""
        params = self._model.own(params)
        params = jax.tree.map(lambda x, trained: x if trained else jax.lax.stop_gradient(x), params, self._trained)
        if self._dtype is not None:
            params = cast(params, self._dtype)
        output = self._model.program(Joint.__call__)(
            params,
            part.inputs,
            part.lengths,
            None,
            part.tokens,
            labels=part.labels,
            num_items=count,
            masks=part.masks,
            key=key,
            **self._fixed,
        )
        loss: Array = output.loss
        return loss


def _trained(params: Tree, *, encoder: bool, decoder: bool) -> Tree:
    """Return for each parameter whether it is trained; new parameters of a frozen text model are."""
    return nested(
        {name: (encoder if name.startswith("encoder.") else decoder) or is_new(name) for name in flat(params)}
    )
