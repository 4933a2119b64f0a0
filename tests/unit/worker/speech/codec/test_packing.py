"""Which chunks go into a run, and where they lie."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from worker.speech.codec.packing import Chunk, Layout, Lengths

LENGTHS = Lengths(
    prenet=(16, 32, 64),
    wave=(8, 16, 32, 64),
    prenet_gap=3,
    wave_gap=4,
    wave_context=2,
    voices=4,
    most_prenet=64,
    most_wave=64,
)


def chunk(length: int, kept: slice | None = None, *, first: bool = False) -> Chunk:
    return Chunk((1, 2), np.zeros(length, np.int64), kept or slice(0, length), first=first)


def lengths_of(layout: Layout) -> list[int]:
    return [len(place.chunk.codes) for place in layout.places]


def test_a_chunk_alone_has_the_smallest_lengths_that_hold_it() -> None:
    for length, prenet, wave in ((1, 16, 8), (16, 16, 16), (17, 32, 32), (64, 64, 64)):
        layout = Layout.of([chunk(length)], LENGTHS)
        assert (layout.prenet, layout.wave) == (prenet, wave)
        assert [(p.prenet, p.wave) for p in layout.places] == [(0, 0)]


def test_the_wave_generator_reads_what_is_kept_and_its_context() -> None:
    for kept, read in (
        (slice(0, 10), range(10)),
        (slice(0, 3), range(5)),
        (slice(4, 6), range(2, 8)),
        (slice(1, 2), range(4)),
        (slice(9, 10), range(7, 10)),
    ):
        assert LENGTHS.wave_range(chunk(10, kept)) == read


def test_chunks_lie_behind_each_other_with_gaps() -> None:
    layout = Layout.of([chunk(10, slice(4, 6)), chunk(5), chunk(7)], LENGTHS)
    assert [place.prenet for place in layout.places] == [0, 13, 21]
    assert [place.wave for place in layout.places] == [0, 10, 19]
    assert (layout.prenet, layout.wave) == (32, 32)


def test_what_does_not_fit_is_left_and_what_fits_behind_it_is_not() -> None:
    layout = Layout.of([chunk(40), chunk(30), chunk(20)], LENGTHS)
    assert lengths_of(layout) == [40, 20]
    assert layout.prenet == 64


def test_a_run_is_full_to_the_last_position() -> None:
    assert lengths_of(Layout.of([chunk(40), chunk(21, slice(0, 1))], LENGTHS)) == [40, 21]
    assert lengths_of(Layout.of([chunk(40), chunk(22, slice(0, 1))], LENGTHS)) == [40]
    assert lengths_of(Layout.of([chunk(40), chunk(20)], LENGTHS)) == [40, 20]
    assert lengths_of(Layout.of([chunk(40), chunk(21)], LENGTHS)) == [40]


def test_no_more_voices_than_there_is_room_for() -> None:
    assert lengths_of(Layout.of([chunk(1)] * 9, LENGTHS)) == [1] * 4


def test_a_listener_who_hears_nothing_yet_waits_for_no_others_work() -> None:
    """Who comes along makes the run no longer than it is."""
    first = chunk(10, slice(0, 3), first=True)  # of 16 and 8 positions
    behind = [chunk(40), chunk(3, slice(0, 1)), chunk(2, slice(0, 1))]
    layout = Layout.of([first, *behind], LENGTHS)
    assert lengths_of(layout) == [10]
    assert (layout.prenet, layout.wave) == (16, 8)
    small = replace(LENGTHS, wave=(16, 32, 64))
    layout = Layout.of([first, *behind], small)
    assert lengths_of(layout) == [10, 3]
    assert (layout.prenet, layout.wave) == (16, 16)


def test_nor_does_the_prenet_compute_more_for_it() -> None:
    first = chunk(14, slice(0, 3), first=True)
    layout = Layout.of([first, chunk(3, slice(0, 1))], replace(LENGTHS, wave=(16, 32, 64)))
    assert lengths_of(layout) == [14]
    assert layout.prenet == 16


def test_listeners_who_hear_nothing_yet_go_together() -> None:
    layout = Layout.of([chunk(20, first=True)] * 3 + [chunk(30)], LENGTHS)
    assert lengths_of(layout) == [20, 20]


def test_where_memory_is_short_only_one_goes_beyond_what_it_suffices_for() -> None:
    short = replace(LENGTHS, most_prenet=16, most_wave=16)
    assert lengths_of(Layout.of([chunk(4), chunk(30), chunk(4), chunk(4)], short)) == [4, 4]
    layout = Layout.of([chunk(30), chunk(1)], short)
    assert lengths_of(layout) == [30]
    assert (layout.prenet, layout.wave) == (32, 32)


def test_of_nothing_there_is_nothing() -> None:
    assert Layout.of([], LENGTHS).places == ()
