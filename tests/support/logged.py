"""What was logged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from worker.logs import log

Events = Callable[[], list[tuple[str, dict[str, Any]]]]  # each one's name and fields, in order


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Events:
    """Gives the worker's events since the test began."""
    monkeypatch.setattr(log, "propagate", True)
    caplog.set_level("INFO", log.name)
    return lambda: [(record.getMessage(), record.fields) for record in caplog.records]
