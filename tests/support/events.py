"""The events that were logged."""

from __future__ import annotations

from typing import Any

import pytest


def events(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, dict[str, Any]]]:
    """Level, name and fields of each."""
    return [
        (record.levelname, record.message, record.fields)
        for record in caplog.records
        if record.name == "worker"
    ]
