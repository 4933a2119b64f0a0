"""A folder mounted as a network volume: slow calls, counted; it can stand still.

The mount is a small program of ours in front of the folder (slowfs/slowfs.c), by FUSE. It is
compiled once, where the machine has a compiler and libfuse3.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path

from tests.support.waiting import until
from worker.atomic_write import replacing

REPOSITORY = Path(__file__).parents[2]
SOURCE = Path(__file__).parent / "slowfs" / "slowfs.c"
DEVICE = Path("/dev/fuse")
COMPILERS = ("cc", "gcc", "clang")
SECONDS = 30  # that a mount may take to appear, or to go, on a busy machine


class UnavailableError(Exception):
    """What this machine lacks for a slow mount."""


@dataclass(frozen=True)
class Counts:
    """What was asked of a slow volume since it was mounted, in the order of slowfs.c's kinds."""

    getattr: int = 0  # attributes, and whether a name is there
    readlink: int = 0
    readdir: int = 0
    open: int = 0
    read: int = 0
    write: int = 0
    change: int = 0  # files and folders made, removed, renamed, linked, cut
    bytes_read: int = 0

    @property
    def metadata(self) -> int:
        """Calls that carry no content."""
        return self.getattr + self.readlink + self.readdir + self.open + self.change

    def __sub__(self, earlier: Counts) -> Counts:
        """What was asked between two looks."""
        return Counts(*(a - b for a, b in zip(astuple(self), astuple(earlier), strict=True)))


@dataclass(frozen=True)
class SlowVolume:
    """A mount: its folder, and what was asked of it."""

    path: Path
    pid: int  # of the program that serves it
    _counts: Path

    @property
    def counts(self) -> Counts:
        """Until now."""
        numbers = (ctypes.c_uint64 * len(Counts.__dataclass_fields__)).from_buffer_copy(
            self._counts.read_bytes()
        )
        return Counts(*numbers)

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """Whoever asks the volume anything within the block waits for its end."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)


@contextmanager
def slow_volume(
    root: Path,
    milliseconds: float,
    megabytes_per_second: int = 300,
    *,
    follow: bool = False,
    erratic: int = 0,
) -> Iterator[SlowVolume]:
    """Mount `root` at a folder of its own, with nothing of it in the kernel's caches.

    Each call takes so many milliseconds; each of at most ten reads at the same time so many
    megabytes a second besides (0: no limit). With `follow`, absolute links in `root` stand for what
    they lead to. With `erratic`, the number of a series of chances, calls take so many milliseconds
    on average alone, a few of them many times as long. Raises UnavailableError.
    """
    program = _built()
    with tempfile.TemporaryDirectory(prefix="slow-") as folder:
        mounted, counts, log = (Path(folder) / name for name in ("volume", "counts", "log"))
        mounted.mkdir()
        command = [program, root, mounted, round(milliseconds * 1000), megabytes_per_second]
        with log.open("wb") as out:
            served = subprocess.Popen(
                [*map(str, command), str(counts), str(int(follow)), str(erratic)],
                stdout=out, stderr=subprocess.STDOUT,
            )  # fmt: skip
        try:
            until(
                lambda: os.path.ismount(mounted) or served.poll() is not None, SECONDS, pause=0.01
            )
            if served.poll() is not None:
                raise UnavailableError(f"the right to mount by FUSE: {log.read_text().strip()}")
            yield SlowVolume(mounted, served.pid, counts)
        finally:
            _unmount(mounted, served)


def why_unavailable() -> str | None:
    """What the machine lacks for a slow mount; None where there is one to be had."""
    try:
        with tempfile.TemporaryDirectory() as folder, slow_volume(Path(folder), 0):
            return None
    except UnavailableError as error:
        return f"a slow mount needs {error}"


def _unmount(mounted: Path, served: subprocess.Popen[bytes]) -> None:
    """Take the mount away, also from under those that still have files of it open."""
    if served.poll() is None:
        served.send_signal(signal.SIGCONT)
    # Also where its program has died; where it never came there is nothing to be done.
    subprocess.run(["fusermount3", "-u", "-z", str(mounted)], check=False, capture_output=True)
    try:
        served.wait(1)
    except subprocess.TimeoutExpired:  # a file is open
        served.kill()
        served.wait(SECONDS)


def _built() -> Path:
    """The program, kept by the digest of its source. Raises UnavailableError."""
    if not os.access(DEVICE, os.R_OK | os.W_OK):
        raise UnavailableError(f"{DEVICE}")
    if shutil.which("fusermount3") is None:
        raise UnavailableError("fusermount3 (Debian's fuse3)")
    compiler = next((path for path in map(shutil.which, COMPILERS) if path), None)
    if compiler is None:
        raise UnavailableError(f"a C compiler ({', '.join(COMPILERS)})")
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    program = REPOSITORY / ".cache" / f"slowfs-{digest}"
    if not program.exists():
        program.parent.mkdir(exist_ok=True)
        with replacing(program) as made:
            flags = ("-O2", "-std=gnu11", "-Wall", "-Wextra", "-D_FILE_OFFSET_BITS=64")
            command = [compiler, *flags, str(SOURCE), "-o", str(made), "-lfuse3", "-lpthread"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise UnavailableError(f"libfuse3 (Debian's libfuse3-dev):\n{done.stderr[-2000:]}")
    return program
