"""Regular expressions of tokenizer files that would take exponential time.

In `(a+)+b` a run of n letters can be divided among the repetitions in 2ⁿ ways, and all of them are tried where the
match fails. The Rust library stops each match after a second, but a text has many places where one may begin.
"""

import re

# An escape, a class of characters, a group's start or end, or an unbounded quantifier (possessive if `+` follows).
_PARTS = re.compile(
    r"\\.|\[\^?\]?(?:\\.|\[:\^?\w+:\]|[^\]\\])*\]|(\((?:\?[^)(]*?[:>=!])?)|(\))|([+*]|\{\d*,\})([+?]?)", re.DOTALL
)


def repeats_repetitions(pattern: str) -> bool:
    """Return whether an unbounded repetition is itself repeated without bound."""
    groups = [False]  # for each open group, whether it holds an unbounded repetition
    atomic = []
    closed: bool | None = None  # whether the group that has just ended holds one
    end = 0
    for found in _PARTS.finditer(pattern):
        start, stop, quantifier, mode = found.groups()
        after_group = closed is not None and found.start() == end
        if start:
            groups.append(False)
            atomic.append(start.startswith(("(?>", "(?=", "(?!", "(?<=", "(?<!")))
        elif quantifier and mode != "+":
            if after_group and closed:
                return True
            groups[-1] = True
        closed = None
        if stop and atomic:
            held, is_atomic = groups.pop(), atomic.pop()
            inner = held and not is_atomic
            groups[-1] |= inner
            closed = inner
        end = found.end()
    return False
