"""The prompt around the speech, from the chat template of the text model's tokenizer.

Templates are untrusted Jinja programs: they run in Jinja's own sandbox, which only lets them build strings,
and in a process of its own with limits of time and memory (`chat_render`).
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from dragoman._lazy import require
from dragoman.errors import TokenizerError

_SPEECH = "\N{OBJECT REPLACEMENT CHARACTER}speech\N{OBJECT REPLACEMENT CHARACTER}"
_MAX_LENGTH = 2**16  # characters of a template; the longest in use have a quarter of that
_SECONDS = 8  # of the process; the template has five


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
    require("jinja2.sandbox", "Reading a chat template")
    messages = [{"role": "user", "content": message}]
    given = {
        "path": sys.path,
        "source": source,
        "values": {"messages": messages, "add_generation_prompt": True, **special_tokens},
    }
    script = Path(__file__).with_name("chat_render.py")
    try:
        done = subprocess.run(
            [sys.executable, str(script)], input=json.dumps(given).encode(), capture_output=True, timeout=_SECONDS
        )
        found = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:  # it was stopped by a limit
        raise TokenizerError(
            f"The chat template fails: it takes more than {_SECONDS} seconds or a gigabyte of memory."
        ) from error
    if "refused" in found:
        raise TokenizerError(f"The chat template refuses a single user message: {found['refused']}.")
    if "text" not in found:
        raise TokenizerError(f"The chat template fails: {found['error']}.")
    return str(found["text"])
