"""Subclasses of the whole model and calls of its parts, as forks and joint CTC-attention recognisers write them."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn

import dragoman


def joint_class(library: Any) -> type[Any]:
    """Return a recogniser with a second head on the encoder, whose `forward` does all steps by itself."""
    base = library.SpeechEncoderDecoderModel
    output_class = dragoman.Seq2SeqLMOutput if library is dragoman else transformers.modeling_outputs.Seq2SeqLMOutput

    class Joint(base):  # type: ignore[misc]
        def __init__(self, config: Any = None, encoder: Any = None, decoder: Any = None) -> None:
            super().__init__(config=config, encoder=encoder, decoder=decoder)
            self.ctc_head = nn.Linear(self.config.encoder.hidden_size, 12)
            self.post_init()

        def forward(
            self,
            inputs: Any = None,
            attention_mask: Any = None,
            decoder_input_ids: Any = None,
            decoder_attention_mask: Any = None,
            encoder_outputs: Any = None,
            past_key_values: Any = None,
            labels: Any = None,
            use_cache: Any = None,
            input_values: Any = None,
            return_dict: Any = None,
            **_: Any,
        ) -> Any:
            if encoder_outputs is None:
                audio = input_values if inputs is None else inputs
                encoder_outputs = self.encoder(audio, attention_mask=attention_mask, return_dict=True)
            frames = encoder_outputs[0]
            memory = self.enc_to_dec_proj(frames)
            mask = None
            if attention_mask is not None:
                mask = self.encoder._get_feature_vector_attention_mask(memory.shape[1], attention_mask)
            if labels is not None and decoder_input_ids is None:
                shifted = labels.new_full(labels.shape, self.config.decoder_start_token_id)
                shifted[:, 1:] = labels[:, :-1]
                decoder_input_ids = shifted.masked_fill(shifted == -100, self.config.pad_token_id)
            output = self.decoder(
                input_ids=decoder_input_ids,
                attention_mask=decoder_attention_mask,
                encoder_hidden_states=memory,
                encoder_attention_mask=mask,
                use_cache=use_cache,
                past_key_values=past_key_values,
                return_dict=True,
            )
            loss = None
            if labels is not None:
                log_probs = self.ctc_head(frames).log_softmax(-1).transpose(0, 1)
                lengths = torch.full((len(frames),), frames.shape[1])
                targets, sizes = labels[:, :3].clamp(1, 11), torch.tensor([3, 3])
                ctc = nn.functional.ctc_loss(log_probs, targets, lengths, sizes, zero_infinity=True)
                loss = 0.7 * nn.functional.cross_entropy(output.logits.flatten(0, 1), labels.flatten()) + 0.3 * ctc
            return output_class(
                loss=loss,
                logits=output.logits,
                past_key_values=output.past_key_values,
                encoder_last_hidden_state=frames,
            )

    return Joint


@pytest.mark.filterwarnings("ignore:Config of the (en|de)coder")
def test_a_joint_recogniser_with_its_own_forward(
    pair: Any, speech: Any, labels: Any, same: Any, tmp_path: Path
) -> None:
    found = []
    for library, model in pair("wav2vec2", "bart"):
        made = joint_class(library)(encoder=model.encoder, decoder=model.decoder).eval()
        for settings in (made.config, made.generation_config):
            settings.decoder_start_token_id, settings.pad_token_id, settings.eos_token_id = 3, 1, 2
        made.enc_to_dec_proj.load_state_dict(model.enc_to_dec_proj.state_dict())
        nn.init.constant_(made.ctc_head.weight, 0.1)
        nn.init.zeros_(made.ctc_head.bias)
        made(**speech, labels=labels).loss.backward()
        folder = tmp_path / library.__name__
        made.save_pretrained(folder)
        again = type(made).from_pretrained(folder).eval()
        tokens = [made.generate(**speech, max_new_tokens=6, num_beams=beams, do_sample=False) for beams in (1, 3)]
        found.append(
            (
                made(**speech, labels=labels).loss,
                made.enc_to_dec_proj.weight.grad,
                [ids.tolist() for ids in tokens],
                again(**speech, labels=labels).loss,
            )
        )
    same(found)


@pytest.mark.parametrize(("encoder", "decoder"), [("wav2vec2", "bart"), ("hubert", "bert"), ("wavlm", "gpt2")])
def test_encoder_outputs_as_a_tuple(pair: Any, speech: Any, labels: Any, same: Any, encoder: str, decoder: str) -> None:
    """States come out of the encoder once, positionally with a float mask, and go back in as a plain tuple."""
    found = []
    for _, model in pair(encoder, decoder):
        encoded = model.encoder(
            speech["input_values"], speech["attention_mask"].float(), output_hidden_states=True, return_dict=True
        )
        output = model(encoder_outputs=(encoded.hidden_states[-1], encoded.hidden_states), labels=labels)
        assert "loss" in output
        assert output["logits"] is output.logits
        found.append((output.loss, output.logits, list(encoded.hidden_states), output[0]))
    same(found)


def test_a_weighted_sum_of_layers(pair: Any, speech: Any, labels: Any, same: Any) -> None:
    """Probing: the decoder reads a trained mixture of all layers instead of the last one."""
    found = []
    for _, model in pair("wav2vec2", "bert"):
        layers = torch.stack(model.encoder(**speech, output_hidden_states=True)["hidden_states"])
        weights = nn.Parameter(torch.zeros(len(layers)))
        mixed = (weights.softmax(0)[:, None, None, None] * layers).sum(0)
        loss = model(encoder_outputs=(mixed,), attention_mask=speech["attention_mask"], labels=labels).loss
        loss.backward()
        found.append((loss, weights.grad))
    same(found)


def test_hooks_before_the_encoder_change_its_arguments(pair: Any, speech: Any, labels: Any, same: Any) -> None:
    found = []
    for _, model in pair("wav2vec2", "bart"):
        seen: list[int] = []

        def ask_for_states(_: Any, args: Any, options: dict[str, Any]) -> Any:
            return args, {**options, "output_hidden_states": True}

        def count_states(_: Any, __: Any, output: Any, seen: list[int] = seen) -> None:
            seen.append(len(output.hidden_states))

        model.encoder.register_forward_pre_hook(ask_for_states, with_kwargs=True)
        model.encoder.register_forward_hook(count_states)
        loss = model(**speech, labels=labels).loss
        model.generate(**speech, max_new_tokens=3)
        found.append((loss, seen))
    same(found)


def test_a_cold_start_of_the_decoder(pair: Any, speech: Any, labels: Any) -> None:
    """Encoder kept, decoder drawn anew: `decoder.apply(decoder._init_weights)`."""
    for library, model in pair("wav2vec2", "gpt2"):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        model.decoder.apply(model.decoder._init_weights)
        after = model.state_dict()
        drawn = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
        assert not any(name.startswith("encoder.") for name in drawn), library
        assert {"decoder.transformer.wte.weight", "decoder.transformer.h.0.attn.c_attn.weight"} <= drawn, library
        assert float(after["decoder.transformer.wte.weight"].std()) == pytest.approx(0.02, rel=0.2), library
        model(**speech, labels=labels).loss.backward()
        optimizer.step()
        moved = model.state_dict()["decoder.transformer.h.0.mlp.c_fc.weight"]
        assert not torch.equal(moved, before["decoder.transformer.h.0.mlp.c_fc.weight"]), library


@pytest.mark.parametrize("bias", [False, True])
def test_another_head_has_its_own_bias_or_none(
    pair: Any, speech: Any, labels: Any, same: Any, bias: bool, tmp_path: Path
) -> None:
    found = []
    for library, model in pair("wav2vec2", "bert"):
        table = model.get_input_embeddings().weight
        with torch.no_grad():
            model.get_output_embeddings().bias.copy_(torch.arange(len(table)))
        model.set_output_embeddings(torch.nn.Linear(table.shape[1], table.shape[0], bias=bias))
        loss = model(**speech, labels=labels).loss
        loss.backward()
        model.save_pretrained(tmp_path / library.__name__)
        again = type(model).from_pretrained(tmp_path / library.__name__).eval()
        found.append([loss.detach(), again(**speech, labels=labels).loss] if bias else [loss.detach()])
    same(found)
    if not bias:
        assert model.get_output_embeddings().bias.grad is None
        assert torch.equal(again(**speech, labels=labels).logits, model(**speech, labels=labels).logits)
