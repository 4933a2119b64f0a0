"""Loads large libraries by their places, before torch's import asks for them by their names.

The import would load them one after the other and under Python's lock, with a page fault for each
of their pages. Here each comes after those that it needs, and when its pages have been read ahead,
for the dynamic linker has one lock for all. What calls Python is left to Python.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Sequence
from pathlib import Path

from volume.start_pack.read_ahead import Reading


def preload(
    system: Sequence[str], libraries: Sequence[tuple[Path, Reading | None]]
) -> threading.Thread:
    """Load these libraries in a thread, each when it is read; a failure is left to who needs it.

    First those of the `system`, by their names: they too would be looked for by RPATH.
    """
    linker = ctypes.CDLL(None)  # whose calls, unlike ctypes.CDLL(path), are without Python's lock
    linker.dlopen.restype = ctypes.c_void_p

    def load() -> None:
        for name in system:
            linker.dlopen(name.encode(), os.RTLD_LAZY | os.RTLD_LOCAL)
        for path, reading in libraries:
            if reading is not None:
                reading.done.wait()
            linker.dlopen(os.fsencode(path), os.RTLD_LAZY | os.RTLD_LOCAL)

    thread = threading.Thread(target=load, name="preload", daemon=True)
    thread.start()
    return thread
