"""Where a user's compiled kernels are kept."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from worker.user_cache import user_cache


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_it_is_where_the_user_says(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_cache() == tmp_path / "spark-tts-serverless"


@pytest.mark.parametrize("cache", ["", None])
def test_else_it_is_below_the_home(
    home: Path, monkeypatch: pytest.MonkeyPatch, cache: str | None
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    if cache is not None:
        monkeypatch.setenv("XDG_CACHE_HOME", cache)
    assert user_cache() == home / ".cache" / "spark-tts-serverless"


def test_a_user_without_a_home_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container whose user id is in no /etc/passwd: pathlib asks there."""
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(os, "getuid", lambda: (1 << 31) - 5)
    with pytest.raises(OSError, match="set XDG_CACHE_HOME"):
        user_cache()
