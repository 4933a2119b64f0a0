"""C for CPUs, where torch's own kernels are not the fastest: built once, then only opened.

A machine that cannot run it, or has no compiler, runs torch's kernels. The compiler is the
`ziglang` package's where that is installed, else the system's. What it makes is kept under a name
that is the digest of all that it was made from, so another source never meets an old library.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import weakref
from importlib.util import find_spec
from pathlib import Path
from typing import Self

from worker.logs import log

SOURCES = Path(__file__).parent
BASELINE = "x86_64_v4"  # the AVX512 that all server CPUs since 2017 share
SECONDS = 120  # that a compiler may take


class Kernel:
    """A built library with a team of threads that runs its functions."""

    def __init__(self, library: ctypes.CDLL, threads: int) -> None:
        self.library = library
        library.pool_open.restype = ctypes.c_void_p
        self.pool = ctypes.c_void_p(library.pool_open(threads))
        if not self.pool:
            raise MemoryError("no memory for a team of threads")
        # Not at the process's own end: another thread may still be in a call then.
        weakref.finalize(self, library.pool_close, self.pool).atexit = False

    @classmethod
    def of(cls, name: str, extensions: tuple[str, ...], threads: int) -> Self | None:
        """`name`.c with so many threads; None where this machine cannot run or build it."""
        library = open_library(name, extensions)
        return None if library is None else cls(library, threads)


def open_library(name: str, extensions: tuple[str, ...]) -> ctypes.CDLL | None:
    """`name`.c as a loaded library; None, and a line in the log, where it cannot be had.

    `extensions` are the CPU's that it needs beyond BASELINE, as Linux names them (avx512_vnni).
    """
    flags = {"avx512f", "avx512bw", "avx512dq", "avx512vl", "fma", "f16c", *extensions}
    lacking = sorted(flags - cpu_flags())
    if lacking:
        log.info("torch's kernels serve: this CPU lacks %s", ", ".join(lacking))
        return None
    compiler = _compiler(extensions)
    if compiler is None:
        log.info("torch's kernels serve: neither ziglang nor cc is there to build %s.c", name)
        return None
    try:
        library = _user_cache() / f"{name}-{_digest(name, compiler)}.so"
        if not library.exists():
            _build(name, compiler, library)
        return ctypes.CDLL(str(library))
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("torch's kernels serve: %s.c could not be built: %s", name, error)
        return None


def cpu_flags() -> set[str]:
    """What /proc/cpuinfo says that the CPU can; empty where there is none."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return set()
    return next((set(line.split()) for line in lines if line.startswith("flags")), set())


def cpu_has_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 faster than float32."""
    return bool({"avx512_bf16", "amx_bf16"} & cpu_flags())


def _compiler(extensions: tuple[str, ...]) -> list[str] | None:
    """A C compiler's command with all its options but the files."""
    wanted = [e.replace("_", "") for e in extensions]
    # No symbols and nothing for a debugger: they would tell the folder that was built in.
    options = ["-O3", "-std=gnu11", "-shared", "-fPIC", "-g0", "-s"]
    if find_spec("ziglang"):
        cpu = "+".join([BASELINE, *wanted])
        target = ["-target", "x86_64-linux-gnu.2.28", f"-mcpu={cpu}"]
        return [sys.executable, "-m", "ziglang", "cc", *options, *target]
    found = shutil.which("cc")
    cpu_options = [f"-march={BASELINE.replace('_', '-', 1)}".replace("_", "-")]
    return [found, *options, *cpu_options, *(f"-m{e}" for e in wanted)] if found else None


def _digest(name: str, compiler: list[str]) -> str:
    """Of the sources and of how they are built."""
    files = sorted({SOURCES / f"{name}.c", *SOURCES.glob("pool.*")})
    seen = hashlib.sha256(" ".join(compiler[1:]).encode())
    for file in files:
        seen.update(file.read_bytes())
    return seen.hexdigest()[:16]


def _build(name: str, compiler: list[str], library: Path) -> None:
    """Compile beside its place and rename into it: many may do so at once."""
    library.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        made = Path(folder) / library.name
        files = [str(SOURCES / f"{name}.c"), str(SOURCES / "pool.c")]
        caches = {f"ZIG_{what}_CACHE_DIR": f"{folder}/zig" for what in ("GLOBAL", "LOCAL")}
        done = subprocess.run(  # noqa: S603 - our own sources, no input
            [*compiler, *files, "-o", str(made), "-lm", "-lpthread"],
            env=os.environ | caches,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        if done.returncode:
            raise OSError(done.stderr.strip().splitlines()[-1:] or "the compiler said nothing")
        made.replace(library)


def _user_cache() -> Path:
    """Where a user's compiled kernels are kept; raises OSError for a user without a home."""
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        raise OSError("this user has no home folder; set XDG_CACHE_HOME to one") from None
    return cache / "spark-tts-serverless"
