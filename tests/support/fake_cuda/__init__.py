"""A libcuda that is compiled from C (cuda.c beside this), so that ctypes' calls really happen."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).parent


def compile_c(source: str, made: Path, *options: str) -> Path:
    """Compile a file of this folder against NVIDIA's cuda.h, by the compiler that is there."""
    zig = [sys.executable, "-m", "ziglang", "cc"] if find_spec("ziglang") else None
    cc = shutil.which("cc")
    compiler = [cc] if cc else zig
    assert compiler is not None
    command = [*compiler, "-O1", "-std=gnu11", "-pthread", *options, f"-I{cuda_headers()}"]
    subprocess.run([*command, str(HERE / source), "-o", str(made)], check=True)
    return made


def cuda_headers() -> Path:
    """The folder with cuda.h, which torch's and Triton's wheels bring."""
    places = ("nvidia/cuda_runtime/include", "triton/backends/nvidia/include")
    found = [Path(folder) / place for folder in sys.path for place in places]
    return next(folder for folder in found if (folder / "cuda.h").is_file())


@dataclass(frozen=True)
class FakeCuda:
    """The built library, and what it was asked."""

    path: Path

    @property
    def library(self) -> ctypes.CDLL:
        library = ctypes.CDLL(str(self.path))
        library.fake_log.restype = ctypes.c_char_p
        return library

    @property
    def lines(self) -> list[str]:
        """What was launched and entered, in order."""
        return list(self.library.fake_log().decode().splitlines())

    def reset(self) -> None:
        """Forget everything, and give this thread a context, as torch does."""
        self.library.fake_reset()

    def fail(self, function: str, status: int) -> None:
        self.library.fake_fail(function.encode(), status)

    def forget_context(self) -> None:
        """Leave this thread without a context, as a new one is."""
        self.library.fake_forget_context()


def build(folder: Path) -> FakeCuda:
    """Build the library into a folder."""
    return FakeCuda(compile_c("cuda.c", folder / "libcuda.so.1", "-shared", "-fPIC", "-Wall"))
