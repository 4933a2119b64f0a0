"""NVRTC, NVIDIA's compiler as a library: CUDA C to a cubin, without a GPU or a C compiler.

It comes with torch, as a wheel of the environment. The calls are those of nvrtc.h; the same
sources, options and library give the same bytes.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

OPTIONS = (
    "--std=c++17",
    "--device-as-default-execution-space",  # as a host compiler reads the same functions
    "--no-source-include",  # what a file includes is given with it, whatever the folder holds
)
# Below a site-packages: the wheels of CUDA 12 have a folder for each library, those of 13 one for
# all. Then where CUDA's own installers put it.
_IN_WHEELS = ("nvidia/cuda_nvrtc/lib", "nvidia/cu13/lib")
_IN_SYSTEM = (Path("/usr/local/cuda/lib64"), Path("/usr/lib/x86_64-linux-gnu"))
_NAME = "libnvrtc.so.[0-9]*"
_LOG_END = 4_000  # characters of a compiler's log that an error tells, from its end


class CompileError(Exception):
    """NVRTC gave no cubin; the message has the end of its log, or says what else was wrong."""


@dataclass(frozen=True)
class Library:
    """NVRTC's file, and a text that differs wherever what it compiles may."""

    path: Path
    version: str


def find_library(
    packages: Iterable[str] | None = None, system: Iterable[Path] = _IN_SYSTEM
) -> Library | None:
    """NVRTC as the environment has it, else as the machine has; None where there is none.

    `packages` are folders of installed packages, else those that Python imports from. Nothing is
    opened: the library has 60 MB, and lies on a network volume.
    """
    for folder in map(Path, sys.path if packages is None else packages):
        for place in _IN_WHEELS:
            if found := _newest(folder / place):
                wheels = sorted(p.stem for p in folder.glob("nvidia_cuda_nvrtc*.dist-info"))
                return Library(found, " ".join(wheels) or _identity(found))
    for folder in system:
        if found := _newest(folder):
            return Library(found, _identity(found))
    return None


def _newest(folder: Path) -> Path | None:
    found = [path for path in folder.glob(_NAME) if path.name.split(".")[2].isdecimal()]
    return max(found, key=lambda path: int(path.name.split(".")[2]), default=None)


def _identity(library: Path) -> str:
    """What tells a library from another: its full name (libnvrtc.so.12.6.77), and its bytes."""
    real = library.resolve()
    return f"{real.name} {real.stat().st_size}"


_POINTER, _INT, _TEXT = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
_TEXTS, _SIZE = ctypes.POINTER(_TEXT), ctypes.POINTER(ctypes.c_size_t)
_SIGNATURES: Mapping[str, tuple[object, ...]] = {
    "nvrtcCreateProgram": (ctypes.POINTER(_POINTER), _TEXT, _TEXT, _INT, _TEXTS, _TEXTS),
    "nvrtcDestroyProgram": (ctypes.POINTER(_POINTER),),
    "nvrtcCompileProgram": (_POINTER, _INT, _TEXTS),
    "nvrtcGetCUBINSize": (_POINTER, _SIZE),
    "nvrtcGetCUBIN": (_POINTER, _POINTER),
    "nvrtcGetProgramLogSize": (_POINTER, _SIZE),
    "nvrtcGetProgramLog": (_POINTER, _POINTER),
}


class Nvrtc:
    """The opened library."""

    def __init__(self, path: Path) -> None:
        """Open the library; raises CompileError where it cannot be, or lacks a function."""
        try:
            self._library = ctypes.CDLL(str(path))
            for name, arguments in _SIGNATURES.items():
                function = getattr(self._library, name)
                function.restype, function.argtypes = _INT, arguments
        except (OSError, AttributeError) as error:
            raise CompileError(f"NVRTC cannot be opened: {error}") from None
        self._library.nvrtcGetErrorString.restype = _TEXT
        self._library.nvrtcGetErrorString.argtypes = (_INT,)

    def compile(
        self,
        name: str,
        source: str,
        headers: Mapping[str, str],
        architecture: str,
        options: Iterable[str] = OPTIONS,
    ) -> bytes:
        """The cubin of a source for an architecture (sm_90).

        `name` is the source's in messages; `headers` are what it may include, by name. Raises
        CompileError. In a thread of its own, for NVRTC leaves the one that it ran in with the C
        locale: Python would read and write ASCII there.
        """
        with ThreadPoolExecutor(1, "nvrtc") as thread:
            asked = thread.submit(self._compile, name, source, headers, architecture, options)
            return asked.result()

    def _compile(
        self,
        name: str,
        source: str,
        headers: Mapping[str, str],
        architecture: str,
        options: Iterable[str],
    ) -> bytes:
        given = (*options, f"--gpu-architecture={architecture}")
        with self._program(name, source, headers) as program:
            status = self._library.nvrtcCompileProgram(program, len(given), _texts(given))
            if status:
                log = self._bytes("nvrtcGetProgramLog", program)
                said = log.rstrip(b"\0").decode(errors="replace").strip()
                raise CompileError(
                    f"{name} for {architecture}: {self._meaning(status)}: {said[-_LOG_END:]}"
                )
            cubin = self._bytes("nvrtcGetCUBIN", program)
        if not cubin:
            raise CompileError(f"{name}: {architecture} is no architecture of a GPU (sm_90)")
        return cubin

    @contextmanager
    def _program(self, name: str, source: str, headers: Mapping[str, str]) -> Iterator[_Program]:
        program = _POINTER()
        self._call(
            "nvrtcCreateProgram",
            ctypes.byref(program),
            source.encode(),
            name.encode(),
            len(headers),
            _texts(headers.values()),
            _texts(headers),
        )
        try:
            yield program
        finally:
            self._library.nvrtcDestroyProgram(ctypes.byref(program))

    def _bytes(self, function: str, program: _Program) -> bytes:
        """What one of the functions gives whose sizes another one gives."""
        size = ctypes.c_size_t()
        self._call(f"{function}Size", program, ctypes.byref(size))
        content = ctypes.create_string_buffer(size.value)
        self._call(function, program, content)
        return content.raw

    def _call(self, function: str, *arguments: object) -> None:
        if status := getattr(self._library, function)(*arguments):
            raise CompileError(f"{function}: {self._meaning(status)}")

    def _meaning(self, status: int) -> str:
        return str(self._library.nvrtcGetErrorString(status).decode())


_Program = ctypes.c_void_p


def _texts(given: Iterable[str]) -> ctypes.Array[ctypes.c_char_p]:
    """The texts as C has them: an array of pointers."""
    encoded = [text.encode() for text in given]
    return (_TEXT * len(encoded))(*encoded)
