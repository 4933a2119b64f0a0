"""Large libraries are loaded in an order; nobody waits for the linker with Python's lock held."""

from __future__ import annotations

import sys
import threading
from importlib.machinery import ExtensionFileLoader
from pathlib import Path

import pytest

from tests.support.waiting import until
from volume.start_pack import preload as module
from volume.start_pack.preload import (
    FIRST,
    have_imports_wait,
    import_first,
    preload,
    wait_for_the_linker,
)
from volume.start_pack.read_ahead import Reading

SECONDS = 60


def read(path: str) -> Reading:
    reading = Reading(Path(path), None)
    reading.done.set()
    return reading


def test_what_comes_first_does_not_wait_for_the_signal() -> None:
    begin, asked = threading.Event(), []

    def place_of(path: str) -> Path:
        asked.append(path)
        return Path("/nowhere") / path

    libraries = [("torch/lib/a.so", read("a")), (f"{FIRST[-1]}/b.so", None)]
    loaded = preload(["libm.so.6"], libraries, place_of, begin)
    assert loaded.keys() == {"torch", FIRST[-1]}
    assert loaded[FIRST[-1]].wait(SECONDS)
    assert not loaded["torch"].is_set()
    assert asked == [f"{FIRST[-1]}/b.so"]
    begin.set()
    assert loaded["torch"].wait(SECONDS)
    assert asked == [f"{FIRST[-1]}/b.so", "torch/lib/a.so"]


def test_a_library_is_loaded_when_it_has_been_read() -> None:
    begin, reading = threading.Event(), Reading(Path("a"), None)
    begin.set()
    loaded = preload([], [("torch/lib/a.so", reading)], lambda path: Path("/nowhere") / path, begin)
    assert not loaded["torch"].wait(0.1)
    reading.done.set()
    assert loaded["torch"].wait(SECONDS)


def test_a_failure_leaves_nobody_waiting() -> None:
    def refuse(_path: str) -> Path:
        raise OSError

    begin = threading.Event()
    begin.set()
    libraries = [("torch/lib/a.so", None), ("other/b.so", None)]
    hook, threading.excepthook = threading.excepthook, lambda _: None
    try:
        loaded = preload([], libraries, refuse, begin)
        assert all(event.wait(SECONDS) for event in loaded.values())
    finally:
        threading.excepthook = hook


def test_an_import_waits_for_the_linker_while_other_threads_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The module has a library, and is made anew: nobody else has it."""
    monkeypatch.setattr(
        ExtensionFileLoader, "create_module", ExtensionFileLoader.create_module
    )  # put back afterwards
    have_imports_wait()
    monkeypatch.delitem(sys.modules, "_queue", raising=False)
    importing = threading.Thread(target=__import__, args=("_queue",), daemon=True)
    with module._BUSY:
        importing.start()
        importing.join(0.2)  # which takes turns with it: it keeps no lock of Python's
        assert importing.is_alive()
    until(lambda: not importing.is_alive(), SECONDS)
    assert "_queue" in sys.modules


def test_the_wait_holds_nothing() -> None:
    wait_for_the_linker()
    assert module._BUSY.acquire(blocking=False)
    module._BUSY.release()


def test_what_cannot_be_imported_first_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST", ("no_such_module", "queue"))
    import_first()
    assert "queue" in sys.modules


def test_what_comes_first_is_what_a_start_imports() -> None:
    import_first()
    assert set(FIRST) <= set(sys.modules)
