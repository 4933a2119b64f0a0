"""What a process does to the world outside: files, connections, programs, by Python's own audit.

Python's audit events come from the interpreter itself, so a library cannot go around them as it
could go around a patched function. C code that opens files by itself is not seen; the worker
hands open descriptors to such code (worker.audio.files).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import starmap, zip_longest
from pathlib import Path

_PROGRAMS = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "pty.spawn"}
_CHANGES = {"os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.chmod"}
# What Python and its packages read of themselves, now and then long after the start.
_OWN = (
    *map(os.path.realpath, (sys.prefix, sys.base_prefix)),
    *("/usr/lib", "/usr/share", "/dev/null", "/dev/urandom"),
)


@dataclass
class Seen:
    """Everything that happened while the watch was on."""

    read: set[str] = field(default_factory=set)
    written: set[str] = field(default_factory=set)
    connected: set[tuple[str, int]] = field(default_factory=set)
    looked_up: set[str] = field(default_factory=set)
    programs: list[str] = field(default_factory=list)

    def outside(self, *folders: Path) -> list[str]:
        """Files read or written that are neither below `folders` nor Python's own."""
        below = tuple(os.fspath(folder) for folder in folders)
        strange = [path for path in self.written if not _is_below(path, below)]
        return strange + [path for path in self.read if not _is_below(path, (*below, *_OWN))]


def _is_below(path: str, folders: Sequence[str]) -> bool:
    real = os.path.realpath(path)
    return any(real == folder or real.startswith(f"{folder}/") for folder in folders)


def _is_named(path: str | bytes) -> bool:
    """Whether a path says by itself where it leads; rmtree opens names below a descriptor."""
    return b"/" in os.fsencode(path)


def _placed(path: str, folder: int) -> str:
    """The path, absolute, of one that may be relative to an open folder."""
    return str((Path(f"/proc/self/fd/{folder}").readlink() if folder >= 0 else Path.cwd()) / path)


class Watch:
    """An audit hook for the whole process, which cannot be removed, only switched off."""

    def __init__(self) -> None:
        self._seen: Seen | None = None
        sys.addaudithook(self._note)

    @contextmanager
    def on(self) -> Iterator[Seen]:
        """Give what is seen until the block ends, in every thread of the process.

        What is imported meanwhile is not compiled into files, which the interpreter would write.
        """
        keeps_none = sys.dont_write_bytecode
        sys.dont_write_bytecode = True
        self._seen = seen = Seen()
        try:
            yield seen
        finally:
            self._seen = None
            sys.dont_write_bytecode = keeps_none

    def _note(self, event: str, args: tuple[object, ...]) -> None:
        seen = self._seen
        if seen is None:
            return
        if event == "open":
            path, mode, flags = args
            if isinstance(path, str | bytes) and _is_named(path):
                writes = bool(set(str(mode or "")) & set("wxa+")) or bool(
                    isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)
                )
                (seen.written if writes else seen.read).add(os.fsdecode(path))
        elif event in _CHANGES:
            paths = [os.fsdecode(a) for a in args if isinstance(a, str | bytes | os.PathLike)]
            folders = [a for a in args if isinstance(a, int)][-len(paths) :]
            seen.written.update(starmap(_placed, zip_longest(paths, folders, fillvalue=-1)))
        elif event == "socket.connect":
            address = args[1]
            if isinstance(address, tuple):
                seen.connected.add((str(address[0]), int(address[1])))
        elif event == "socket.getaddrinfo":
            seen.looked_up.add(str(args[0]))
        elif event in _PROGRAMS:
            seen.programs.append(f"{event}{args!r}")
