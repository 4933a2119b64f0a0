"""Continuous batching on a decoder of a few lines: who runs when, and that nobody is mixed up."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.toy_decoder import VOCABULARY, ToyDecoder, expected
from worker.cancellation import Cancellation
from worker.errors import BusyError, DeviceError, JobCancelledError, SynthesisError
from worker.speech.batcher import Answering, Batcher, Row
from worker.speech.plan import Plan
from worker.speech.sampling import Sampling

EVERYTHING = frozenset(range(VOCABULARY))
OPEN = Plan((EVERYTHING,) * 4000)  # as long as the row's limit lets it be
GREEDY = Sampling(temperature=0)


def row(*prompt: int, limit: int = 10) -> Row:
    return Row(prompt, f"{prompt}", limit)


def until(condition: object, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


@pytest.fixture
def held() -> Iterator[tuple[ToyDecoder, threading.Event]]:
    """A decoder whose steps wait until the event is set."""
    go = threading.Event()
    yield ToyDecoder(before_step=lambda _rows: go.wait(10) or None), go
    go.set()


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.tuples(st.lists(st.integers(1, 49), min_size=1, max_size=5), st.integers(1, 30)),
        min_size=1,
        max_size=12,
    ),
    st.integers(1, 5),
)
def test_rows_join_and_leave_and_are_never_mixed_up(
    asked: list[tuple[list[int], int]], slots: int
) -> None:
    decoder = ToyDecoder()
    batcher = Batcher(decoder, slots)
    rows = [Row(tuple(prompt), "row", limit) for prompt, limit in asked]
    answers = [one.answer() for one in batcher.submit(rows, OPEN, GREEDY)]
    assert [list(a.tokens) for a in answers] == [expected(p, limit) for p, limit in asked]
    assert max(decoder.batches, default=0) <= slots


def test_a_row_joins_a_running_batch(held: tuple[ToyDecoder, threading.Event]) -> None:
    decoder, go = held
    batcher = Batcher(decoder, 4)
    (first,) = batcher.submit([row(1, limit=500)], OPEN, GREEDY)
    until(lambda: batcher.occupancy() == (1, 0))
    (second,) = batcher.submit([row(2, limit=5)], OPEN, GREEDY)
    go.set()
    assert list(second.answer().tokens) == expected([2], 5)
    assert not first.done or len(decoder.batches) >= 499
    assert list(first.answer().tokens) == expected([1], 500)
    assert {1, 2} <= set(decoder.batches)


def test_a_free_place_goes_to_the_job_with_the_fewest_rows(
    held: tuple[ToyDecoder, threading.Event],
) -> None:
    decoder, go = held
    batcher = Batcher(decoder, 2)
    many = batcher.submit([row(n, limit=20) for n in range(1, 21)], OPEN, GREEDY, job="long")
    until(lambda: batcher.occupancy()[0] == 2)
    (one,) = batcher.submit([row(30, limit=20)], OPEN, GREEDY, job="short")
    go.set()
    one.answer()
    for asked in many:
        asked.answer()
    before = sum(asked.started < one.started for asked in many if asked.started and one.started)
    assert before == 2  # that ran when it came


def test_an_answer_tells_of_its_wait_and_its_company() -> None:
    batcher = Batcher(ToyDecoder(), 2)
    answers = [a.answer() for a in batcher.submit([row(1), row(2), row(3)], OPEN, GREEDY)]
    assert [a.occupancy for a in answers] == [2, 2, 1]
    assert answers[2].queue_seconds > answers[0].queue_seconds


def test_a_cancelled_row_frees_its_place(held: tuple[ToyDecoder, threading.Event]) -> None:
    decoder, go = held
    batcher = Batcher(decoder, 1)
    cancellation = Cancellation()
    (running,) = batcher.submit(
        [row(1, limit=4000)], OPEN, GREEDY, job="a", cancellation=cancellation
    )
    (waiting,) = batcher.submit([row(2, limit=3)], OPEN, GREEDY, job="b")
    until(lambda: batcher.occupancy() == (1, 1))
    cancellation.cancel()
    with pytest.raises(JobCancelledError):
        running.wait()
    go.set()
    assert list(waiting.answer().tokens) == expected([2], 3)
    assert len(decoder.batches) < 10


def test_a_row_that_waits_can_be_cancelled_too(held: tuple[ToyDecoder, threading.Event]) -> None:
    decoder, go = held
    batcher = Batcher(decoder, 1)
    (first,) = batcher.submit([row(1)], OPEN, GREEDY)
    until(lambda: batcher.occupancy() == (1, 0))
    cancellation = Cancellation()
    (second,) = batcher.submit([row(2)], OPEN, GREEDY, cancellation=cancellation)
    cancellation.cancel()
    with pytest.raises(JobCancelledError):
        second.answer()
    go.set()
    first.answer()
    until(lambda: batcher.occupancy() == (0, 0))


def test_what_was_cancelled_before_is_not_run() -> None:
    batcher = Batcher(ToyDecoder(), 1)
    cancellation = Cancellation()
    cancellation.cancel()
    (asked,) = batcher.submit([row(1)], OPEN, GREEDY, cancellation=cancellation)
    with pytest.raises(JobCancelledError):
        asked.answer()


def test_too_much_waiting_is_refused(held: tuple[ToyDecoder, threading.Event]) -> None:
    decoder, go = held
    batcher = Batcher(decoder, 1, max_waiting=2)
    batcher.submit([row(1)], OPEN, GREEDY)
    until(lambda: batcher.occupancy() == (1, 0))
    (second,) = batcher.submit([row(2)], OPEN, GREEDY)
    with pytest.raises(BusyError, match="in a moment"):
        batcher.submit([row(3), row(4)], OPEN, GREEDY)
    go.set()
    assert list(second.answer().tokens) == expected([2], 10)


def test_a_row_that_has_no_room_is_refused() -> None:
    with pytest.raises(SynthesisError, match="positions"):
        Batcher(ToyDecoder(), 1, positions=100).submit([row(1, limit=100)], OPEN, GREEDY)


def test_tokens_can_be_watched_as_they_come(held: tuple[ToyDecoder, threading.Event]) -> None:
    _decoder, go = held
    (asked,) = Batcher(ToyDecoder(), 1).submit([row(1, limit=40)], OPEN, GREEDY)
    go.set()
    seen = 0
    for count in (1, 15, 30, 60):
        tokens, done = asked.wait(count)
        assert len(tokens) >= count or done
        assert list(tokens[:seen]) == expected([1], 40)[:seen]
        seen = len(tokens)
    assert list(tokens) == expected([1], 40)


def test_an_end_ends_and_is_no_token() -> None:
    end = expected([7], 6)[5]
    first = expected([7], 6).index(end)
    plan = Plan((EVERYTHING - {end}, EVERYTHING), end=end)
    (asked,) = Batcher(ToyDecoder(), 1).submit([row(7, limit=100)], plan, GREEDY)
    answer = asked.answer()
    assert answer.ended
    assert list(answer.tokens) == expected([7], first)


def test_an_answer_does_not_end_before_its_least_length() -> None:
    generous = Sampling(temperature=5.0, top_k=0, top_p=1.0, min_tokens=30)
    plan = Plan((EVERYTHING,), end=3)
    rows = [row(n, limit=2000) for n in range(1, 9)]
    answers = [a.answer() for a in Batcher(ToyDecoder(), 3).submit(rows, plan, generous)]
    assert min(len(a.tokens) for a in answers) >= 30
    assert all(a.ended for a in answers)


def test_what_has_no_choice_takes_no_step() -> None:
    decoder = ToyDecoder()
    plan = Plan((frozenset({5}), frozenset({6}), EVERYTHING, EVERYTHING))
    (asked,) = Batcher(decoder, 1).submit([row(1)], plan, GREEDY)
    assert list(asked.answer().tokens) == [5, 6, *expected([1, 5, 6], 2)]
    assert len(decoder.batches) == 1


class Small:
    """A device on which only so many rows fit."""

    def __init__(self, rows: int) -> None:
        self.rows = rows

    def __call__(self, rows: int) -> None:
        if rows > self.rows:
            raise torch.OutOfMemoryError("CUDA out of memory")


def test_where_memory_is_short_the_batch_is_halved_and_nothing_is_lost() -> None:
    decoder = ToyDecoder(before_step=Small(3))
    batcher = Batcher(decoder, 16)
    rows = [row(n, limit=20 + n) for n in range(1, 21)]
    answers = [a.answer() for a in batcher.submit(rows, OPEN, GREEDY)]
    assert [list(a.tokens) for a in answers] == [expected(r.prompt, r.limit) for r in rows]
    assert batcher.slots == 2
    assert max(decoder.batches) <= 2


def test_memory_that_runs_short_later_costs_no_token() -> None:
    small = Small(8)
    decoder = ToyDecoder(before_step=small)
    batcher = Batcher(decoder, 8)
    seen: list[Answering] = batcher.submit(
        [row(n, limit=300) for n in range(1, 9)], OPEN, Sampling(seed=4)
    )
    seen[0].wait(50)
    small.rows = 3
    shrunk = [list(a.answer().tokens) for a in seen]
    whole = Batcher(ToyDecoder(), 8).submit(
        [row(n, limit=300) for n in range(1, 9)], OPEN, Sampling(seed=4)
    )
    assert shrunk == [list(a.answer().tokens) for a in whole]


def test_a_row_that_does_not_fit_alone_is_an_error_and_the_next_one_runs() -> None:
    small = Small(0)
    batcher = Batcher(ToyDecoder(before_step=small), 4)
    (asked,) = batcher.submit([row(1)], OPEN, GREEDY)
    with pytest.raises(DeviceError, match="shorter sentences"):
        asked.answer()
    small.rows = 4
    (after,) = batcher.submit([row(2)], OPEN, GREEDY)
    assert list(after.answer().tokens) == expected([2], 10)


def test_a_broken_device_fails_all_rows_in_words() -> None:
    def broken(_rows: int) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    batcher = Batcher(ToyDecoder(before_step=broken), 1)
    for asked in batcher.submit([row(1), row(2)], OPEN, GREEDY):
        with pytest.raises(DeviceError, match="starts anew"):
            asked.answer()


def test_the_thread_ends_when_nothing_is_left_and_comes_back() -> None:
    batcher = Batcher(ToyDecoder(), 1)
    for _ in range(2):
        (asked,) = batcher.submit([row(1)], OPEN, GREEDY)
        asked.answer()
        until(lambda: not any(t.name == "batcher" for t in threading.enumerate()))


def test_many_threads_share_a_batch() -> None:
    decoder = ToyDecoder()
    batcher = Batcher(decoder, 8)
    answers: dict[int, list[int]] = {}

    def job(n: int) -> None:
        rows = [row(n, i, limit=50) for i in range(1, 4)]
        answers[n] = [
            t for a in batcher.submit(rows, OPEN, GREEDY, job=n) for t in a.answer().tokens
        ]

    threads = [threading.Thread(target=job, args=(n,)) for n in range(1, 21)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for n in range(1, 21):
        assert answers[n] == [t for i in range(1, 4) for t in expected([n, i], 50)]
    assert max(decoder.batches) == 8
