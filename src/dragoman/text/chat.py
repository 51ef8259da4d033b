"""The prompt around the speech, from the chat template of the text model's tokenizer.

Templates are untrusted Jinja programs: they run in Jinja's own sandbox, which only lets them build strings.
"""

from typing import Any

from dragoman._lazy import require
from dragoman.errors import TokenizerError

__all__ = ["speech_prompt"]

_SPEECH = "\N{OBJECT REPLACEMENT CHARACTER}speech\N{OBJECT REPLACEMENT CHARACTER}"
_MAX_LENGTH = 2**16  # characters of a template; the longest in use have a quarter of that


def speech_prompt(tokenizer: Any, instruction: str = "Transcribe the speech.") -> list[list[int]]:
    """Return the token ids before the speech, and between it and the text, for `fusion_prompt`.

    In a chat template, the speech followed by the instruction is the user's message, and the text is the answer.
    Without a template, both are empty.

    Args:
        tokenizer: The decoder's tokenizer.
        instruction: The instruction to the text model.

    Raises:
        TokenizerError: If the template fails, or does not contain the user's message exactly once.
        MissingDependencyError: If there is a template and the package `jinja2` is not installed.
    """
    source = getattr(tokenizer, "chat_template", None) or tokenizer.init_kwargs.get("chat_template")
    if source is None:
        return [[], []]
    if not isinstance(source, str) or len(source) > _MAX_LENGTH:
        raise TokenizerError(f"The chat template must be a string of at most {_MAX_LENGTH} characters.")
    parts = _rendered(source, f"{_SPEECH}\n{instruction}", dict(tokenizer.special_tokens_map)).split(_SPEECH)
    if len(parts) != 2:
        raise TokenizerError(
            f"The chat template contains the user's message {len(parts) - 1} times, but must contain it once. Pass the "
            "prompt instead: fusion_prompt=[ids before the speech, ids after it]."
        )
    return [list(tokenizer(part, add_special_tokens=False)["input_ids"]) for part in parts]


def _rendered(source: str, message: str, special_tokens: dict[str, Any]) -> str:
    sandbox = require("jinja2.sandbox", "Reading a chat template")

    def raise_exception(reason: str) -> None:  # called by templates for messages that they do not support
        raise TokenizerError(f"The chat template refuses a single user message: {reason}.")

    environment = sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = raise_exception
    messages = [{"role": "user", "content": message}]
    try:
        return str(
            environment.from_string(source).render(messages=messages, add_generation_prompt=True, **special_tokens)
        )
    except TokenizerError:
        raise
    except Exception as error:  # a template is a program: it may raise anything
        raise TokenizerError(f"The chat template fails: {error}.") from error
