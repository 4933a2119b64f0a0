"""Keys and values in pages: a row takes as many as it has positions, from a bounded number.

    PageTable     which pages each row has, and which are free: plain bookkeeping
    PagedCache    the pages themselves, and the table where a kernel finds it
    PagedRows     what a kernel is given of both: some neighbouring rows

A kernel that reads or writes position p of row r goes to page table[r, p // PAGE], at p % PAGE.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from worker.speech.cuda.lm import PAGE
from worker.speech.device import send
from worker.speech.lm.config import LMConfig

DTYPE = torch.bfloat16  # of keys and values
GROUP = 4  # pages that a row takes at once while there are plenty: the table is sent less often
NOBODYS = 0  # the page of rows that have none: what is written there is read by nobody


class PageTable:
    """Which of `pages` pages, counted from 1, each row has: at most `most` each, in order."""

    def __init__(self, rows: int, pages: int, most: int) -> None:
        self.entries = torch.full((rows, most), NOBODYS, dtype=torch.int32)
        self.changed = False  # since whoever looks at the entries has set it back
        self._rows = self.entries.numpy()  # the same memory, quicker to write to
        self._held: list[list[int]] = [[] for _ in range(rows)]
        self._free = list(range(pages, 0, -1))  # the next to be taken last

    @property
    def free(self) -> int:
        """How many pages no row has."""
        return len(self._free)

    def held(self, row: int) -> int:
        """How many pages the row has."""
        return len(self._held[row])

    def extend(self, row: int, pages: int) -> bool:
        """See that the row has as many pages; False, and nothing has changed, without enough."""
        held = self._held[row]
        missing = pages - len(held)
        if missing <= 0:
            return True
        most = self.entries.shape[1]
        if missing > len(self._free) or pages > most:
            return False
        if len(self._free) - missing >= GROUP * len(self._held):
            missing = min(-(-pages // GROUP) * GROUP, most) - len(held)
        taken = [self._free.pop() for _ in range(missing)]
        self._rows[row, len(held) : len(held) + missing] = taken
        held += taken
        self.changed = True
        return True

    def release(self, row: int) -> None:
        """Take the row's pages away."""
        held = self._held[row]
        if held:
            self._free += reversed(held)
            self._rows[row, : len(held)] = NOBODYS
            held.clear()
            self.changed = True

    def move(self, source: int, target: int) -> None:
        """Give `target`, another row, the pages of `source`, in place of those that it had."""
        self.release(target)
        self._held[source], self._held[target] = self._held[target], self._held[source]
        self._rows[target] = self._rows[source]
        self._rows[source] = NOBODYS
        self.changed = True


@dataclass(frozen=True)
class PagedRows:
    """Some rows of a paged cache, in the same memory."""

    pages: Tensor  # [layers, pages, 2, kv heads, PAGE, head_dim]: keys, then values
    table: Tensor  # int32 [rows, pages of a row]: the pages of each row, in order


class PagedCache:
    """Keys and values of some rows, at most `positions` each, in `pages` pages for all."""

    def __init__(
        self,
        config: LMConfig,
        rows: int,
        positions: int,
        pages: int,
        device: torch.device,
    ) -> None:
        """Take the memory at once."""
        most = -(-positions // PAGE)  # pages of a row
        self._host = PageTable(rows, pages, most)
        self.table = torch.full((rows, most), NOBODYS, dtype=torch.int32, device=device)
        self.pages = torch.zeros(
            config.num_hidden_layers,
            1 + pages,
            2,
            config.num_key_value_heads,
            PAGE,
            config.head_dim,
            dtype=DTYPE,
            device=device,
        )

    @property
    def free(self) -> int:
        """Positions that can still be reserved, by all rows together."""
        return self._host.free * PAGE

    def reserve(self, row: int, positions: int) -> int:
        """Make room for the row's first `positions` positions: how many it now has room for.

        0, and nothing has changed, where too few pages are left.
        """
        fits = self._host.extend(row, -(-positions // PAGE))
        return self._host.held(row) * PAGE if fits else 0

    def release(self, row: int) -> None:
        """Give the row's pages to whoever asks next."""
        self._host.release(row)

    def flush(self) -> None:
        """Send the table to the device, if it has changed; it stays at its address."""
        if self._host.changed:
            self._host.changed = False
            send(self._host.entries, self.table)

    def rows(self, first: int, count: int) -> PagedRows:
        """View `count` rows from `first` on, in the same memory."""
        return PagedRows(self.pages, self.table[first : first + count])

    def copy(self, source: int, target: int, _length: int) -> None:
        """Move the pages of row `source` to row `target`; `source` then has none."""
        self._host.move(source, target)

    def scrub(self) -> None:
        """Leave all as it is: the kernels take no number past a row's own positions (lm.cu).

        And a row has written all of those itself.
        """


def page_bytes(config: LMConfig) -> int:
    """Bytes of a page in all layers."""
    numbers = 2 * config.num_key_value_heads * PAGE * config.head_dim
    return config.num_hidden_layers * numbers * DTYPE.itemsize
