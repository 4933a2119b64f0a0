"""Prompts that are read in parts, and caches that run out: nobody is lost, nobody waits long."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import any_cpu
from tests.support.bounded import Bounded
from tests.support.scheduling import occupancy, row, told
from tests.support.toy_decoder import EVERYTHING, ToyDecoder, expected
from tests.support.waiting import until
from worker.errors import JobCancelledError, MemoryShortError
from worker.speech.batch import places as module
from worker.speech.batch.admission import CHUNKS, PrefillBudget
from worker.speech.batch.device_batch import DeviceBatch
from worker.speech.batch.sampling import Sampling
from worker.speech.batch.scheduler import Scheduler
from worker.speech.batch.sequence import SequenceRequest
from worker.speech.fair_lock import FairLock
from worker.speech.grammar import Grammar
from worker.speech.lm.int8_model import Int8LanguageModel
from worker.speech.lm.interface import Decoder
from worker.speech.lm.torch_model import LanguageModel
from worker.speech.native.lm import LmKernel

OPEN = Grammar((EVERYTHING,) * 4000)  # as long as the row's limit lets it be
OPENED = Grammar((frozenset({5}), frozenset({6}), EVERYTHING - {3}, EVERYTHING), end=3)
GREEDY = Sampling(temperature=0)
PAGE = 4  # positions
SMALL = PrefillBudget(3, idle=8)
PLENTY = 1000  # pages


@pytest.fixture(autouse=True)
def pages_of_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SPARE", PAGE)


def scheduler_of(
    decoder: ToyDecoder,
    slots: int,
    pages: int = PLENTY,
    budget: PrefillBudget | None = SMALL,
    lag: int = 0,
    lock: FairLock | None = None,
) -> tuple[Scheduler, Bounded]:
    """A scheduler that reads in parts by a budget, or whole, with so many pages."""
    bounded = Bounded(decoder, pages, PAGE)
    scheduler = Scheduler(bounded, slots, lock=lock)
    if budget is not None:
        decoder.in_parts = True
        scheduler._prompts.budget = scheduler._waiting._budget = budget
    scheduler._lag = lag  # 1 is what a GPU has: tokens are read when the next ones are drawn
    return scheduler, bounded


def all_is_free(scheduler: Scheduler, bounded: Bounded) -> None:
    until(lambda: occupancy(scheduler) == (0, 0) and bounded.taken == 0)


# All together


@settings(deadline=None, max_examples=40)
@given(
    asked=st.lists(
        st.tuples(st.lists(st.integers(1, 49), min_size=1, max_size=20), st.integers(1, 30)),
        min_size=1,
        max_size=10,
    ),
    slots=st.integers(1, 5),
    pages=st.integers(13, 40),  # the longest sequence alone has 50 positions
    budget=st.sampled_from([None, SMALL, PrefillBudget(1, idle=1), CHUNKS]),
    lag=st.sampled_from([0, 1]),
    opened=st.booleans(),
)
def test_whatever_runs_out_each_is_answered_as_alone_and_no_page_is_lost(
    asked: list[tuple[list[int], int]],
    slots: int,
    pages: int,
    budget: PrefillBudget | None,
    lag: int,
    *,
    opened: bool,
) -> None:
    decoder = ToyDecoder()
    scheduler, bounded = scheduler_of(decoder, slots, pages, budget, lag)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SPARE", PAGE)
        rows = [SequenceRequest(tuple(prompt), "row", limit) for prompt, limit in asked]
        grammar = OPENED if opened else OPEN
        found = told(scheduler.submit(rows, grammar, GREEDY))
        assert found == [
            expected(prompt, limit, grammar.steps, grammar.end) for prompt, limit in asked
        ]
        all_is_free(scheduler, bounded)
    assert max(decoder.batches, default=0) <= slots


@pytest.mark.parametrize("lag", [0, 1, 50])
def test_who_gave_way_goes_on_with_its_own_draws(lag: int) -> None:
    """Also where its tokens are long on their way from the device."""
    how = Sampling(temperature=3.0, top_k=20, top_p=0.9, seed=11)
    rows = [row(n, limit=40) for n in range(1, 6)]
    whole = told(Scheduler(ToyDecoder(), 5).submit(rows, OPEN, how))
    decoder = ToyDecoder()
    scheduler, bounded = scheduler_of(decoder, 5, 21, lag=lag)
    assert told(scheduler.submit(rows, OPEN, how)) == whole
    all_is_free(scheduler, bounded)
    read_again = [part for parts in decoder.prompts for part in parts if len(part) > 1]
    assert read_again


# Parts of prompts


def noted(decoder: ToyDecoder) -> list[str]:
    """What the decoder is asked for: how many tokens of prompts, or rows of a step."""
    notes: list[str] = []
    prefill = decoder.prefill

    def reads(
        parts: Sequence[Sequence[int]], cache: object, begins: Sequence[int] = ()
    ) -> torch.Tensor:
        notes.append("+".join(f"{len(part)}" for part in parts))
        return prefill(parts, cache, begins)

    decoder.prefill = reads
    decoder.before_step = lambda rows: notes.append(f"step {rows}")
    return notes


def test_beside_running_sequences_a_prompt_is_read_in_parts_between_their_steps() -> None:
    go = threading.Event()
    decoder = ToyDecoder()
    notes = noted(decoder)
    held, decoder.before_step = (
        decoder.before_step,
        lambda rows: (go.wait(10), held(rows))[0] and None,
    )
    scheduler, _ = scheduler_of(decoder, 4)
    asked = scheduler.submit([row(1, 2, limit=7)], OPEN, GREEDY)
    until(lambda: notes)
    asked += scheduler.submit([row(*range(1, 8), limit=2), row(8, 9, limit=2)], OPEN, GREEDY)
    go.set()
    assert told(asked) == [expected([1, 2], 7), expected(range(1, 8), 2), expected([8, 9], 2)]
    assert notes == [
        "1",  # the last token is left to the step; and then three tokens a step at most
        *("step 1", "3", "step 1", "3", "step 2"),
        *("1", "step 3", "step 2", "step 1", "step 1"),
    ]


def test_while_nothing_runs_more_is_read_at_once() -> None:
    decoder, lock = ToyDecoder(), FairLock()
    notes = noted(decoder)
    scheduler, _ = scheduler_of(decoder, 9, lock=lock)
    with lock:
        asked = scheduler.submit(
            [row(*range(n, n + 5), limit=2) for n in range(1, 5)], OPEN, GREEDY
        )
    told(asked)
    # Of 8 tokens, two prompts but for their last ones; then 3 beside those two, and 8 again.
    assert notes == ["4+4", "step 2", "3", "step 2", "1+4", "step 2", "step 2"]


def test_a_prompt_longer_than_any_budget_is_read_all_the_same() -> None:
    decoder = ToyDecoder()
    notes = noted(decoder)
    scheduler, _ = scheduler_of(decoder, 2)
    prompt = [*range(1, 21)]
    assert told(scheduler.submit([row(*prompt, limit=2)], OPEN, GREEDY)) == [expected(prompt, 2)]
    assert notes == ["8", "8", "3", "step 1", "step 1"]


def test_whole_prompts_are_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = ToyDecoder()
    scheduler, _ = scheduler_of(decoder, 4, budget=None)
    rows = [row(*range(1, 1500), limit=1), row(3, limit=1)]
    told(scheduler.submit(rows, OPEN, GREEDY))
    assert [[len(part) for part in parts] for parts in decoder.prompts] == [[1499], [1]]


def test_prompts_are_read_in_the_order_in_which_they_joined() -> None:
    """Also after others have left, and the places have changed."""
    go = threading.Event()
    decoder = ToyDecoder(before_step=lambda _rows: go.wait(10) and None)
    scheduler, _ = scheduler_of(decoder, 8, budget=PrefillBudget(2, idle=99))
    asked = scheduler.submit([row(n, limit=n) for n in (2, 3, 4, 5, 30)], OPEN, GREEDY)
    until(lambda: occupancy(scheduler) == (5, 0))
    long = [[n] * 9 for n in (11, 12, 13)]
    asked += scheduler.submit([row(*prompt, limit=3) for prompt in long], OPEN, GREEDY)
    go.set()
    assert told(asked) == [
        *(expected([n], n) for n in (2, 3, 4, 5, 30)),
        *(expected(prompt, 3) for prompt in long),
    ]
    read = [part[0] for parts in decoder.prompts for part in parts]
    assert set(read) == {11, 12, 13}
    assert read == sorted(read)


def test_a_sequence_whose_prompt_is_being_read_counts_for_its_jobs_share() -> None:
    go = threading.Event()
    decoder = ToyDecoder(before_step=lambda _rows: go.wait(10) and None)
    scheduler, _ = scheduler_of(decoder, 8, budget=PrefillBudget(5, idle=5))
    asked = scheduler.submit([row(1, limit=30)], OPEN, GREEDY, job="a")
    until(lambda: occupancy(scheduler) == (1, 0))
    asked += scheduler.submit([row(*[2] * 7), row(3, 3)], OPEN, GREEDY, job="b")
    asked += scheduler.submit([row(*[4] * 2)], OPEN, GREEDY, job="c")
    go.set()
    told(asked)
    firsts = [[part[0] for part in parts] for parts in decoder.prompts]
    assert firsts == [[2], [2, 4, 3]]


def test_one_that_is_cancelled_while_it_is_read_leaves_and_the_next_goes_on() -> None:
    decoder, lock, gone = ToyDecoder(), FairLock(), []

    def cancelled(_rows: int) -> None:
        if len(decoder.prompts) == 4:
            scheduler.cancel(gone[0])

    decoder.before_prefill = cancelled
    scheduler, bounded = scheduler_of(decoder, 3, lock=lock)
    with lock:
        asked = scheduler.submit([row(1, limit=30)], OPEN, GREEDY)
        gone += scheduler.submit([row(*[2] * 3000)], OPEN, GREEDY)
        asked += scheduler.submit([row(*[3] * 7)], OPEN, GREEDY)
    assert told(asked) == [expected([1], 30), expected([3] * 7, 10)]
    with pytest.raises(JobCancelledError):
        gone[0].answer()
    all_is_free(scheduler, bounded)
    assert [part[0] for parts in decoder.prompts for part in parts] == [2] * 5 + [3] * 2


@pytest.mark.parametrize("lag", [0, 1])
@pytest.mark.parametrize("number", [1, 2, 3, 5, 8])
@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("odd")]
)
def test_what_fails_while_prompts_are_read_loses_nobody(
    error: RuntimeError, number: int, lag: int
) -> None:
    """Where memory is short all are answered; otherwise all fail, and the next ones run."""
    calls = iter(range(1, 1 << 30))

    def fails(_rows: int) -> None:
        if next(calls) == number:
            raise error

    decoder, lock = ToyDecoder(before_prefill=fails), FairLock()
    scheduler, bounded = scheduler_of(decoder, 4, 60, lag=lag, lock=lock)
    rows = [row(*range(n, n + 6), limit=3 + n) for n in range(1, 8)]
    with lock:
        asked = scheduler.submit(rows, OPEN, GREEDY)
    until(lambda: all(one.done for one in asked))
    if "odd" in str(error):
        assert {str(one._error) for one in asked if len(one.tokens) < one.last} == {"odd"}
        all_is_free(scheduler, bounded)
        asked = scheduler.submit(rows, OPEN, GREEDY)
    assert told(asked) == [expected(one.prompt, one.limit) for one in rows]
    all_is_free(scheduler, bounded)


# Caches that run out


def test_the_one_that_started_last_gives_way_and_comes_before_those_that_wait() -> None:
    decoder, lock = ToyDecoder(), FairLock()
    scheduler, bounded = scheduler_of(decoder, 3, 7, CHUNKS, lock=lock)
    with lock:
        asked = scheduler.submit([row(n, n, limit=14) for n in (1, 2, 3, 4)], OPEN, GREEDY)
    assert told(asked) == [expected([n, n], 14) for n in (1, 2, 3, 4)]
    # Each needs 4 pages in the end: with 2 of them the third gives way, with 3 the second.
    assert [part[0] for parts in decoder.prompts for part in parts] == [1, 2, 3, 2, 3, 4]
    again = [part for parts in decoder.prompts for part in parts if len(part) > 1]
    assert [len(part) for part in again] == [12, 8]
    assert all(part == (*part[:2], *expected(part[:2], len(part) - 2)) for part in again)
    all_is_free(scheduler, bounded)


def test_who_gives_way_is_who_started_last_wherever_it_stands() -> None:
    """The last row moves to the place of one that has left."""
    go = threading.Event()
    decoder, lock = ToyDecoder(), FairLock()
    decoder.before_step = lambda _rows: go.wait(10 if len(decoder.batches) == 2 else 0) and None
    scheduler, _ = scheduler_of(decoder, 3, 7, CHUNKS, lock=lock)
    with lock:
        asked = scheduler.submit([row(1, 1, limit=2), row(2, 2, limit=18)], OPEN, GREEDY)
    asked[0].wait()
    asked += scheduler.submit([row(3, 3, limit=18)], OPEN, GREEDY)
    go.set()
    told(asked)
    read = [part[0] for parts in decoder.prompts[1:] for part in parts]
    assert len(read) > 1
    assert set(read) == {3}


@pytest.mark.parametrize("lag", [0, 1])
def test_one_that_does_not_fit_even_alone_fails_and_it_alone(lag: int) -> None:
    decoder = ToyDecoder()
    scheduler, bounded = scheduler_of(decoder, 3, 4, lag=lag)
    long, grows, fits = scheduler.submit(
        [row(*[1] * 16, limit=2), row(2, limit=40), row(3, limit=15)], OPEN, GREEDY
    )
    for one in (long, grows):
        with pytest.raises(MemoryShortError, match="even alone; use shorter sentences"):
            one.answer()
    assert told([fits]) == [expected([3], 15)]
    assert list(grows.tokens) == expected([2], 16)[: len(grows.tokens)]
    assert len(grows.tokens) >= 14  # it spoke as long as there was room
    all_is_free(scheduler, bounded)
    assert scheduler.slots == 3


def test_what_fills_all_positions_needs_no_room_beyond_them() -> None:
    """Its opening is as long as its limit: it draws nothing."""
    bounded = Bounded(ToyDecoder(), 9, PAGE)
    scheduler = Scheduler(bounded, 2, 2 * PAGE)
    asked = scheduler.submit([row(*range(1, 7), limit=2), row(1, limit=7)], OPENED, GREEDY)
    assert told(asked)[0] == [5, 6]
    all_is_free(scheduler, bounded)


def test_who_would_leave_no_room_for_the_others_waits_until_one_has_left() -> None:
    decoder, lock = ToyDecoder(), FairLock()
    notes = noted(decoder)
    scheduler, bounded = scheduler_of(decoder, 4, 8, CHUNKS, lock=lock)
    with lock:  # 5 pages; 3 would be left, but for the other's next page
        asked = scheduler.submit([row(*[1] * 17, limit=3), row(*[2] * 11, limit=3)], OPEN, GREEDY)
        asked += scheduler.submit([row(3, limit=3)], OPEN, GREEDY)  # would fit, and is behind
    assert told(asked) == [expected([1] * 17, 3), expected([2] * 11, 3), expected([3], 3)]
    assert notes == ["16", *["step 1"] * 3, "10", *["step 2"] * 3]
    all_is_free(scheduler, bounded)


def test_what_waits_for_room_takes_it_as_soon_as_one_is_given_up() -> None:
    go = threading.Event()
    decoder = ToyDecoder(before_step=lambda _rows: go.wait(10) and None)
    scheduler, _ = scheduler_of(decoder, 4, 8, CHUNKS)
    (gone,) = scheduler.submit([row(*[1] * 17, limit=12)], OPEN, GREEDY)
    until(lambda: decoder.prompts)
    asked = scheduler.submit([row(*[2] * 11, limit=3)], OPEN, GREEDY)
    scheduler.cancel(gone)
    go.set()
    assert told(asked) == [expected([2] * 11, 3)]
    assert len(decoder.batches) <= 4


def test_without_bounds_a_cache_is_asked_for_room_once() -> None:
    asked: list[tuple[int, int]] = []

    class Roomy(ToyDecoder):
        def new_cache(self, rows: int, positions: int | None = None) -> object:
            cache = super().new_cache(rows, positions)
            reserve = cache.reserve

            def noted(row: int, wanted: int) -> int:
                asked.append((row, wanted))
                return reserve(row, wanted)

            cache.reserve = noted
            return cache

    scheduler = Scheduler(Roomy(), 2)
    rows = [row(1, 2, limit=60), row(3, limit=90)]
    assert told(scheduler.submit(rows, OPEN, GREEDY)) == [expected([1, 2], 60), expected([3], 90)]
    assert asked == [(0, 3), (1, 2)]


# Real models


@pytest.fixture(params=["torch, prompts whole", "int8, in parts"])
def real(request: pytest.FixtureRequest, demo_checkpoint: Path) -> Decoder:
    folder = demo_checkpoint / "LLM"
    if request.param.startswith("torch"):
        return LanguageModel.load(folder, torch.float32, torch.device("cpu"))
    with any_cpu.kernels(*LmKernel.interface.extensions):
        kernel = LmKernel.open()
    assert kernel
    return Int8LanguageModel.load(folder, kernel)


@pytest.mark.slow("compiles C")
def test_a_real_model_says_the_same_where_its_cache_runs_out(
    real: Decoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SPARE", PAGE)
    grammar = Grammar((frozenset(range(40, 400)),) * 200)
    how = Sampling(temperature=1.2, top_k=50, top_p=0.9, seed=5)
    rows = [row(*range(n, n + 3 * n), limit=25) for n in (9, 7, 5, 3, 11)]
    whole = [told(Scheduler(real, 1, 64).submit([one], grammar, how))[0] for one in rows]
    bounded = Bounded(real, 26, PAGE)
    scheduler = Scheduler(bounded, 4, 64)
    if real.in_parts:
        scheduler._prompts.budget = scheduler._waiting._budget = SMALL
    read: list[int] = []
    begin = DeviceBatch.set
    monkeypatch.setattr(
        DeviceBatch, "set", lambda batch, *a, **more: (read.append(1), begin(batch, *a, **more))
    )
    assert told(scheduler.submit(rows, grammar, how)) == whole
    assert len(read) > len(rows)  # some gave way, and were read again
    all_is_free(scheduler, bounded)
