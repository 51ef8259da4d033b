"""The prompt around speech that comes before a text, by the chat template of the text model's tokenizer.

Templates are programs in Jinja, written by strangers: they run in Jinja's own sandbox, which lets them build texts and
nothing else.
"""

from typing import Any

from dragoman._lazy import require
from dragoman.errors import TokenizerError

__all__ = ["speech_prompt"]

_SPEECH = "\N{OBJECT REPLACEMENT CHARACTER}speech\N{OBJECT REPLACEMENT CHARACTER}"
_LONGEST = 2**16  # characters of a template; the longest in use have a quarter of that


def speech_prompt(tokenizer: Any, instruction: str = "Transcribe the speech.") -> list[list[int]]:
    """Return token ids before the speech and between it and the text, for `fusion_prompt`.

    Where the tokenizer has a chat template, the speech and then the instruction are what the user says, and the text is
    the answer. Without one, nothing stands before the speech, and nothing behind it.

    Args:
        tokenizer: The decoder's tokenizer.
        instruction: What the text model is asked for.

    Raises:
        TokenizerError: If the template fails, or does not say the user's words exactly once.
        MissingDependencyError: If there is a template and the package `jinja2` is not installed.
    """
    source = tokenizer.init_kwargs.get("chat_template")
    if source is None:
        return [[], []]
    if not isinstance(source, str) or len(source) > _LONGEST:
        raise TokenizerError(f"The chat template must be a text of at most {_LONGEST} characters.")
    parts = _rendered(source, f"{_SPEECH}\n{instruction}", dict(tokenizer.special_tokens_map)).split(_SPEECH)
    if len(parts) != 2:
        raise TokenizerError(
            f"The chat template says the user's words {len(parts) - 1} times; it must say them once. Give the prompt "
            "yourself: fusion_prompt=[ids before the speech, ids behind it]."
        )
    return [list(tokenizer(part, add_special_tokens=False)["input_ids"]) for part in parts]


def _rendered(source: str, said: str, special_tokens: dict[str, Any]) -> str:
    sandbox = require("jinja2.sandbox", "Reading a chat template")

    def raise_exception(message: str) -> None:  # templates call it when they are given what they cannot say
        raise TokenizerError(f"The chat template refuses a lone user's message: {message}.")

    environment = sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = raise_exception
    messages = [{"role": "user", "content": said}]
    try:
        return str(
            environment.from_string(source).render(messages=messages, add_generation_prompt=True, **special_tokens)
        )
    except TokenizerError:
        raise
    except Exception as error:  # a template is a program: it may raise anything
        raise TokenizerError(f"The chat template fails: {error}.") from error
