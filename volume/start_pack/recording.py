"""python -m volume.start_pack.recording OUT MODULE: a rehearsal of the worker, and what it read.

An audit hook, in place before anything else, hears of each file that is opened and each library
that Python loads; at the end the kernel tells which libraries are mapped and which of their pages
this process has touched (proc(5): maps and pagemap). No list is kept by hand.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":  # before the imports below, which it hears of too
    _heard: list[tuple[str, object]] = []
    _events = {"open": 0, "import": 1, "ctypes.dlopen": 0}

    def _hear(name: str, arguments: tuple[object, ...]) -> None:
        place = _events.get(name)
        if place is not None:
            _heard.append((name, arguments[place]))

    sys.addaudithook(_hear)

import ctypes
import json
import mmap
import os
import runpy
import struct
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

GAP = (
    256 << 10
)  # bytes between two touched pages that are read as well: one request in place of two
_PAGE = mmap.PAGESIZE
_THERE = (1 << 63) | (1 << 62)  # of a page's entry in pagemap: in memory, or swapped


@dataclass(frozen=True)
class Library:
    """A mapped file, and the ranges of it that a start touches; None where that is not told."""

    path: str
    ranges: tuple[tuple[int, int], ...] | None


@dataclass(frozen=True)
class Recording:
    """What a start reads, all in the order of its first use, as absolute paths."""

    opened: tuple[str, ...]  # files, whether they were there or not
    modules: tuple[str, ...]  # sources of modules that were imported and still are
    extensions: tuple[str, ...]  # extension modules
    loaded_by_path: tuple[str, ...]  # libraries that Python code loads, by ctypes
    libraries: tuple[Library, ...]  # all that are mapped, the two kinds above among them

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps(asdict(self), indent=0))

    @classmethod
    def read(cls, path: Path) -> Recording:
        """Read what `write` has written. Raises OSError, ValueError, KeyError or TypeError."""
        content = json.loads(path.read_text())
        libraries = tuple(
            Library(
                library["path"],
                None
                if library["ranges"] is None
                else tuple((first, end) for first, end in library["ranges"]),
            )
            for library in content["libraries"]
        )
        lists = ("opened", "modules", "extensions", "loaded_by_path")
        opened, modules, extensions, by_path = (tuple(map(str, content[name])) for name in lists)
        return cls(opened, modules, extensions, by_path, libraries)


def record(heard: Iterable[tuple[str, object]]) -> Recording:
    """Make a recording of what this process has done, from what its hook has heard."""
    paths: dict[str, dict[str, None]] = {name: {} for name in ("open", "import", "ctypes.dlopen")}
    for name, value in tuple(heard):
        path = os.fsdecode(value) if isinstance(value, (str, bytes)) else ""
        if path.startswith("/"):
            paths[name][path] = None
    touched = touched_ranges()
    order = loaded_libraries()
    libraries = sorted(touched, key=lambda path: order.get(path, len(order)))
    return Recording(
        tuple(paths["open"]),
        imported_sources(),
        tuple(paths["import"]),
        tuple(paths["ctypes.dlopen"]),
        tuple(Library(path, touched[path]) for path in libraries),
    )


def imported_sources() -> tuple[str, ...]:
    """Return the source files of the modules that Python has."""
    specs = (getattr(module, "__spec__", None) for module in tuple(sys.modules.values()))
    origins = (getattr(spec, "origin", None) for spec in specs)
    return tuple(o for o in origins if isinstance(o, str) and o.endswith(".py"))


def loaded_libraries() -> dict[str, int]:
    """Return the libraries of this process with their places in the order in which they came."""
    found: dict[str, int] = {}

    def see(info: int, _size: int, _data: int | None) -> int:
        # struct dl_phdr_info begins with an address and the name (dl_iterate_phdr(3)).
        name = ctypes.c_char_p.from_address(info + ctypes.sizeof(ctypes.c_void_p)).value
        if name:
            found.setdefault(os.path.realpath(os.fsdecode(name)), len(found))
        return 0

    seen = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)(see)
    ctypes.CDLL(None).dl_iterate_phdr(seen, None)
    return found


def touched_ranges() -> dict[str, tuple[tuple[int, int], ...] | None]:
    """Return the mapped files with the ranges that this process has touched of each."""
    pages: dict[str, set[int]] = {}
    untold: set[str] = set()
    try:
        pagemap = os.open("/proc/self/pagemap", os.O_RDONLY)
    except OSError:
        pagemap = -1
    for line in Path("/proc/self/maps").read_text().splitlines():
        area, _rights, offset, _device, inode, *name = line.split(maxsplit=5)
        if inode == "0" or not name or not name[0].startswith("/"):
            continue
        path = name[0]
        found = pages.setdefault(path, set())
        start, end = (int(address, 16) for address in area.split("-"))
        count = (end - start) // _PAGE
        try:
            entries = os.pread(pagemap, 8 * count, start // _PAGE * 8)
        except OSError:
            untold.add(path)
            continue
        first = int(offset, 16) // _PAGE
        there = (
            first + n
            for (n, (entry,)) in enumerate(struct.iter_unpack("<Q", entries))
            if entry & _THERE
        )
        found.update(there)
    if pagemap >= 0:
        os.close(pagemap)
    return {path: None if path in untold else merged(found) for path, found in pages.items()}


def merged(pages: Iterable[int], gap: int = GAP) -> tuple[tuple[int, int], ...]:
    """Return the ranges of bytes that hold these pages, joined over gaps of at most `gap` bytes."""
    ranges: list[list[int]] = []
    for page in sorted(pages):
        first, end = page * _PAGE, (page + 1) * _PAGE
        if ranges and first - ranges[-1][1] <= gap:
            ranges[-1][1] = end
        else:
            ranges.append([first, end])
    return tuple((first, end) for first, end in ranges)


if __name__ == "__main__":
    out, rehearsal = Path(sys.argv.pop(1)), sys.argv.pop(1)
    try:
        runpy.run_module(rehearsal, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code:
            raise
    record(_heard).write(out)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # a thread of the model's that frees tensors while Python ends would abort it
