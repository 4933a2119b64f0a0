"""The two tiers of the tests: what is marked `slow`, and a watch that keeps the rest quick.

A quick test starts no process, needs no compiled C and trains nothing: `make check` runs it at
every edit. All that lies outside QUICK_FOLDERS is slow, and so is what asks for one of
SLOW_FIXTURES; any other slow test has the mark `slow`, with the reason. QuickWatch fails an
unmarked test that does one of these things all the same.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Generator
from multiprocessing.process import BaseProcess
from typing import Any

import pytest

QUICK_FOLDERS = ("unit", "parity")
SLOW_FIXTURES = {
    "demo_volume": "starts `python -m volume install`",
    "judge": "listens with Whisper base",
    "kernel": "compiles C",
}
# Python's own audit events of a process that begins; compilers are such processes.
_PROCESSES = {
    *("subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system"),
    "os.exec",
}
_KERNELS = "/spark-tts-serverless/"  # the folder of compiled kernels in a user's cache


def is_slow(item: pytest.Item) -> bool:
    """Whether a test is left out of `make check`: by its mark, its folder or its fixtures."""
    if item.get_closest_marker("slow") is not None:
        return True
    folders = item.path.relative_to(item.config.rootpath).parts
    if folders[0] != "tests" or folders[1] not in QUICK_FOLDERS:
        return True
    return not SLOW_FIXTURES.keys().isdisjoint(getattr(item, "fixturenames", ()))


# Those with the longest tests first, so that two processes end at about the same time. The unit
# tests of scripts/ have a long one, the sample of mutants.
_ORDER = ("nix", "scripts", "platform", "bench", "e2e", "parity", "unit")


def place(item: pytest.Item) -> int:
    """Where a test stands in the order of a session."""
    folders = item.path.relative_to(item.config.rootpath).parts
    return next((n for n, folder in enumerate(_ORDER) if folder in folders[:3]), 0)


class QuickWatch:
    """Plugin of pytest: fails a quick test that starts a process, opens compiled C or trains."""

    def __init__(self) -> None:
        self._seen: list[str] | None = None
        self._before: set[int | None] = set()
        self._hears_torch = False
        sys.addaudithook(self._note)
        start = BaseProcess.start

        def noted(process: BaseProcess) -> None:
            self._add(f"{process!r}")
            start(process)

        # Neither spawn nor forkserver is an audit event.
        BaseProcess.start = noted  # type: ignore[method-assign] # the standard library's, watched

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None]:
        """Watch from here on: what fixtures do counts."""
        self._hear_torch()
        # What a thread of an earlier test still does is not this one's.
        self._before = {t.ident for t in threading.enumerate()} - {threading.get_ident()}
        self._seen = None if item.get_closest_marker("slow") else []
        return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None]:
        """Fail a test that did more than a quick one may."""
        try:
            self._hear_torch()
            result = yield
        finally:
            seen, self._seen = self._seen, None
        if seen:
            first = seen[0] if len(seen[0]) < 300 else f"{seen[0][:300]}..."
            pytest.fail(f"not quick: mark it `slow`, with the reason: {first}", pytrace=False)
        return result

    def _hear_torch(self) -> None:
        """Training is a step of any of torch's optimisers, where torch is imported at all."""
        torch = sys.modules.get("torch.optim.optimizer")
        if torch is not None and not self._hears_torch:
            torch.register_optimizer_step_pre_hook(lambda *_: self._add("a step of training"))
            self._hears_torch = True

    def _note(self, event: str, args: tuple[Any, ...]) -> None:
        # Compiled C is in the user's cache as a rule, so that its use is what tells of a compiler.
        if event in _PROCESSES or (event == "ctypes.dlopen" and _KERNELS in str(args[0])):
            self._add(f"{event}{args[:2]!r}")

    def _add(self, what: str) -> None:
        if self._seen is not None and threading.get_ident() not in self._before:
            self._seen.append(what)
