"""The folder in which a user's compiled kernels are kept."""

from __future__ import annotations

import os
from pathlib import Path


def user_cache() -> Path:
    """The worker's folder in the user's cache; raises OSError for a user without a home."""
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        raise OSError("this user has no home folder; set XDG_CACHE_HOME to one") from None
    return cache / "spark-tts-serverless"
