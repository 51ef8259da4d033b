"""The speech encoder of all families: from audio to the memory.

Axes: batch, samples (or mels and spectrogram frames), frames, width.
"""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from dragoman.api.checks import check_masks
from dragoman.api.outputs import EncoderOutput
from dragoman.spec import BlockSpec, ConformerSpec, ConvPositionSpec, DisentangledSpec, Padding, SpeechEncoderSpec
from dragoman.spec.augment import Masks, draw_masks
from dragoman.torch.net.block import Block, Stack, StackOutput
from dragoman.torch.net.conformer import ConformerBlock, relative_positions
from dragoman.torch.net.conv_adapter import adapter_of
from dragoman.torch.net.disentangled import DisentangledBlock, DistanceVectors
from dragoman.torch.net.frontend import frontend_of
from dragoman.torch.net.init import initialise, persistent_names
from dragoman.torch.net.layers import frame_mask, zero_padding
from dragoman.torch.net.position_bias import BucketBias, Distances
from dragoman.torch.net.positions import positions_of
from dragoman.torch.net.squeeze import Upsample, average, windows_of
from dragoman.torch.net.step import LayerInputs, Step

torch.export.register_dataclass(EncoderOutput)  # so that torch.export and sharding see its tensors


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


class SpeechEncoderNet(nn.Module):
    """The network of every speech encoder.

    Args:
        spec: Its description.
        empty: Allocate no memory (meta device): a checkpoint fills the tensors.

    Raises:
        ConfigError: If sizes do not fit each other.
    """

    def __init__(self, spec: SpeechEncoderSpec, *, empty: bool = False) -> None:
        super().__init__()
        self.spec = spec
        with torch.device("meta"):
            self._build(spec)
        if not empty:
            initialise(self, persistent_names(self), spec)

    def _build(self, spec: SpeechEncoderSpec) -> None:
        self.padding = Padding.EXACT
        self.frontend = frontend_of(spec.frontend, spec.width)
        self.mask_embed = nn.Parameter(torch.empty(spec.width)) if spec.mask_embedding else None
        self.positions = None if spec.positions is None else positions_of(spec.positions, spec.width)
        self.input_norm = nn.LayerNorm(spec.width, spec.stack.block.norm.eps) if spec.input_norm else None
        self.position_bias = _position_bias(spec)
        self.stack = Stack(spec.stack, _layer(spec.stack.block))
        positions = spec.positions
        strided = positions if isinstance(positions, ConvPositionSpec) and positions.stride > 1 else None
        self.upsample = Upsample(strided, spec.width) if strided else None
        self.adapter = adapter_of(spec.adapter, spec.width) if spec.adapter else None

    def encode(
        self,
        inputs: Tensor,
        lengths: Int[Tensor, " batch"] | None = None,
        *,
        masks: Masks | None = None,
        all_states: bool = False,
        weights: bool = False,
    ) -> EncoderOutput:
        """Turn audio into frame states.

        Args:
            inputs: Waveforms `[batch, samples]`, or spectrograms `[batch, mels, frames]`; padding on the right.
            lengths: Valid samples per row; `None` counts all, which is not the same as full lengths: no mask is used.
            masks: SpecAugment masks; by default drawn in training, from PyTorch's generator.
            all_states: Keep the states before each layer and after the last.
            weights: Keep the attention weights.

        Reference: wav2vec 2.0, section 2, https://arxiv.org/abs/2006.11477.
        """
        exact = self.spec.exact(self.padding)
        masked = self.spec.frontend.masked
        if not masked:  # SpecAugment masks the spectrogram itself
            inputs = self._augment(inputs.transpose(1, 2), None, masks).transpose(1, 2)
        states, features = self.frontend(inputs, lengths if exact else None)
        frames = None if lengths is None or self.spec.attends_padding else self.spec.frontend.frame_lengths(lengths)
        mask = None if frames is None else frame_mask(frames, states.shape[1])
        if masked:
            states = self._augment(states, mask, masks)
        out = self._in_windows(zero_padding(states, mask), frames, all_states, weights)
        states = out.states
        if self.adapter is not None:
            states = self.adapter(states, frames, mask_padding=exact)
        return EncoderOutput(
            last_hidden_state=states,
            hidden_states=out.all_states,
            attentions=out.self_weights,
            extract_features=features,
            lengths=None if lengths is None else self.spec.frame_lengths(lengths),
        )

    def _in_windows(self, states: Tensor, lengths: Tensor | None, all_states: bool, weights: bool) -> StackOutput:
        """Run `_transform` on each window apart, if the stack attends in windows; attention weights stay apart."""
        (rows, total, width), size = states.shape, self.spec.window
        if size is None or total <= size:
            return self._transform(states, lengths, all_states, weights)
        if lengths is not None:
            lengths = (lengths[:, None] - torch.arange(0, total, size, device=states.device)).clamp(1, size).flatten()
        out = self._transform(windows_of(states, size), lengths, all_states, weights)
        whole = [x.reshape(rows, -1, width)[:, :total] for x in (out.states, *(out.all_states or ()))]
        return replace(out, states=whole[0], all_states=out.all_states and tuple(whole[1:]))

    def _transform(self, states: Tensor, lengths: Tensor | None, all_states: bool, weights: bool) -> StackOutput:
        """Add positions and run the stack, in some models on averages of frames."""
        exact, total, factor = self.spec.exact(self.padding), states.shape[1], self.spec.squeeze
        mask = None if lengths is None else frame_mask(lengths, total)
        kind = self.spec.stack.block.kind
        masks_convs = exact or (isinstance(kind, ConformerSpec) and kind.causal)  # the latter in `transformers` too
        conv_mask = mask if masks_convs else None
        if self.positions is not None:
            positions = self.positions(states, conv_mask)
            states = (average(states, factor) if factor > 1 else states) + positions
        if self.input_norm is not None:
            states = self.input_norm(states)
        states = F.dropout(states, self.spec.dropout, self.training)
        if lengths is not None and factor > 1:  # `transformers` also counts frames that are partly padding
            mask = frame_mask((lengths if exact else lengths + factor - 1) // factor, states.shape[1])
        step = Step(mask=None if mask is None else mask[:, None, None])
        inputs = LayerInputs(bias=self._relative_positions(states), frame_mask=conv_mask, weights=weights)
        out = self.stack(states, step, inputs, all_states=all_states)
        if self.upsample is None:
            return out
        whole = frame_mask(lengths // factor * factor, total) if exact and lengths is not None else None
        return replace(out, states=zero_padding(self.upsample(out.states, total), whole))

    def _relative_positions(self, states: Tensor) -> Tensor | Distances | None:
        """Return the relative positions that all layers read."""
        kind = self.spec.stack.block.kind
        if isinstance(kind, ConformerSpec):
            return relative_positions(kind, states)
        return None if self.position_bias is None else self.position_bias(states.shape[1])

    def _augment(self, states: Tensor, mask: Tensor | None, masks: Masks | None) -> Tensor:
        """Replace masked frames by the mask vector (or zero, without one) and masked channels by zero."""
        batch, frames, width = states.shape
        if masks is None:
            if not self.training or self.spec.spec_augment is None:
                return states
            lengths = [frames] * batch if mask is None else mask.sum(1).tolist()
            random = np.random.default_rng(int(torch.randint(2**31, ())))
            masks = draw_masks(self.spec.spec_augment, lengths, frames, width, random)
        if masks.time is not None:
            check_masks(masks.time.shape, batch, frames)
            hidden = torch.as_tensor(masks.time, device=states.device)[:, :, None]
            blank = states.new_zeros(()) if self.mask_embed is None else self.mask_embed.to(states.dtype)
            states = torch.where(hidden, blank, states)
        if masks.channels is not None:
            states = states.masked_fill(torch.as_tensor(masks.channels, device=states.device)[:, None, :], 0.0)
        return states
