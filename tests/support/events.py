"""The events that the worker logged, for the tests of all its packages."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import pytest

from worker.logs import log


@dataclass(frozen=True)
class Events:
    """The worker's events since the test began, DEBUG left out, in order."""

    _caplog: pytest.LogCaptureFixture

    def __call__(self) -> list[tuple[str, dict[str, Any]]]:
        """Each one's name and fields."""
        return [(record.getMessage(), record.fields) for record in self._records()]

    def with_levels(self) -> list[tuple[str, str, dict[str, Any]]]:
        """Each one's level, name and fields."""
        return [
            (record.levelname, record.getMessage(), record.fields) for record in self._records()
        ]

    def of(self, name: str) -> list[dict[str, Any]]:
        """The fields of each that has this name."""
        return [fields for given, fields in self() if given == name]

    def warnings(self) -> list[str]:
        """The names of those that an operator is warned with."""
        return [r.getMessage() for r in self._records() if r.levelno >= logging.WARNING]

    def _records(self) -> list[Any]:
        return [record for record in self._caplog.records if record.name == log.name]


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Events:
    """What is logged while the test runs."""
    monkeypatch.setattr(log, "propagate", True)
    caplog.set_level(logging.INFO, log.name)
    return Events(caplog)
