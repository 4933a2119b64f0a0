"""A recording -> a pack: which of the files that a start reads go where.

Modules go in as bytecode. Of a library it was measured what is touched: one that mostly is, or that
is small, is copied, for each file on a volume costs its latency several times; of a large one only
those ranges are read ahead, where it stands. Libraries load each other by their place ($ORIGIN) and
try many (torch's some 600), so all of them have a link beside the copies, on the container's disk.
"""

from __future__ import annotations

import importlib.util
import marshal
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from volume.start_pack.elf import Dynamic, in_order_of_need, read_dynamic
from volume.start_pack.pack import Ahead, Content, Index, write_pack
from volume.start_pack.recording import Recording

SMALL = 1 << 20  # bytes that are read for nothing rather than asking for a file by itself
LARGE = 8 << 20  # bytes of a library that is not copied even where all of it is touched
UNTOLD_MAX = (
    64 << 20
)  # bytes of a library of which it is not told what is touched, to be read whole
# Bytes of a data file that is read ahead, from more than one request on.
DATA = (128 << 10, 2 << 20)
_HEADER = 16  # bytes of a .pyc before its code (PEP 552)
_UNCHECKED_HASH = (1).to_bytes(4, "little")


@dataclass(frozen=True)
class LibraryPlan:
    """Which libraries are copied, linked, read ahead and loaded before they are asked for."""

    copied: tuple[str, ...]
    links: tuple[str, ...]
    ahead: tuple[Ahead, ...]
    preload: tuple[str, ...]
    system: tuple[str, ...]


def pack(recording: Recording, site: Path, key: str, out: Path) -> Index:
    """Write the pack of what was recorded of the environment `site` into `out`."""
    found = sort_libraries(recording, site)
    sources = with_packages(site, recorded_sources(recording, site))
    plan = Index(
        key,
        (),
        found.links,
        found.ahead + data_files(recording, site),
        found.preload,
        found.system,
        namespaces(site, [*sources, *found.copied]),
    )
    with out.open("wb") as file:
        return write_pack(
            file,
            plan,
            code=tuple(bytecode(site, sources)),
            libraries=[Content(path, (site / path).read_bytes()) for path in found.copied],
        )


def data_files(recording: Recording, site: Path) -> tuple[Ahead, ...]:
    """Return the files that are opened where they stand, to be read ahead where that saves time.

    Data of packages, and sources that torch looks into. A small one is one request in any case.
    """
    names = names_of(site)
    below = dict.fromkeys(
        path
        for opened in recording.opened
        if not opened.endswith(".pyc") and (path := _below(opened, names)) is not None
    )
    sizes = {path: (site / path).stat().st_size for path in below if (site / path).is_file()}
    return tuple(
        Ahead(path, ((0, size),)) for path, size in sizes.items() if DATA[0] < size <= DATA[1]
    )


def with_packages(site: Path, sources: Iterable[str]) -> list[str]:
    """Return the sources, each after those of the packages that it is in.

    A package may have been imported without its own code (worker/stand_ins.py): Python asks for
    its file all the same.
    """
    found: dict[str, None] = {}
    for source in sources:
        for package in reversed(PurePosixPath(source).parents[:-1]):
            found.setdefault(f"{package}/__init__.py")
        found.setdefault(source)
    return [path for path in found if (site / path).is_file()]


def namespaces(site: Path, paths: Iterable[str]) -> tuple[str, ...]:
    """Return the packages of these files that have no code of their own."""
    packages = {str(package) for path in paths for package in PurePosixPath(path).parents[:-1]}
    return tuple(sorted(p for p in packages if not any((site / p).glob("__init__.*"))))


def recorded_sources(recording: Recording, site: Path) -> list[str]:
    """Return the sources of the modules that were imported, in that order, as paths below `site`.

    A module that was imported and taken away again has left the opening of its .pyc.
    """
    places: dict[str, int] = {}
    for number, path in enumerate(recording.opened):
        source = _source_of(path)
        if source is not None:
            places.setdefault(source, number)
    compiled = {
        source
        for path in recording.opened
        if path.endswith(".pyc")
        if (source := _source_of(path)) is not None
    }
    wanted = compiled | set(recording.modules)
    found = sorted(wanted, key=lambda source: places.get(source, len(places) + 1))
    names = names_of(site)
    below = (_below(source, names) for source in found)
    return [path for path in below if path is not None and (site / path).is_file()]


def _source_of(path: str) -> str | None:
    if path.endswith(".py"):
        return path
    try:
        return importlib.util.source_from_cache(path)
    except (ValueError, NotImplementedError):
        return None


def names_of(site: Path) -> tuple[Path, ...]:
    """Return the names of a folder: as it is given, and without links, as the kernel tells it."""
    return (site, site.resolve())


def _below(path: str, folders: Iterable[Path]) -> str | None:
    for folder in folders:
        with suppress(ValueError):
            return Path(path).relative_to(folder).as_posix()
    return None


def bytecode(site: Path, sources: Iterable[str]) -> Iterator[Content]:
    """Give the .pyc of each source, of the kind that no source is asked for; what fails is left.

    The environment's own is taken, which the installer has compiled; else it is compiled here.
    """
    for path in sources:
        try:
            source = (site / path).read_bytes()
            code = _compiled(site / path, source)
        except (OSError, SyntaxError, ValueError):
            continue
        magic, digest = importlib.util.MAGIC_NUMBER, importlib.util.source_hash(source)
        yield Content(path, magic + _UNCHECKED_HASH + digest + code)


def _compiled(path: Path, source: bytes) -> bytes:
    """The marshalled code of a module."""
    try:
        there = Path(importlib.util.cache_from_source(str(path))).read_bytes()
    except OSError:
        there = b""
    if there[:4] == importlib.util.MAGIC_NUMBER and _is_current(there[4:_HEADER], path, source):
        return there[_HEADER:]
    return marshal.dumps(compile(source, str(path), "exec", dont_inherit=True, optimize=0))


def _is_current(header: bytes, path: Path, source: bytes) -> bool:
    """Whether the rest of a .pyc's header says that it is of this source (PEP 552)."""
    if header[:4] != bytes(4):
        return header[4:] == importlib.util.source_hash(source)
    status = path.stat()
    times = int(status.st_mtime) & 0xFFFFFFFF, status.st_size & 0xFFFFFFFF
    return header[4:] == b"".join(number.to_bytes(4, "little") for number in times)


def sort_libraries(recording: Recording, site: Path) -> LibraryPlan:
    """Decide of each mapped library below `site` where a start takes it from."""
    names = names_of(site)
    found = {
        path: library
        for library in recording.libraries
        if (path := _below(library.path, names)) is not None and (site / path).is_file()
    }
    sizes = {path: (site / path).stat().st_size for path in found}
    copied = [path for path in found if is_worth_copying(sizes[path], found[path].ranges)]
    ahead = [
        Ahead(path, cut(library.ranges or ((0, sizes[path]),), sizes[path]))
        for path, library in found.items()
        if path not in copied and (library.ranges is not None or sizes[path] <= UNTOLD_MAX)
    ]
    extensions = {_below(path, names) for path in recording.extensions}
    plain = [path for path in found if path not in extensions]
    preload = preloadable(site, [path for path in plain if path not in copied])
    return LibraryPlan(
        tuple(copied),
        tuple(sorted((set(found) | siblings(site, plain)) - set(copied))),
        tuple(ahead),
        tuple(in_order_of_need(preload)),
        needed_of_the_system(preload),
    )


def siblings(site: Path, libraries: Iterable[str]) -> set[str]:
    """Return all libraries of the packages of these, which may ask for one by its place later."""
    packages = {path.partition("/")[0] for path in libraries if "/" in path}
    return {
        path.relative_to(site).as_posix()
        for package in packages
        for path in (site / package).rglob("*.so*")
        if path.name.endswith(".so") or ".so." in path.name
    }


def preloadable(site: Path, paths: Iterable[str]) -> dict[str, Dynamic]:
    """Return those of the libraries that do not call Python, with what they say of themselves."""
    libraries = {path: read_dynamic(site / path) for path in paths}
    return {p: d for p, d in libraries.items() if d is not None and not d.calls_python}


def needed_of_the_system(libraries: dict[str, Dynamic]) -> tuple[str, ...]:
    """Return the names that these libraries need and none of them has."""
    own = {library.name for library in libraries.values()}
    own |= {path.rpartition("/")[2] for path in libraries}
    needed = (name for library in libraries.values() for name in library.needed)
    return tuple(dict.fromkeys(name for name in needed if name not in own))


def is_worth_copying(size: int, ranges: tuple[tuple[int, int], ...] | None) -> bool:
    """Whether a library of `size` bytes is better copied than read where it stands."""
    touched = size if ranges is None else sum(end - first for first, end in cut(ranges, size))
    return size <= LARGE and size - touched <= SMALL


def cut(ranges: Iterable[tuple[int, int]], size: int) -> tuple[tuple[int, int], ...]:
    """Return what of the ranges lies within a file of `size` bytes, whose last page is cut."""
    return tuple((first, min(end, size)) for first, end in ranges if first < size)
