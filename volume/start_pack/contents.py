"""What comes out of a pack at a start: bytecode in memory, libraries in a temporary folder.

The threads of the read-ahead bring segments; each is checked by its sha256 before a byte of it is
used. Who needs a file waits for its segment. Where a segment is damaged, cannot be read, or does
not fit on the container's disk, its files are taken from the volume, as if there were no pack, and
the reason is told.

Libraries find each other by their places ($ORIGIN). So the temporary folder has each of them from
the first moment on, as a link to the volume, which the library itself replaces when it has come:
whatever is loaded when, and whatever fails, nothing that it needs is missing.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from volume.start_pack.pack import CODE, Index, Segment

Tell = Callable[[str], None]


class Contents:
    """The files of a pack, as they arrive."""

    def __init__(self, index: Index, site: Path, folder: Path | None, tell: Tell) -> None:
        """`folder` is an empty one for the libraries; None where there is none to be had."""
        self._site = site
        self._tell = tell
        copied = [path for s in index.segments if s.kind != CODE for path in s.paths]
        self._folder = folder if folder and self._link(folder, [*copied, *index.links]) else None
        segments = [s for s in index.segments if s.kind == CODE or self._folder is not None]
        self._segments = {segment.offset: segment for segment in segments}
        self._arrived = {segment.offset: threading.Event() for segment in segments}
        self._full = False
        self._code: dict[str, bytes] = {}
        self._places = {p: s.offset for s in segments if s.kind == CODE for p in s.paths}
        self._libraries = frozenset([*copied, *index.links]) if self._folder else frozenset()
        self._packages: dict[str, list[int]] = {}
        for segment in segments:
            if segment.kind != CODE:
                for package in {package_of(path) for path in segment.paths}:
                    self._packages.setdefault(package, []).append(segment.offset)

    @property
    def ranges(self) -> tuple[tuple[int, int], ...]:
        """The ranges of the pack that are to be given to `take`."""
        return tuple((segment.offset, segment.end) for segment in self._segments.values())

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources of the modules in the pack, as paths below site-packages."""
        return tuple(self._places)

    @property
    def libraries(self) -> tuple[str, ...]:
        """The libraries that are in the temporary folder, likewise."""
        return tuple(sorted(self._libraries))

    def take(self, offset: int, data: memoryview | None) -> None:
        """Take a segment's bytes, or that they could not be read."""
        segment = self._segments[offset]
        try:
            if data is None:
                self._tell("a part of the start pack cannot be read")
            elif hashlib.sha256(data).hexdigest() != segment.sha256:
                self._tell("a part of the start pack is damaged")
            else:
                self._unpack(segment, data)
        except OSError as error:
            self._full = True  # what has not come yet stays a link
            self._tell(f"the start pack cannot be unpacked: {error.strerror}")
        finally:
            self._arrived[offset].set()

    def bytecode(self, source: str) -> bytes | None:
        """The .pyc of the source below site-packages; None where the volume must be asked."""
        offset = self._places.get(source)
        if offset is None:
            return None
        self._arrived[offset].wait()
        return self._code.get(source)

    def library(self, path: str) -> Path:
        """The place of a library, once all of its package have come that will."""
        if self._folder is None or path not in self._libraries:
            return self._site / path
        for offset in self._packages.get(package_of(path), ()):
            self._arrived[offset].wait()
        return self._folder / path

    def clear(self) -> None:
        """Forget all bytecode: a module that is imported from now on comes from the volume."""
        self._code.clear()

    def _unpack(self, segment: Segment, data: memoryview) -> None:
        first = 0
        for path, size in zip(segment.paths, segment.sizes, strict=True):
            part = data[first : first + size]
            first += size
            if segment.kind == CODE:
                self._code[path] = bytes(part)
            elif self._folder is not None and not self._full:
                replace(self._folder / path, part)

    def _link(self, folder: Path, paths: Sequence[str]) -> bool:
        """Give each library its place; False, which is told, where that cannot be."""
        try:
            for path in paths:
                link = folder / path
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(self._site / path)
        except OSError as error:
            self._tell(f"the start pack cannot be unpacked: {error.strerror}")
            return False
        return True


def package_of(path: str) -> str:
    """The package that a library belongs to: NAME.libs is NAME's, as auditwheel makes it."""
    return path.partition("/")[0].removesuffix(".libs")


def replace(path: Path, data: memoryview) -> None:
    """Put a library in the place of its link, whole or not at all. Raises OSError."""
    part = path.with_name(f"{path.name}.part")
    file = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o700)
    try:
        written = 0
        while written < len(data):
            written += os.write(file, data[written:])
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)  # or the disk would stay full
        raise
    finally:
        os.close(file)


def remove(folder: Path) -> None:
    """Remove the temporary folder; libraries that are loaded stay in memory."""
    shutil.rmtree(folder, ignore_errors=True)
