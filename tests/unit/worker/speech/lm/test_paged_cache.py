"""Keys and values in pages: no page has two rows, none is lost, and the device knows all of it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.support.language_model import config_of
from worker.speech.lm.paged_cache import (
    GROUP,
    NOBODYS,
    PAGE,
    PagedCache,
    PageTable,
    page_bytes,
)

CPU = torch.device("cpu")
CONFIG = config_of()
ROWS, PAGES, MOST = 4, 21, 9


def cache_of(rows: int = ROWS, pages: int = PAGES, positions: int = MOST * PAGE) -> PagedCache:
    return PagedCache(CONFIG, rows, positions, pages, CPU)


class Rows(RuleBasedStateMachine):
    """Rows that take pages, move and go, beside a plain account of who has which."""

    def __init__(self) -> None:
        super().__init__()
        self.cache = cache_of()
        self.held: list[list[int]] = [[] for _ in range(ROWS)]  # pages of each row, in order
        self.sent = self.cache.table.clone()

    def has(self, row: int) -> list[int]:
        """What the row has by the host's table, which `flush` would send."""
        entries = self.cache._host.entries[row]
        return [page for page in entries.tolist() if page != NOBODYS]

    @rule(row=st.integers(0, ROWS - 1), positions=st.integers(1, MOST * PAGE + 1))
    def reserve(self, row: int, positions: int) -> None:
        before, free = self.held[row], self.cache.free
        pages = -(-positions // PAGE)
        room = self.cache.reserve(row, positions)
        if pages > MOST or (pages - len(before)) * PAGE > free:
            assert room == 0
            assert self.has(row) == before
            return
        assert room >= positions
        assert room == len(self.has(row)) * PAGE
        assert len(self.has(row)) < max(pages, len(before)) + GROUP
        assert self.has(row)[: len(before)] == before
        self.held[row] = self.has(row)

    @rule(row=st.integers(0, ROWS - 1))
    def release(self, row: int) -> None:
        self.cache.release(row)
        self.held[row] = []

    @rule(row=st.integers(0, ROWS - 1), by=st.integers(1, ROWS - 1))
    def move(self, row: int, by: int) -> None:
        other = (row + by) % ROWS
        self.cache.copy(row, other, 5)
        self.held[other], self.held[row] = self.held[row], []

    @rule()
    def flush(self) -> None:
        self.cache.flush()
        self.sent = self.cache.table.clone()
        for row, pages in enumerate(self.held):
            assert self.sent[row].tolist() == [*pages, *[NOBODYS] * (MOST - len(pages))]

    @invariant()
    def each_page_has_one_row_or_is_free(self) -> None:
        taken = [page for pages in self.held for page in pages]
        assert [self.has(row) for row in range(ROWS)] == self.held
        assert sorted(taken + self.cache._host._free) == list(range(1, PAGES + 1))
        assert self.cache.free == (PAGES - len(taken)) * PAGE

    @invariant()
    def the_device_knows_what_was_sent(self) -> None:
        assert torch.equal(self.cache.table, self.sent)
        assert (
            self.cache._host.changed
            or [[page for page in row if page != NOBODYS] for row in self.sent.tolist()]
            == self.held
        )


TestRows = Rows.TestCase
TestRows.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_pages_are_taken_in_groups_while_there_are_plenty_and_the_last_ones_singly() -> None:
    table = PageTable(2, 16, 10)
    held = []
    for step in range(10):
        row = step % 2
        assert table.extend(row, table.held(row) + 1)
        held.append((table.held(0), table.held(1)))
    assert held[:2] == [(4, 0), (4, 4)]
    # 8 are left, as many as make a group for each row.
    assert held[2:] == [(5, 4), (5, 5), (6, 5), (6, 6), (7, 6), (7, 7), (8, 7), (8, 8)]
    assert table.free == 0
    assert not table.extend(0, 9)
    assert table.extend(0, 8)


def test_a_group_ends_where_a_row_does() -> None:
    table = PageTable(1, 100, 6)
    assert table.extend(0, 5)
    assert table.held(0) == 6
    assert not table.extend(0, 7)


def test_room_that_is_there_already_changes_nothing() -> None:
    cache = cache_of()
    assert cache.reserve(1, 1) == GROUP * PAGE
    cache.flush()
    assert cache.reserve(1, GROUP * PAGE) == GROUP * PAGE
    assert not cache._host.changed
    assert cache.reserve(1, GROUP * PAGE + 1) > GROUP * PAGE
    assert cache._host.changed


def test_the_table_stays_at_its_address_and_is_sent_by_a_flush_alone() -> None:
    cache = cache_of()
    address = cache.table.data_ptr()
    view = cache.rows(2, 2)
    cache.reserve(2, 1)
    cache.reserve(3, 1)
    assert not view.table.any()
    cache.flush()
    assert view.table[:, :GROUP].tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert cache.table.data_ptr() == address
    assert cache.table.dtype == torch.int32
    assert view.table.data_ptr() == cache.table[2].data_ptr()
    assert view.pages is cache.pages


def test_a_moved_row_finds_its_keys_and_its_source_has_none() -> None:
    cache = cache_of()
    for row in (0, 3):
        cache.reserve(row, 2 * PAGE)
    cache.flush()
    kept = cache.rows(3, 1).table[0, :2].clone()
    cache.pages[:, kept.long()] = 5
    cache.copy(3, 0, 70)
    cache.flush()
    assert cache.table[0, :2].equal(kept)
    assert (cache.pages[:, cache.table[0, :2].long()] == 5).all()
    assert not cache.table[3].any()
    assert cache.free == (PAGES - 2) * PAGE  # what the target had is free


def test_the_pages_are_zeros_one_more_than_are_given_out() -> None:
    cache = cache_of(pages=3)
    layers, heads = CONFIG.num_hidden_layers, CONFIG.num_key_value_heads
    assert cache.pages.shape == (layers, 4, 2, heads, PAGE, CONFIG.head_dim)
    assert cache.pages.dtype == torch.bfloat16
    assert not cache.pages.any()
    assert cache.pages[:, :1].nbytes == page_bytes(CONFIG)


@pytest.mark.parametrize(("positions", "most"), [(1, 1), (PAGE, 1), (PAGE + 1, 2), (12_288, 192)])
def test_a_row_has_pages_for_all_its_positions(positions: int, most: int) -> None:
    assert cache_of(rows=2, pages=4, positions=positions).table.shape == (2, most)
