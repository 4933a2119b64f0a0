"""The compiled kernels, kept where all workers of a network volume find them.

A kernel is a file NAME.cu beside this one, with all *.cuh. Its cubin is

    NAME-ARCHITECTURE-KEY-CONTENT.cubin    lm-sm_90-1f0c4b5a99e2d370-<64 digits>.cubin

where KEY is a digest of all that it was compiled from, and CONTENT the sha256 of the file itself:
a damaged one is known by its name. A folder that cannot be written costs time later, nothing else.

python -m worker.speech.cuda.cubins FOLDER   compiles all kernels for all GPUs; needs none of them
"""

from __future__ import annotations

import hashlib
import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import product
from pathlib import Path

from volume.layout import Layout
from worker.atomic_write import replacing
from worker.logs import event, set_up_logging
from worker.settings import Settings
from worker.speech.cuda.nvrtc import OPTIONS, CompileError, Library, Nvrtc, find_library
from worker.user_cache import user_cache

SOURCES = Path(__file__).parent
# Of the GPUs that the worker supports: A100; A4000, RTX 30xx; L4, RTX 40xx; H100.
ARCHITECTURES = ("sm_80", "sm_86", "sm_89", "sm_90")
# Files of one kernel for one architecture that stay when another is added: images share a volume.
AT_ONCE = 4  # compilations of an installer
KEPT = 4


class Cubins:
    """The cubins of the kernels in `sources`, by a compiler that is opened when one is missing.

    They are looked for in all `folders`, and kept in the first that can be written.
    """

    def __init__(self, folders: Sequence[Path], library: Library, sources: Path = SOURCES) -> None:
        self._folders, self._library, self._sources = folders, library, sources

    def get(self, name: str, architecture: str) -> bytes:
        """The cubin of a kernel, compiled if it is not kept; raises CompileError."""
        key = self._key(name)
        for folder in self._folders:
            if (kept := _read(folder, name, architecture, key)) is not None:
                return kept
        began = time.perf_counter()
        source, headers = self._files(name)
        nvrtc = Nvrtc(self._library.path)
        cubin = nvrtc.compile(f"{name}.cu", source, headers, architecture)
        event(
            logging.INFO,
            "CUDA kernels compiled",
            kernels=name,
            architecture=architecture,
            seconds=time.perf_counter() - began,
        )
        self._keep(cubin, name, architecture, key)
        return cubin

    def names(self) -> list[str]:
        """Of all kernels that there are."""
        return sorted(path.stem for path in self._sources.glob("*.cu"))

    def _files(self, name: str) -> tuple[str, Mapping[str, str]]:
        """A kernel's source, and what it may include, by name."""
        headers = {path.name: path.read_text() for path in sorted(self._sources.glob("*.cuh"))}
        return (self._sources / f"{name}.cu").read_text(), headers

    def _key(self, name: str) -> str:
        """A digest of all that a kernel is compiled from, and how."""
        source, headers = self._files(name)
        seen = hashlib.sha256()
        for text in (*OPTIONS, self._library.version, source, *headers, *headers.values()):
            seen.update(hashlib.sha256(text.encode()).digest())
        return seen.hexdigest()[:16]

    def _keep(self, cubin: bytes, name: str, architecture: str, key: str) -> None:
        """Keep a cubin where that is possible; an event where it is not."""
        file = f"{name}-{architecture}-{key}-{hashlib.sha256(cubin).hexdigest()}.cubin"
        reasons = []
        for folder in self._folders:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                with replacing(folder / file) as part:
                    part.write_bytes(cubin)
                _drop_oldest(folder, f"{name}-{architecture}")
            except OSError as error:
                reasons.append(str(error))
            else:
                return
        reason = "; ".join(reasons) or "there is neither a volume nor a home folder"
        event(logging.WARNING, "CUDA kernels not kept", kernels=name, error=reason)


def open_cubins(folders: Sequence[Path] | None = None) -> Cubins | None:
    """The cubins in `folders`, else where all look; None, and an event, without a compiler."""
    library = find_library()
    if library is None:
        event(logging.WARNING, "no compiler for CUDA kernels")
        return None
    return Cubins([*shared_folders()] if folders is None else folders, library)


def shared_folders() -> Iterator[Path]:
    """Where cubins are kept: on the network volume, and in the user's cache, if there is either.

    A volume that is not mounted is not made.
    """
    default = Settings.model_fields["runpod_volume"].default
    mount = Path(os.environ.get("RUNPOD_VOLUME", "").strip() or default)
    if mount.is_dir():
        yield Layout(mount).cubins
    with suppress(OSError):
        yield user_cache() / "cubins"


def compile_all(cubins: Cubins) -> bool:
    """Have all kernels' cubins kept for all architectures; whether all could be compiled.

    Several at once, for NVRTC may run in several threads; few, for each takes memory.
    """

    def compiled(kind: tuple[str, str]) -> bool:
        name, architecture = kind
        try:
            cubins.get(name, architecture)
        except CompileError as error:
            event(logging.WARNING, "CUDA kernels do not compile", kernels=name, error=str(error))
            return False
        return True

    with ThreadPoolExecutor(AT_ONCE) as threads:
        return all([*threads.map(compiled, product(cubins.names(), ARCHITECTURES))])


def _read(folder: Path, name: str, architecture: str, key: str) -> bytes | None:
    """A kept cubin, whole; None where there is none. A damaged one is told, and removed."""
    with suppress(OSError):  # a volume that fails is one more reason to compile
        for path in sorted(folder.glob(f"{name}-{architecture}-{key}-*.cubin")):
            content = path.read_bytes()
            if hashlib.sha256(content).hexdigest() == path.stem.rpartition("-")[2]:
                return content
            event(logging.WARNING, "CUDA kernels damaged", kernels=name, file=path.name)
            path.unlink()
    return None


def _drop_oldest(folder: Path, kind: str) -> None:
    """Remove all files of one kernel and architecture but the newest; others may do so, too."""
    written = {}
    for path in folder.glob(f"{kind}-*.cubin"):
        with suppress(FileNotFoundError):  # another worker has removed it meanwhile
            written[path] = path.stat().st_mtime
    for path in sorted(written, key=written.__getitem__)[:-KEPT]:
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    set_up_logging("INFO")
    opened = open_cubins([Path(sys.argv[1])])
    sys.exit(opened is None or not compile_all(opened))
