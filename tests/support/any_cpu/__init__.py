"""The kernels of worker/speech/native where the CPU lacks their instructions: in plain C.

`immintrin.h` beside this stands in the place of the compiler's. So what the kernels compute, and
what calls them, is tested on each machine; how fast they are, only where they are at home.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from worker import cpu_info
from worker.speech.native import build
from worker.speech.native.lm import LmKernel

HERE = Path(__file__).parent
FLAGS = build.BASELINE_FLAGS | {"avx512_vnni", "avx512_bf16"}


def compiler(_extensions: tuple[str, ...] = ()) -> list[str]:
    """A C compiler's command for plain C; another one whenever the header is another."""
    found = shutil.which("cc")
    header = hashlib.sha256((HERE / "immintrin.h").read_bytes()).hexdigest()
    return [
        *([found] if found else [sys.executable, "-m", "ziglang", "cc"]),
        *("-O1", "-std=gnu11", "-ffp-contract=off", "-shared", "-fPIC", "-w", "-Wno-psabi"),
        *(f"-I{HERE}", f"-DHEADER=0x{header[:8]}"),
    ]


@contextmanager
def kernels(*extensions: str) -> Iterator[None]:
    """Within it a kernel that needs these of the CPU can be opened, whatever the CPU."""
    with pytest.MonkeyPatch.context() as patch:
        if not cpu_info.flags() >= build.BASELINE_FLAGS | set(extensions):
            patch.setattr(cpu_info, "flags", lambda: FLAGS)
            patch.setattr(build, "_compiler", compiler)
        yield


def lm_kernel() -> LmKernel:
    """The language model's kernel, on any machine: a lost compiler is a failure."""
    with kernels(*LmKernel.interface.extensions):
        found = LmKernel.open()
    assert found
    return found
