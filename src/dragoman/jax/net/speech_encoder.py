"""The speech encoder of all families: from audio to the memory.

Axes: batch, samples (or mels and spectrogram frames), frames, width.
"""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Int

from dragoman.api.checks import check_masks
from dragoman.api.outputs import EncoderOutput
from dragoman.jax.net.block import Block, Stack, StackOutput
from dragoman.jax.net.conformer import ConformerBlock, relative_positions
from dragoman.jax.net.conv_adapter import adapter_of
from dragoman.jax.net.disentangled import DisentangledBlock, DistanceVectors
from dragoman.jax.net.frontend import frontend_of
from dragoman.jax.net.init import initialise, persistent_names
from dragoman.jax.net.layers import Key, dropout, frame_mask, param, split, zero_padding
from dragoman.jax.net.norms import LayerNorm
from dragoman.jax.net.position_bias import BucketBias, Distances
from dragoman.jax.net.positions import positions_of
from dragoman.jax.net.squeeze import Upsample, average, windows_of
from dragoman.jax.net.step import LayerInputs, Step
from dragoman.spec import BlockSpec, ConformerSpec, ConvPositionSpec, DisentangledSpec, Padding, SpeechEncoderSpec
from dragoman.spec.augment import Masks, draw_masks

jax.tree_util.register_dataclass(Masks)
jax.tree_util.register_dataclass(EncoderOutput)


def _position_bias(spec: SpeechEncoderSpec) -> BucketBias | DistanceVectors | None:
    """Build the module that computes relative positions for all layers."""
    bias, block = spec.position_bias, spec.stack.block
    if isinstance(block.kind, DisentangledSpec):
        return DistanceVectors(block, block.kind)
    return BucketBias(bias, block.self_attn.num_heads) if bias else None


def _layer(block: BlockSpec) -> type[Block | ConformerBlock | DisentangledBlock]:
    """Return the class of the stack's layers."""
    if isinstance(block.kind, DisentangledSpec):
        return DisentangledBlock
    return ConformerBlock if block.kind else Block


class SpeechEncoderNet(nnx.Module):
    """The network of every speech encoder.

    Args:
        spec: Its description.
        empty: Allocate no memory: a checkpoint fills the tensors.
        seed: Of the random weights.

    Raises:
        ConfigError: If sizes do not fit each other.
    """

    def __init__(self, spec: SpeechEncoderSpec, *, empty: bool = False, seed: int = 0) -> None:
        self.spec = spec
        self._build(spec)
        if not empty:
            initialise(self, persistent_names(self), spec, seed=seed)

    def _build(self, spec: SpeechEncoderSpec) -> None:
        self.padding = Padding.EXACT
        self.frontend = frontend_of(spec.frontend, spec.width)
        self.mask_embed = param(spec.width) if spec.mask_embedding else None
        self.positions = None if spec.positions is None else positions_of(spec.positions, spec.width)
        self.input_norm = LayerNorm(spec.width, spec.stack.block.norm.eps) if spec.input_norm else None
        self.position_bias = _position_bias(spec)
        self.stack = Stack(spec.stack, _layer(spec.stack.block))
        positions = spec.positions
        strided = positions if isinstance(positions, ConvPositionSpec) and positions.stride > 1 else None
        self.upsample = Upsample(strided, spec.width) if strided else None
        self.adapter = adapter_of(spec.adapter, spec.width) if spec.adapter else None

    def encode(
        self,
        inputs: Array,
        lengths: Int[Array, " batch"] | None = None,
        *,
        masks: Masks | None = None,
        all_states: bool = False,
        weights: bool = False,
        frozen: bool = False,
        key: Key = None,
    ) -> EncoderOutput:
        """Turn audio into frame states.

        Args:
            inputs: Waveforms `[batch, samples]`, or spectrograms `[batch, mels, frames]`; padding on the right.
            lengths: Valid samples per row; `None` counts all, which is not the same as full lengths: no mask is used.
            masks: SpecAugment masks (`draw_masks`).
            all_states: Keep the states before each layer and after the last.
            weights: Keep the attention weights.
            frozen: Let no gradient through to the convolutions of the front end.
            key: For dropout and LayerDrop.

        Reference: wav2vec 2.0, section 2, https://arxiv.org/abs/2006.11477.
        """
        exact = self.spec.exact(self.padding)
        front_key, stack_key, adapter_key = split(key, 3)
        masked = self.spec.frontend.masked
        if not masked:  # SpecAugment masks the spectrogram itself
            inputs = self._augment(inputs.swapaxes(1, 2), masks).swapaxes(1, 2)
        states, features = self.frontend(inputs, lengths if exact else None, frozen=frozen, key=front_key)
        frames = None if lengths is None or self.spec.attends_padding else self.spec.frontend.frame_lengths(lengths)
        mask = None if frames is None else frame_mask(frames, states.shape[1])
        if masked:
            states = self._augment(states, masks)
        out = self._in_windows(zero_padding(states, mask), frames, all_states, weights, stack_key)
        states = out.states
        if self.adapter is not None:
            states = self.adapter(states, frames, mask_padding=exact, key=adapter_key)
        return EncoderOutput(
            last_hidden_state=states,
            hidden_states=out.all_states,
            attentions=out.self_weights,
            extract_features=features,
            lengths=None if lengths is None else self.spec.frame_lengths(lengths),
        )

    def _in_windows(
        self, states: Array, lengths: Array | None, all_states: bool, weights: bool, key: Key
    ) -> StackOutput:
        """Run `_transform` on each window apart, if the stack attends in windows; attention weights stay apart."""
        (rows, total, width), size = states.shape, self.spec.window
        if size is None or total <= size:
            return self._transform(states, lengths, all_states, weights, key)
        if lengths is not None:
            lengths = jnp.clip(lengths[:, None] - jnp.arange(0, total, size), 1, size).reshape(-1)
        out = self._transform(windows_of(states, size), lengths, all_states, weights, key)
        whole = [x.reshape(rows, -1, width)[:, :total] for x in (out.states, *(out.all_states or ()))]
        return replace(out, states=whole[0], all_states=out.all_states and tuple(whole[1:]))

    def _transform(
        self, states: Array, lengths: Array | None, all_states: bool, weights: bool, key: Key
    ) -> StackOutput:
        """Add positions and run the stack, in some models on averages of frames."""
        exact, total, factor = self.spec.exact(self.padding), states.shape[1], self.spec.squeeze
        drop_key, stack_key = split(key, 2)
        mask = None if lengths is None else frame_mask(lengths, total)
        kind = self.spec.stack.block.kind
        masks_convs = exact or (isinstance(kind, ConformerSpec) and kind.causal)  # the latter in `transformers` too
        conv_mask = mask if masks_convs else None
        if self.positions is not None:
            positions = self.positions(states, conv_mask)
            states = (average(states, factor) if factor > 1 else states) + positions
        if self.input_norm is not None:
            states = self.input_norm(states)
        states = dropout(states, self.spec.dropout, drop_key)
        if lengths is not None and factor > 1:  # `transformers` also counts frames that are partly padding
            mask = frame_mask((lengths if exact else lengths + factor - 1) // factor, states.shape[1])
        step = Step(mask=None if mask is None else mask[:, None, None])
        inputs = LayerInputs(
            bias=self._relative_positions(states), frame_mask=conv_mask, weights=weights, key=stack_key
        )
        out = self.stack(states, step, inputs, all_states=all_states)
        if self.upsample is None:
            return out
        whole = frame_mask(lengths // factor * factor, total) if exact and lengths is not None else None
        return replace(out, states=zero_padding(self.upsample(out.states, total), whole))

    def _relative_positions(self, states: Array) -> Array | Distances | None:
        """Return the relative positions that all layers read."""
        kind = self.spec.stack.block.kind
        if isinstance(kind, ConformerSpec):
            return relative_positions(kind, states)
        return None if self.position_bias is None else self.position_bias(states.shape[1])

    def draw_masks(self, inputs: Any, lengths: Any, random: np.random.Generator) -> Masks:
        """Draw the SpecAugment masks of a batch for one training step; empty ones if the configuration has none.

        Args:
            inputs: Waveforms `[batch, samples]`, or spectrograms `[batch, mels, frames]`, as `prepare` returns them.
            lengths: Valid samples per row, as `prepare` returns them.
            random: Generator of the masks.
        """
        if self.spec.spec_augment is None:
            return Masks()
        front = self.spec.frontend
        batch, size = inputs.shape[0], inputs.shape[front.time_axis]
        frames = front.frame_lengths(size) if front.masked else size
        valid = [frames] * batch if lengths is None else front.frame_lengths(np.asarray(lengths))
        width = self.spec.width if front.masked else inputs.shape[1]
        return draw_masks(self.spec.spec_augment, valid, frames, width, random)

    def _augment(self, states: Array, masks: Masks | None) -> Array:
        """Replace masked frames by the mask vector (or zero, without one) and masked channels by zero."""
        if masks is None:
            return states
        if masks.time is not None:
            check_masks(masks.time.shape, *states.shape[:2])
            blank = jnp.zeros((), states.dtype) if self.mask_embed is None else self.mask_embed[...]
            states = jnp.where(jnp.asarray(masks.time)[:, :, None], blank.astype(states.dtype), states)
        if masks.channels is not None:
            states = jnp.where(jnp.asarray(masks.channels)[:, None, :], jnp.zeros_like(states), states)
        return states
