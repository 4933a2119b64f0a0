"""What a worker does first: its files are read ahead, and its modules come from the start pack.

It imports nothing but the standard library, which is on the container's own disk.
"""

from __future__ import annotations

import atexit
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from volume.start_pack import finder
from volume.start_pack.contents import Contents, remove
from volume.start_pack.pack import NAME, Index, UnusablePackError, read_index
from volume.start_pack.preload import preload
from volume.start_pack.read_ahead import ReadAhead

PACK = "SPARK_START_PACK"  # the variable with the pack's folder, which `volume run` sets
SITE = "SPARK_START_SITE"  # and that with the environment's modules
_PREFIX = "spark-start-"  # of the temporary folders; the process's number follows
SPARE = 64 << 20  # bytes that unpacking leaves free in the temporary folder


@dataclass
class Start:
    """A start under way: what is read ahead for it, and what is to be told of its pack."""

    read_ahead: ReadAhead = field(default_factory=ReadAhead)
    problem: str | None = None  # the first
    contents: Contents | None = None
    _listener: Callable[[str], None] | None = None

    def end(self) -> None:
        """Read no more, and keep nothing of the pack in memory: all is loaded."""
        self.read_ahead.close()
        if self.contents is not None:
            self.contents.clear()

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


def begin(variables: Mapping[str, str] = os.environ) -> Start:
    """Begin to read what a start needs, before any import of what is on the volume."""
    leave_plugins_out()
    start = Start()
    folder, site = variables.get(PACK), variables.get(SITE)
    if folder and site:
        try:
            use(start, Path(folder) / NAME, Path(site))
        except UnusablePackError as error:
            start.tell(f"the start pack is of no use: {error}")
    return start


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
    places = [(contents.library(path), readings.get(path)) for path in index.preload]
    preload(index.system, places)
    finder.install(contents, site, index.namespaces)


def temporary_folder(start: Start, index: Index) -> Path | None:
    """Make a folder for the pack's libraries; None, which is told, where none can hold them."""
    needed = sum(s.end - s.offset for s in index.segments if s.kind != "code") + SPARE
    try:
        free = os.statvfs(tempfile.gettempdir())
        if free.f_bavail * free.f_frsize < needed:
            start.tell(f"libraries are loaded from the volume: {tempfile.gettempdir()} has no room")
            return None
        remove_abandoned()
        made = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
    except OSError as error:
        start.tell(f"libraries are loaded from the volume: {error.strerror or error}")
        return None
    atexit.register(remove, made)
    return made


def remove_abandoned() -> None:
    """Remove the folders of workers of this machine that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*-*"):
        owner = folder.name.removeprefix(_PREFIX).partition("-")[0]
        # Our own number too: in a container, each worker has the same.
        if owner.isdigit() and (int(owner) == os.getpid() or not Path(f"/proc/{owner}").exists()):
            remove(folder)
