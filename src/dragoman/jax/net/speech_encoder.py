"""From audio to memory: the one speech encoder, whatever the family.

Axes: batch, samples (or mels and spectrogram frames), frames, width.
"""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from dragoman.api.checks import check_masks
from dragoman.api.outputs import ModelOutput
from dragoman.checkpoint.options import LoadOptions
from dragoman.errors import AudioError, ConfigError
from dragoman.families import ModelConfig, speech_part
from dragoman.jax.backend import BACKEND
from dragoman.jax.net.block import Block, Stack, StackOutput
from dragoman.jax.net.conformer import ConformerBlock, surroundings
from dragoman.jax.net.conv_adapter import adapter_of
from dragoman.jax.net.disentangled import DisentangledBlock, DistanceVectors
from dragoman.jax.net.frontend import frontend_of
from dragoman.jax.net.init import initialise, persistent_names
from dragoman.jax.net.inputs import checked_tensor
from dragoman.jax.net.layers import Key, LayerNorm, dropout, frame_mask, param, split, zero_padding
from dragoman.jax.net.position_bias import BucketBias
from dragoman.jax.net.positions import positions_of
from dragoman.jax.net.squeeze import Upsample, average
from dragoman.jax.net.tree import Held
from dragoman.model.load import load_language
from dragoman.spec import BlockSpec, ConformerSpec, ConvPositionSpec, DisentangledSpec, Padding, SpeechEncoderSpec
from dragoman.spec.augment import Masks, draw_masks
from dragoman.spec.frontend import fits, shape_in_words

__all__ = ["EncoderOutput", "SpeechEncoder", "pack_left"]

jax.tree_util.register_dataclass(Masks)


@jax.tree_util.register_dataclass
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

    last_hidden_state: Float[Array, "batch frames width"]
    hidden_states: tuple[Array, ...] | None = None
    attentions: tuple[Array | None, ...] | None = None
    extract_features: Array | None = None
    lengths: Int[Array, " batch"] | None = None


def pack_left(
    inputs: Float[Array, "batch samples *rest"], mask: Bool[Array, "batch samples"]
) -> tuple[Float[Array, "batch samples *rest"], Int[Array, " batch"]]:
    """Move the valid samples of each row to its left end, so that all padding is on the right.

    Returns:
        The rows, and how many samples of each are valid.
    """
    if isinstance(mask, jax.core.Tracer) or isinstance(inputs, jax.core.Tracer):
        order = jnp.argsort(~mask, axis=1, stable=True)
        order = order if inputs.ndim == 2 else order[:, :, None]
        return jnp.take_along_axis(inputs, order, axis=1), mask.sum(1)
    rows, kept = np.asarray(inputs), np.asarray(mask)
    places = np.argsort(~kept, axis=1, kind="stable")
    packed: Any = np.take_along_axis(rows, places if rows.ndim == 2 else places[:, :, None], axis=1)
    lengths: Any = kept.sum(1, dtype=np.int32)
    return packed, lengths


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


class SpeechEncoder(nnx.Module):
    """A speech encoder built from the configuration of its family.

    Args:
        config: The configuration of a family that has a speech encoder.
        empty: Give the tensors shapes only, for a checkpoint to fill.
        seed: Of the random weights.

    Raises:
        ConfigError: If the family has none, or sizes do not fit each other.
    """

    main_input_name = "input_values"

    def __init__(self, config: ModelConfig, *, empty: bool = False, seed: int = 0) -> None:
        speech_part(config)
        self._held = Held(config)
        self.spec = config.speech_spec()
        self._build(self.spec)
        if not empty:
            initialise(self, persistent_names(self), self.spec, seed=seed)

    def _build(self, spec: SpeechEncoderSpec) -> None:
        self.main_input_name = spec.input_name
        self.padding = Padding.EXACT
        self.frontend = frontend_of(spec.frontend, spec.width)
        self.mask_embed = param(spec.width) if spec.mask_embedding else None
        self.positions = None if spec.positions is None else positions_of(spec.positions, spec.width)
        self.input_norm = LayerNorm(spec.width, spec.stack.block.norm.eps) if spec.input_norm else None
        self.position_bias = _position_bias(spec)
        self.stack = Stack(spec.stack, _layer(spec.stack.block))
        places = spec.positions
        strided = places if isinstance(places, ConvPositionSpec) and places.stride > 1 else None
        self.upsample = Upsample(strided, spec.width) if strided else None
        self.adapter = adapter_of(spec.adapter, spec.width) if spec.adapter else None

    @property
    def config(self) -> ModelConfig:
        """The configuration that it was built from."""
        return self._held.value

    @config.setter
    def config(self, config: ModelConfig) -> None:
        self._held.value = config

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

    def __call__(
        self,
        input_values: Array | None = None,
        attention_mask: Array | None = None,
        *,
        input_features: Array | None = None,
        mask_time_indices: Any = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Encode a batch, in Hugging Face's terms.

        Args:
            input_values: Waveforms, mono, normalised, at 16 kHz: `[batch, samples]`.
            attention_mask: 1 where a sample counts, `[batch, samples]`; without it every sample counts.
            input_features: Log-mel spectrogram, `[batch, mels, frames]`, for the models that take one.
            mask_time_indices: Frames to hide, `[batch, frames]`.
            output_hidden_states: Return the states before each layer and after the last.
            output_attentions: Return the attention weights.
            return_dict: `False` for a plain tuple.

        Returns:
            An `EncoderOutput`, or its tuple.
        """
        given = [x for x in (input_values, input_features) if x is not None]
        if len(given) != 1:
            raise ConfigError(
                f"A speech encoder takes exactly one of `input_values` and `input_features`, but got {len(given)}; "
                f"this one wants `{self.main_input_name}`."
            )
        inputs, lengths = self.prepare(given[0], attention_mask)
        pick = self.config
        output = self.encode(
            jnp.asarray(inputs),
            lengths,
            masks=None if mask_time_indices is None else Masks(time=mask_time_indices.astype(bool)),
            all_states=pick.output_hidden_states if output_hidden_states is None else output_hidden_states,
            weights=pick.output_attentions if output_attentions is None else output_attentions,
        )
        wants_dict = pick.return_dict if return_dict is None else return_dict
        return output if wants_dict else replace(output, lengths=None).to_tuple()

    def prepare(self, inputs: Any, attention_mask: Any) -> tuple[Any, Any]:
        """Check an input batch and turn its mask into lengths.

        What is not traced is worked on by NumPy, so that no shape makes XLA compile anything here.

        Returns:
            The inputs, packed to the left, and the valid samples of each row; `None` where every sample counts.

        Raises:
            AudioError: If the input is no array of floating numbers with the right axes, holds no clip or (looked for
                where it is not on a device yet) a number that is not finite, or a row is too short to give one frame.
        """
        inputs = checked_tensor(self.main_input_name, inputs, AudioError)
        front = self.spec.frontend
        if not fits(front, tuple(inputs.shape)):
            raise AudioError(
                f"`{self.main_input_name}` must have the shape {shape_in_words(front)}, but has "
                f"{list(inputs.shape)}. Use the model's own feature extractor, and one channel of audio."
            )
        if not jnp.issubdtype(inputs.dtype, jnp.floating):
            raise AudioError(
                f"`{self.main_input_name}` must be floating numbers, but are {inputs.dtype}. Give whole-number samples "
                "to the feature extractor, which normalises them."
            )
        if inputs.shape[0] == 0:
            raise AudioError("The batch holds no clip.")
        lengths = None
        if attention_mask is None or not front.masked:
            pass
        elif tuple(checked_tensor("attention_mask", attention_mask).shape) != tuple(inputs.shape[:2]):
            raise AudioError(
                f"`attention_mask` must have the shape of the input, {list(inputs.shape[:2])}, but has "
                f"{list(attention_mask.shape)}."
            )
        elif self.padding is Padding.REFERENCE:
            lengths = attention_mask.sum(1)
        else:
            inputs, lengths = pack_left(inputs, attention_mask.astype(bool))
        self._check_lengths(inputs.shape[front.time_axis], lengths)
        if isinstance(inputs, np.ndarray) and not np.isfinite(inputs).all():
            raise AudioError(
                f"`{self.main_input_name}` has values that are no finite numbers (NaN or infinite). Silence that was "
                "divided by its own loudness is like that; give it to the feature extractor as it was recorded."
            )
        return inputs, lengths

    def _check_lengths(self, longest: int, lengths: Any) -> None:
        if isinstance(lengths, jax.core.Tracer):
            return
        shortest = longest if lengths is None or lengths.size == 0 else int(lengths.min())
        needed, what = self.spec.shortest_input, self.spec.frontend.axes[self.spec.frontend.time_axis]
        if shortest < needed:
            clip = "a clip" if lengths is None else f"the clip in row {int(lengths.argmin())}"
            raise AudioError(
                f"The encoder needs at least {needed} {what} for its first frame, but {clip} has {shortest}. "
                "Leave out clips that short, or pad them with silence before feature extraction."
            )

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
            lengths: Valid samples per row; `None` trusts every sample, which is not the same as full lengths.
            masks: What SpecAugment hides (`draw_masks`).
            all_states: Keep the states before each layer and after the last.
            weights: Keep the attention weights.
            frozen: Let no gradient through to the convolutions of the front end.
            key: For dropout and LayerDrop.

        Reference: wav2vec 2.0, section 2, https://arxiv.org/abs/2006.11477.
        """
        exact = self.padding is Padding.EXACT
        front_key, stack_key, adapter_key = split(key, 3)
        masked = self.spec.frontend.masked
        if not masked:  # of a spectrogram, the spectrogram itself is hidden
            inputs = self._hide(inputs.swapaxes(1, 2), masks).swapaxes(1, 2)
        states, features = self.frontend(inputs, lengths if exact else None, frozen=frozen, key=front_key)
        frames = None if lengths is None else self.spec.frontend.frame_lengths(lengths)
        mask = None if frames is None else frame_mask(frames, states.shape[1])
        if masked:
            states = self._hide(states, masks)
        out = self._transform(zero_padding(states, mask), frames, all_states, weights, stack_key)
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

    def _transform(
        self, states: Array, lengths: Array | None, all_states: bool, weights: bool, key: Key
    ) -> StackOutput:
        """Add positions and run the stack, which in some models sees several frames as one."""
        exact, total, factor = self.padding is Padding.EXACT, states.shape[1], self.spec.squeeze
        drop_key, stack_key = split(key, 2)
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
        states = dropout(states, self.spec.dropout, drop_key)
        if lengths is not None and factor > 1:  # the reference also counts frames that are partly padding
            mask = frame_mask((lengths if exact else lengths + factor - 1) // factor, states.shape[1])
        look = None if mask is None else mask[:, None, None]
        bias = self._shared(states, keep)
        out = self.stack(states, look, bias=bias, all_states=all_states, weights=weights, key=stack_key)
        if self.upsample is None:
            return out
        whole = frame_mask(lengths // factor * factor, total) if exact and lengths is not None else None
        return replace(out, states=zero_padding(self.upsample(out.states, total), whole))

    def _shared(self, states: Array, keep: Array | None) -> Any:
        """Return what all layers share about the places of the frames."""
        kind = self.spec.stack.block.kind
        if isinstance(kind, ConformerSpec):
            return surroundings(kind, states, keep)
        return None if self.position_bias is None else self.position_bias(states.shape[1])

    def draw_masks(self, inputs: Any, lengths: Any, random: np.random.Generator) -> Masks:
        """Draw what SpecAugment hides of a batch in one training step; nothing if the configuration asks for none.

        Args:
            inputs: Waveforms `[batch, samples]`, or spectrograms `[batch, mels, frames]`, as `prepare` returns them.
            lengths: Valid samples per row, as `prepare` returns them.
            random: Where randomness comes from.
        """
        if self.spec.spec_augment is None:
            return Masks()
        front = self.spec.frontend
        batch, size = inputs.shape[0], inputs.shape[front.time_axis]
        frames = front.frame_lengths(size) if front.masked else size
        valid = [frames] * batch if lengths is None else front.frame_lengths(np.asarray(lengths))
        width = self.spec.width if front.masked else inputs.shape[1]
        return draw_masks(self.spec.spec_augment, valid, frames, width, random)

    def _hide(self, states: Array, masks: Masks | None) -> Array:
        """Replace hidden frames by the mask vector (by zero where there is none) and hidden channels by zero."""
        if masks is None:
            return states
        if masks.time is not None:
            check_masks(masks.time.shape, *states.shape[:2])
            blank = jnp.zeros((), states.dtype) if self.mask_embed is None else self.mask_embed[...]
            states = jnp.where(jnp.asarray(masks.time)[:, :, None], blank.astype(states.dtype), states)
        if masks.channels is not None:
            states = jnp.where(jnp.asarray(masks.channels)[:, None, :], jnp.zeros_like(states), states)
        return states
