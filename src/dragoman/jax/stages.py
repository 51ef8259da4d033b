"""The stages of a model one by one, as in the Flax models of `transformers`: `encode`, `init_cache`, `decode`."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from jaxtyping import Array, Int, PRNGKeyArray

from dragoman.api.outputs import CausalLMOutput, EncoderOutput, Seq2SeqLMOutput
from dragoman.errors import ConfigError
from dragoman.generation.request import Speech
from dragoman.jax.net.bridge import Prefix
from dragoman.jax.net.cache import Cache
from dragoman.jax.net.joint import Joint
from dragoman.jax.net.layers import Key
from dragoman.jax.parts import SpeechEncoder, TextDecoder
from dragoman.jax.pretrained import PretrainedModule
from dragoman.model.arguments import chosen, encoder_inputs, encoder_output
from dragoman.model.facade import ModelMethods
from dragoman.spec.augment import Masks


class StageMethods(PretrainedModule, ModelMethods):
    """Methods for the stages of a model."""

    @property
    def encoder(self) -> SpeechEncoder:
        """The speech encoder."""
        encoder = self.module.encoder
        assert isinstance(encoder, SpeechEncoder)
        return encoder

    @property
    def decoder(self) -> TextDecoder:
        """The text decoder."""
        decoder = self.module.decoder
        assert isinstance(decoder, TextDecoder)
        return decoder

    def encode(
        self,
        inputs: Any,
        attention_mask: Any = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        *,
        train: bool = False,
        freeze_feature_encoder: bool = False,
        masks: Masks | None = None,
        params: Mapping[str, Any] | None = None,
        dropout_rng: PRNGKeyArray | None = None,
    ) -> Any:
        """Run the encoder alone; the arguments are those of a call of the model.

        Returns:
            An `EncoderOutput`, not yet projected to the decoder's width, or its tuple.
        """
        audio, lengths, _ = encoder_inputs(self._arrays, self.encoder, inputs, attention_mask, None)
        output: EncoderOutput = self.program(Joint.encode)(
            params,
            audio,
            lengths,
            masks=masks,
            key=dropout_key(train, dropout_rng),
            frozen=freeze_feature_encoder,
            all_states=chosen(output_hidden_states, self.config.output_hidden_states),
            weights=chosen(output_attentions, self.config.output_attentions),
        )
        return output if chosen(return_dict, self.config.return_dict) else replace(output, lengths=None).to_tuple()

    def decode(
        self,
        decoder_input_ids: Int[Array, "batch tokens"],
        encoder_outputs: Any,
        encoder_attention_mask: Any = None,
        decoder_attention_mask: Any = None,
        decoder_position_ids: Any = None,
        past_key_values: Cache | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        *,
        train: bool = False,
        params: Mapping[str, Any] | None = None,
        dropout_rng: PRNGKeyArray | None = None,
    ) -> Any:
        """Score tokens for what `encode` returned.

        Args:
            decoder_input_ids: Tokens that the decoder reads, after those in the cache.
            encoder_outputs: What `encode` returned (object, tuple or list).
            encoder_attention_mask: 1 for valid frames of the encoder's output, or for valid samples. Not needed if
                `encode` was given the mask.
            decoder_attention_mask: 1 for valid tokens.
            decoder_position_ids: Positions of the tokens, if they are not consecutive.
            past_key_values: What `init_cache` or an earlier call returned.
            output_attentions: Return the attention weights.
            output_hidden_states: Return the states.
            return_dict: `False` for a plain tuple.
            train: Apply dropout; needs `dropout_rng`.
            params: Used instead of the model's own.
            dropout_rng: Random key of this call.

        Returns:
            A `CausalLMOutput` (with `past_key_values` if it was given), or its tuple.

        Raises:
            ConfigError: If inputs are missing or contradict each other.
        """
        speech, options = self._scoring(
            None,
            encoder_attention_mask,
            encoder_outputs,
            tokens=decoder_input_ids,
            token_mask=decoder_attention_mask,
            cache=past_key_values,
            all_states=output_hidden_states,
            weights=output_attentions,
        )
        out = self._score(params, speech, options, positions=decoder_position_ids, key=dropout_key(train, dropout_rng))
        output = CausalLMOutput(
            logits=out.logits,
            past_key_values=out.past_key_values,
            hidden_states=out.decoder_hidden_states,
            attentions=out.decoder_attentions,
            cross_attentions=out.cross_attentions,
        )
        return output if chosen(return_dict, self.config.return_dict) else output.to_tuple()

    def _score(self, params: Any, speech: Speech, options: dict[str, Any], **own: Any) -> Seq2SeqLMOutput:
        """Run the network with what `_scoring` returned."""
        read = options["embeds"] if options["tokens"] is None else options["tokens"]
        cache = self.in_dtype(self.decoder.fitted(options.pop("cache"), read.shape[1]))
        output: Seq2SeqLMOutput = self.program(Joint.__call__)(params, *speech, cache=cache, **options, **own)
        return output

    def init_cache(self, batch_size: int, max_length: int, encoder_outputs: Any = None) -> Cache:
        """Return an empty cache for `decode`.

        Args:
            batch_size: Sequences.
            max_length: Tokens that it holds; it grows when there are more.
            encoder_outputs: What `encode` returned: keys and values of these states are then computed once, here.
        """
        if encoder_outputs is None:
            return self.decoder.new_cache(batch_size, max_length)
        memory = self.program(Joint.project)(
            None, encoder_output(self._arrays, self.encoder.spec, encoder_outputs, None)
        )
        if isinstance(self.bridge, Prefix):
            begun: Cache = self.program(Joint.begin, ("capacity",))(None, memory, capacity=max_length)
            return begun
        return replace(self.decoder.new_cache(batch_size, max_length), memory=memory)


def dropout_key(train: bool, dropout_rng: PRNGKeyArray | None) -> Key:
    """Return the random key of a call; `None` if nothing is drawn.

    Raises:
        ConfigError: If the call trains and has none.
    """
    if train and dropout_rng is None:
        raise ConfigError(
            "`train=True` needs `dropout_rng`, a new random key for each step: jax.random.fold_in(key, step)."
        )
    return dropout_rng if train else None
