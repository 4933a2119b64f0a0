"""Loads large libraries by their places, before torch's import asks for them by their names.

The import would load them one after the other and under Python's lock, with a page fault for each
of their pages. Here each comes after those that it needs, and when its pages have been read ahead,
for the dynamic linker has one lock for all. What calls Python is left to Python.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from volume.start_pack.contents import package_of
from volume.start_pack.read_ahead import Reading


def preload(
    system: Sequence[str],
    libraries: Sequence[tuple[str, Reading | None]],
    place_of: Callable[[str], Path],
) -> dict[str, threading.Event]:
    """Load these libraries in a thread, each when it is read; a failure is left to who needs it.

    First those of the `system`, by their names: they too would be looked for by RPATH. `place_of`
    gives the place of a library, and may wait for it. Returns for each package an event, which is
    set when its libraries are loaded, or never will be.
    """
    linker = ctypes.CDLL(None)  # whose calls, unlike ctypes.CDLL(path), are without Python's lock
    linker.dlopen.restype = ctypes.c_void_p
    last = {package_of(path): path for path, _ in libraries}
    loaded = {package: threading.Event() for package in last}

    def load(name: bytes) -> None:
        linker.dlopen(name, os.RTLD_LAZY | os.RTLD_LOCAL)

    def load_all() -> None:
        try:
            for name in system:
                load(name.encode())
            for path, reading in libraries:
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
