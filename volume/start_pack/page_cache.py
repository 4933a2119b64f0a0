"""What the kernel has of a file in memory: asked, and brought there by large requests.

A read of a file, or a fault in a mapping, asks a network volume for 128 kB at a time, twice as much
with POSIX_FADV_SEQUENTIAL. A mapping that wants large pages (MADV_HUGEPAGE, Linux 5.18) is filled
by 2 MB, which a FUSE volume gets as requests of up to 1 MB.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterator
from contextlib import contextmanager

_HUGE_PAGE, _POPULATE_READ = 14, 22  # of madvise(2); Python 3.11 has no name for the second

# Found once: the dynamic linker is asked with Python's lock held, and may be busy (`preload`).
_LIBC = ctypes.CDLL(None)
_mmap, _munmap, _madvise, _mincore = _LIBC.mmap, _LIBC.munmap, _LIBC.madvise, _LIBC.mincore
_mmap.restype = ctypes.c_void_p
_mmap.argtypes = [
    *(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int),
    ctypes.c_long,
]
_munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]


def is_cached(file: int, first: int, end: int) -> bool:
    """Whether the kernel has these bytes in memory; False where it does not say."""
    with _mapped(file, first, end) as (address, size):
        if address is None:
            return False
        pages = -(-size // mmap.PAGESIZE)
        there = ctypes.create_string_buffer(pages)
        told = _mincore(address, size, there) == 0
        return told and there.raw.count(1) == pages


def populate(file: int, first: int, end: int) -> bool:
    """Bring these bytes into memory, without Python's lock; False where they cannot be so."""
    with _mapped(file, first, end) as (address, size):
        if address is None:
            return False
        _madvise(address, size, _HUGE_PAGE)  # a wish: the next is right without it
        return bool(_madvise(address, size, _POPULATE_READ) == 0)


@contextmanager
def _mapped(file: int, first: int, end: int) -> Iterator[tuple[int | None, int]]:
    """The address and size of a mapping of these bytes; None where there can be none."""
    start = first - first % mmap.PAGESIZE
    size = end - start
    address = _mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, file, start)
    if address in {None, ctypes.c_void_p(-1).value}:
        yield None, size
        return
    try:
        yield address, size
    finally:
        _munmap(address, size)
