"""What a worker does first: its files are read ahead, and its modules come from the start pack.

Until the pack is in use it imports nothing but the standard library, which is on the container's
own disk.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from volume.start_pack import finder
from volume.start_pack.contents import Contents, remove
from volume.start_pack.filler import Filler
from volume.start_pack.pack import NAME, Index, UnusablePackError, read_index
from volume.start_pack.preload import have_imports_wait, import_first, preload
from volume.start_pack.read_ahead import THREADS, ReadAhead, Reading
from volume.start_pack.volume_watch import VolumeWatch

PACK = "SPARK_START_PACK"  # the variable with the pack's folder, which `volume run` sets
SITE = "SPARK_START_SITE"  # and that with the environment's modules
_PREFIX = "spark-start-"  # of the temporary folders
KEPT_SECONDS = 60.0  # that bytecode is kept in memory when the worker has begun
# How long a thread may wait for Python's lock while another computes; by default 5 ms. Imports have
# the readers beside them; a prompt is a thousand calls of torch, each of which gives the lock away.
SWITCH_SECONDS = 0.0003
SPARE = 64 << 20  # bytes that unpacking leaves free in the temporary folder


@dataclass
class Start:
    """A start under way: what is read ahead for it, and what is to be told of its pack."""

    read_ahead: ReadAhead = field(default_factory=ReadAhead)
    problem: str | None = None  # the first
    contents: Contents | None = None
    watch: VolumeWatch | None = None
    awaited: list[Reading] = field(default_factory=list)  # before the first job
    libraries_begin: threading.Event = field(default_factory=threading.Event)
    _listener: Callable[[str], None] | None = None

    def finish(self) -> None:
        """Wait until all that is awaited has been read, and end."""
        for reading in self.awaited:
            reading.done.wait()
        self.end()

    def end(self, seconds: float = KEPT_SECONDS) -> None:
        """Read no more, for all is loaded; `seconds` later nothing of the pack is in memory.

        The SDK imports modules of its own when it takes the first job.
        """
        self._listener = None  # what is given up now is no fault of the pack
        self.libraries_begin.set()
        self.read_ahead.close()
        if self.watch is not None:
            self.watch.end()
        if self.contents is not None:
            contents, self.contents = self.contents, None
            later = threading.Timer(seconds, contents.clear)
            later.daemon = True
            later.start()

    def import_first(self) -> None:
        """Import what needs the dynamic linker, then let it load the large libraries."""
        if self.contents is not None:
            import_first()
        self.libraries_begin.set()

    def tell(self, problem: str) -> None:
        """Keep the first problem for the log; from any thread."""
        if self.problem is None:
            self.problem = problem
            if self._listener is not None:
                self._listener(problem)

    def listen(self, listener: Callable[[str], None]) -> None:
        """Have `listener` called with the first problem, now or later, and no other."""
        self._listener = listener
        if self.problem is not None:
            listener(self.problem)


def begin(variables: Mapping[str, str] = os.environ, filler: Filler | None = None) -> Start:
    """Begin to read what a start needs, before any import of what is on the volume.

    What is large is read by the `filler`, where there is one.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    leave_plugins_out()
    start = Start(ReadAhead(THREADS, filler))
    if volume := variables.get("RUNPOD_VOLUME"):
        start.watch = VolumeWatch(Path(volume))
        start.watch.start()
    folder, site = variables.get(PACK), variables.get(SITE)
    if folder and site:
        try:
            use(start, Path(folder) / NAME, Path(site))
        except UnusablePackError as error:
            start.tell(f"the start pack is of no use: {error}")
    return start


def open_filler() -> Filler | None:
    """Fork the process that reads what is large; None where there can be none."""
    if threading.active_count() > 1:  # a fork would have their locks, and not them
        return None
    try:
        return Filler(THREADS)
    except OSError:
        return None


def leave_plugins_out() -> None:
    """Have pydantic and torch look for no plugins: the environment has none of theirs.

    Each would read the entry points of all packages. An operator's own word is left as it is.
    """
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    os.environ.setdefault("TORCH_DEVICE_BACKEND_AUTOLOAD", "0")


def use(start: Start, pack: Path, site: Path) -> None:
    """Read the pack, and find modules in it from now on. Raises UnusablePackError."""
    index = read_index(pack)
    if index.key != pack.parent.name:
        raise UnusablePackError(f"it is that of {index.key}")
    contents = start.contents = Contents(index, site, temporary_folder(start, index), start.tell)
    start.read_ahead.add(pack, contents.ranges, contents.take)
    readings = {
        file.path: start.read_ahead.add(site / file.path, file.ranges) for file in index.ahead
    }
    libraries = [(path, readings.get(path)) for path in index.preload]
    loaded = preload(index.system, libraries, contents.library, start.libraries_begin)
    # The code of a package would load its libraries too, and look for them in many places.
    finder.install(contents, site, index.namespaces, {name: e.wait for name, e in loaded.items()})
    have_imports_wait()


def temporary_folder(start: Start, index: Index) -> Path | None:
    """Make a folder for the pack's libraries; None, which is told, where none can hold them."""
    needed = sum(s.end - s.offset for s in index.segments if s.kind != "code") + SPARE
    place = tempfile.gettempdir()
    try:
        remove_abandoned(Path(place))
        found = os.statvfs(place)
        if found.f_flag & os.ST_NOEXEC:
            start.tell(f"libraries are loaded from the volume: {place} lets nothing be executed")
            return None
        if found.f_bavail * found.f_frsize < needed:
            start.tell(f"libraries are loaded from the volume: {place} has no room")
            return None
        made = held_folder(Path(place))
    except OSError as error:
        start.tell(f"libraries are loaded from the volume: {error.strerror or error}")
        return None
    atexit.register(remove, made)
    return made


def held_folder(place: Path) -> Path:
    """Make a folder that is locked for as long as this process lives, or a fork of it.

    It gets its name when it is locked, so that nobody takes it for an abandoned one.
    """
    new = Path(tempfile.mkdtemp(prefix="spark-new-", dir=place))
    fcntl.flock(os.open(new, os.O_RDONLY | os.O_CLOEXEC), fcntl.LOCK_EX)
    return new.rename(place / f"{_PREFIX}{new.name.removeprefix('spark-new-')}")


def remove_abandoned(place: Path) -> None:
    """Remove the folders of workers that were killed: those that nobody has locked.

    Numbers of processes would not tell: containers that share the folder have their own.
    """
    for folder in place.glob(f"{_PREFIX}*"):
        with suppress(OSError):  # it is locked, or gone
            lock = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove(folder)
            finally:
                os.close(lock)
