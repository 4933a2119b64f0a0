"""Reads files into the page cache by several threads, in the order in which they will be used.

A network volume answers each request after its latency, and the kernel asks for 128 kB at a time
where a file is mapped: one reader after another waits most of the time. Here ten readers ask for
as much as the kernel allows (`page_cache`), what is large by a process of its own (`filler`), so
that the files of a start come at the volume's own speed while the start computes.

Measured through FUSE on 1.5 GB, 300 MB/s for each request, two cores, by ten readers, in MB/s at 1
and 3 ms an operation: 1,670 and 1,190 by populated mappings, 1,150 and 600 by reads with
POSIX_FADV_SEQUENTIAL, 750 and 350 without; 16 or 24 readers are no faster. What the kernel has
already is not read again but asked for by mincore(2), so that a warm start pays nothing.
"""

from __future__ import annotations

import heapq
import mmap
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from volume.start_pack.filler import Filler
from volume.start_pack.page_cache import is_cached

THREADS = 10
PIECE = 8 << 20  # bytes that a thread takes at once: large, for each gives Python's lock back once
AT_ONCE = 6  # large pieces at a time, at most: four threads are left for what is small
LARGE = 1 << 20  # bytes of a range from which on the filler reads it: it asks for 2 MB at a time

Range = tuple[int, int]  # first byte, and the one after the last
# Gets the first byte's place and the bytes, which are gone when it returns; None for a failure.
Take = Callable[[int, memoryview | None], None]


@dataclass
class Reading:
    """A file that is read ahead, or ranges of it."""

    path: Path
    ranges: tuple[Range, ...] | None
    take: Take | None = None
    done: threading.Event = field(default_factory=threading.Event)  # read, or given up
    file: int = -1
    asks: bool = False  # whether the kernel tells what of it is in memory
    left: int = 0  # pieces


@dataclass(frozen=True, order=True)
class _Piece:
    order: int  # of the file
    first: int
    end: int

    @property
    def is_large(self) -> bool:
        """Whether the filler reads it, where there is one."""
        return self.end - self.first >= LARGE


class ReadAhead:
    """Reads what is added, in that order; a file that cannot be read is left to who needs it."""

    def __init__(self, threads: int = THREADS, filler: Filler | None = None) -> None:
        """With a `filler`, of as many channels, that reads what is large."""
        self._filler = filler
        self._changed = threading.Condition()
        self._to_open: list[int] = []  # heaps: what was added first comes first
        self._small: list[_Piece] = []
        self._large: list[_Piece] = []
        self._readings: list[Reading] = []
        self._closed = False
        self._under_way = 0  # large ones
        self._threads = [
            threading.Thread(target=self._work, args=(n,), name="read-ahead", daemon=True)
            for n in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def add(
        self, path: Path, ranges: Sequence[Range] | None = None, take: Take | None = None
    ) -> Reading:
        """Read this file after what was added before: all of it, or these ranges of bytes.

        With `take` each range is read at once and given to it, in one of the threads.
        """
        reading = Reading(path, None if ranges is None else tuple(ranges), take)
        with self._changed:
            closed = self._closed
            if not closed:
                heapq.heappush(self._to_open, len(self._readings))
                self._readings.append(reading)
                self._changed.notify()
        if closed:
            _give_up(reading, reading.ranges or ())
        return reading

    def close(self) -> None:
        """Give up what is not begun; who waits for it goes on."""
        with self._changed:
            self._closed = True
            lost = [
                (self._readings[order], self._readings[order].ranges or ())
                for order in self._to_open
            ]
            waiting = [*self._small, *self._large]
            lost += [(self._readings[p.order], ((p.first, p.end),)) for p in waiting]
            self._to_open.clear()
            self._small.clear()
            self._large.clear()
            self._changed.notify_all()
        if self._filler is not None:
            self._filler.close()
        for reading, ranges in lost:
            _give_up(reading, ranges)
        for reading in self._readings:
            reading.done.set()

    def join(self, seconds: float) -> None:
        """Wait until the threads have ended after `close`, each at most so long."""
        for thread in self._threads:
            thread.join(seconds)

    def _work(self, number: int) -> None:
        buffer = memoryview(mmap.mmap(-1, PIECE))  # no page of it is there until it is used
        while (task := self._next()) is not None:
            if isinstance(task, _Piece):
                self._do(self._readings[task.order], task, buffer, number)
            else:
                self._open(task)

    def _do(self, reading: Reading, piece: _Piece, buffer: memoryview, number: int) -> None:
        first, end = piece.first, piece.end
        filler = self._filler if piece.is_large else None
        filled = filler is not None and filler.fill(number, reading.file, first, end)
        if reading.take is not None:
            own = buffer if end - first <= PIECE else memoryview(bytearray(end - first))
            _deliver(reading.take, first, _filled(reading.file, first, own[: end - first]))
        elif not filled and not (reading.asks and is_cached(reading.file, first, end)):
            _read(reading.file, first, end, buffer)
        with self._changed:
            self._under_way -= piece.is_large
            self._changed.notify()
        self._end_piece(reading)

    def _next(self) -> _Piece | int | None:
        """The next piece, or the number of a file to be opened; None at the end."""
        with self._changed:
            while not self._closed:
                if self._to_open:  # first: it is short, and nothing of a file can begin without
                    return heapq.heappop(self._to_open)
                may = [self._small, *([self._large] if self._under_way < AT_ONCE else [])]
                heaps = [heap for heap in may if heap]
                if heaps:
                    piece = heapq.heappop(min(heaps))
                    self._under_way += piece.is_large
                    return piece
                self._changed.wait()
            return None

    def _open(self, order: int) -> None:
        reading = self._readings[order]
        try:
            reading.file = os.open(reading.path, os.O_RDONLY | os.O_CLOEXEC)
            os.posix_fadvise(reading.file, 0, 0, os.POSIX_FADV_SEQUENTIAL)
            status = os.fstat(reading.file)
            # Who may not write a file is told that all of it is there (mincore(2)).
            reading.asks = os.geteuid() in {0, status.st_uid}
            ranges = reading.ranges or ((0, status.st_size),)
        except OSError:
            _give_up(reading, reading.ranges or ())
            ranges = ()
        parts = ranges if reading.take is not None else in_pieces(ranges)
        pieces = [_Piece(order, *piece) for piece in parts]
        with self._changed:
            late = self._closed and bool(pieces)
            if late:
                pieces = []
            reading.left = len(pieces) + 1
            for piece in pieces:
                heapq.heappush(self._large if piece.is_large else self._small, piece)
            self._changed.notify(len(pieces))
        if late:
            _give_up(reading, ranges)
        self._end_piece(reading)

    def _end_piece(self, reading: Reading) -> None:
        with self._changed:
            reading.left -= 1
            if reading.left == 0:
                reading.done.set()
            closes = reading.left == 0 and reading.file >= 0
        if closes:
            os.close(reading.file)


def _give_up(reading: Reading, ranges: Sequence[Range]) -> None:
    """Tell who takes these ranges that they do not come."""
    if reading.take is not None:
        for first, _ in ranges:
            _deliver(reading.take, first, None)
    reading.done.set()


def _deliver(take: Take, first: int, data: memoryview | None) -> None:
    """Hand bytes over; a thread that ended by an error of the taker's would hold up all others."""
    try:
        take(first, data)
    except Exception:
        if data is not None:
            take(first, None)


def _filled(file: int, first: int, buffer: memoryview) -> memoryview | None:
    """The buffer filled from the file's byte `first` on; None where that cannot be."""
    done = 0
    try:
        while done < len(buffer):
            read = os.preadv(file, [buffer[done:]], first + done)
            if read == 0:
                return None
            done += read
    except OSError:
        return None
    return buffer


def in_pieces(ranges: Sequence[Range]) -> list[Range]:
    """Cut ranges into pieces of at most PIECE bytes, in order."""
    return [
        (start, min(start + PIECE, end))
        for first, end in ranges
        for start in range(first, end, PIECE)
    ]


def _read(file: int, first: int, end: int, buffer: memoryview) -> None:
    """Read bytes and drop them: the kernel keeps them."""
    try:
        while first < end:
            read = os.preadv(file, [buffer[: end - first]], first)
            if read == 0:
                return
            first += read
    except OSError:  # who needs the file will say so
        return
