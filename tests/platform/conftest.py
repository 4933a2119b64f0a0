"""Faults in reduced numbers, or with FAULTS=full (make faults) in full."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest


@pytest.fixture
def times() -> Callable[[int, int], int]:
    """How often: the first number in `make test`, the second in `make faults`."""
    return lambda reduced, full: full if os.environ.get("FAULTS") == "full" else reduced
