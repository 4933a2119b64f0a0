"""Faults and hostile input in reduced numbers; in full with FULL=1 (make faults, make hostile)."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest


@pytest.fixture(scope="session")
def times() -> Callable[[int, int], int]:
    """How often, or how many: the first number in `make test`, the second in full."""
    return lambda reduced, full: full if os.environ.get("FULL") else reduced
