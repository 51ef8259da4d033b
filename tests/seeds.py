"""Seeds of tests that draw their cases, divided among the runs."""

from typing import Any

import pytest


def seeds(default: int, all_: int) -> list[Any]:
    """Seeds for the default run, a fifth of all for CI's second stage, and the rest for nightly runs."""
    marks: list[Any] = [[]] * default + [[pytest.mark.slow]] * (all_ // 5 - default)
    marks += [[pytest.mark.nightly]] * (all_ - len(marks))
    return [pytest.param(seed, marks=marks[seed]) for seed in range(all_)]
