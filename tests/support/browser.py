"""A real browser on the page: Debian's chromium, which reaches nothing but the loopback.

`Heard` is what the loudspeaker would get: a recorder on the audio thread beside the destination.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright

from tests.support.waiting import until
from tests.support.worker_process import REPOSITORY

CHROMIUM = Path("/usr/bin/chromium")
AXE = REPOSITORY / ".venv/node/node_modules/axe-core/axe.min.js"
SECONDS = 60  # that a busy machine may take for anything that is waited for
_ARGUMENTS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--autoplay-policy=no-user-gesture-required",
    *("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
_LISTENS = (Path(__file__).parent / "browser_listens.js").read_text()


@contextmanager
def chromium(microphone: Path | None = None) -> Iterator[Browser]:
    """A browser; `microphone` is a WAV file that its microphone hears again and again."""
    if not CHROMIUM.exists():  # `make test` installs it, so no test of the page is passed over
        pytest.fail(f"there is no {CHROMIUM}; install Debian's package chromium", pytrace=False)
    arguments = [*_ARGUMENTS]
    if microphone is not None:
        arguments.append(f"--use-file-for-fake-audio-capture={microphone}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=arguments)
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Seen:
    """A page that is open, and what went wrong on it."""

    page: Page
    faults: list[str] = field(default_factory=list)
    expected: tuple[str, ...] = ()  # parts of console errors that the test provokes

    def add(self, message: ConsoleMessage) -> None:
        """Keep an error of the console, a violation of the security policy among them."""
        if message.type in ("error", "warning") and not any(
            part in message.text for part in self.expected
        ):
            self.faults.append(message.text)

    def text(self, id: str) -> str:  # noqa: A002
        return self.page.locator(f"#{id}").text_content() or ""

    def wait(self, condition: str) -> None:
        """Wait until the expression is true in the page."""
        # Playwright's own wait would be an eval, which the page's security policy forbids.
        until(
            lambda: bool(self.page.evaluate(condition)),
            SECONDS,
            pause=0.03,
            said=lambda: f"{condition}: {self.text('state')} {self.text('error')} {self.faults}",
        )

    def wait_state(self, *states: str) -> None:
        """Wait until the player is in one of the states."""
        self.wait(f"{list(states)}.includes(document.querySelector('#player').dataset.state)")

    def wait_ended(self) -> None:
        """Wait until a whole speech was heard to its end."""
        self.wait(
            "document.querySelector('#player').dataset.state === 'ended' && "
            "document.querySelector('#stop').disabled"
        )

    def write(self, text: str) -> None:
        self.page.locator("#text").fill(text)

    def choose(self, kind: str) -> None:
        """Choose a kind of voice."""
        self.page.get_by_label(kind, exact=True).check()

    def speak(self) -> None:
        self.page.locator("#speak").click()


@contextmanager
def opened(
    browser: Browser,
    url: str,
    *,
    expected: tuple[str, ...] = (),
    script: str | None = None,
    **options: Any,
) -> Iterator[Seen]:
    """The page, in a fresh session of the browser; any error on it fails the test."""
    context: BrowserContext = browser.new_context(**options)
    context.set_default_timeout(1000 * SECONDS)
    if script is not None:
        context.add_init_script(script)
    seen = Seen(context.new_page(), expected=expected)
    seen.page.on("console", seen.add)
    seen.page.on("pageerror", lambda error: seen.faults.append(str(error)))
    try:
        seen.page.goto(url)
        yield seen
    finally:
        context.close()
    assert seen.faults == []


@contextmanager
def listening(browser: Browser, url: str, **options: Any) -> Iterator[Seen]:
    """The same with a recorder; the security policy would not let it in, so it is off."""
    with opened(browser, url, script=_LISTENS, bypass_csp=True, **options) as seen:
        yield seen


@dataclass(frozen=True)
class Heard:
    """What came out, and where on the audio clock each piece was put."""

    samples: np.ndarray  # float32 [n], from frame 0 of the audio clock on
    pieces: tuple[tuple[int, int], ...]  # first frame, frames
    received_at_first_sound: str
    words: tuple[str, ...]  # that lit up, in order

    @classmethod
    def of(cls, seen: Seen) -> Heard:
        """What was heard until now."""
        heard = seen.page.evaluate("window.heardByTest()")
        return cls(
            np.frombuffer(base64.b64decode(heard["samples"]), np.float32),
            tuple((first, count) for first, count in heard["pieces"]),
            heard["received"],
            tuple(heard["words"]),
        )
