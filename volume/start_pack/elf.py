"""What a shared library says of itself: its name, what it needs, and whether it is Python's.

The format is that of the System V ABI, "Dynamic Section", for 64 bits and little-endian.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_PT_LOAD, _PT_DYNAMIC = 1, 2
_NEEDED, _STRTAB, _STRSZ, _SONAME = 1, 5, 10, 14


@dataclass(frozen=True)
class Dynamic:
    """A library's own name, the names of those that it needs, and whether it calls Python."""

    name: str
    needed: tuple[str, ...]
    calls_python: bool


def read_dynamic(path: Path) -> Dynamic | None:
    """Read a library's dynamic section; None where it has none that can be read."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _dynamic(path.name, data)
    except (OSError, ValueError, struct.error):
        return None


def _dynamic(file_name: str, data: mmap.mmap) -> Dynamic | None:
    if data[:6] != b"\x7fELF\x02\x01":
        return None
    segments = list(_segments(data))
    entries = [
        struct.unpack_from("<qQ", data, place)
        for kind, offset, _, size in segments
        if kind == _PT_DYNAMIC
        for place in range(offset, offset + size, 16)
    ]
    values = {tag: value for tag, value in entries if tag in {_STRTAB, _STRSZ, _SONAME}}
    if _STRTAB not in values or _STRSZ not in values:
        return None
    start = next(
        (
            offset + values[_STRTAB] - address
            for kind, offset, address, size in segments
            if kind == _PT_LOAD and address <= values[_STRTAB] < address + size
        ),
        None,
    )
    if start is None:
        return None
    names = data[start : start + values[_STRSZ]]
    needed = tuple(_text(names, value) for tag, value in entries if tag == _NEEDED)
    name = _text(names, values[_SONAME]) if _SONAME in values else file_name
    return Dynamic(name, needed, b"\0PyErr_" in names or b"\0PyObject_" in names)


def _segments(data: mmap.mmap) -> Iterator[tuple[int, int, int, int]]:
    """Each program header's kind, offset in the file, address and size."""
    (table,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    for place in range(table, table + size * count, size):
        kind, _, offset, address, _, length = struct.unpack_from("<IIQQQQ", data, place)
        yield kind, offset, address, length


def _text(names: bytes, place: int) -> str:
    return names[place : names.index(b"\0", place)].decode()


def in_order_of_need(libraries: dict[str, Dynamic]) -> list[str]:
    """Order libraries, by the keys of the dictionary, so that each comes after what it needs."""
    keys = {key.rpartition("/")[2]: key for key in libraries}
    keys |= {library.name: key for key, library in libraries.items()}
    ordered: dict[str, None] = {}
    begun: set[str] = set()

    def visit(key: str) -> None:
        if key in begun:
            return
        begun.add(key)
        for name in libraries[key].needed:
            if name in keys:
                visit(keys[name])
        ordered[key] = None

    for key in libraries:
        visit(key)
    return list(ordered)
