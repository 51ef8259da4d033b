"""Traps of ids and of `generate` (upstream's behaviour, sections 2.10, 2.11 and 5): what happens here instead."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dragoman import ConfigError, GenerationConfig, GenerationError, SpeechEncoderDecoderModel

Speech = Callable[..., torch.Tensor]
NO_IDS = {"decoder_start_token_id": None, "pad_token_id": None, "eos_token_id": None}
LABELS = torch.tensor([[5, 6, 7, 2]])


def on_config(model: SpeechEncoderDecoderModel) -> Any:
    return model.config


def on_generation_config(model: SpeechEncoderDecoderModel) -> Any:
    return model.generation_config


def on_decoder(model: SpeechEncoderDecoderModel) -> Any:
    return model.config.decoder


@pytest.mark.parametrize("place", [on_config, on_generation_config, on_decoder])
@pytest.mark.parametrize("saved", [False, True], ids=["set", "set, saved and loaded"])
def test_trap_2_10_an_id_is_set_once_wherever(
    build: Any, speech: Speech, tmp_path: Path, place: Callable[[SpeechEncoderDecoderModel], Any], saved: bool
) -> None:
    """Upstream trains with the one of `config` and generates with the one of `generation_config`."""
    model = build(**NO_IDS)
    place(model).decoder_start_token_id = 7
    place(model).pad_token_id = 8
    place(model).eos_token_id = 9
    if saved:
        model.save_pretrained(tmp_path)
        model = SpeechEncoderDecoderModel.from_pretrained(tmp_path)
    assert model.prepare_decoder_input_ids_from_labels(torch.tensor([[5, -100, 6]])).tolist() == [[7, 5, 8]]
    assert model.generate(speech(), max_new_tokens=3)[0, 0] == 7
    forced = model.generate(speech(2), max_new_tokens=5, sequence_bias={(9,): 1e4})
    assert forced.tolist() == [[7, 9]] * 2


def test_trap_2_10_both_files_say_the_same(build: Any, tmp_path: Path) -> None:
    model = build(**NO_IDS)
    model.config.decoder_start_token_id = 7
    model.generation_config.pad_token_id = 8
    model.config.forced_bos_token_id = 11
    model.save_pretrained(tmp_path)
    config, generation = (
        json.loads((tmp_path / f"{name}.json").read_text()) for name in ("config", "generation_config")
    )
    assert (config["decoder_start_token_id"], config["pad_token_id"]) == (7, 8)
    assert (generation["decoder_start_token_id"], generation["pad_token_id"]) == (7, 8)
    assert generation["forced_bos_token_id"] == 11


def test_trap_2_10_a_loaded_models_two_configurations_stay_one(build: Any, speech: Speech, tmp_path: Path) -> None:
    build().save_pretrained(tmp_path)
    model = SpeechEncoderDecoderModel.from_pretrained(tmp_path)
    model.config.decoder_start_token_id = 12
    assert model.generation_config.decoder_start_token_id == 12
    model.generation_config.decoder_start_token_id = 13
    assert model.generate(speech(), max_new_tokens=2)[0, 0] == 13
    assert model.prepare_decoder_input_ids_from_labels(LABELS)[0, 0] == 13


def test_trap_2_10_a_decoder_that_knows_its_ids_needs_none(build: Any, speech: Speech) -> None:
    """BART's and GPT-2's decoders: upstream generates with their ids, and refuses to train with them."""
    bart = build(decoder="bart", **NO_IDS)
    assert bart(speech(), labels=LABELS).loss.isfinite()
    assert bart.generate(speech(), max_new_tokens=2)[0, 0] == bart.config.decoder.decoder_start_token_id == 2
    gpt2 = build(decoder="gpt2", **NO_IDS)
    assert gpt2.generate(speech(), max_new_tokens=2)[0, 0] == gpt2.config.decoder.bos_token_id
    with pytest.raises(ConfigError, match="pad_token_id"):
        gpt2(speech(), labels=LABELS)


def test_trap_2_10_without_any_start_id_the_error_says_where_to_set_it(build: Any, speech: Speech) -> None:
    with pytest.raises(GenerationError, match=r"model\.config\.decoder_start_token_id = tokenizer\.cls_token_id"):
        build(**NO_IDS).generate(speech(), max_new_tokens=3)


def test_trap_2_10_generation_options_may_lie_on_the_configuration_of_a_file(build: Any, tmp_path: Path) -> None:
    """Release 4 wrote them there; release 5 refuses to generate or save with them."""
    build().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_beams": 3, "max_length": 9}))
    (tmp_path / "generation_config.json").unlink()
    model = SpeechEncoderDecoderModel.from_pretrained(tmp_path)
    assert (model.generation_config.num_beams, model.generation_config.max_length) == (3, 9)
    model.save_pretrained(tmp_path / "again")
    saved = json.loads((tmp_path / "again" / "generation_config.json").read_text())
    assert (saved["num_beams"], saved["max_length"]) == (3, 9)


def test_trap_2_11_memory_is_projected_once_whatever_the_steps_and_beams(build: Any, speech: Speech) -> None:
    """Upstream projects all frames of all beams anew in every step."""
    model = build(decoder="bart")
    rows: list[int] = []
    for module in (model.bridge, *(layer.cross_attn.k_proj for layer in model.decoder.stack.layers)):
        module.register_forward_hook(lambda _module, inputs, _output: rows.append(inputs[0].shape[0]))
    model.generate(speech(2), num_beams=4, max_new_tokens=8, min_new_tokens=8)
    assert rows == [2, 2, 2]


def test_trap_2_11_a_cached_step_gives_what_the_whole_text_gives(build: Any, speech: Speech) -> None:
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


def test_trap_5_1_unknown_options_are_named(build: Any, speech: Speech) -> None:
    with pytest.raises(GenerationError, match=r'num_beam.*Did you mean "num_beams"'):
        build().generate(speech(), num_beam=4)


def test_trap_5_1_audio_under_any_of_its_names(build: Any, speech: Speech) -> None:
    """Upstream: "`bos_token_id` has to be defined when no `input_ids` are provided"."""
    model = build()
    wanted = model.generate(speech(2), max_new_tokens=4).tolist()
    assert model.generate(inputs=speech(2), max_new_tokens=4).tolist() == wanted
    assert model.generate(input_values=speech(2), max_new_tokens=4).tolist() == wanted
    assert model.generate(encoder_outputs=model.encoder(speech(2)), max_new_tokens=4).tolist() == wanted
    with pytest.raises(ConfigError, match="input_values or input_features"):
        model.generate(max_new_tokens=4)


def test_trap_5_1_no_text_is_begun_in_two_ways(build: Any, speech: Speech) -> None:
    """Upstream prepends the start to all prompts or to none, whichever the first rows want."""
    model = build()
    bare = model.generate(speech(2), decoder_input_ids=torch.tensor([[9], [8]]), max_new_tokens=3)
    begun = model.generate(speech(2), decoder_input_ids=torch.tensor([[3, 9], [3, 8]]), max_new_tokens=3)
    assert bare.tolist() == begun.tolist()
    with pytest.raises(GenerationError, match="begin all of them the same way"):
        model.generate(speech(2), decoder_input_ids=torch.tensor([[3, 9], [8, 7]]), max_new_tokens=3)


def test_trap_5_1_each_row_may_start_otherwise(build: Any, speech: Speech) -> None:
    ids = build().generate(speech(2), decoder_start_token_id=[5, 6], max_new_tokens=3)
    assert ids[:, 0].tolist() == [5, 6]


def test_trap_5_1_padding_ids_default_to_the_end_id(build: Any, speech: Speech) -> None:
    model = build(pad_token_id=None, decoder_pad_token_id=None)
    ids = model.generate(speech(2), max_new_tokens=4, sequence_bias={(2,): 1e4})
    assert ids.tolist() == [[3, 2]] * 2


def test_trap_5_2_texts_are_not_cut_after_twenty_tokens(build: Any, speech: Speech) -> None:
    """Upstream's default; here a text is as long as the decoder can hold, and one that is cut is warned about."""
    model = build()
    with pytest.warns(UserWarning, match="2 of 2 sequences were cut off after 64 tokens"):
        ids = model.generate(speech(2), suppress_tokens=[2])
    assert ids.shape == (2, 64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.generate(speech(2), suppress_tokens=[2], max_new_tokens=5)


def test_trap_5_2_a_text_ends_where_the_decoder_has_no_more_positions(build: Any, speech: Speech) -> None:
    """Upstream: an IndexError in the middle of a generation."""
    with pytest.warns(UserWarning, match="101 tokens were asked for .* can take only 64"):
        assert build().generate(speech(), max_new_tokens=100, suppress_tokens=[2]).shape == (1, 64)
    with pytest.raises(GenerationError, match="64 tokens, but the text has 65"):
        build()(speech(), decoder_input_ids=torch.full((1, 65), 5))


def test_trap_5_2_new_tokens_win_over_length_and_prompts_count(build: Any, speech: Speech) -> None:
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
def test_trap_5_3_what_cannot_be_done_is_an_error_before_any_work(
    build: Any, speech: Speech, options: dict[str, Any]
) -> None:
    """Upstream runs code from a repository, compares waveforms with token ids, or crashes in a gather."""
    model = build()
    model.encoder.register_forward_pre_hook(lambda *_: pytest.fail("the encoder ran"))
    with pytest.raises(GenerationError, match=next(iter(options))):
        model.generate(speech(), max_new_tokens=4, **options)


def test_trap_5_5_padding_id_zero_is_an_id(build: Any, speech: Speech) -> None:
    """Greedy search and sampling pad with it; beams keep upstream's filler, so that ids compare equal."""
    model = build(pad_token_id=0)
    ids = model.generate(speech(2), max_new_tokens=6, prefix_allowed_tokens_fn=lambda i, _: [2] if i % 2 else [9])
    assert ids[1].tolist() == [3, 2, 0, 0, 0, 0, 0]
    assert ids[0].tolist() == [3, 9, 9, 9, 9, 9, 9]


def test_trap_5_7_sampling_obeys_the_seed_of_pytorch(build: Any, speech: Speech) -> None:
    model = build()

    def sample(seed: int) -> list[list[int]]:
        torch.manual_seed(seed)
        return model.generate(speech(2), do_sample=True, max_new_tokens=10).tolist()

    assert sample(0) == sample(0)
    assert len({str(sample(seed)) for seed in range(4)}) > 1


def test_trap_5_7_a_configuration_of_the_call_wins_and_changes_nothing(build: Any, speech: Speech) -> None:
    model = build()
    model.generation_config.num_beams = 3
    before = model.generation_config.to_dict()
    given = GenerationConfig(max_new_tokens=4, output_scores=True, return_dict_in_generate=True)
    output = model.generate(speech(2), given, num_beams=2, suppress_tokens=[2])
    assert output.sequences.shape == (2, 5)
    assert output.scores[0].shape == (4, 99)
    assert model.generation_config.to_dict() == before
    assert given.num_beams == 1
