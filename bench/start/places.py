"""Where a start reads from: a local disk whose files are in memory or not, or a slow mount."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.support.slow_volume import Counts, SlowVolume, slow_volume

MEGABYTES_A_SECOND = 300  # of a slow volume
DROP_CACHES = Path("/proc/sys/vm/drop_caches")
PAGES_AND_NAMES = "3"


@dataclass(frozen=True)
class Place:
    """A volume for one start, and what was asked of it where that is counted."""

    volume: Path
    _mount: SlowVolume | None = None

    @property
    def counts(self) -> Counts | None:
        """Until now."""
        return self._mount.counts if self._mount is not None else None


@contextmanager
def warm(volume: Path) -> Iterator[Place]:
    """A local disk whose files the starts before have read."""
    yield Place(volume)


@contextmanager
def cold(volume: Path) -> Iterator[Place]:
    """A local disk whose files, all of them, are read anew."""
    forget(volume)
    with suppress(OSError):  # only root may, and not in each container
        os.sync()
        DROP_CACHES.write_text(PAGES_AND_NAMES)
    yield Place(volume)


@contextmanager
def slow(volume: Path, milliseconds: float) -> Iterator[Place]:
    """A mount of its own, so that the kernel knows nothing of it: each call takes so long."""
    with slow_volume(volume, milliseconds, MEGABYTES_A_SECOND, follow=True) as mounted:
        yield Place(mounted.path, mounted)


def forget(folder: Path) -> None:
    """Have the kernel forget the content of all files below, links followed.

    Pages that another process has mapped stay.
    """
    for where, _folders, names in os.walk(folder, followlinks=True):
        for name in names:
            with suppress(OSError):
                file = os.open(Path(where) / name, os.O_RDONLY)
                try:
                    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
                finally:
                    os.close(file)
