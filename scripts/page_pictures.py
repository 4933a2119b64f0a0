"""Pictures of the page at / while it speaks: light, dark, and as wide as a phone.

    make serve                                       in another window
    python -m scripts.page_pictures http://127.0.0.1:8000 docs

Writes page-light.png, page-dark.png and page-phone.png into the folder.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from playwright.sync_api import Browser, Page

from tests.support.browser import Seen, chromium, opened

TEXT = (
    "The morning was bright and clear. She opened the window and looked at the garden, and the "
    "birds began to sing."
)
_LOOKS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "light": {"color_scheme": "light", "viewport": {"width": 1040, "height": 880}},
        "dark": {"color_scheme": "dark", "viewport": {"width": 1040, "height": 880}},
        "phone": {"color_scheme": "light", "viewport": {"width": 390, "height": 844}},
    }
)


def take_pictures(
    browser: Browser, url: str, folder: Path, looks: Collection[str] = tuple(_LOOKS)
) -> list[Path]:
    """Take pictures of the page at `url`; give their paths."""
    paths = []
    for name in looks:
        path = folder / f"page-{name}.png"
        with opened(browser, url, **_LOOKS[name]) as seen:
            _speak(seen)
            _whole_height(seen.page)
            seen.page.screenshot(path=path)
        paths.append(path)
    return paths


def _speak(seen: Seen) -> None:
    """Have the text spoken a second time, up to its second sentence."""
    seen.wait("document.querySelector('#state').textContent === 'Ready.'")
    seen.write(TEXT)
    seen.speak()
    seen.wait_ended()
    seen.page.locator("#play").click()
    seen.wait("document.querySelector('#reading .now')?.dataset.start > 2.4")


def _whole_height(page: Page) -> None:
    """Make the window as high as the page, so that what sticks to its edge is in its place."""
    size = page.viewport_size
    height = page.evaluate("document.documentElement.scrollHeight")
    if size is not None and height > size["height"]:
        page.set_viewport_size({"width": size["width"], "height": height})


def main() -> None:
    """Take the pictures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url", help="where a worker answers that was started with --http")
    parser.add_argument("folder", type=Path, help="where the pictures go")
    arguments = parser.parse_args()
    with chromium() as browser:
        for path in take_pictures(browser, arguments.url, arguments.folder):
            print(path, path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
