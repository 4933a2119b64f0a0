"""Where memory is short or the device fails: nothing is lost that need not be, nobody waits on."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Sequence

import pytest
import torch

from tests.support.events import Events
from tests.support.scheduling import occupancy, row, told
from tests.support.toy_decoder import EVERYTHING, SumCache, ToyDecoder, expected
from tests.support.waiting import until
from worker.errors import MemoryShortError
from worker.logs import log
from worker.speech.batch import sequence
from worker.speech.batch.admission import PrefillBudget
from worker.speech.batch.device_batch import DeviceBatch
from worker.speech.batch.sampling import Sampling
from worker.speech.batch.scheduler import Scheduler
from worker.speech.batch.sequence import TokenSequence
from worker.speech.device_errors import PLENTY
from worker.speech.fair_lock import FairLock
from worker.speech.grammar import Grammar

OPEN = Grammar((EVERYTHING,) * 4000)  # as long as the row's limit lets it be
GREEDY = Sampling(temperature=0)
GPU_FAILED = "DeviceError: the GPU failed and this worker is being replaced; send the job again"
ALONE = "MemoryShortError: not enough memory for a sentence, even alone; use shorter sentences"


def failures(asked: Sequence[TokenSequence]) -> list[str]:
    """What each row failed with: its type and words."""
    until(lambda: all(one.done for one in asked), 30)
    found = []
    for one in asked:
        with pytest.raises(Exception) as error:  # noqa: PT011 - the caller looks at it
            one.answer()
        found.append(f"{type(error.value).__name__}: {error.value}")
    return found


class Small:
    """A device on which only so many rows fit."""

    def __init__(self, rows: int) -> None:
        self.rows = rows

    def __call__(self, rows: int) -> None:
        if rows > self.rows:
            raise torch.OutOfMemoryError("CUDA out of memory")


def test_where_memory_is_short_the_batch_is_halved_and_nothing_is_lost() -> None:
    decoder = ToyDecoder(before_step=Small(3))
    scheduler = Scheduler(decoder, 16)
    rows = [row(n, limit=20 + n) for n in range(1, 21)]
    assert told(scheduler.submit(rows, OPEN, GREEDY)) == [expected(r.prompt, r.limit) for r in rows]
    assert scheduler.slots == 2
    assert max(decoder.batches) <= 2


def test_each_halving_is_an_event_and_so_is_the_sentence_that_has_no_half(
    events: Events,
) -> None:
    asked = Scheduler(ToyDecoder(before_step=Small(0)), 4).submit([row(1)], OPEN, GREEDY)
    assert failures(asked) == [ALONE]
    short = {"error": "CUDA out of memory"}
    assert events.with_levels() == [
        ("WARNING", "batch halved", {"slots": 2} | short),
        ("WARNING", "batch halved", {"slots": 1} | short),
        ("WARNING", "out of memory", {"what": "a sentence, alone"} | short),
    ]


def test_memory_that_runs_short_later_costs_no_token() -> None:
    small = Small(8)
    decoder = ToyDecoder(before_step=small)
    scheduler = Scheduler(decoder, 8)
    seen: list[TokenSequence] = scheduler.submit(
        [row(n, limit=300) for n in range(1, 9)], OPEN, Sampling(seed=4)
    )
    seen[0].wait(50)
    small.rows = 3
    shrunk = told(seen)
    whole = Scheduler(ToyDecoder(), 8).submit(
        [row(n, limit=300) for n in range(1, 9)], OPEN, Sampling(seed=4)
    )
    assert shrunk == told(whole)


def test_a_row_that_does_not_fit_alone_is_an_error_and_the_next_one_runs() -> None:
    small = Small(0)
    scheduler = Scheduler(ToyDecoder(before_step=small), 4)
    (asked,) = scheduler.submit([row(1)], OPEN, GREEDY)
    with pytest.raises(MemoryShortError, match="even alone; use shorter sentences"):
        asked.answer()
    small.rows = 4
    (after,) = scheduler.submit([row(2)], OPEN, GREEDY)
    assert list(after.answer().tokens) == expected([2], 10)


class FailsAt:
    """Raises `error` at the call of this number, the first being 1, and at no other."""

    def __init__(self, number: int, error: BaseException | None = None) -> None:
        self._left = number
        self._error = error

    def __call__(self, _rows: int) -> None:
        self._left -= 1
        if self._left == 0:
            raise self._error or torch.OutOfMemoryError("CUDA out of memory")


def test_rows_that_fit_one_at_a_time_are_all_answered() -> None:
    scheduler = Scheduler(ToyDecoder(before_step=Small(1)), 2)
    asked = scheduler.submit([row(1), row(2), row(3)], OPEN, GREEDY)
    assert told(asked) == [expected([n], 10) for n in (1, 2, 3)]
    assert scheduler.slots == 1


def test_of_one_place_only_the_row_that_had_it_fails() -> None:
    scheduler = Scheduler(ToyDecoder(before_step=FailsAt(3)), 1)
    first, second = scheduler.submit([row(1), row(2)], OPEN, GREEDY)
    assert failures([first]) == [ALONE]
    assert told([second]) == [expected([2], 10)]
    assert scheduler.slots == 1


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("GET was unable to find an engine to execute this computation"),
        MemoryError(),
    ],
)
def test_all_ways_of_being_short_of_memory_halve_the_batch(error: Exception) -> None:
    scheduler = Scheduler(ToyDecoder(before_step=FailsAt(2, error)), 4)
    asked = scheduler.submit([row(1), row(2)], OPEN, GREEDY)
    assert told(asked) == [expected([1], 10), expected([2], 10)]
    assert scheduler.slots == 2


DOUBTFUL = RuntimeError("GET was unable to find an engine to execute this computation")


@pytest.mark.parametrize(
    ("free", "words"),
    [
        (None, ALONE),  # a CPU
        (PLENTY - 1, ALONE),
        (
            PLENTY,
            GPU_FAILED,
        ),
        (
            RuntimeError("CUDA error: unknown"),
            GPU_FAILED,
        ),
    ],
)
def test_what_only_sounds_like_short_memory_ends_a_worker_that_has_plenty(
    free: int | Exception | None, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_memory(monkeypatch, free)

    def step(_rows: int) -> None:
        raise DOUBTFUL

    scheduler = Scheduler(ToyDecoder(before_step=step), 2)
    asked = scheduler.submit([row(1)], OPEN, GREEDY)
    assert failures(asked) == [words]
    assert scheduler.slots == 1  # less was tried before


def test_a_true_want_of_memory_never_breaks_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the time that it is asked for, others may have given theirs back."""
    has_memory(monkeypatch, 80 << 30)
    scheduler = Scheduler(ToyDecoder(before_step=Small(0)), 1)
    assert failures(scheduler.submit([row(1)], OPEN, GREEDY)) == [ALONE]


def has_memory(monkeypatch: pytest.MonkeyPatch, free: int | Exception | None) -> None:
    """A GPU beside the toy, with so much free, or one that cannot say; None: a CPU alone."""

    def told() -> tuple[int, int]:
        if isinstance(free, int):
            return free, 80 << 30
        assert free is not None
        raise free

    monkeypatch.setattr(torch.cuda, "is_available", lambda: free is not None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", told)


class NoRoom(ToyDecoder):
    """Has no memory for a cache either, at the calls of these numbers, the first being 1."""

    def __init__(self, *numbers: int) -> None:
        super().__init__(before_step=FailsAt(2))
        self._numbers = numbers
        self.caches: list[int] = []  # rows of each

    def new_cache(self, rows: int, positions: int | None = None) -> SumCache:
        self.caches.append(rows)
        if len(self.caches) in self._numbers:
            raise MemoryError
        return super().new_cache(rows, positions)


def test_where_half_a_cache_does_not_fit_either_a_quarter_is_tried() -> None:
    decoder = NoRoom(2)
    scheduler = Scheduler(decoder, 8)
    asked = scheduler.submit([row(1), row(2), row(3)], OPEN, GREEDY)
    assert told(asked) == [expected([n], 10) for n in (1, 2, 3)]
    assert decoder.caches == [8, 4, 2]


def test_where_no_cache_fits_the_rows_fail_and_later_ones_are_answered() -> None:
    decoder = NoRoom(2, 3)
    scheduler = Scheduler(decoder, 2)
    asked = scheduler.submit([row(1), row(2)], OPEN, GREEDY)
    assert failures(asked) == [ALONE] * 2
    assert told(scheduler.submit([row(3)], OPEN, GREEDY)) == [expected([3], 10)]
    assert decoder.caches == [2, 1, 1, 1]


OPENED = Grammar((frozenset({5}), frozenset({6}), EVERYTHING - {3}, EVERYTHING), end=3)


@pytest.mark.parametrize("lag", [0, 1])
@pytest.mark.parametrize("grammar", [OPEN, OPENED])
@pytest.mark.parametrize("number", [1, 2, 3, 4, 7])
def test_after_a_shrink_each_row_goes_on_from_its_tokens(
    grammar: Grammar, number: int, lag: int
) -> None:
    how = Sampling(temperature=3.0, seed=4)
    rows = [row(n, limit=3 + n) for n in range(1, 7)]
    whole = told(Scheduler(ToyDecoder(), 4).submit(rows, grammar, how))
    scheduler = Scheduler(ToyDecoder(before_step=FailsAt(number)), 4)
    scheduler._lag = lag  # 1 is what a GPU has: tokens are read when the next ones are drawn
    scheduler.prepare(grammar)
    assert told(scheduler.submit(rows, grammar, how)) == whole
    assert scheduler.slots == 2


@pytest.mark.parametrize("lag", [0, 1])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_prompts_that_do_not_fit_are_read_again(number: int, lag: int) -> None:
    scheduler = Scheduler(ToyDecoder(before_prefill=FailsAt(number)), 4)
    scheduler._lag = lag
    rows = [row(n, limit=3 + n) for n in range(1, 10)]
    assert told(scheduler.submit(rows, OPEN, GREEDY)) == [expected(r.prompt, r.limit) for r in rows]
    assert scheduler.slots == 2


def test_rows_that_lost_their_place_come_before_those_that_wait() -> None:
    decoder, lock = ToyDecoder(before_step=FailsAt(3)), FairLock()
    scheduler = Scheduler(decoder, 4, lock=lock)
    with lock:
        asked = scheduler.submit([row(n) for n in range(1, 7)], OPEN, GREEDY)
    assert told(asked) == [expected([n], 10) for n in range(1, 7)]
    spoken = [(n, *expected([n], 3)) for n in range(1, 5)]
    assert decoder.prompts == [
        [(1,), (2,), (3,), (4,)],
        spoken[:2],
        spoken[2:],
        [(5,), (6,)],
    ]


def test_jobs_that_were_running_come_before_those_that_were_not() -> None:
    decoder, lock = ToyDecoder(before_step=FailsAt(3)), FairLock()
    scheduler = Scheduler(decoder, 4, lock=lock)
    with lock:
        asked = scheduler.submit([row(1), row(2)], OPEN, GREEDY, job="a")
        asked += scheduler.submit([row(11), row(12)], OPEN, GREEDY, job="b")
    until(lambda: decoder.prompts)
    with lock:
        asked += scheduler.submit([row(21)], OPEN, GREEDY, job="c")
        asked += scheduler.submit([row(31)], OPEN, GREEDY, job="d")
    told(asked)
    again = next(p for p in decoder.prompts[1:] if len(p[0]) > 1)
    assert sorted(prompt[0] for prompt in again) == [1, 11]


def test_what_was_spoken_counts_for_the_bound_on_prompts() -> None:
    decoder = ToyDecoder(before_step=FailsAt(15))
    scheduler = Scheduler(decoder, 4)
    scheduler._waiting._budget = PrefillBudget(20)
    asked = scheduler.submit([row(n, limit=40) for n in range(1, 5)], OPEN, GREEDY)
    assert told(asked) == [expected([n], 40) for n in range(1, 5)]
    assert [len(prompts) for prompts in decoder.prompts[:3]] == [4, 1, 1]
    assert {len(prompt) for prompts in decoder.prompts[1:] for prompt in prompts} == {16}


def test_a_row_that_lost_its_place_did_not_wait_while_it_spoke() -> None:
    begun = time.perf_counter()
    joined: list[float] = []

    def slow(_rows: int) -> None:
        time.sleep(0.02)
        fails(_rows)

    fails = FailsAt(1)
    decoder = ToyDecoder(slow, before_prefill=lambda _rows: joined.append(time.perf_counter()))
    asked = Scheduler(decoder, 2).submit([row(1, limit=3), row(2, limit=3)], OPEN, GREEDY)
    told(asked)
    assert len(joined) == 3
    assert all(one.answer().queue_seconds <= joined[0] - begun for one in asked)


class Watched(ToyDecoder):
    """Notes whether its last cache, and what a step was about to need, are gone before the next."""

    def new_cache(self, rows: int, positions: int | None = None) -> SumCache:
        if not hasattr(self, "seen"):
            self.seen: list[weakref.ref[object]] = []
            self.kept: list[int] = []
        self.kept.append(sum(one() is not None for one in self.seen))
        cache = super().new_cache(rows, positions)
        self.seen.append(weakref.ref(cache))
        return cache


def test_the_memory_that_was_too_much_is_free_before_the_next_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(log, "disabled", True)  # pytest keeps what is logged, tracebacks too
    small = Small(2)

    class Needed:
        """A tensor of a step."""

    def step(rows: int) -> None:
        needed = Needed()
        decoder.seen.append(weakref.ref(needed))
        small(rows)

    decoder = Watched(step)
    asked = Scheduler(decoder, 8).submit([row(n) for n in range(1, 9)], OPEN, GREEDY)
    assert told(asked) == [expected([n], 10) for n in range(1, 9)]
    assert decoder.kept == [0, 0, 0]  # at 8, 4 and 2 slots


@pytest.mark.parametrize("lock", [None, FairLock()])
def test_a_broken_device_fails_all_rows_in_words_and_the_next_ones_run(
    lock: FairLock | None,
) -> None:
    error = RuntimeError("CUDA error: an illegal memory access was encountered")
    scheduler = Scheduler(ToyDecoder(before_step=FailsAt(2, error)), 2, lock=lock)
    asked = scheduler.submit([row(n) for n in range(1, 4)], OPEN, GREEDY, job="a")
    asked += scheduler.submit([row(n) for n in range(4, 6)], OPEN, GREEDY, job="b")
    words = GPU_FAILED
    assert failures(asked[:3]) == [words] * 3
    until(lambda: occupancy(scheduler) == (0, 0))
    assert scheduler.slots == 2
    assert told(scheduler.submit([row(7)], OPEN, GREEDY)) == [expected([7], 10)]


@pytest.mark.parametrize(
    "error", [ValueError("CUDA, but odd"), RuntimeError("shapes do not fit"), KeyError("x")]
)
def test_any_other_failure_is_told_as_it_is(
    error: Exception, events: Events, caplog: pytest.LogCaptureFixture
) -> None:
    lock = FairLock()
    scheduler = Scheduler(ToyDecoder(before_step=FailsAt(2, error)), 1, lock=lock)
    with lock:
        asked = scheduler.submit([row(1), row(2)], OPEN, GREEDY, job="a")
        asked += scheduler.submit([row(3)], OPEN, GREEDY, job="b")
    assert failures(asked) == [f"{type(error).__name__}: {error}"] * 3
    assert told(scheduler.submit([row(7)], OPEN, GREEDY)) == [expected([7], 10)]
    assert events.with_levels() == [("ERROR", "the language model failed", {})]
    assert caplog.records[0].exc_info[1] is error  # for its traceback


def test_where_prompts_cannot_be_read_those_that_run_and_join_and_wait_all_fail() -> None:
    go = threading.Event()
    decoder = ToyDecoder(
        before_step=lambda _rows: go.wait(10) and None,
        before_prefill=FailsAt(2, RuntimeError("odd")),
    )
    scheduler = Scheduler(decoder, 2)
    asked = scheduler.submit([row(1, limit=100)], OPEN, GREEDY)
    until(lambda: decoder.prompts)
    asked += scheduler.submit([row(2), row(3)], OPEN, GREEDY)
    go.set()
    assert failures(asked) == ["RuntimeError: odd"] * 3
    assert told(scheduler.submit([row(7)], OPEN, GREEDY)) == [expected([7], 10)]


# On a GPU a row has left before its last token is read.


def test_a_row_that_has_left_is_answered_though_memory_runs_short() -> None:
    scheduler = Scheduler(ToyDecoder(before_step=FailsAt(3)), 2)
    scheduler._lag = 1
    asked = scheduler.submit([row(1, limit=3), row(2, limit=30)], OPEN, GREEDY)
    assert told(asked) == [expected([1], 3), expected([2], 30)]


def test_a_row_that_has_left_fails_with_the_device() -> None:
    error = RuntimeError("CUDA error: an illegal memory access was encountered")
    scheduler = Scheduler(ToyDecoder(before_step=FailsAt(3, error)), 2)
    scheduler._lag = 1
    asked = scheduler.submit([row(1, limit=3), row(2, limit=30)], OPEN, GREEDY)
    assert failures(asked) == [GPU_FAILED] * 2


def test_a_row_that_has_left_fails_when_its_tokens_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(_drawn: object) -> list[int]:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    scheduler = Scheduler(ToyDecoder(), 2)
    scheduler._lag = 1
    with monkeypatch.context() as patched:
        patched.setattr(sequence.DrawnTokens, "read", broken)
        asked = scheduler.submit([row(1, limit=1), row(2, limit=30)], OPEN, GREEDY)
        assert failures(asked) == [GPU_FAILED] * 2
    assert told(scheduler.submit([row(7)], OPEN, GREEDY)) == [expected([7], 10)]


# Numbers that are none


class Poisoned(ToyDecoder):
    """From its third step on, the row that was asked [7] gets states that are no numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.scrubbed = 0
        decoder = self

        class Cache(SumCache):
            def rows(self, first: int, count: int) -> Cache:
                return Cache(self.tokens[first : first + count])

            def scrub(self) -> None:
                decoder.scrubbed += 1

        self._cache = Cache

    def new_cache(self, rows: int, positions: int | None = None) -> SumCache:
        return self._cache(super().new_cache(rows, positions).tokens)

    def step(
        self, ids: torch.Tensor, positions: torch.Tensor, cache: SumCache, length: int
    ) -> torch.Tensor:
        states = super().step(ids, positions, cache, length)
        if len(self.batches) >= 3:
            states[cache.tokens[: len(ids), 0] == 7] = float("nan")
        return states


@pytest.mark.parametrize("lag", [0, 1])
def test_a_row_without_numbers_fails_alone_and_nothing_of_it_stays(lag: int) -> None:
    """With a lag as on a GPU it is fed once more before anyone knows."""
    decoder = Poisoned()
    scheduler = Scheduler(decoder, 3)
    scheduler._lag = lag
    before, bad, behind = scheduler.submit([row(1), row(7), row(9)], OPEN, GREEDY)
    assert failures([bad]) == [
        "SynthesisError: the model gave no numbers for a sentence (NaN); try another seed"
    ]
    assert told([before, behind]) == [expected([1], 10), expected([9], 10)]
    assert decoder.scrubbed >= 1
    assert told(scheduler.submit([row(3)], OPEN, GREEDY)) == [expected([3], 10)]


# A GPU's steps are captured at the start


def test_where_the_steps_of_all_rows_cannot_be_captured_fewer_run(
    monkeypatch: pytest.MonkeyPatch, events: Events
) -> None:
    tried: list[int] = []

    def capture(rows: DeviceBatch, _head: object) -> None:
        tried.append(len(rows.ids))
        if len(rows.ids) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(DeviceBatch, "capture", capture)
    scheduler = Scheduler(ToyDecoder(), 12)
    scheduler.prepare(OPEN)
    assert tried == [12, 6, 3]
    assert scheduler.slots == 3
    halved = [(name, fields["slots"]) for name, fields in events()]
    assert halved == [("batch halved", 6), ("batch halved", 3)]
    assert told(scheduler.submit([row(1), row(2)], OPEN, GREEDY)) == [
        expected([n], 10) for n in (1, 2)
    ]


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("something else")]
)
def test_a_start_that_cannot_be_is_told(
    monkeypatch: pytest.MonkeyPatch, error: RuntimeError
) -> None:
    def capture(_rows: DeviceBatch, _head: object) -> None:
        raise error

    monkeypatch.setattr(DeviceBatch, "capture", capture)
    scheduler = Scheduler(ToyDecoder(), 2)
    with pytest.raises(type(error), match=str(error)):
        scheduler.prepare(OPEN)
    assert scheduler.slots == (1 if isinstance(error, torch.OutOfMemoryError) else 2)
