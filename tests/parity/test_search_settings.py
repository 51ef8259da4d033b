"""Random settings of `generate` on folders that `transformers` wrote: the same ids, and scores within 1e-5.

A setting may be in `generation_config.json`, in `config.json` (its joint part or the decoder's), in the call, or in an
object passed to it; it may be removed from its file, or be `None`.
"""

import json
import random
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import dragoman
from dragoman.testing import tiny_config

VOCAB, START, PAD, EOS = 24, 3, 1, 2
NEWEST = 8  # tokens of a transcript at most, in most settings


class Decoder:
    """A kind of folder: the fields of its decoder, and the ids that its author set for `generate`."""

    def __init__(self, model_type: str, fields: dict[str, Any], ids: dict[str, Any]) -> None:
        self.model_type, self.fields, self.ids = model_type, fields, ids


OWN_IDS = {"decoder_start_token_id": START, "pad_token_id": PAD, "eos_token_id": EOS}
DECODERS = {
    "bert": Decoder("bert", {}, OWN_IDS),
    "bert with 0 as padding": Decoder("bert", {}, {**OWN_IDS, "pad_token_id": 0}),
    "bart": Decoder("bart", {}, {}),
    "bart without its forced end": Decoder("bart", {}, {"forced_eos_token_id": None}),
    "mbart": Decoder("mbart", {"decoder_start_token_id": 5}, {"forced_bos_token_id": 7}),
    "gpt2": Decoder("gpt2", {"bos_token_id": START, "eos_token_id": EOS}, {}),
    "pegasus": Decoder("pegasus", {"decoder_start_token_id": 0}, {"bos_token_id": 4}),
    "roberta": Decoder("roberta", {"bos_token_id": 0}, {"eos_token_id": None}),
}


@pytest.fixture(scope="module", params=DECODERS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, saved by `transformers`."""
    kind, place = DECODERS[request.param], tmp_path_factory.mktemp("theirs")
    torch.manual_seed(0)
    parts = [
        transformers.AutoConfig.for_model(**tiny_config(name, **fields).to_dict())
        for name, fields in (("wav2vec2", {}), (kind.model_type, {"vocab_size": VOCAB, **kind.fields}))
    ]
    config = transformers.SpeechEncoderDecoderConfig.from_encoder_decoder_configs(*parts)
    model = transformers.SpeechEncoderDecoderModel(config=config)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            noise = torch.randn_like(tensor)
            gain = 2.0 if "crossattention" in name or "encoder_attn" in name else 1.2
            tensor.add_(0.1 * noise) if tensor.ndim == 1 else tensor.copy_(
                gain * noise * (tensor.shape[0] / tensor.numel()) ** 0.5
            )
    for name, value in kind.ids.items():
        setattr(model.generation_config, name, value)
    model.save_pretrained(place)
    return place


def random_settings(rng: random.Random) -> dict[str, Any]:
    """Up to six options with values that change the search."""
    token = lambda: rng.randrange(4, VOCAB)  # noqa: E731
    beams = rng.choice([1, 1, 2, 3, 5])
    known = {
        "num_beams": lambda: beams,
        "length_penalty": lambda: rng.choice([-1.0, 0.0, 0.6, 1.0, 2.0]),
        "early_stopping": lambda: rng.choice([True, False, "never"]),
        "num_return_sequences": lambda: rng.randrange(1, beams + 1),
        "no_repeat_ngram_size": lambda: rng.choice([0, 1, 2, 3]),
        "repetition_penalty": lambda: rng.choice([0.7, 1.0, 1.5]),
        "min_length": lambda: rng.randrange(0, 8),
        "min_new_tokens": lambda: rng.randrange(0, 6),
        "max_new_tokens": lambda: rng.randrange(1, 10),
        "max_length": lambda: rng.randrange(3, 12),
        "forced_bos_token_id": token,
        "forced_eos_token_id": lambda: rng.choice([EOS, 9]),
        "suppress_tokens": lambda: [token(), EOS],
        "begin_suppress_tokens": lambda: [EOS, token()],
        "bad_words_ids": lambda: [[token()], [token(), token()]],
        "sequence_bias": lambda: [[[token()], 2.0], [[EOS], 3.0]],
        "exponential_decay_length_penalty": lambda: [rng.randrange(0, 4), 1.3],
        "renormalize_logits": lambda: True,
        "eos_token_id": lambda: rng.choice([EOS, 6, [EOS, 6, 7]]),
        "pad_token_id": lambda: rng.choice([0, 1, 5]),
        "bos_token_id": token,
        "decoder_start_token_id": token,
    }
    names = set(rng.sample(sorted(known), rng.randrange(1, 7)))
    if "num_return_sequences" in names:
        names.add("num_beams")
    return {name: known[name]() for name in sorted(names)}


def arrange(folder: Path, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Write random settings into the files of a folder; return those of the call, and of an object passed to it."""
    rng = random.Random(seed)
    stored, call, given = (random_settings(rng) if rng.random() < likely else {} for likely in (0.8, 0.6, 0.3))
    if rng.random() < 0.5:
        call |= dict.fromkeys(rng.sample(sorted({**stored, **call, "forced_eos_token_id": 0}), 1))
    limits = {"max_length", "max_new_tokens"} & {name for name, value in call.items() if value is not None}
    if not limits:  # by default `transformers` ends after 20 tokens, dragoman where the decoder does
        call["max_length"] = NEWEST
    files = {name: json.loads((folder / name).read_text()) for name in ("config.json", "generation_config.json")}
    place = rng.random()
    if place < 0.7:
        files["generation_config.json"] |= stored
        for name in rng.sample(["forced_eos_token_id", "eos_token_id", "pad_token_id"], rng.randrange(0, 2)):
            files["generation_config.json"].pop(name, None)
    else:  # as old folders have them
        old = files.pop("generation_config.json")
        where = files["config.json"]["decoder"] if place < 0.8 else files["config.json"]
        where |= {name: value for name, value in {**old, **stored}.items() if not name.startswith("_")}
        (folder / "generation_config.json").unlink()
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    return call, given


def speech(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    pitch = torch.rand(2, 1, generator=generator)
    return torch.randn(2, 800, generator=generator) + 2 * torch.sin(pitch * torch.arange(800))


def both(folder: Path, seed: int) -> tuple[Any, Any]:
    """Generate with `transformers` and with dragoman, in float64: rounding decides between no two tokens."""
    call, given = arrange(folder, seed)
    audio, common = speech(seed).double(), {"return_dict_in_generate": True, "output_scores": True}
    results = []
    for library in transformers, dragoman:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                model = library.SpeechEncoderDecoderModel.from_pretrained(folder, dtype=torch.float64)
                if library is dragoman:
                    model.set_padding("reference")
                own = {"generation_config": library.GenerationConfig(**given)} if given else {}
                results.append(model.generate(audio, **own, **call, **common))
            except (ValueError, TypeError, RuntimeError) as error:
                results.append(error)
    return results[0], results[1]


def check(folder: Path, seed: int) -> bool:
    """Compare one random setting; return whether both take it."""
    theirs, ours = both(folder, seed)
    if isinstance(theirs, Exception):
        return False
    if isinstance(ours, Exception):
        if not any((one < -1e8).all(dim=-1).any() for one in theirs.scores):
            raise ours
        return False  # every token was forbidden: `transformers` goes on with token 0
    assert ours.sequences.tolist() == theirs.sequences.tolist()
    assert len(ours.scores) == len(theirs.scores)
    if theirs.get("sequences_scores") is not None:
        assert torch.allclose(ours.sequences_scores.double(), theirs.sequences_scores.double(), atol=1e-5)
    for one, other in zip(ours.scores, theirs.scores, strict=True):
        assert torch.allclose(one.double(), other.double(), atol=1e-5)
    return True


@pytest.mark.parametrize("tier", [range(8), pytest.param(range(8, 86), marks=pytest.mark.nightly)], ids=str)
def test_random_settings(folder: Path, tmp_path: Path, tier: range) -> None:
    taken = 0
    for seed in tier:
        place = tmp_path / str(seed)
        shutil.copytree(folder, place)
        try:
            taken += check(place, seed)
        except Exception as error:
            error.add_note(f"seed {seed}")
            raise
    assert taken > len(tier) / 2
