"""From audio to memory: the one speech encoder, whatever the family.

Axes: batch, samples (or mels and spectrogram frames), frames, width.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from dragoman.api.checks import check_masks
from dragoman.api.outputs import ModelOutput
from dragoman.batch import to_numpy
from dragoman.checkpoint.options import LoadOptions
from dragoman.errors import AudioError, ConfigError
from dragoman.families import ModelConfig, speech_part
from dragoman.model.load import load_language
from dragoman.spec import BlockSpec, ConformerSpec, ConvPositionSpec, DisentangledSpec, Padding, SpeechEncoderSpec
from dragoman.spec.augment import Masks, draw_masks
from dragoman.spec.frontend import fits, shape_in_words
from dragoman.torch.backend import BACKEND
from dragoman.torch.net.block import Block, Stack, StackOutput
from dragoman.torch.net.conformer import ConformerBlock, surroundings
from dragoman.torch.net.conv_adapter import adapter_of
from dragoman.torch.net.disentangled import DisentangledBlock, DistanceVectors
from dragoman.torch.net.frontend import ConvFrontend, FeatureFrontend, frontend_of
from dragoman.torch.net.init import initialise, persistent_names
from dragoman.torch.net.inputs import checked_tensor
from dragoman.torch.net.layers import frame_mask, zero_padding
from dragoman.torch.net.position_bias import BucketBias
from dragoman.torch.net.positions import positions_of
from dragoman.torch.net.squeeze import Upsample, average
from dragoman.torch.pretrained import PretrainedPart

__all__ = ["EncoderOutput", "SpeechEncoder", "pack_left"]


@dataclass(frozen=True, kw_only=True)
class EncoderOutput(ModelOutput):
    """What a speech encoder returns.

    Attributes:
        last_hidden_state: Frame states, adapter included, `[batch, frames, width]`.
        hidden_states: States before each layer and after the last, without the adapter.
        attentions: Attention weights of each layer, `[batch, heads, frames, frames]`.
        extract_features: Normalised features of the front end, before their projection.
        lengths: Valid frames of each row; `None` where every frame is to be trusted.
    """

    last_hidden_state: Float[Tensor, "batch frames width"]
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor | None, ...] | None = None
    extract_features: Tensor | None = None
    lengths: Int[Tensor, " batch"] | None = None


torch.export.register_dataclass(EncoderOutput)  # so that torch.export and sharding see the tensors in it


def pack_left(
    inputs: Float[Tensor, "batch samples *rest"], mask: Bool[Tensor, "batch samples"]
) -> tuple[Float[Tensor, "batch samples *rest"], Int[Tensor, " batch"]]:
    """Move the valid samples of each row to its left end, so that padding on the left or in holes is padding on the
    right.

    Returns:
        The rows, and how many samples of each are valid.
    """
    order = torch.argsort(~mask, dim=1, stable=True)
    return torch.take_along_dim(inputs, order if inputs.ndim == 2 else order[:, :, None], 1), mask.sum(1)


def _position_bias(spec: SpeechEncoderSpec) -> BucketBias | DistanceVectors | None:
    """Build what tells all layers how far frames are from each other."""
    bias, block = spec.position_bias, spec.stack.block
    if isinstance(block.kind, DisentangledSpec):
        return DistanceVectors(block, block.kind)
    return BucketBias(bias, block.self_attn.num_heads) if bias else None


def _layer(block: BlockSpec) -> type[Block | ConformerBlock | DisentangledBlock]:
    """Return what the stack is made of."""
    if isinstance(block.kind, DisentangledSpec):
        return DisentangledBlock
    return ConformerBlock if block.kind else Block


class SpeechEncoder(PretrainedPart):
    """A speech encoder built from the configuration of its family.

    Args:
        config: The configuration of a family that has a speech encoder.
        empty: Give the tensors shapes only, on the meta device, for a checkpoint to fill.

    Raises:
        ConfigError: If the family has none, or sizes do not fit each other.
    """

    main_input_name = "input_values"
    spec: SpeechEncoderSpec

    def __init__(self, config: ModelConfig, *, empty: bool = False) -> None:
        super().__init__()
        speech_part(config)
        self.config = config
        self.spec = config.speech_spec()
        with torch.device("meta"):
            self._build(self.spec)
        if not empty:
            initialise(self, persistent_names(self), self.spec)

    def _build(self, spec: SpeechEncoderSpec) -> None:
        self.main_input_name = spec.input_name
        self.padding = Padding.EXACT
        self.frontend = frontend_of(spec.frontend, spec.width)
        self.mask_embed = nn.Parameter(torch.empty(spec.width)) if spec.mask_embedding else None
        self.positions = None if spec.positions is None else positions_of(spec.positions, spec.width)
        self.input_norm = nn.LayerNorm(spec.width, spec.stack.block.norm.eps) if spec.input_norm else None
        self.position_bias = _position_bias(spec)
        self.stack = Stack(spec.stack, _layer(spec.stack.block))
        places = spec.positions
        strided = places if isinstance(places, ConvPositionSpec) and places.stride > 1 else None
        self.upsample = Upsample(strided, spec.width) if strided else None
        self.adapter = adapter_of(spec.adapter, spec.width) if spec.adapter else None

    def freeze_feature_encoder(self) -> None:
        """Stop training the convolutions of the front end; the projection behind them still learns."""
        if isinstance(self.frontend, ConvFrontend):
            self.frontend.convs.requires_grad_(False)
        elif not isinstance(self.frontend, FeatureFrontend):  # which has none
            self.frontend.requires_grad_(False)

    def load_adapter(self, target_lang: str, **kwargs: Any) -> None:
        """Put the small networks of another language in the place of those there are (MMS).

        They are read from the file `adapter.<target_lang>.safetensors` (or `.bin`) beside the checkpoint that the
        encoder was loaded from, which is `config.name_or_path`.

        Args:
            target_lang: "eng", "fra", "uig-script_arabic", …
            **kwargs: Loader options: `revision`, `cache_dir`, `token`, `local_files_only`, `force_download` and
                `subfolder`.

        Raises:
            ConfigError: If the encoder has no such networks, or an option is unknown.
            ModelNotFoundError: If there is no file for the language; the message lists the languages there are.
            CheckpointError: If its tensors do not fit.
        """
        options, unknown = LoadOptions.split(kwargs)
        if unknown:
            raise ConfigError(f"`load_adapter` has no option {', '.join(map(repr, unknown))}.")
        load_language(BACKEND, self, target_lang, options)

    def forward(
        self,
        input_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        input_features: Tensor | None = None,
        mask_time_indices: Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Encode a batch, in Hugging Face's terms.

        Args:
            input_values: Waveforms, mono, normalised, at 16 kHz: `[batch, samples]`.
            attention_mask: 1 where a sample counts, `[batch, samples]`; without it every sample counts.
            input_features: Log-mel spectrogram, `[batch, mels, frames]`, for the models that take one.
            mask_time_indices: Frames to hide, `[batch, frames]`, instead of those drawn in training.
            output_hidden_states: Return the states before each layer and after the last.
            output_attentions: Return the attention weights.
            return_dict: `False` for a plain tuple.

        Returns:
            An `EncoderOutput`, or its tuple.
        """
        given = [x for x in (input_values, input_features) if x is not None]
        if len(given) != 1:
            raise ConfigError(
                f"A speech encoder takes exactly one of `input_values` and `input_features`, but got {len(given)} "
                f"of them; "
                f"this one wants `{self.main_input_name}`."
            )
        inputs, lengths = self.prepare(given[0], attention_mask)
        pick = self.config
        output = self.encode(
            inputs,
            lengths,
            masks=None if mask_time_indices is None else Masks(time=to_numpy(mask_time_indices).astype(bool)),
            all_states=pick.output_hidden_states if output_hidden_states is None else output_hidden_states,
            weights=pick.output_attentions if output_attentions is None else output_attentions,
        )
        wants_dict = pick.return_dict if return_dict is None else return_dict
        return output if wants_dict else replace(output, lengths=None).to_tuple()

    def prepare(self, inputs: Tensor, attention_mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Check an input batch and turn its mask into lengths.

        Returns:
            The inputs, packed to the left, and the valid samples of each row; `None` where every sample counts.

        Raises:
            AudioError: If the input is no tensor with the right number of axes, holds no clip or, on a CPU, a number
                that is not finite, or a row is too short to give one frame.
        """
        inputs = checked_tensor(self.main_input_name, inputs, AudioError)
        front = self.spec.frontend
        if not fits(front, tuple(inputs.shape)):
            raise AudioError(
                f"`{self.main_input_name}` must have the shape {shape_in_words(front)}, but has "
                f"{list(inputs.shape)}. Use the model's own feature extractor, and one channel of audio."
            )
        if not inputs.is_floating_point():
            raise AudioError(
                f"`{self.main_input_name}` must be floating numbers, but are {inputs.dtype}. Give whole-number samples "
                "to the feature extractor, which normalises them."
            )
        if inputs.shape[0] == 0:
            raise AudioError("The batch holds no clip.")
        if attention_mask is None or not front.masked:
            lengths = None
        elif checked_tensor("attention_mask", attention_mask).shape != inputs.shape[:2]:
            raise AudioError(
                f"`attention_mask` must have the shape of the input, {list(inputs.shape[:2])}, but has "
                f"{list(attention_mask.shape)}."
            )
        elif self.padding is Padding.REFERENCE:
            lengths = attention_mask.sum(1)
        else:
            inputs, lengths = pack_left(inputs, attention_mask.bool())
        self._check_lengths(inputs.shape[front.time_axis], lengths)
        looks = inputs.device.type == "cpu" and not torch.compiler.is_compiling()  # elsewhere that means waiting
        if looks and not bool(torch.isfinite(inputs).all()):
            raise AudioError(
                f"`{self.main_input_name}` has values that are no finite numbers (NaN or infinite). Silence that was "
                "divided by its own loudness is like that; give it to the feature extractor as it was recorded."
            )
        return inputs, lengths

    def _check_lengths(self, longest: int, lengths: Tensor | None) -> None:
        if torch.compiler.is_compiling():
            return
        shortest = longest if lengths is None or lengths.numel() == 0 else int(lengths.min())
        needed, what = self.spec.shortest_input, self.spec.frontend.axes[self.spec.frontend.time_axis]
        if shortest < needed:
            clip = "a clip" if lengths is None else f"the clip in row {int(lengths.argmin())}"
            raise AudioError(
                f"The encoder needs at least {needed} {what} for its first frame, but {clip} has {shortest}. "
                "Leave out clips that short, or pad them with silence before feature extraction."
            )

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
            lengths: Valid samples per row; `None` trusts every sample, which is not the same as full lengths.
            masks: What SpecAugment hides; by default drawn in training, from PyTorch's generator.
            all_states: Keep the states before each layer and after the last.
            weights: Keep the attention weights.

        Reference: wav2vec 2.0, section 2, https://arxiv.org/abs/2006.11477.
        """
        exact = self.padding is Padding.EXACT
        masked = self.spec.frontend.masked
        if not masked:  # of a spectrogram, the spectrogram itself is hidden
            inputs = self._hide(inputs.transpose(1, 2), None, masks).transpose(1, 2)
        states, features = self.frontend(inputs, lengths if exact else None)
        frames = None if lengths is None else self.spec.frontend.frame_lengths(lengths)
        mask = None if frames is None else frame_mask(frames, states.shape[1])
        if masked:
            states = self._hide(states, mask, masks)
        out = self._transform(zero_padding(states, mask), frames, all_states, weights)
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

    def _transform(self, states: Tensor, lengths: Tensor | None, all_states: bool, weights: bool) -> StackOutput:
        """Add positions and run the stack, which in some models sees several frames as one."""
        exact, total, factor = self.padding is Padding.EXACT, states.shape[1], self.spec.squeeze
        mask = None if lengths is None else frame_mask(lengths, total)
        kind = self.spec.stack.block.kind
        keep = (
            mask if exact or (isinstance(kind, ConformerSpec) and kind.causal) else None
        )  # where even the reference does
        if self.positions is not None:
            places = self.positions(states, keep)
            states = average(states, factor) + places if factor > 1 else states + places
        if self.input_norm is not None:
            states = self.input_norm(states)
        states = F.dropout(states, self.spec.dropout, self.training)
        if lengths is not None and factor > 1:  # the reference also counts frames that are partly padding
            mask = frame_mask((lengths if exact else lengths + factor - 1) // factor, states.shape[1])
        out = self.stack(
            states,
            None if mask is None else mask[:, None, None],
            bias=self._shared(states, keep),
            all_states=all_states,
            weights=weights,
        )
        if self.upsample is None:
            return out
        whole = frame_mask(lengths // factor * factor, total) if exact and lengths is not None else None
        return replace(out, states=zero_padding(self.upsample(out.states, total), whole))

    def _shared(self, states: Tensor, keep: Tensor | None) -> Any:
        """Return what all layers share about the places of the frames."""
        kind = self.spec.stack.block.kind
        if isinstance(kind, ConformerSpec):
            return surroundings(kind, states, keep)
        return None if self.position_bias is None else self.position_bias(states.shape[1])

    def _hide(self, states: Tensor, mask: Tensor | None, masks: Masks | None) -> Tensor:
        """Replace hidden frames by the mask vector (by zero where there is none) and hidden channels by zero."""
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
