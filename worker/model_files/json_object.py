"""Reads a model's configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from worker.errors import SetupError


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file. Raises SetupError naming the file when it is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise SetupError(f"{path.parent.name}/{path.name} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise SetupError(f"{path.parent.name}/{path.name} is not a JSON object")
    return value
