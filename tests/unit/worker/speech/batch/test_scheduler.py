"""Continuous batching on a decoder of a few lines: who runs when, and that nobody is mixed up."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.scheduling import answer, answers, occupancy, row, told
from tests.support.toy_decoder import EVERYTHING, POSITIONS, VOCABULARY, ToyDecoder, expected
from tests.support.waiting import until
from worker.cancellation import Cancellation
from worker.errors import BusyError, JobCancelledError, SynthesisError
from worker.speech.batch import device_batch as rows_module
from worker.speech.batch import scheduler as module
from worker.speech.batch.admission import PrefillBudget
from worker.speech.batch.device_batch import NARROW, DeviceBatch
from worker.speech.batch.output_head import OutputHead
from worker.speech.batch.sampling import Sampling
from worker.speech.batch.scheduler import Scheduler
from worker.speech.batch.sequence import Answer, SequenceRequest, TokenSequence
from worker.speech.fair_lock import FairLock
from worker.speech.grammar import CompiledGrammar, Grammar

OPEN = Grammar((EVERYTHING,) * 4000)  # as long as the row's limit lets it be
GREEDY = Sampling(temperature=0)


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
    scheduler = Scheduler(decoder, slots)
    rows = [SequenceRequest(tuple(prompt), "row", limit) for prompt, limit in asked]
    assert told(scheduler.submit(rows, OPEN, GREEDY)) == [expected(*one) for one in asked]
    assert max(decoder.batches, default=0) <= slots


def test_a_row_joins_a_running_batch(held: tuple[ToyDecoder, threading.Event]) -> None:
    decoder, go = held
    scheduler = Scheduler(decoder, 4)
    (first,) = scheduler.submit([row(1, limit=500)], OPEN, GREEDY)
    until(lambda: occupancy(scheduler) == (1, 0))
    (second,) = scheduler.submit([row(2, limit=5)], OPEN, GREEDY)
    go.set()
    assert list(second.answer().tokens) == expected([2], 5)
    assert list(first.answer().tokens) == expected([1], 500)
    assert decoder.batches.count(2) == 4  # the second's steps, each with one of the first's
    assert decoder.batches.count(1) == 495


def test_a_free_place_goes_to_the_job_with_the_fewest_rows(
    held: tuple[ToyDecoder, threading.Event],
) -> None:
    decoder, go = held
    scheduler = Scheduler(decoder, 2)
    many = scheduler.submit([row(n, limit=20) for n in range(1, 21)], OPEN, GREEDY, job="long")
    until(lambda: occupancy(scheduler)[0] == 2)
    (one,) = scheduler.submit([row(30, limit=20)], OPEN, GREEDY, job="short")
    go.set()
    one.answer()
    for asked in many:
        asked.answer()
    before = sum(asked.started < one.started for asked in many if asked.started and one.started)
    assert before == 2  # that ran when it came


def test_an_answer_tells_of_its_wait_and_its_company() -> None:
    scheduler = Scheduler(ToyDecoder(), 2)
    asked = scheduler.submit([row(1), row(2), row(3)], OPEN, GREEDY)
    found = answers(asked)
    assert [a.occupancy for a in found] == [2, 2, 1]
    started = [one.submitted + a.queue_seconds for one, a in zip(asked, found, strict=True)]
    assert started[2] > started[0]
    lock = FairLock()
    scheduler = Scheduler(ToyDecoder(), 2, lock=lock)
    with lock:
        asked = scheduler.submit([row(1, limit=3), row(2, limit=10)], OPEN, GREEDY)
    assert [a.occupancy for a in answers(asked)] == [2, (2 * 2 + 7) / 9]


def test_a_cancelled_row_frees_its_place(held: tuple[ToyDecoder, threading.Event]) -> None:
    decoder, go = held
    scheduler = Scheduler(decoder, 1)
    cancellation = Cancellation()
    (running,) = scheduler.submit(
        [row(1, limit=4000)], OPEN, GREEDY, job="a", cancellation=cancellation
    )
    (waiting,) = scheduler.submit([row(2, limit=3)], OPEN, GREEDY, job="b")
    until(lambda: occupancy(scheduler) == (1, 1))
    cancellation.cancel()
    with pytest.raises(JobCancelledError):
        running.wait()
    go.set()
    assert list(waiting.answer().tokens) == expected([2], 3)
    assert len(decoder.batches) < 10


def test_a_row_that_waits_can_be_cancelled_too(held: tuple[ToyDecoder, threading.Event]) -> None:
    decoder, go = held
    scheduler = Scheduler(decoder, 1)
    (first,) = scheduler.submit([row(1)], OPEN, GREEDY)
    until(lambda: occupancy(scheduler) == (1, 0))
    cancellation = Cancellation()
    (second,) = scheduler.submit([row(2)], OPEN, GREEDY, cancellation=cancellation)
    cancellation.cancel()
    with pytest.raises(JobCancelledError):
        second.answer()
    go.set()
    first.answer()
    until(lambda: occupancy(scheduler) == (0, 0))


def test_what_was_cancelled_before_is_not_run() -> None:
    scheduler = Scheduler(ToyDecoder(), 1)
    cancellation = Cancellation()
    cancellation.cancel()
    (asked,) = scheduler.submit([row(1)], OPEN, GREEDY, cancellation=cancellation)
    with pytest.raises(JobCancelledError):
        asked.answer()


def test_too_much_waiting_is_refused(held: tuple[ToyDecoder, threading.Event]) -> None:
    decoder, go = held
    scheduler = Scheduler(decoder, 1, max_waiting=2)
    scheduler.submit([row(1)], OPEN, GREEDY)
    until(lambda: occupancy(scheduler) == (1, 0))
    (second,) = scheduler.submit([row(2)], OPEN, GREEDY)
    with pytest.raises(BusyError, match="in a moment"):
        scheduler.submit([row(3), row(4)], OPEN, GREEDY)
    go.set()
    assert list(second.answer().tokens) == expected([2], 10)


def test_a_row_that_has_no_room_is_refused() -> None:
    with pytest.raises(SynthesisError, match="positions"):
        Scheduler(ToyDecoder(), 1, positions=100).submit([row(1, limit=100)], OPEN, GREEDY)


def test_tokens_can_be_watched_as_they_come() -> None:
    """Those of the steps that were done are told of while the rest is still to be made."""
    allowed = threading.Semaphore(0)

    def wait_for_leave(_rows: int) -> None:
        assert allowed.acquire(timeout=20), "nobody waits for the tokens of the steps so far"

    decoder = ToyDecoder(before_step=wait_for_leave)
    (asked,) = Scheduler(decoder, 1).submit([row(1, limit=40)], OPEN, GREEDY)
    for count, steps in ((1, 1), (15, 14), (30, 15)):
        for _ in range(steps):
            allowed.release()
        tokens, done = asked.wait(count)
        seen = list(tokens)
        # What a step gave is read while the next one runs, so it may be there or not.
        assert count <= len(seen) <= count + 1
        assert seen == expected([1], len(seen))
        assert not done
    for _ in range(40):
        allowed.release()
    tokens, done = asked.wait(60)  # more than there will be
    assert list(tokens) == expected([1], 40)
    assert done


def test_an_end_ends_and_is_no_token() -> None:
    end = expected([7], 6)[5]
    first = expected([7], 6).index(end)
    grammar = Grammar((EVERYTHING - {end}, EVERYTHING), end=end)
    (asked,) = Scheduler(ToyDecoder(), 1).submit([row(7, limit=100)], grammar, GREEDY)
    answer = asked.answer()
    assert answer.ended
    assert list(answer.tokens) == expected([7], first)


def test_an_answer_does_not_end_before_its_least_length() -> None:
    generous = Sampling(temperature=5.0, top_k=0, top_p=1.0, min_tokens=30)
    grammar = Grammar((EVERYTHING,), end=3)
    rows = [row(n, limit=2000) for n in range(1, 9)]
    found = answers(Scheduler(ToyDecoder(), 3).submit(rows, grammar, generous))
    assert min(len(a.tokens) for a in found) >= 30
    assert all(a.ended for a in found)


def test_what_has_no_choice_takes_no_step() -> None:
    decoder = ToyDecoder()
    grammar = Grammar((frozenset({5}), frozenset({6}), EVERYTHING, EVERYTHING))
    (asked,) = Scheduler(decoder, 1).submit([row(1)], grammar, GREEDY)
    assert list(asked.answer().tokens) == [5, 6, *expected([1, 5, 6], 2)]
    assert len(decoder.batches) == 1


def test_the_thread_ends_when_nothing_is_left_and_comes_back() -> None:
    scheduler = Scheduler(ToyDecoder(), 1)
    for _ in range(2):
        (asked,) = scheduler.submit([row(1)], OPEN, GREEDY)
        asked.answer()
        until(lambda: not any(t.name == "scheduler" for t in threading.enumerate()))


def test_many_threads_share_a_batch() -> None:
    decoder = ToyDecoder()
    scheduler = Scheduler(decoder, 8)
    answers: dict[int, list[int]] = {}

    def job(n: int) -> None:
        rows = [row(n, i, limit=50) for i in range(1, 4)]
        answers[n] = [
            t for a in scheduler.submit(rows, OPEN, GREEDY, job=n) for t in a.answer().tokens
        ]

    threads = [threading.Thread(target=job, args=(n,)) for n in range(1, 21)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for n in range(1, 21):
        assert answers[n] == [t for i in range(1, 4) for t in expected([n, i], 50)]
    assert max(decoder.batches) == 8


# Whose turn it is. The prompts tell who joined, and when.


def one_token(*prompt: int) -> SequenceRequest:
    """Answered by what its prompt gives, without a step."""
    return row(*prompt, limit=1)


def long_prompt(length: int, first: int, limit: int = 1) -> SequenceRequest:
    return row(first, *[0] * (length - 1), limit=limit)


def firsts(decoder: ToyDecoder) -> list[list[int]]:
    """The first token of each prompt, by what joined together."""
    return [[prompt[0] for prompt in prompts] for prompts in decoder.prompts]


def test_free_places_go_to_the_job_that_has_the_fewest_rows_those_just_admitted_counted(
    held: tuple[ToyDecoder, threading.Event],
) -> None:
    decoder, go = held
    scheduler = Scheduler(decoder, 6)
    running = scheduler.submit([row(1), row(2)], OPEN, GREEDY, job="long")
    until(lambda: decoder.prompts)
    more = scheduler.submit([row(n) for n in range(3, 9)], OPEN, GREEDY, job="long")
    short = scheduler.submit([row(n) for n in range(11, 17)], OPEN, GREEDY, job="short")
    go.set()
    answers([*running, *more, *short])
    assert firsts(decoder)[:2] == [[1, 2], [11, 12, 3, 13]]


def test_a_place_that_one_row_frees_goes_to_the_job_with_fewer_rows(
    held: tuple[ToyDecoder, threading.Event],
) -> None:
    decoder, go = held
    scheduler = Scheduler(decoder, 2)
    many = scheduler.submit(
        [row(1, limit=3), row(2, limit=40), *(row(n, limit=3) for n in range(3, 9))],
        OPEN,
        GREEDY,
        job="long",
    )
    until(lambda: decoder.prompts)
    short = scheduler.submit([row(11), row(12), row(13)], OPEN, GREEDY, job="short")
    go.set()
    answers([*many, *short])
    assert firsts(decoder)[:4] == [[1, 2], [11], [12], [13]]


def test_jobs_with_as_many_rows_take_turns() -> None:
    decoder, lock = ToyDecoder(), FairLock()
    scheduler = Scheduler(decoder, 1, lock=lock)
    with lock:
        asked = [
            *scheduler.submit([one_token(n) for n in (1, 2, 3)], OPEN, GREEDY, job="a"),
            *scheduler.submit([one_token(n) for n in (11, 12)], OPEN, GREEDY, job="b"),
            *scheduler.submit([one_token(21)], OPEN, GREEDY, job="c"),
        ]
    answers(asked)
    assert firsts(decoder) == [[1], [11], [21], [2], [12], [3]]


@pytest.mark.parametrize(
    ("lengths", "together"),
    [
        ((512, 511), [2]),
        ((512, 512), [2]),
        ((512, 513), [1, 1]),
        ((1024, 1), [1, 1]),
        ((1025,), [1]),
        ((1, 1025), [1, 1]),
        ((1025, 1), [1, 1]),
        ((300, 300, 300, 300), [3, 1]),
    ],
)
def test_prompts_join_up_to_a_bound_but_always_one(
    lengths: tuple[int, ...], together: list[int]
) -> None:
    decoder, lock = ToyDecoder(), FairLock()
    scheduler = Scheduler(decoder, 8, lock=lock)
    with lock:
        asked = scheduler.submit([long_prompt(n, 1) for n in lengths], OPEN, GREEDY)
    answers(asked)
    assert [len(prompts) for prompts in decoder.prompts] == together


def test_a_row_that_was_held_back_is_the_next() -> None:
    decoder, lock = ToyDecoder(), FairLock()
    scheduler = Scheduler(decoder, 8, lock=lock)
    with lock:
        asked = [
            *scheduler.submit([long_prompt(600, 1)], OPEN, GREEDY, job="a"),
            *scheduler.submit([long_prompt(600, 11), one_token(12)], OPEN, GREEDY, job="b"),
            *scheduler.submit([one_token(21)], OPEN, GREEDY, job="c"),
        ]
    answers(asked)
    assert firsts(decoder) == [[1], [11, 21, 12]]


def test_cancelled_rows_take_no_place_and_no_part_of_the_bound() -> None:
    decoder, lock = ToyDecoder(), FairLock()
    scheduler = Scheduler(decoder, 2, lock=lock)
    cancellation = Cancellation()
    with lock:
        gone = scheduler.submit(
            [long_prompt(600, 1), one_token(2)], OPEN, GREEDY, job="a", cancellation=cancellation
        )
        kept = [
            *scheduler.submit([long_prompt(600, 11)], OPEN, GREEDY, job="a"),
            *scheduler.submit([long_prompt(400, 21)], OPEN, GREEDY, job="b"),
        ]
        cancellation.cancel()
    assert told(kept) == [expected([11], 1), expected([21], 1)]
    assert firsts(decoder) in ([[11, 21]], [[21, 11]])
    for one in gone:
        with pytest.raises(JobCancelledError):
            one.answer()


def test_rows_run_beside_each_other_up_to_the_slots() -> None:
    decoder, lock = ToyDecoder(), FairLock()
    scheduler = Scheduler(decoder, 3, lock=lock)
    with lock:
        asked = scheduler.submit([row(n) for n in range(1, 8)], OPEN, GREEDY)
        assert occupancy(scheduler) == (0, 7)
    answers(asked)
    assert firsts(decoder) == [[1, 2, 3], [4, 5, 6], [7]]


# What a row says does not depend on the others.

EVEN = frozenset(range(0, VOCABULARY, 2))
MIXED = [
    OPEN,
    Grammar((EVEN, EVERYTHING) * 20),
    Grammar((frozenset({5}), frozenset({6}), EVEN, EVERYTHING, EVERYTHING)),
    Grammar((EVERYTHING - {3}, EVERYTHING), end=3),
    Grammar((frozenset({9}), EVERYTHING - {8}, EVERYTHING - {8}, EVERYTHING), end=8),
]


def mixed(scheduler: Scheduler, sampling: Sampling) -> list[TokenSequence]:
    """Rows of all grammars, of lengths that let them join and leave at many steps."""
    return [
        asked
        for n, grammar in enumerate(MIXED * 3)
        for asked in scheduler.submit(
            [row(n + 1, limit=7 + 5 * n % 23), row(n + 1, 7, limit=3 + n)], grammar, sampling, job=n
        )
    ]


@pytest.mark.parametrize("lag", [0, 1])
@pytest.mark.parametrize("slots", [1, 3, 4, 16])
def test_rows_of_many_grammars_share_a_batch_and_each_keeps_to_its_own(
    slots: int, lag: int
) -> None:
    scheduler = Scheduler(ToyDecoder(), slots)
    scheduler._lag = lag  # 1 is what a GPU has: tokens are read when the next ones are drawn
    asked = mixed(scheduler, GREEDY)
    grammars = [grammar for grammar in MIXED * 3 for _ in range(2)]
    wanted = [
        expected(
            one.request.prompt,
            one.request.limit
            if grammar.end is not None
            else min(one.request.limit, len(grammar.steps)),
            grammar.steps,
            grammar.end,
        )
        for one, grammar in zip(asked, grammars, strict=True)
    ]
    assert told(asked) == wanted
    assert [a.ended for a in answers(asked)] == [
        len(tokens) < one.request.limit
        or (grammar.end is None and len(tokens) == len(grammar.steps))
        for one, tokens, grammar in zip(asked, wanted, grammars, strict=True)
    ]


@pytest.mark.parametrize("lag", [0, 1])
def test_drawn_tokens_are_what_a_row_alone_draws(lag: int) -> None:
    how = Sampling(temperature=3.0, top_k=20, top_p=0.9, seed=11)
    scheduler = Scheduler(ToyDecoder(), 5)
    scheduler._lag = lag
    asked = mixed(scheduler, how)
    grammars = [grammar for grammar in MIXED * 3 for _ in range(2)]
    alone = [
        answer(ToyDecoder(), [one.request], grammar, how)[0]
        for one, grammar in zip(asked, grammars, strict=True)
    ]
    assert told(asked) == [list(a.tokens) for a in alone]
    assert [a.ended for a in answers(asked)] == [a.ended for a in alone]


def test_each_row_of_a_batch_has_its_own_sampling_seed_and_name() -> None:
    hot = Sampling(temperature=50.0, top_k=0, top_p=1.0, seed=1)
    lock = FairLock()
    scheduler = Scheduler(ToyDecoder(), 8, lock=lock)
    with lock:
        asked = [
            *scheduler.submit([row(1, limit=30)], OPEN, GREEDY, job=1),
            *scheduler.submit([row(1, limit=30)], OPEN, hot, job=2),
            *scheduler.submit([SequenceRequest((1,), "another", 30)], OPEN, hot, job=3),
            *scheduler.submit([row(1, limit=30)], OPEN, Sampling(50.0, 0, 1.0, seed=2), job=4),
            *scheduler.submit([row(1, limit=30)], OPEN, hot, job=5),
        ]
    greedy, first, named, seeded, again = told(asked)
    assert greedy == expected([1], 30)
    assert first == again
    assert len({tuple(tokens) for tokens in (greedy, first, named, seeded)}) == 4


def test_an_answer_has_the_rows_of_its_own_batch_in_order() -> None:
    rows = [row(3, limit=4), row(1, limit=9), row(2, limit=1)]
    found = answer(ToyDecoder(), rows, OPEN, GREEDY)
    assert [list(a.tokens) for a in found] == [expected(r.prompt, r.limit) for r in rows]


# Ends and limits of a row.


def test_the_end_is_not_drawn_before_the_grammar_lets_it() -> None:
    grammar = Grammar((EVERYTHING - {7}, EVERYTHING - {7}, EVERYTHING), end=7)
    (found,) = answer(ToyDecoder(), [row(7, limit=30)], grammar, GREEDY)
    assert list(found.tokens) == expected([7], 30, grammar.steps, 7)
    assert found.tokens[0] == 8  # the sum is 7, which is not to be said yet
    (found,) = answer(ToyDecoder(), [row(7)], Grammar((EVERYTHING,), end=7), GREEDY)
    assert found == Answer((), True, found.queue_seconds, 1.0)


@pytest.mark.parametrize(
    ("steps", "limit", "count", "ended"), [(4, 9, 4, True), (4, 4, 4, True), (4, 3, 3, False)]
)
def test_an_answer_of_a_fixed_length_is_whole_unless_its_limit_cuts_it(
    steps: int, limit: int, count: int, ended: bool
) -> None:
    (found,) = answer(ToyDecoder(), [row(1, limit=limit)], Grammar((EVERYTHING,) * steps), GREEDY)
    assert (list(found.tokens), found.ended) == (expected([1], count), ended)


def test_an_answer_with_an_end_that_its_limit_cuts_is_not_whole() -> None:
    tokens = expected([1], 6)
    grammar = Grammar((EVERYTHING,), end=tokens[5])
    assert tokens[5] not in tokens[:5]
    cut, just, whole = answer(ToyDecoder(), [row(1, limit=n) for n in (4, 5, 6)], grammar, GREEDY)
    assert (list(cut.tokens), cut.ended) == (tokens[:4], False)
    assert (list(just.tokens), just.ended) == (tokens[:5], False)
    assert (list(whole.tokens), whole.ended) == (tokens[:5], True)


def test_an_opening_longer_than_the_limit_is_cut() -> None:
    decoder = ToyDecoder()
    grammar = Grammar((frozenset({5}), frozenset({6}), frozenset({7}), EVERYTHING), end=9)
    (asked,) = Scheduler(decoder, 1).submit([row(1, limit=2)], grammar, GREEDY)
    assert told([asked]) == [[5, 6]]
    assert not asked.ended
    assert decoder.batches == []


def test_a_row_whose_first_token_is_its_last_takes_no_step() -> None:
    decoder = ToyDecoder()
    (found,) = answers(Scheduler(decoder, 2).submit([one_token(4)], OPEN, GREEDY))
    assert (found.tokens, found.occupancy) == ((4,), 1.0)
    assert decoder.batches == []


@pytest.mark.parametrize(("lag", "steps"), [(0, 5), (1, 6)])
def test_a_row_leaves_as_soon_as_its_end_is_read(lag: int, steps: int) -> None:
    decoder = ToyDecoder()
    tokens = expected([1], 6)
    scheduler = Scheduler(decoder, 1)
    if lag:  # 0 is what a CPU has
        scheduler._lag = lag
    asked = scheduler.submit([row(1, limit=100)], Grammar((EVERYTHING,), end=tokens[5]), GREEDY)
    assert told(asked) == [tokens[:5]]
    until(lambda: occupancy(scheduler) == (0, 0))
    assert len(decoder.batches) == steps


@pytest.mark.parametrize("lag", [0, 1])
@pytest.mark.parametrize(("grammar", "limit"), [(OPEN, 6), (Grammar((EVERYTHING,) * 6), 40)])
def test_a_row_runs_no_step_past_its_limit(grammar: Grammar, limit: int, lag: int) -> None:
    decoder = ToyDecoder()
    scheduler = Scheduler(decoder, 1)
    scheduler._lag = lag
    assert told(scheduler.submit([row(1, limit=limit)], grammar, GREEDY)) == [expected([1], 6)]
    until(lambda: occupancy(scheduler) == (0, 0))
    assert len(decoder.batches) == 5


@pytest.mark.parametrize(("lag", "read"), [(0, 3), (1, 2)])
def test_tokens_are_read_while_the_row_runs(lag: int, read: int) -> None:
    steps = threading.Semaphore(2)
    asked_for: list[int] = []

    def step(rows: int) -> None:
        asked_for.append(rows)
        steps.acquire(timeout=10)

    scheduler = Scheduler(ToyDecoder(step), 1)
    if lag:
        scheduler._lag = lag
    (asked,) = scheduler.submit([row(1, limit=9)], OPEN, GREEDY)
    until(lambda: len(asked_for) == 3)
    assert len(asked.tokens) == read  # of the prompt's and two steps'
    steps.release(100)
    assert told([asked]) == [expected([1], 9)]


def asking(end: int | None = None, limit: int = 10) -> TokenSequence:
    """A row that no scheduler knows."""
    grammar = Grammar((EVERYTHING,) * (1 if end is not None else 40), end=end)
    return TokenSequence(row(1, limit=limit), CompiledGrammar.of(grammar), GREEDY, None)


def test_tokens_drawn_after_the_end_are_not_taken() -> None:
    asked = asking(end=3)
    for token in (5, 6, 3, 7, 3):
        asked.add(token)
    assert (asked.answer().tokens, asked.ended) == ((5, 6), True)


def test_what_comes_after_an_answer_does_not_change_it() -> None:
    asked = asking(limit=2)
    asked.add(5)
    asked.add(6)
    asked.finish(JobCancelledError("the job was cancelled"))
    assert asked.answer().tokens == (5, 6)
    failed = asking()
    failed.finish(ValueError("first"))
    failed.finish(ValueError("second"))
    failed.finish()
    with pytest.raises(ValueError, match="first"):
        failed.answer()


def test_who_waits_for_some_tokens_is_told_at_the_last_of_them() -> None:
    asked = asking()
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(asked.wait, 2)
        time.sleep(0.02)  # so that it does wait
        asked.add(5)
        asked.add(6)
        try:
            tokens, done = waiting.result(20)
        finally:
            asked.finish()
    assert (list(tokens), done) == ([5, 6], False)


def test_who_waits_is_told_of_an_end_before_the_tokens_it_waits_for() -> None:
    for last in (3, None):
        asked = asking(end=3)
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(asked.wait, 5)
            time.sleep(0.02)
            asked.add(5)
            if last is None:
                asked.finish(JobCancelledError("the job was cancelled"))
                with pytest.raises(JobCancelledError):
                    waiting.result(20)
            else:
                asked.add(last)
                assert waiting.result(20) == ([5], True)


# What is refused.


def test_as_many_rows_wait_as_may() -> None:
    lock = FairLock()
    scheduler = Scheduler(ToyDecoder(), 1, max_waiting=3, lock=lock)
    with lock:
        asked = scheduler.submit([row(1), row(2)], OPEN, GREEDY, job=1)
        asked += scheduler.submit([row(3)], OPEN, GREEDY, job=2)
        with pytest.raises(BusyError, match="3 sentences wait"):
            scheduler.submit([row(4)], OPEN, GREEDY, job=3)
        assert occupancy(scheduler) == (0, 3)
    assert told(asked) == [expected([n], 10) for n in (1, 2, 3)]
    until(lambda: occupancy(scheduler) == (0, 0))
    assert told(scheduler.submit([row(4)], OPEN, GREEDY, job=3)) == [expected([4], 10)]


def test_rows_that_were_given_up_wait_no_longer() -> None:
    lock = FairLock()
    scheduler = Scheduler(ToyDecoder(), 1, max_waiting=2, lock=lock)
    with lock:
        gone, kept = scheduler.submit([row(1), row(2)], OPEN, GREEDY)
        scheduler.cancel(gone)
        assert occupancy(scheduler) == (0, 1)
        (after,) = scheduler.submit([row(3)], OPEN, GREEDY)
    assert told([kept, after]) == [expected([2], 10), expected([3], 10)]


def test_what_a_scheduler_takes_where_nothing_is_said() -> None:
    lock = FairLock()
    scheduler = Scheduler(ToyDecoder(), lock=lock)
    assert (scheduler.slots, scheduler.positions) == (16, POSITIONS)
    with lock:
        asked = scheduler.submit([row(1)] * 4096, OPEN, GREEDY)
        with pytest.raises(BusyError, match="4096"):
            scheduler.submit([row(1)], OPEN, GREEDY)
        for one in asked:
            scheduler.cancel(one)


def test_a_row_may_fill_its_positions_and_no_more() -> None:
    scheduler = Scheduler(ToyDecoder(), 1, positions=20)
    assert told(scheduler.submit([row(1, 2, limit=18)], OPEN, GREEDY)) == [expected([1, 2], 18)]
    lock = FairLock()
    scheduler = Scheduler(ToyDecoder(), 1, positions=20, lock=lock)
    with lock:
        with pytest.raises(SynthesisError, match=r"2 tokens and an answer of 19 .* 20 positions"):
            scheduler.submit([row(1), row(1, 2, limit=19)], OPEN, GREEDY)
        assert occupancy(scheduler) == (0, 0)  # not even the one that fits


@pytest.mark.parametrize(("asked", "found"), [(None, 4096), (100, 100), (4096, 4096), (9000, 4096)])
def test_a_row_has_no_more_positions_than_the_model(asked: int | None, found: int) -> None:
    assert Scheduler(ToyDecoder(), 1, positions=asked).positions == found


def test_no_rows_have_no_answers_and_harm_nobody(held: tuple[ToyDecoder, threading.Event]) -> None:
    decoder, go = held
    scheduler = Scheduler(decoder, 2)
    asked = scheduler.submit([row(1)], OPEN, GREEDY, job=1)
    until(lambda: decoder.prompts)
    assert scheduler.submit([], OPEN, GREEDY, job=2) == []
    go.set()
    assert told(asked) == [expected([1], 10)]


# Cancelling.


def test_all_rows_of_a_cancelled_job_leave_and_their_neighbours_go_on(
    held: tuple[ToyDecoder, threading.Event],
) -> None:
    decoder, go = held
    scheduler = Scheduler(decoder, 4)
    cancellation = Cancellation()
    gone = scheduler.submit(
        [row(1, limit=4000), row(2, limit=4000)], OPEN, GREEDY, job=1, cancellation=cancellation
    )
    kept = scheduler.submit([row(3, limit=30), row(4, limit=40)], OPEN, GREEDY, job=2)
    until(lambda: sum(occupancy(scheduler)) == 4)
    cancellation.cancel()
    assert all(one.done for one in gone)
    go.set()
    assert told(kept) == [expected([3], 30), expected([4], 40)]
    assert len(decoder.batches) < 100
    for one in gone:
        with pytest.raises(JobCancelledError, match="was cancelled"):
            one.wait()


def test_a_cancelled_row_counts_no_more_for_its_jobs_share(
    held: tuple[ToyDecoder, threading.Event],
) -> None:
    decoder, go = held
    scheduler = Scheduler(decoder, 2)
    first, second = scheduler.submit([row(1, limit=50), row(2, limit=50)], OPEN, GREEDY, job="a")
    until(lambda: decoder.prompts)
    more = scheduler.submit([row(3), row(4)], OPEN, GREEDY, job="a")
    more += scheduler.submit([row(11), row(12)], OPEN, GREEDY, job="b")
    scheduler.cancel(first)
    scheduler.cancel(second)
    go.set()
    answers(more)
    assert firsts(decoder)[:2] == [[1, 2], [3, 11]]


@pytest.mark.parametrize("lag", [0, 1])
def test_rows_that_are_given_up_at_any_step_harm_no_other(lag: int) -> None:
    asked: list[TokenSequence] = []
    goes = iter(range(0, 30, 3))

    def step(_rows: int) -> None:
        one = next(goes, None)
        if one is not None:
            scheduler.cancel(asked[one])

    lock = FairLock()
    scheduler = Scheduler(ToyDecoder(step), 4, lock=lock)
    scheduler._lag = lag
    with lock:
        asked += scheduler.submit([row(n + 1, limit=2 + n % 7) for n in range(30)], OPEN, GREEDY)
    kept = [one for n, one in enumerate(asked) if n % 3]
    assert told(kept) == [expected(one.request.prompt, one.request.limit) for one in kept]
    until(lambda: occupancy(scheduler) == (0, 0))
    assert sum(one._error is not None for one in asked) > 5


# Times, and the thread.


def test_the_wait_for_a_place_is_measured(held: tuple[ToyDecoder, threading.Event]) -> None:
    decoder, go = held
    scheduler = Scheduler(decoder, 1)
    begun = time.perf_counter()
    (first,) = scheduler.submit([row(1)], OPEN, GREEDY)
    until(lambda: decoder.prompts)
    running = time.perf_counter()
    (second,) = scheduler.submit([row(2)], OPEN, GREEDY)
    submitted = time.perf_counter()
    time.sleep(0.02)
    released = time.perf_counter()
    go.set()
    waits = [one.queue_seconds for one in answers([first, second])]
    ended = time.perf_counter()
    assert 0 <= waits[0] <= running - begun
    assert released - submitted <= waits[1] <= ended - running


def test_a_row_that_never_ran_waited_for_nothing_in_nobodys_company() -> None:
    asked = asking()
    asked.finish()
    assert asked.answer() == Answer((), False, 0.0, 1.0)


def test_a_step_waits_for_its_turn_and_others_get_theirs_between_two() -> None:
    steps = threading.Semaphore(0)
    decoder = ToyDecoder(before_step=lambda _rows: steps.acquire(timeout=10) and None)
    lock = FairLock()
    scheduler = Scheduler(decoder, 1, lock=lock)
    with lock:
        (asked,) = scheduler.submit([row(1, limit=30)], OPEN, GREEDY)
        time.sleep(0.02)
        assert decoder.prompts == []
    until(lambda: decoder.prompts)

    def codec() -> int:
        with lock:
            return len(asked.tokens)

    with ThreadPoolExecutor(1) as threads:
        other = threads.submit(codec)
        until(lambda: lock._queue)
        steps.release(1)
        try:
            assert other.result(20) == 2
        finally:
            steps.release(100)
    assert told([asked]) == [expected([1], 30)]


def test_what_was_prepared_is_not_made_again() -> None:
    decoder = ToyDecoder()
    scheduler = Scheduler(decoder, 2)
    grammar = Grammar((frozenset({5}), EVEN, EVERYTHING - {3}, EVERYTHING), end=3)
    scheduler.prepare(grammar)
    assert len(decoder.heads) == len(set(decoder.heads)) == 3
    assert decoder.prompts == []
    assert told(scheduler.submit([row(1), row(2)], grammar, GREEDY)) == [
        expected([n], 10, grammar.steps, 3) for n in (1, 2)
    ]
    assert len(decoder.heads) == 3


class Counting:
    """In the place of captured graphs: runs the same work and notes how often."""

    def __init__(
        self, advance: object, draw: object, sizes: Sequence[int], lengths: Sequence[int]
    ) -> None:
        self._advance, self._draw, self._slots = advance, draw, sizes[-1]
        self.steps = 0

    def step(self, count: int, length: int) -> torch.Tensor:
        self.steps += 1
        self._advance(self._slots, length)
        return self._draw(self._slots)[:count]


@pytest.mark.parametrize("lag", [0, 1])
def test_a_row_that_draws_otherwise_leaves_the_others_in_their_captured_steps(
    monkeypatch: pytest.MonkeyPatch, lag: int
) -> None:
    """A voice being designed, and a wide top_k, beside rows that speak; the GPU is a name here."""
    monkeypatch.setattr(rows_module, "CudaGraphs", Counting)
    speech = Grammar((EVEN, EVERYTHING - {3}, EVERYTHING), end=3)
    design = Grammar((frozenset({5}), EVEN, frozenset({8}), *(EVERYTHING - EVEN,) * 9))
    wide = Sampling(seed=8, top_k=0, top_p=1.0)
    jobs = [
        ([row(1, limit=25), row(2, limit=14)], speech, Sampling(seed=1)),
        ([row(3, limit=12)], design, Sampling(seed=5)),
        ([row(4, limit=21)], speech, wide),
        ([row(5, limit=30)], speech, Sampling(seed=3, min_tokens=30)),
    ]
    seen = []
    for captured in (False, True):
        decoder = ToyDecoder()
        scheduler = Scheduler(decoder, 6)
        if captured:
            head = scheduler._heads.pin(EVERYTHING, 3)
            decoder.device = torch.device("cuda")
            scheduler._batch.capture(head)
            decoder.device = torch.device("cpu")
            scheduler._lag = lag
        asked = [one for job in jobs for one in scheduler.submit(*job, job=id(job))]
        seen.append(told(asked))
        graphs = scheduler._batch._graphs
    assert seen[0] == seen[1]
    assert isinstance(graphs, Counting)
    assert graphs.steps == len(decoder.batches) - 1  # but for the one before the capture


def test_the_steps_of_speech_are_those_that_were_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    captured: list[tuple[int, OutputHead]] = []
    asked: list[tuple[OutputHead, int]] = []

    def draws(_rows: DeviceBatch, head: OutputHead, most: int) -> bool:
        asked.append((head, most))
        return False

    monkeypatch.setattr(
        DeviceBatch, "capture", lambda rows, head: captured.append((len(rows.ids), head))
    )
    monkeypatch.setattr(DeviceBatch, "draws_captured", draws)
    short = iter([False, False, True])

    def step(_rows: int) -> None:
        if next(short, False):
            raise torch.OutOfMemoryError("CUDA out of memory")

    scheduler = Scheduler(ToyDecoder(step), 2)
    grammar = Grammar((EVEN, EVERYTHING - {3}, EVERYTHING), end=3)
    scheduler.prepare(grammar)
    told(scheduler.submit([row(1), row(2)], grammar, GREEDY))
    assert [slots for slots, _head in captured] == [2, 1]  # and again with what fits
    assert {id(head) for _slots, head in captured} == {id(head) for head, _most in asked}
    assert {most for _head, most in asked} == {NARROW}
    assert (captured[0][1].ids.tolist(), captured[0][1].end) == (sorted(EVERYTHING), 3)


def test_a_batch_has_one_thread_that_keeps_nobody_from_leaving(
    held: tuple[ToyDecoder, threading.Event],
) -> None:
    decoder, go = held
    before = set(threading.enumerate())
    scheduler = Scheduler(decoder, 4)
    asked = [one for n in (1, 2, 3) for one in scheduler.submit([row(n)], OPEN, GREEDY)]
    threads = [t for t in threading.enumerate() if t not in before]
    assert [(t.name, t.daemon) for t in threads] == [("scheduler", True)]
    go.set()
    answers(asked)


def test_steps_keep_nothing_for_gradients() -> None:
    modes: list[bool] = []
    decoder = ToyDecoder(before_step=lambda _rows: modes.append(torch.is_inference_mode_enabled()))
    told(Scheduler(decoder, 1).submit([row(1)], OPEN, GREEDY))
    assert set(modes) == {True}


def test_a_row_that_comes_while_the_thread_lingers_runs_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scheduler = Scheduler(ToyDecoder(), 1)
    monkeypatch.setattr(module, "LINGER", 20)
    assert told(scheduler.submit([row(1)], OPEN, GREEDY)) == [expected([1], 10)]
    until(lambda: occupancy(scheduler) == (0, 0))
    thread = scheduler._thread
    time.sleep(0.02)  # so that it lingers
    monkeypatch.setattr(module, "LINGER", 0)
    (asked,) = scheduler.submit([row(2)], OPEN, GREEDY)
    until(lambda: asked.done)
    assert thread is not None
    thread.join(20)
    assert not thread.is_alive()


@pytest.mark.parametrize(
    ("budget", "groups"), [(PrefillBudget(29), [2, 2]), (PrefillBudget(40, padded=True), [2, 2])]
)
def test_prompts_are_read_by_the_budget(budget: PrefillBudget, groups: list[int]) -> None:
    decoder = ToyDecoder()
    scheduler = Scheduler(decoder, 8)
    scheduler._waiting._budget = budget
    rows = [row(*range(1, length + 1), limit=30) for length in (8, 8, 20, 1)]
    told(scheduler.submit(rows, OPEN, GREEDY))
    assert [len(prompts) for prompts in decoder.prompts] == groups


def test_a_gpu_has_another_budget_than_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The GPU is a name here."""
    monkeypatch.setattr(module, "stream_on", lambda _device, _priority: None)
    decoder = ToyDecoder()
    assert Scheduler(decoder)._waiting._budget == PrefillBudget(1024)
    decoder.device = torch.device("cuda")
    rows = DeviceBatch(ToyDecoder(), 1, 8)
    monkeypatch.setattr(module, "batch_for", lambda *_given: rows)
    assert Scheduler(decoder)._waiting._budget == PrefillBudget(8192, padded=True)
