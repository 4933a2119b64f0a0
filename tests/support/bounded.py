"""Any decoder with a cache that runs out: rows have only the pages that they have reserved.

Whatever is run without room, or before the table was flushed, is an error; a row that was moved
away or released has nothing any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from worker.speech.lm.paged_cache import PageTable


@dataclass
class BoundedCache:
    """A cache whose rows, all together, have `table`'s pages of `page` positions."""

    inner: Any
    table: PageTable
    page: int
    first: int = 0  # the row that a call's row 0 is

    @property
    def free(self) -> int:
        return self.table.free * self.page

    def reserve(self, row: int, positions: int) -> int:
        fits = self.table.extend(row, -(-positions // self.page))
        return self.table.held(row) * self.page if fits else 0

    def release(self, row: int) -> None:
        self.table.release(row)
        self.inner.release(row)

    def flush(self) -> None:
        self.table.changed = False

    def rows(self, first: int, count: int) -> BoundedCache:
        return BoundedCache(self.inner.rows(first, count), self.table, self.page, first)

    def copy(self, source: int, target: int, length: int) -> None:
        assert self.table.held(target) == 0
        self.table.move(source, target)
        self.inner.copy(source, target, length)
        self.inner.release(source)

    def scrub(self) -> None:
        self.inner.scrub()

    def check(self, row: int, positions: int) -> None:
        """That a call's row has room for its first `positions`, and the device knows."""
        assert not self.table.changed
        assert self.table.held(self.first + row) * self.page >= positions


@dataclass
class Bounded:
    """The decoder `lm`, whose caches have `pages` pages of `page` positions each."""

    lm: Any
    pages: int
    page: int
    caches: list[BoundedCache] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.lm, name)

    def new_cache(self, rows: int, positions: int) -> BoundedCache:
        table = PageTable(rows, self.pages, -(-positions // self.page))
        self.caches.append(BoundedCache(self.lm.new_cache(rows, positions), table, self.page))
        return self.caches[-1]

    def prefill(
        self, parts: Sequence[Sequence[int]], cache: BoundedCache, begins: Sequence[int]
    ) -> Tensor:
        for row, (part, begin) in enumerate(zip(parts, begins, strict=True)):
            assert part
            cache.check(row, begin + len(part))
        return self.lm.prefill(parts, cache.inner, begins)

    def step(self, ids: Tensor, positions: Tensor, cache: BoundedCache, length: int) -> Tensor:
        for row, position in enumerate(positions.tolist()):
            cache.check(row, position + 1)
        return self.lm.step(ids, positions, cache.inner, length)

    @property
    def taken(self) -> int:
        """Pages that some row has."""
        return self.pages - self.caches[-1].table.free
