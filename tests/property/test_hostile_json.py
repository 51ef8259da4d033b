"""Damaged configurations, tokenizers and chat templates: used, or refused in little time and memory."""

import json
import random
import resource
import time
import warnings
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from dragoman import AutoTokenizer, SpeechEncoderDecoderConfig, SpeechEncoderDecoderModel
from dragoman.errors import DragomanError
from dragoman.testing import tiny_config
from dragoman.text.chat import speech_prompt

SECONDS, MEGABYTES = 5, 512

ODD: list[Any] = [
    None, True, -1, 0, 1, 2**31, 10**12, 1e308, "", "x" * 1000, "a", [], {}, [[]], [0, 1], {"a": 1}, "(a+)+", "Replace",
]  # fmt: skip
ENCODERS = ["wav2vec2", "whisper", "wavlm", "sew-d", "speech_to_text", "wav2vec2-bert", "hubert"]
DECODERS = ["gpt2", "bert", "marian", "t5", "mbart", "pegasus", "whisper", "bart", "roberta"]
PIECES = [
    "{% for m in messages %}", "{% endfor %}", "{{ m.content }}", "{{ 'x' * 10**9 }}", "{{ m", "{% if a %}", "text ",
    "{{ [1] * 9**9 }}", "{{ ''.__class__ }}", "{% set x = range(10**9) | list %}", "{{ messages[0]['content'] }}",
]  # fmt: skip


def damaged(content: Any, rng: random.Random) -> Any:
    """Return JSON with one to three values replaced or removed."""
    content = deepcopy(content)
    for _ in range(rng.randrange(1, 4)):
        places: list[tuple[Any, Any]] = []
        rest = [content]
        while rest:
            one = rest.pop()
            keys = list(one) if isinstance(one, dict) else list(range(min(len(one), 20)))
            places += [(one, key) for key in keys]
            rest += [one[key] for key in keys if isinstance(one[key], dict | list)]
        if not places:
            break
        holder, key = rng.choice(places)
        if isinstance(holder, dict) and rng.random() < 0.25:
            del holder[key]
        else:
            holder[key] = deepcopy(rng.choice(ODD))
    return content


def tokenizer_case(rng: random.Random, folder: Path) -> None:
    vocab = {word: n for n, word in enumerate(["<unk>", "<pad>", *"abcdefg ", "hello"])}
    backend = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    backend.normalizer = normalizers.Sequence([normalizers.Lowercase(), normalizers.Replace("x", "ab")])
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "<unk>", "pad_token": "<pad>"}
    both = damaged({"file": json.loads(backend.to_str()), "settings": settings}, rng)
    (folder / "tokenizer.json").write_text(json.dumps(both.get("file")))
    (folder / "tokenizer_config.json").write_text(json.dumps(both.get("settings")))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.decode(tokenizer("hello abx (world) " + "a" * 30)["input_ids"])


def config_case(rng: random.Random, folder: Path) -> None:
    config = SpeechEncoderDecoderConfig(
        encoder=tiny_config(rng.choice(ENCODERS)),
        decoder=tiny_config(rng.choice(DECODERS)),
        pad_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=0,
    )
    (folder / "config.json").write_text(json.dumps(damaged(config.to_dict(), rng)))
    (folder / "model.safetensors").write_bytes(b"\2\0\0\0\0\0\0\0{}")
    SpeechEncoderDecoderModel.from_pretrained(folder)


def template_case(rng: random.Random, folder: Path) -> None:
    backend = Tokenizer(models.WordLevel({"<unk>": 0, "a": 1}, unk_token="<unk>"))
    backend.save(str(folder / "tokenizer.json"))
    template = "".join(rng.choice(PIECES) for _ in range(rng.randrange(1, 6)))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "<unk>", "chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    speech_prompt(AutoTokenizer.from_pretrained(folder))


CASES: dict[str, Callable[[random.Random, Path], None]] = {
    "tokenizer": tokenizer_case,
    "config": config_case,
    "template": template_case,
}


def attack(name: str, count: int, seed: int, folder: Path) -> Counter[str]:
    rng, outcomes = random.Random(f"{name} {seed}"), Counter[str]()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for case in range(count):
        begin = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                CASES[name](rng, folder)
                outcomes["used"] += 1
            except DragomanError:
                outcomes["refused"] += 1
            except BaseException as error:
                raise AssertionError(f"{name}, seed {seed}, case {case}") from error
        assert time.process_time() - begin < SECONDS, (name, seed, case)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEGABYTES * 2**10, (name, seed)
    return outcomes


@pytest.mark.parametrize(("name", "count"), [("tokenizer", 100), ("config", 40), ("template", 3)])
def test_damaged_files_are_used_or_refused(name: str, count: int, tmp_path: Path) -> None:
    outcomes = attack(name, count, 0, tmp_path)
    assert outcomes["refused"]


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(1, 11))
@pytest.mark.parametrize("name", CASES)
def test_many_damaged_files(name: str, seed: int, tmp_path: Path) -> None:
    attack(name, 300, seed, tmp_path)
