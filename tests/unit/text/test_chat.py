"""The prompt around speech: chat templates in a sandbox."""

from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer as RustTokenizer
from tokenizers import decoders, models, pre_tokenizers

from dragoman import SpeechEncoder, SpeechEncoderDecoderModel, TextDecoder
from dragoman.errors import TokenizerError
from dragoman.testing import tiny_config
from dragoman.text.chat import speech_prompt
from dragoman.text.tokenizer import Tokenizer

CHAT = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def tokenizer(template: Any) -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    letters = ["<|im_start|>", "<|im_end|>", *alphabet]
    backend = RustTokenizer(models.BPE({token: i for i, token in enumerate(letters)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    roles = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}
    return Tokenizer(backend, {**roles, **({} if template is None else {"chat_template": template})})


def test_the_speech_is_the_users_message() -> None:
    chat = tokenizer(CHAT)
    before, after = speech_prompt(chat, "Write it down.")
    assert chat.decode(before) == "<|im_start|>user\n"
    assert chat.decode(after) == "\nWrite it down.<|im_end|>\n<|im_start|>assistant\n"
    assert before[0] == chat.bos_token_id
    assert speech_prompt(tokenizer(None)) == [[], []]


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ messages[0].content }}{{ messages[0].content }}", "2 times"),
        ("hello", "0 times"),
        ("{{ raise_exception('a system message is needed') }}", "a system message is needed"),
        ("{% for %}", "fails"),
        ("{{ 1 / 0 }}", "fails"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "fails"),
        ("{{ messages.append(1) }}", "fails"),
        ("x" * 70_000, "at most"),
        (["a"], "must be a string"),
    ],
)
def test_failing_and_malicious_templates_are_errors(template: Any, words: str) -> None:
    with pytest.raises(TokenizerError, match=words):
        speech_prompt(tokenizer(template))


def test_a_warm_start_accepts_the_prompt(tmp_path: Path) -> None:
    SpeechEncoder(tiny_config("wav2vec2")).save_pretrained(tmp_path / "speech")
    TextDecoder(tiny_config("llama", vocab_size=258)).save_pretrained(tmp_path / "text")
    chat = tokenizer(CHAT)
    before, after = speech_prompt(chat)
    folders = tmp_path / "speech", tmp_path / "text"
    model = SpeechEncoderDecoderModel.from_encoder_decoder_pretrained(*folders, tokenizer=chat, fusion="prefix")
    assert model.config.fusion_prompt == [before, after[:-1]]
    assert model.config.decoder_start_token_id == after[-1]
    assert model.config.eos_token_id == chat.eos_token_id
    own = SpeechEncoderDecoderModel.from_encoder_decoder_pretrained(
        *folders, tokenizer=chat, fusion="prefix", fusion_prompt=[[3], []]
    )
    assert own.config.fusion_prompt == [[3], []]
    assert own.config.decoder_start_token_id == chat.bos_token_id


@pytest.mark.parametrize(
    "template",
    [
        "{{ 'a' * 10**10 }}",
        "{{ 'a' * 10**7 }}",
        "{% set n = namespace(x='a') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    ],
)
def test_templates_without_limit_are_stopped(template: str) -> None:
    with pytest.raises(TokenizerError, match="The chat template fails"):
        speech_prompt(tokenizer(template))
