"""Renders a chat template in a process of its own, with limits of time and memory; run by `chat`, never imported.

Reads a JSON object from standard input and writes one: the text, or why there is none.
"""

import json
import sys
from typing import Any

_SECONDS = 5
_BYTES = 2**30  # of addresses; an interpreter with Jinja takes a few hundred megabytes
_MAX_OUTPUT = 2**20  # characters


def main() -> None:
    """Render one template."""
    given = json.load(sys.stdin)
    sys.path[:] = given["path"]
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS, _SECONDS))
        resource.setrlimit(resource.RLIMIT_AS, (_BYTES, _BYTES))
    except (ImportError, ValueError, OSError):
        pass  # where there are no such limits, the caller's own limit of time remains
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    found: dict[str, Any] = {}

    def raise_exception(reason: str) -> None:  # called by templates for messages that they do not support
        found["refused"] = str(reason)[:500]
        raise ValueError(reason)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = raise_exception
    try:
        text = environment.from_string(given["source"]).render(**given["values"])
        found = {"text": text} if len(text) <= _MAX_OUTPUT else {"error": f"it writes {len(text):,} characters"}
    except Exception as error:  # a template is a program: it may raise anything
        found.setdefault("error", f"{type(error).__name__}: {error}"[:500])
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
