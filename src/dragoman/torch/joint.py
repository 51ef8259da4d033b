"""Encoder, bridge and decoder as modules that users replace, hook and subclass.

What is replaced takes effect in training, in `forward`, in `generate` and in what is saved, or it is refused. Not here:
the public methods (`model`), and the search (`generate`).
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

from jaxtyping import Int
from torch import Tensor, nn

from dragoman.api.config import SpeechEncoderDecoderConfig
from dragoman.api.outputs import EncoderOutput, Seq2SeqLMOutput
from dragoman.errors import ConfigError
from dragoman.generation.request import Speech
from dragoman.model.added import added_to_model
from dragoman.model.facade import ModelMethods
from dragoman.model.joining import check_joinable, check_part
from dragoman.torch.backend import own_tensors
from dragoman.torch.cached import is_changed, per_row
from dragoman.torch.calls import (
    audio_mask,
    checked_output,
    encoded_per_row,
    is_decoder_changed,
    run_decoder,
    seq2seq_output,
)
from dragoman.torch.net.bridge import Bridge, Prefix
from dragoman.torch.net.cache import Cache, Memory
from dragoman.torch.net.joint import Joint
from dragoman.torch.net.loss import cross_entropy
from dragoman.torch.parts import SpeechEncoder, TextDecoder
from dragoman.torch.pretrained import PretrainedModule

_PLACES = {"enc_to_dec_proj": "_set_projection", "encoder": "_set_encoder", "decoder": "_set_decoder"}


class JointModel(Joint, PretrainedModule, ModelMethods):
    """The network of a whole model, whose modules may be replaced.

    Attributes:
        plain_forward: The `forward` of our class, to compare with that of a subclass.
    """

    plain_forward: ClassVar[Any]
    config: SpeechEncoderDecoderConfig
    encoder: SpeechEncoder
    decoder: TextDecoder

    def score(
        self,
        encoded: EncoderOutput,
        tokens: Int[Tensor, "batch tokens"] | None,
        *,
        labels: Int[Tensor, "batch tokens"] | None = None,
        num_items: Tensor | float | None = None,
        label_smoothing: float = 0.0,
        cache: Cache | None = None,
        **given: Any,
    ) -> Seq2SeqLMOutput:
        """Score tokens for encoded speech, through a call of the decoder where that is more than the network."""
        if not is_decoder_changed(self.decoder):
            return super().score(
                encoded,
                tokens,
                labels=labels,
                num_items=num_items,
                label_smoothing=label_smoothing,
                cache=cache,
                **given,
            )
        memory = self._called_memory(encoded)
        output = run_decoder(self.decoder, tokens, memory, cache, **given)
        loss = None if labels is None else cross_entropy(output.logits, labels, num_items, label_smoothing)
        return seq2seq_output(output, memory, encoded, loss)

    def added_names(self) -> Sequence[str]:
        """Return the names of the tensors of modules that a subclass adds; they are saved under these names."""
        return added_to_model(own_tensors(self))

    def _init_weights(self, module: nn.Module) -> None:
        """Draw new values for the tensors that a module of one of the parts has itself."""
        for part in (self.encoder, self.decoder):
            part._init_weights(module)

    def _called_memory(self, encoded: EncoderOutput) -> Memory:
        if isinstance(self.bridge, Prefix):
            raise ConfigError(
                "A decoder with hooks or a `forward` of its own cannot read speech as a prefix. Put the hooks on its "
                "layers (model.decoder.stack.layers), which are called in any case."
            )
        return self.memory_for(encoded)

    def step_call(
        self, encoded: EncoderOutput, speech: Speech, *, all_states: bool, weights: bool
    ) -> Callable[[Tensor, Cache], Any] | None:
        """Return what each step of `generate` calls, where hooks or a `forward` of a subclass must take effect.

        Args:
            encoded: The encoder's output.
            speech: What the encoder got.
            all_states: Return the decoder's states.
            weights: Return the attention weights.

        Returns:
            A function of new tokens and the cache before them; `None` if the network alone can run.
        """
        prepares = type(self).prepare_inputs_for_generation is not ModelMethods.prepare_inputs_for_generation
        if prepares or is_changed(self, type(self).plain_forward):
            mask = audio_mask(self.encoder, *speech[:2])

            def step(tokens: Tensor, cache: Cache) -> Any:
                inputs = self.prepare_inputs_for_generation(
                    tokens,
                    past_key_values=cache,
                    next_sequence_length=tokens.shape[1],
                    attention_mask=per_row(mask, tokens.shape[0]),
                    use_cache=True,
                    encoder_outputs=encoded_per_row(encoded, tokens.shape[0]),
                )
                records: dict[str, Any] = {"output_attentions": weights, "output_hidden_states": all_states}
                if cache.length == 0 and isinstance(self.bridge, Prefix) and cache.text_mask is not None:
                    records["decoder_attention_mask"] = cache.text_mask.long()
                return checked_output(self, self(**{**inputs, **records, "return_dict": True}))

            return step
        if not is_decoder_changed(self.decoder):
            return None
        memory = self._called_memory(encoded)
        return partial(_decoder_step, self.decoder, memory, all_states=all_states, weights=weights)

    @property
    def enc_to_dec_proj(self) -> nn.Linear:
        """The projection from the encoder's width to the decoder's, under its name in `transformers`.

        Raises:
            AttributeError: If there is none: the widths are equal, or the speech is a prefix.
        """
        if isinstance(self.bridge, Prefix) or self.bridge.proj is None:
            raise AttributeError(
                "There is no projection: the encoder is as wide as the decoder, or the speech is a prefix."
            )
        return self.bridge.proj

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _PLACES and "_generation_config" in self.__dict__ and isinstance(value, nn.Module):
            getattr(self, _PLACES[name])(value)
        else:
            super().__setattr__(name, value)

    def _set_projection(self, value: nn.Module) -> None:
        """Replace the projection between the parts by a linear layer of the same widths, or by another module."""
        old = self.bridge.proj if isinstance(self.bridge, Bridge) else None
        if old is None:
            raise ConfigError(
                "`enc_to_dec_proj` cannot be replaced: there is none, as the encoder is as wide as the decoder or the "
                "speech is a prefix. Change the encoder's output in a subclass of the encoder instead."
            )
        widths = self.encoder.spec.output_width, self.decoder.spec.memory_width
        given = (value.in_features, value.out_features) if isinstance(value, nn.Linear) else widths
        if given != widths or (isinstance(value, nn.Linear) and value.bias is None):
            raise ConfigError(
                f"`enc_to_dec_proj` must be an nn.Linear({widths[0]}, {widths[1]}) with a bias, but is {value!r:.100}."
            )
        self.bridge.proj = value

    def _set_encoder(self, value: nn.Module) -> None:
        _refuse_compiled("encoder", value)
        check_part("speech encoder", value, SpeechEncoder)
        self._join(value, self.decoder)
        super().__setattr__("encoder", value)

    def _set_decoder(self, value: nn.Module) -> None:
        _refuse_compiled("decoder", value)
        check_part("text decoder", value, TextDecoder)
        self._join(self.encoder, value)
        super().__setattr__("decoder", value)

    def _join(self, encoder: Any, decoder: Any) -> None:
        """Take the configurations of new parts; the bridge must fit them.

        Raises:
            ConfigError: If they cannot be joined, or the bridge has other widths.
        """
        config = self.config.copy(encoder=encoder.config, decoder=decoder.config)
        check_joinable(encoder, decoder, config)
        widths = [
            (e.spec.output_width, d.spec.memory_width) for e, d in ((self.encoder, self.decoder), (encoder, decoder))
        ]
        if widths[0] != widths[1]:
            raise ConfigError(
                f"The bridge joins an encoder's states of width {widths[0][0]} to a decoder of width {widths[0][1]}, "
                f"but the new parts have {widths[1][0]} and {widths[1][1]}. Build a new model: "
                "SpeechEncoderDecoderModel(encoder=encoder, decoder=decoder)."
            )
        self.config.set_quietly(encoder=encoder.config, decoder=decoder.config)


def _refuse_compiled(name: str, value: nn.Module) -> None:
    if "_orig_mod" in value._modules:
        raise ConfigError(
            f"torch.compile gives tensors other names, so its result cannot be the {name}. Compile in place instead, "
            f"by model.{name}.compile()."
        )


def _decoder_step(decoder: TextDecoder, memory: Memory, tokens: Tensor, cache: Cache, **records: Any) -> Any:
    return run_decoder(decoder, tokens, memory, cache, **records)
