"""What comes out of a pack at a start: bytecode in memory, libraries in a temporary folder.

The threads of the read-ahead bring segments; each is checked by its sha256 before a byte of it is
used. Who needs a file waits for its segment. Where a segment is damaged, cannot be read, or does
not fit on the container's disk, its files are taken from the volume, as if there were no pack, and
the reason is told.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

from volume.start_pack.pack import CODE, Index, Segment

Tell = Callable[[str], None]


class Contents:
    """The files of a pack, as they arrive."""

    def __init__(self, index: Index, site: Path, folder: Path | None, tell: Tell) -> None:
        """`folder` is an empty one for the libraries; None where there is none to be had."""
        self._site = site
        self._folder = folder
        self._tell = tell
        segments = [s for s in index.segments if s.kind == CODE or folder is not None]
        self._segments = {segment.offset: segment for segment in segments}
        self._arrived = {segment.offset: threading.Event() for segment in segments}
        self._places = {
            (segment.kind, path): segment.offset for segment in segments for path in segment.paths
        }
        self._code: dict[str, bytes] = {}
        self._libraries: dict[str, Path] = {}
        if folder is not None:
            self._link(folder, index.links)

    @property
    def ranges(self) -> tuple[tuple[int, int], ...]:
        """The ranges of the pack that are to be given to `take`."""
        return tuple((segment.offset, segment.end) for segment in self._segments.values())

    @property
    def sources(self) -> tuple[str, ...]:
        """The sources of the modules in the pack, as paths below site-packages."""
        return tuple(path for kind, path in self._places if kind == CODE)

    @property
    def libraries(self) -> tuple[str, ...]:
        """The libraries that are or will be in the temporary folder, likewise."""
        copied = (path for kind, path in self._places if kind != CODE)
        return (*copied, *self._libraries)

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
            self._tell(f"the start pack cannot be unpacked: {error.strerror}")
        finally:
            self._arrived[offset].set()

    def bytecode(self, source: str) -> bytes | None:
        """The .pyc of the source below site-packages; None where the volume must be asked."""
        return self._code.get(source) if self._wait(CODE, source) else None

    def library(self, path: str) -> Path:
        """The place of a library: in the temporary folder, or else on the volume."""
        kinds = [kind for kind, known in self._places if known == path and kind != CODE]
        for kind in kinds:
            self._wait(kind, path)
        return self._libraries.get(path, self._site / path)

    def clear(self) -> None:
        """Forget all bytecode: a module that is imported from now on comes from the volume."""
        self._code.clear()

    def _wait(self, kind: str, path: str) -> bool:
        offset = self._places.get((kind, path))
        if offset is None:
            return False
        return self._arrived[offset].wait()

    def _unpack(self, segment: Segment, data: memoryview) -> None:
        first = 0
        for path, size in zip(segment.paths, segment.sizes, strict=True):
            part = data[first : first + size]
            first += size
            if segment.kind == CODE:
                self._code[path] = bytes(part)
            elif self._folder is not None:
                self._libraries[path] = _written(self._folder / path, part)

    def _link(self, folder: Path, links: tuple[str, ...]) -> None:
        """Let libraries find those that they load by their place, where these are not copied."""
        try:
            for path in links:
                link = folder / path
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(self._site / path)
                self._libraries[path] = link
        except OSError as error:
            self._tell(f"the start pack cannot be unpacked: {error.strerror}")


def _written(path: Path, data: memoryview) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o700)
    try:
        written = 0
        while written < len(data):
            written += os.write(file, data[written:])
    finally:
        os.close(file)
    return path


def remove(folder: Path) -> None:
    """Remove the temporary folder; libraries that are loaded stay in memory."""
    shutil.rmtree(folder, ignore_errors=True)
