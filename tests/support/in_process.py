"""A worker's programs called in the test's own process, where they end before they load a model."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest


@contextmanager
def in_process(env: Mapping[str, str], *arguments: str) -> Iterator[None]:
    """What such a program finds, `sys.argv` and its environment; what it sets is taken back."""
    interval = sys.getswitchinterval()
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ.keys() - env.keys():
            patch.delenv(name)
        for name, value in env.items():
            patch.setenv(name, value)
        patch.setattr(sys, "argv", list(arguments))
        try:
            yield
        finally:
            sys.setswitchinterval(interval)
