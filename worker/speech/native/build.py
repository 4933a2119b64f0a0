"""Builds the C files beside this one at their first use, and opens the libraries.

A machine that cannot run them, or has no compiler, runs torch's kernels. The compiler is the
`ziglang` package's where that is installed, else the system's. A library is kept in the user's
cache, and its name holds the digest of all that it was made from, so that another source never
meets an old library.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Self

from worker import cpu_info
from worker.atomic_write import replacing
from worker.logs import event
from worker.user_cache import user_cache

SOURCES = Path(__file__).parent
BASELINE = "x86_64_v4"  # the AVX512 that all server CPUs since 2017 share
BASELINE_FLAGS = frozenset({"avx512f", "avx512bw", "avx512dq", "avx512vl", "fma", "f16c"})
SECONDS = 120  # that a compiler may take
POINTER, INT, INT64 = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64

# What ctypes takes for a type: simple ones, structures, pointers.
CType = Any
# A function's result and its arguments; None for a function without a result.
Signature = tuple[CType, tuple[CType, ...]]
POOL_FUNCTIONS: Mapping[str, Signature] = {
    "pool_open": (POINTER, (INT,)),
    "pool_close": (None, (POINTER,)),
}


class InterfaceError(Exception):
    """A library is not what Python was written for; the message says in what."""


@dataclass(frozen=True)
class Interface:
    """A C file as Python calls it: its functions, and the structs that Python fills for them."""

    name: str  # of the C file
    extensions: tuple[str, ...]  # of the CPU, beyond BASELINE, as Linux names them (avx512_vnni)
    functions: Mapping[str, Signature]
    structs: tuple[type[ctypes.Structure], ...]  # in the order of the C file's NAME_struct_sizes

    def bind(self, library: ctypes.CDLL) -> None:
        """Give the library's functions their types.

        Raises InterfaceError where it lacks a function, or its structs have other sizes.
        """
        sizes = f"{self.name}_struct_sizes"
        listed = {**self.functions, **POOL_FUNCTIONS, sizes: (ctypes.POINTER(INT64), ())}
        for function, (result, arguments) in listed.items():
            try:
                called = getattr(library, function)
            except AttributeError:
                raise InterfaceError(f"it has no function {function}") from None
            called.restype, called.argtypes = result, arguments
        theirs = getattr(library, sizes)()  # of each struct, then 0
        for place, struct in enumerate(self.structs):
            if theirs[place] != ctypes.sizeof(struct):
                raise InterfaceError(
                    f"{struct.__name__} has {theirs[place]} bytes in C and "
                    f"{ctypes.sizeof(struct)} in Python"
                )
        if theirs[len(self.structs)]:
            raise InterfaceError(f"it has more structs than the {len(self.structs)} of Python")


class Kernel:
    """A built library with a team of threads that runs its functions."""

    interface: ClassVar[Interface]

    def __init__(self, library: ctypes.CDLL, threads: int) -> None:
        """`library` has been bound to the interface."""
        self.library = library
        self.pool = POINTER(library.pool_open(threads))
        if not self.pool:
            raise MemoryError("no memory for a team of threads")
        # Not at the process's own end: another thread may still be in a call then.
        weakref.finalize(self, library.pool_close, self.pool).atexit = False

    @classmethod
    def open(cls, threads: int | None = None) -> Self | None:
        """With so many threads, else one for each core; None where this machine cannot run it."""
        library = open_library(cls.interface)
        return None if library is None else cls(library, threads or cores())


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))


def open_library(interface: Interface) -> ctypes.CDLL | None:
    """The interface's library, loaded and bound; None, and an event, where it cannot be had."""
    name = interface.name
    lacking = sorted((BASELINE_FLAGS | {*interface.extensions}) - cpu_info.flags())
    if lacking:
        event(logging.INFO, "CPU lacks what a kernel needs", kernel=name, lacking=[*lacking])
        return None
    compiler = _compiler(interface.extensions)
    if compiler is None:
        event(logging.INFO, "no compiler for a kernel", kernel=name)
        return None
    try:
        path = user_cache() / f"{name}-{_digest(name, compiler)}.so"
        if not path.exists():
            _build(name, compiler, path)
        library = ctypes.CDLL(str(path))
        interface.bind(library)
    except subprocess.TimeoutExpired:
        event(logging.WARNING, "kernel took too long to build", kernel=name, seconds=SECONDS)
    except OSError as error:
        event(logging.WARNING, "kernel could not be built", kernel=name, error=str(error))
    except InterfaceError as error:
        event(logging.WARNING, "kernel does not fit the worker", kernel=name, error=str(error))
    else:
        return library
    return None


def _compiler(extensions: tuple[str, ...]) -> list[str] | None:
    """A C compiler's command with all its options but the files; None where there is none."""
    wanted = [e.replace("_", "") for e in extensions]
    # No symbols and nothing for a debugger: they would tell the folder that was built in.
    options = ["-O3", "-std=gnu11", "-shared", "-fPIC", "-g0", "-s"]
    if find_spec("ziglang"):
        cpu = "+".join([BASELINE, *wanted])
        target = ["-target", "x86_64-linux-gnu.2.28", f"-mcpu={cpu}"]
        return [sys.executable, "-m", "ziglang", "cc", *options, *target]
    found = shutil.which("cc")
    cpu_options = [f"-march={BASELINE}".replace("_", "-")]
    return [found, *options, *cpu_options, *(f"-m{e}" for e in wanted)] if found else None


def _digest(name: str, compiler: list[str]) -> str:
    """A digest of the sources and of how they are built."""
    files = sorted({SOURCES / f"{name}.c", *SOURCES.glob("pool.*")})
    seen = hashlib.sha256(" ".join(compiler[1:]).encode())
    for file in files:
        seen.update(file.read_bytes())
    return seen.hexdigest()[:16]


def _build(name: str, compiler: list[str], library: Path) -> None:
    """Compile NAME.c into `library`; many processes may do so at once.

    Raises OSError, or TimeoutExpired.
    """
    library.parent.mkdir(parents=True, exist_ok=True)
    # What the compiler itself keeps goes with the second folder.
    with replacing(library) as made, tempfile.TemporaryDirectory(dir=library.parent) as kept:
        files = [str(SOURCES / f"{name}.c"), str(SOURCES / "pool.c")]
        caches = {f"ZIG_{what}_CACHE_DIR": kept for what in ("GLOBAL", "LOCAL")}
        done = subprocess.run(  # noqa: S603 - our own sources, no input
            [*compiler, *files, "-o", str(made), "-lm", "-lpthread"],
            env=os.environ | caches,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        if done.returncode:
            said = done.stderr.strip().splitlines() or ["the compiler failed and said nothing"]
            raise OSError(next((line for line in said if "error:" in line), said[-1]))
