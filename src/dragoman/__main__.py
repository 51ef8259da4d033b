"""The command line: `dragoman` and `python -m dragoman`."""

import sys
from importlib import import_module

from dragoman import _interrupts


def main() -> int:
    """Run the command and return its exit code."""
    _interrupts.end_at_once()
    code: int = import_module("dragoman.cli").main()  # only now: the import itself can be interrupted
    return code


if __name__ == "__main__":
    sys.exit(main())
