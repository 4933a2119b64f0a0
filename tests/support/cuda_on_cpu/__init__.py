"""CUDA kernels on a CPU: the package's own .cu files, compiled with CUDA's words explained to C++.

See shim.h for what stands in for what. Numbers are those of a GPU but for the order in which a
tensor core adds.
"""

from __future__ import annotations

import ctypes
import hashlib
import subprocess
import sys
from functools import cache
from pathlib import Path
from threading import Lock
from typing import ClassVar

from worker.atomic_write import replacing
from worker.speech.cuda import lm
from worker.user_cache import user_cache

HERE = Path(__file__).parent
SOURCES = Path(lm.__file__).parent
OPTIONS = ("-std=c++17", "-O2", "-shared", "-fPIC", "-g0", "-fno-exceptions", "-fno-rtti")


@cache
def built(name: str) -> Path:
    """The library of NAME.cu, kept by the digest of all that it was made from."""
    files = sorted([*SOURCES.glob("*.cu*"), *HERE.glob("shim.*")])
    seen = hashlib.sha256(" ".join(OPTIONS).encode())
    for file in files:
        seen.update(file.read_bytes())
    library = user_cache() / f"{name}-on-cpu-{seen.hexdigest()[:16]}.so"
    if not library.exists():
        library.parent.mkdir(parents=True, exist_ok=True)
        with replacing(library) as made:
            command = [sys.executable, "-m", "ziglang", "cc", *OPTIONS, "-nostdinc++"]
            sources = [str(SOURCES / f"{name}.cu"), str(HERE / "shim.cpp")]
            included = ["-include", str(HERE / "shim.h"), "-x", "c++"]
            subprocess.run([*command, *included, *sources, "-o", str(made)], check=True)
    return library


class CpuLauncher:
    """The kernels of one file as a Launcher has them, run at once."""

    processors = 2  # few, so that blocks have several tiles
    _turn: ClassVar = Lock()  # a block's threads and what they share have one place

    def __init__(self, name: str = "lm") -> None:
        self.library = ctypes.CDLL(str(built(name)))
        self._overlaps = name != "codec"  # whose kernels may begin before the last has ended
        self.launched: list[str] = []  # the kernels' names, in order

    def launch(
        self, name: str, grid: tuple[int, int, int], threads: int, arguments: ctypes.Structure
    ) -> None:
        """Run a kernel over its grid, and wait for it."""
        self.launched.append(name)
        size = ctypes.c_size_t.in_dll(self.library, f"{name}_size").value
        if size != ctypes.sizeof(arguments):
            raise TypeError(f"{name} takes {size} bytes, not {ctypes.sizeof(arguments)}")
        kernel = ctypes.cast(getattr(self.library, name), ctypes.c_void_p)
        with self._turn:
            failed = self.library.run(kernel, ctypes.byref(arguments), *grid, threads)
            unwaited = ctypes.c_ulonglong.in_dll(self.library, "ended_unwaited").value
        if failed:
            raise RuntimeError(f"the threads of {name} wait for each other for ever")
        if unwaited and self._overlaps:
            raise RuntimeError(f"{unwaited} threads of {name} do not wait for the kernel before")
