"""Loads large libraries by their places, before torch's import asks for them by their names.

The import would load them one after the other and under Python's lock, with a page fault for each
of their pages. Here each comes after those that it needs, and when its pages have been read ahead.
What calls Python is left to Python.

The dynamic linker has one lock for all, which the largest of them keeps for a quarter of a second:
its initialisation. Python loads extension modules with its own lock held, so that whoever imports
one meanwhile would hold up all threads, those that read ahead among them. So what has many is
imported before (FIRST), and every other import of one waits here, without Python's lock.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from importlib.machinery import ExtensionFileLoader, ModuleSpec
from pathlib import Path
from types import ModuleType

from volume.start_pack.contents import package_of
from volume.start_pack.read_ahead import Reading

# Modules with libraries of their own that a worker of either door imports: while the linker is busy
# there is enough left to import that has none.
FIRST = (
    *("asyncio", "csv", "decimal", "pickle", "queue", "ssl", "unicodedata", "uuid", "zoneinfo"),
    *("pydantic_core", "numpy", "aiohttp", "charset_normalizer"),
)


def import_first() -> None:
    """Import what has libraries of its own, before the linker is busy; what fails, fails later."""
    for name in FIRST:
        with suppress(ImportError):
            import_module(name)


_BUSY = threading.Lock()  # while the preload loads a library


def wait_for_the_linker() -> None:
    """Wait while the preload loads a library, without Python's lock; nothing is held afterwards."""
    with _BUSY:
        pass


def have_imports_wait() -> None:
    """Have each import of an extension module wait for the linker, from now on.

    Nothing is held while the module is made: its code may import, and wait for other threads.
    """
    create_module = ExtensionFileLoader.create_module

    def create_later(loader: ExtensionFileLoader, spec: ModuleSpec) -> ModuleType:
        wait_for_the_linker()
        return create_module(loader, spec)

    ExtensionFileLoader.create_module = create_later  # type: ignore[method-assign,assignment] # of all


def preload(
    system: Sequence[str],
    libraries: Sequence[tuple[str, Reading | None]],
    place_of: Callable[[str], Path],
    begin: threading.Event,
) -> dict[str, threading.Event]:
    """Load these libraries in a thread, each when it is read; a failure is left to who needs it.

    First come those of the `system`, by their names: they too would be looked for by RPATH; then
    those of FIRST, and all others at the event `begin`. `place_of` gives the place of a library,
    and may wait for it. Returns for each package an event, which is set when its libraries are
    loaded, or never will be.
    """
    linker = ctypes.CDLL(None)  # whose calls, unlike ctypes.CDLL(path), are without Python's lock
    linker.dlopen.restype = ctypes.c_void_p
    last = {package_of(path): path for path, _ in libraries}
    loaded = {package: threading.Event() for package in last}

    def load(name: bytes) -> None:
        with _BUSY:
            linker.dlopen(name, os.RTLD_LAZY | os.RTLD_LOCAL)

    def load_all() -> None:
        try:
            for name in system:
                load(name.encode())
            for path, reading in sorted(libraries, key=lambda one: package_of(one[0]) not in FIRST):
                if package_of(path) not in FIRST:
                    begin.wait()
                if reading is not None:
                    reading.done.wait()
                load(os.fsencode(place_of(path)))
                if last[package_of(path)] == path:
                    loaded[package_of(path)].set()
        finally:
            for event in loaded.values():
                event.set()

    threading.Thread(target=load_all, name="preload", daemon=True).start()
    return loaded
