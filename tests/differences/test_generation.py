"""`generate`: options, prompts, lengths, caches and random numbers."""

import json
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dragoman import (
    ConfigError,
    GenerationConfig,
    GenerationError,
    SpeechEncoderDecoderModel,
)

Speech = Callable[..., torch.Tensor]


def test_generation_options_are_read_from_config_json(build: Any, tmp_path: Path) -> None:
    """`transformers` 4 wrote them there; 5 refuses to generate or save with them."""
    build().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_beams": 3, "max_length": 9}))
    (tmp_path / "generation_config.json").unlink()
    model = SpeechEncoderDecoderModel.from_pretrained(tmp_path)
    assert (model.generation_config.num_beams, model.generation_config.max_length) == (3, 9)
    model.save_pretrained(tmp_path / "again")
    saved = json.loads((tmp_path / "again" / "generation_config.json").read_text())
    assert (saved["num_beams"], saved["max_length"]) == (3, 9)


def test_memory_is_projected_once_for_all_steps_and_beams(build: Any, speech: Speech) -> None:
    """`transformers` projects all frames of all beams again in every step."""
    model = build(decoder="bart")
    rows: list[int] = []
    for module in (model.bridge, *(layer.cross_attn.k_proj for layer in model.decoder.stack.layers)):
        module.register_forward_hook(lambda _module, inputs, _output: rows.append(inputs[0].shape[0]))
    model.generate(speech(2), num_beams=4, max_new_tokens=8, min_new_tokens=8)
    assert rows == [2, 2, 2]


def test_cached_steps_equal_the_full_sequence(build: Any, speech: Speech) -> None:
    for decoder in "bert", "gpt2", "bart", "mbart":
        model = build(decoder=decoder)
        tokens = torch.tensor([[3, 9, 8, 7, 6], [3, 5, 4, 3, 2]])
        with torch.no_grad():
            whole = model(speech(2), decoder_input_ids=tokens).logits
            cache, steps = None, []
            for token in tokens.split(1, dim=1):
                step = model(speech(2), decoder_input_ids=token, past_key_values=cache, use_cache=True)
                cache = step.past_key_values
                steps.append(step.logits)
        torch.testing.assert_close(torch.cat(steps, 1), whole, atol=1e-5, rtol=0)


def test_unknown_option_is_refused(build: Any, speech: Speech) -> None:
    with pytest.raises(GenerationError, match=r'num_beam.*Did you mean "num_beams"'):
        build().generate(speech(), num_beam=4)


def test_audio_under_any_argument_name(build: Any, speech: Speech) -> None:
    """`transformers`: "`bos_token_id` has to be defined when no `input_ids` are provided"."""
    model = build()
    wanted = model.generate(speech(2), max_new_tokens=4).tolist()
    assert model.generate(inputs=speech(2), max_new_tokens=4).tolist() == wanted
    assert model.generate(input_values=speech(2), max_new_tokens=4).tolist() == wanted
    assert model.generate(encoder_outputs=model.encoder(speech(2)), max_new_tokens=4).tolist() == wanted
    with pytest.raises(ConfigError, match="input_values or input_features"):
        model.generate(max_new_tokens=4)


def test_start_id_is_prepended_to_all_prompts_or_none(build: Any, speech: Speech) -> None:
    """`transformers` decides by the first rows; here, rows that differ are an error."""
    model = build()
    bare = model.generate(speech(2), decoder_input_ids=torch.tensor([[9], [8]]), max_new_tokens=3)
    begun = model.generate(speech(2), decoder_input_ids=torch.tensor([[3, 9], [3, 8]]), max_new_tokens=3)
    assert bare.tolist() == begun.tolist()
    with pytest.raises(GenerationError, match="begin all of them the same way"):
        model.generate(speech(2), decoder_input_ids=torch.tensor([[3, 9], [8, 7]]), max_new_tokens=3)


def test_default_length_is_the_capacity_of_the_decoder(build: Any, speech: Speech) -> None:
    """The default of `transformers` is 20 tokens. Here, sequences cut off at the capacity cause a warning."""
    model = build()
    with pytest.warns(UserWarning, match="2 of 2 sequences were cut off after 64 tokens"):
        ids = model.generate(speech(2), suppress_tokens=[2])
    assert ids.shape == (2, 64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.generate(speech(2), suppress_tokens=[2], max_new_tokens=5)


def test_sequence_ends_at_the_last_position_of_the_decoder(build: Any, speech: Speech) -> None:
    """`transformers` raises an IndexError during generation."""
    with pytest.warns(UserWarning, match="101 tokens were asked for .* can take only 64"):
        assert build().generate(speech(), max_new_tokens=100, suppress_tokens=[2]).shape == (1, 64)
    with pytest.raises(GenerationError, match="64 tokens, but the sequence has 65"):
        build()(speech(), decoder_input_ids=torch.full((1, 65), 5))


def test_max_length_includes_the_prompt_and_yields_to_max_new_tokens(build: Any, speech: Speech) -> None:
    model = build()
    free = {"suppress_tokens": [2]}
    prompt = torch.tensor([[3, 9, 8]])
    assert model.generate(speech(), decoder_input_ids=prompt, max_length=5, **free).shape == (1, 5)
    assert model.generate(speech(), decoder_input_ids=prompt, max_new_tokens=5, max_length=4, **free).shape == (1, 8)
    with pytest.raises(GenerationError, match="3 tokens, which leaves no room"):
        model.generate(speech(), decoder_input_ids=prompt, max_length=3)


@pytest.mark.parametrize(
    "options",
    [
        {"num_return_sequences": 2},
        {"num_beams": 2, "num_return_sequences": 3},
        {"temperature": 0.0, "do_sample": True},
        {"repetition_penalty": 0.0},
        {"encoder_repetition_penalty": 1.5},
        {"encoder_no_repeat_ngram_size": 2},
        {"guidance_scale": 2.0},
        {"prompt_lookup_num_tokens": 3},
        {"dola_layers": "high"},
    ],
    ids=str,
)
def test_invalid_options_are_refused_before_the_encoder_runs(
    build: Any, speech: Speech, options: dict[str, Any]
) -> None:
    """`transformers` runs code from a repository, compares waveforms with token ids, or fails in a gather."""
    model = build()
    model.encoder.register_forward_pre_hook(lambda *_: pytest.fail("the encoder ran"))
    with pytest.raises(GenerationError, match=next(iter(options))):
        model.generate(speech(), max_new_tokens=4, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 1.0},
        {"penalty_alpha": 0.6, "top_k": 4},
        {"num_beams": 3, "force_words_ids": [[5]]},
    ],
    ids=lambda options: next(name for name in options if name not in ("num_beams", "top_k")),
)
def test_rare_strategies_work_or_are_refused(build: Any, speech: Speech, options: dict[str, Any]) -> None:
    """`transformers` downloads code from repositories for them."""
    model = build()
    try:
        ids = model.generate(speech(2), max_new_tokens=6, **options)
    except GenerationError as error:
        assert re.search(r"force_words_ids|penalty_alpha|num_beam_groups", str(error))  # noqa: PT017
    else:
        assert ids.shape[0] == 2
        assert (ids[:, 0] == 3).all()


def test_sampling_follows_the_seed_of_pytorch(build: Any, speech: Speech) -> None:
    model = build()

    def sample(seed: int) -> list[list[int]]:
        torch.manual_seed(seed)
        return model.generate(speech(2), do_sample=True, max_new_tokens=10).tolist()

    assert sample(0) == sample(0)
    assert len({str(sample(seed)) for seed in range(4)}) > 1


def test_options_of_the_call_take_precedence_and_change_nothing(build: Any, speech: Speech) -> None:
    model = build()
    model.generation_config.num_beams = 3
    before = model.generation_config.to_dict()
    given = GenerationConfig(max_new_tokens=4, output_scores=True, return_dict_in_generate=True)
    output = model.generate(speech(2), given, num_beams=2, suppress_tokens=[2])
    assert output.sequences.shape == (2, 5)
    assert output.scores[0].shape == (4, 99)
    assert model.generation_config.to_dict() == before
    assert given.num_beams == 1


def tensors_of(value: Any) -> list[torch.Tensor]:
    """Return all tensors of an output of `generate`."""
    if isinstance(value, torch.Tensor):
        return [value]
    return [tensor for part in value for tensor in tensors_of(part)]


RECORDS = {
    "return_dict_in_generate": True,
    "output_scores": True,
    "output_logits": True,
    "output_attentions": True,
    "output_hidden_states": True,
}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_beams": 3},
        {"num_beams": 3, "num_return_sequences": 2},
        {"do_sample": True},
        {"do_sample": True, "num_beams": 2},
        {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5},
        {"penalty_alpha": 0.6, "top_k": 4},
        {"force_words_ids": [[7]], "num_beams": 3},
        {"token_log_probs": True},
        {"decoder_input_ids": torch.tensor([[3, 9], [3, 8]])},
    ],
    ids=str,
)
def test_what_is_generated_can_be_changed_and_trained_on(build: Any, speech: Speech, options: dict[str, Any]) -> None:
    """As with `transformers`: rewards, minimum-risk training and distillation use ids, scores and states."""
    model, weight = build(), torch.ones((), requires_grad=True)
    for records in (RECORDS,) if "token_log_probs" in options else ({}, RECORDS):
        output = model.generate(speech(2), max_new_tokens=4, **options, **records)
        found = tensors_of(output if isinstance(output, torch.Tensor) else output.to_tuple())
        assert not any(tensor.is_inference() for tensor in found)
        sum((tensor * weight).float().nan_to_num(0.0, 0.0, 0.0).sum() for tensor in found).backward()
        for tensor in found:
            tensor[tensor == tensor] = -100
    assert weight.grad is not None


def test_drafted_transcripts_and_hooks_give_ordinary_tensors(build: Any, speech: Speech) -> None:
    model, seen = build(), []
    model.encoder.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    ids = model.generate(speech(1), assistant_model=build(), max_new_tokens=4)
    ids[ids == 2] = -100
    processed = model.generate(
        speech(2), logits_processor=[lambda _, scores: seen.append(scores) or scores], max_new_tokens=2
    )
    processed += 1
    assert not any(tensor.is_inference() for tensor in seen if isinstance(tensor, torch.Tensor))
