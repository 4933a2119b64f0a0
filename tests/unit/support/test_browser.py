"""Where there is no browser, the tests of the page fail: a skip would hide it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import browser


def test_without_a_browser_a_test_fails_and_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(browser, "CHROMIUM", tmp_path / "chromium")
    with pytest.raises(pytest.fail.Exception, match="install Debian's package chromium"):
        browser.chromium().__enter__()
