"""Who joins the batch, of plain objects that wait: whose turn it is, and how many prompts fit."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import pytest

from worker.speech.batch import admission
from worker.speech.batch.admission import (
    CHUNKS,
    CPU_BUDGET,
    GPU_BUDGET,
    AdmissionQueue,
    PrefillBudget,
    budget_for,
)


@dataclass(eq=False)
class Waits:
    """What waits under a name."""

    name: str
    job: Hashable = "job"
    prompt_length: int = 1
    done: bool = False
    due: float = float("inf")
    submitted: float = float("inf")


PLENTY = PrefillBudget(1 << 20)


def queue(*waiting: Waits, budget: PrefillBudget = PLENTY) -> AdmissionQueue[Waits]:
    made: AdmissionQueue[Waits] = AdmissionQueue(budget)
    for one in waiting:
        made.add(one.job, [one])
    return made


def jobs(**names: str) -> list[Waits]:
    """Of each job those of its letters."""
    return [Waits(name, job) for job, letters in names.items() for name in letters]


def admitted(waiting: AdmissionQueue[Waits], free: int, running: Sequence[Hashable] = ()) -> str:
    return "".join(one.name for one in waiting.admit(free, running))


# Listeners


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which stands."""
    now = [100.0]
    monkeypatch.setattr(admission.time, "perf_counter", lambda: now[0])
    return now


def test_what_is_needed_soon_comes_first_by_the_time_at_which_it_is(clock: list[float]) -> None:
    soon = clock[0] + admission.SOON
    waiting = queue(
        Waits("f", "file"),
        Waits("b", "late", due=soon - 0.1),
        Waits("l", "later", due=soon + 0.1),
        Waits("a", "first", due=clock[0] - 3),
    )
    assert admitted(waiting, 16) == "abfl"


def test_who_is_needed_goes_before_whose_job_has_less(clock: list[float]) -> None:
    waiting = queue(Waits("f", "file"), Waits("a", "listener", due=clock[0]))
    assert admitted(waiting, 1, ["listener"]) == "a"


def test_while_some_listen_the_last_quarter_is_theirs(clock: list[float]) -> None:
    files = [Waits(name, "file") for name in "123456789"]
    waiting = queue(*files, Waits("l", "listener", due=clock[0] + 60))
    assert admitted(waiting, 8) == "1l2345"  # of eight two stay free
    assert admitted(waiting, 2, ["file"] * 6) == ""
    waiting.add("new", [Waits("n", "new", due=clock[0])])
    assert admitted(waiting, 2, ["file"] * 6) == "n"
    assert admitted(waiting, 1, ["file"] * 7) == ""
    clock[0] += admission.LISTENED + 1  # nobody came since
    assert admitted(waiting, 1, ["file"] * 7) == "6"


def test_who_makes_files_alone_has_all_slots(clock: list[float]) -> None:
    assert admitted(queue(*jobs(a="12345678")), 8) == "12345678"


def test_a_job_of_which_nothing_runs_has_its_turn_at_last(clock: list[float]) -> None:
    first = clock[0] - admission.PATIENCE - 1
    waiting = queue(
        Waits("l", "listener", due=clock[0] - 0.5),
        Waits("1", "file", submitted=first),
        Waits("2", "file", submitted=first),
    )
    assert admitted(waiting, 1) == "1"
    assert admitted(waiting, 1, ["file"]) == "l"


# Shares


def test_a_job_has_its_sequences_in_order() -> None:
    waiting = queue(*jobs(a="1234"))
    assert [admitted(waiting, 3), admitted(waiting, 3), admitted(waiting, 3)] == ["123", "4", ""]
    assert not waiting


def test_jobs_with_as_many_take_slots_by_turns() -> None:
    waiting = queue(*jobs(a="123", b="xy", c="p"))
    assert [admitted(waiting, 1) for _ in range(6)] == ["1", "x", "p", "2", "y", "3"]
    assert admitted(queue(*jobs(a="123", b="xy", c="p")), 6) == "1xp2y3"


def test_a_slot_goes_to_the_job_with_the_fewest_running_those_just_admitted_counted() -> None:
    waiting = queue(*jobs(a="123456", b="uvwxyz"))
    assert admitted(waiting, 4, ["a", "a"]) == "uv1w"


def test_who_came_while_a_long_job_ran_is_next() -> None:
    waiting = queue(*jobs(long="123456789"))
    assert admitted(waiting, 2) == "12"
    waiting.add("short", [Waits("s", "short")])
    assert admitted(waiting, 1, ["long", "long"]) == "s"


def test_no_slot_admits_nobody() -> None:
    waiting = queue(*jobs(a="1"))
    assert admitted(waiting, 0) == ""
    assert len(waiting) == 1


# Those given up


def test_what_was_given_up_takes_no_slot_and_counts_for_nothing() -> None:
    waiting = queue(
        Waits("1", "a", prompt_length=99, done=True),
        Waits("2", "a"),
        Waits("3", "b", done=True),
        budget=PrefillBudget(10, padded=True),
    )
    assert len(waiting) == 1
    assert admitted(waiting, 2) == "2"
    assert not waiting


def test_all_given_up_leave_the_queue() -> None:
    waiting = queue(*(Waits(n, n, done=True) for n in "123"))
    assert waiting
    assert len(waiting) == 0
    assert admitted(waiting, 1) == ""
    assert not waiting


# The budget of prompts


@pytest.mark.parametrize(
    ("budget", "lengths", "groups"),
    [
        (CPU_BUDGET, [512, 511], [2]),
        (CPU_BUDGET, [512, 512], [2]),
        (CPU_BUDGET, [512, 513], [1, 1]),
        (CPU_BUDGET, [1024, 1], [1, 1]),
        (CPU_BUDGET, [1025], [1]),
        (CPU_BUDGET, [1, 1025], [1, 1]),
        (CPU_BUDGET, [300] * 4, [3, 1]),
        # On a GPU each is as long as the longest: a long reference must not make a thousand short
        # prompts as long.
        (GPU_BUDGET, [128] * 65, [64, 1]),
        (GPU_BUDGET, [100, 4096, 1], [2, 1]),
        (GPU_BUDGET, [100, 4097], [1, 1]),
        (GPU_BUDGET, [9000, 1], [1, 1]),
    ],
)
def test_prompts_join_up_to_the_budget_but_always_one(
    budget: PrefillBudget, lengths: list[int], groups: list[int]
) -> None:
    waiting = queue(*(Waits("x", prompt_length=n) for n in lengths), budget=budget)
    found = []
    while waiting:
        found.append(len(waiting.admit(99, [])))
    assert found == groups


def test_what_the_budget_held_back_is_the_next() -> None:
    waiting = queue(
        Waits("1", "a", 6), Waits("x", "b", 6), Waits("y", "b"), Waits("p", "c"),
        budget=PrefillBudget(10),
    )  # fmt: skip
    assert admitted(waiting, 9) == "1"
    assert admitted(waiting, 9) == "xpy"


# Prompts in parts


@pytest.mark.parametrize(
    ("lengths", "idle", "parts"),
    [
        ([10], False, [10]),
        ([64], False, [64]),
        ([65], False, [64]),
        ([3000], True, [1024]),
        ([30, 30, 30, 30], False, [30, 30, 4]),
        ([32, 32, 5], False, [32, 32]),
        ([500, 524, 1], True, [500, 524]),
        ([500, 525], True, [500, 524]),
    ],
)
def test_of_the_first_prompts_as_much_is_read_as_the_budget_has(
    lengths: list[int], idle: bool, parts: list[int]
) -> None:
    assert CHUNKS.split(lengths, idle=idle) == parts


def test_whole_prompts_are_read_whatever_the_budget() -> None:
    """Those that were admitted together, that is."""
    assert CPU_BUDGET.split([5000, 3]) == [5000, 3]
    assert GPU_BUDGET.split([9000], idle=True) == [9000]


@pytest.mark.parametrize(
    ("running", "begun", "found"),
    [
        ([], [], "123"),  # 20 tokens and more while nothing runs
        (["x"], [], "12"),  # 10 of them beside others: the second is the last that is begun
        (["x", "x"], [9], "1"),
        (["x", "x"], [10], ""),
        (["x"], [19], "1"),  # what is being read does not run yet
        (["x"], [20], ""),
        (["x", "x", "x"], [4, 5], "1"),
    ],
)
def test_prompts_are_begun_as_long_as_some_of_the_budget_is_left(
    running: list[str], begun: list[int], found: str
) -> None:
    waiting = queue(
        *(Waits(name, prompt_length=9) for name in "123456"),
        budget=PrefillBudget(10, idle=20),
    )
    joined = "".join(one.name for one in waiting.admit(99, running, begun))
    assert joined == found


def test_a_decoder_on_a_gpu_that_reads_parts_has_small_ones_beside_what_runs() -> None:
    assert budget_for(on_gpu=True, in_parts=True) == CHUNKS == PrefillBudget(64, idle=1024)
    assert budget_for(on_gpu=True, in_parts=False) is GPU_BUDGET
    assert budget_for(on_gpu=False, in_parts=True) is CPU_BUDGET
    assert budget_for(on_gpu=False, in_parts=False) is CPU_BUDGET


# Those that lost their slot


def test_what_lost_its_slot_comes_before_all_others_in_its_order() -> None:
    waiting = queue(*jobs(a="34", c="r"))
    waiting.put_back([Waits("1", "a"), Waits("x", "b"), Waits("2", "a")])
    assert len(waiting) == 6
    assert [admitted(waiting, 1) for _ in range(6)] == ["1", "x", "r", "2", "3", "4"]


def test_all_are_taken_out_at_once() -> None:
    waiting = queue(*jobs(a="12", b="x"))
    assert [one.name for one in waiting.clear()] == ["1", "2", "x"]
    assert not waiting
    assert waiting.clear() == []


def test_nothing_added_is_nothing_that_waits() -> None:
    waiting = queue()
    waiting.add("a", [])
    assert not waiting
    assert admitted(waiting, 1) == ""


@pytest.mark.slow("starts a process")
def test_it_needs_no_torch() -> None:
    script = "import sys, worker.speech.batch.admission; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
