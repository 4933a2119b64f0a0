"""A grammar compiled: what need not be drawn, where the end may be, and few sets of tokens."""

from __future__ import annotations

import subprocess
import sys

import pytest

from worker.speech.grammar import CompiledGrammar, Grammar


def compiled(*steps: set[int], end: int | None = None) -> CompiledGrammar:
    return CompiledGrammar.of(Grammar(tuple(frozenset(step) for step in steps), end))


def test_speech_has_one_set_from_its_first_token_on() -> None:
    """The opening token is not drawn; the end may be the second code at the earliest."""
    found = compiled({9}, {1, 2}, {1, 2, 0}, end=0)
    assert found.opening == (9,)
    assert found.allowed == ({9}, {1, 2, 0}, {1, 2, 0})
    assert found.end_from == 2
    assert found.length == float("inf")


def test_a_step_that_allows_something_else_keeps_its_own_set() -> None:
    found = compiled({1, 3}, {1, 2}, {1, 2, 0}, end=0)
    assert found.allowed == ({1, 3}, {1, 2, 0}, {1, 2, 0})
    assert found.end_from == 2


def test_an_answer_that_may_end_at_once() -> None:
    found = compiled({1, 2, 0}, end=0)
    assert (found.opening, found.end_from) == ((), 0)


@pytest.mark.parametrize(
    ("steps", "opening"),
    [
        ([{5}, {6}, {7}], (5, 6, 7)),
        ([{5}, {6}, {7, 8}], (5, 6)),
        ([{5}, {6, 8}, {7}], (5,)),  # what comes after a choice is no opening
        ([{5, 6}, {7}], ()),
    ],
)
def test_the_opening_goes_up_to_the_first_choice(
    steps: list[set[int]], opening: tuple[int, ...]
) -> None:
    found = compiled(*steps)
    assert found.opening == opening
    assert found.length == len(steps)
    assert found.end is None


def test_the_end_is_never_of_the_opening() -> None:
    """The last step holds for all later ones: what it allows is drawn, be it the end alone."""
    found = compiled({5}, {0}, end=0)
    assert found.opening == (5,)
    assert found.end_from == 1
    assert compiled({5}, {6}, end=0).opening == (5,)


def test_the_last_step_holds_on() -> None:
    found = compiled({1, 2}, {3, 4}, {5, 6})
    assert [found.allowed_at(step) for step in (0, 1, 2, 3, 99)] == [{1, 2}, {3, 4}, *[{5, 6}] * 3]


@pytest.mark.slow("starts a process")
def test_it_needs_no_torch() -> None:
    script = (
        "import sys, worker.speech.grammar, worker.speech.voice; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.parametrize(
    ("steps", "end", "settled"),
    [
        ([{1, 2}, {1, 2, 0}], 0, 0),  # but for the end
        ([{9}, {1, 2}, {1, 2, 0}], 0, 1),
        ([{1, 3}, {1, 2}, {1, 3}], None, 2),
        ([{1, 2, 0}], 0, 0),
        ([{1, 3}, {1, 2}, {1, 2}, {1, 2}], None, 1),
    ],
)
def test_from_some_step_on_the_same_is_allowed(
    steps: list[set[int]], end: int | None, settled: int
) -> None:
    assert compiled(*steps, end=end).settled == settled
