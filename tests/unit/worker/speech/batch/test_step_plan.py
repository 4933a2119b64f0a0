"""Who draws with whom, and for how many steps that stays so."""

from __future__ import annotations

import pytest

from tests.support.toy_decoder import EVERYTHING, ToyDecoder
from worker.speech.batch.device_batch import NARROW
from worker.speech.batch.output_head import OutputHeads
from worker.speech.batch.sampling import Sampling
from worker.speech.batch.sequence import SequenceRequest, TokenSequence
from worker.speech.batch.step_plan import StepPlan, groups_of
from worker.speech.grammar import CompiledGrammar, Grammar

EVEN = frozenset(range(0, 50, 2))
SPEECH = CompiledGrammar.of(Grammar((EVERYTHING - {3}, EVERYTHING), end=3))
ENDLESS = CompiledGrammar.of(Grammar((EVERYTHING,) * 90))
DESIGN = CompiledGrammar.of(Grammar((EVEN, EVERYTHING, EVEN, EVEN, EVEN)))
WIDE = Sampling(top_k=0)


def running(
    grammar: CompiledGrammar = SPEECH,
    drawn: int = 1,
    *,
    prompt: int = 3,
    limit: int = 50,
    room: int = 1000,
    sampling: Sampling | None = None,
) -> TokenSequence:
    """A sequence that has drawn so many tokens."""
    request = SequenceRequest((1,) * prompt, "row", limit)
    one = TokenSequence(request, grammar, sampling or Sampling(), None, room=room)
    one.drawn = drawn
    return one


def test_those_that_draw_alike_are_drawn_together() -> None:
    """By what they may draw, whether they may end, and how many candidates they look at."""
    heads = OutputHeads(ToyDecoder())
    speaks, again = running(), running(drawn=30, sampling=Sampling(top_k=60))
    endless, wide, designed = running(ENDLESS), running(sampling=WIDE), running(DESIGN, 2)
    done = running(limit=7, drawn=7)
    everyone = [speaks, endless, done, wide, again, designed]
    groups = groups_of(everyone, heads)
    assert [group.places for group in groups] == [(0, 4), (1,), (3,), (5,)]
    assert [group.sequences for group in groups] == [[speaks, again], [endless], [wide], [designed]]
    assert groups[0].spread == [speaks, None, None, None, again, None]
    assert [group.width for group in groups] == [64, 64, 1 << 30, 64]
    assert [group.head.end for group in groups] == [3, None, 3, None]
    assert groups[3].head.ids.tolist() == sorted(EVEN)
    assert not any(group.whole for group in groups)
    assert [group.whole for group in groups_of([speaks, again], heads)] == [True]


def test_the_group_of_the_captured_head_and_width_is_known() -> None:
    heads = OutputHeads(ToyDecoder())
    head = heads.pin(EVERYTHING, 3)
    rows = [running(DESIGN, 2), running(drawn=4), running(sampling=WIDE)]
    plan = StepPlan.of(rows, heads, lambda one, width: one is head and width == NARROW)
    assert len(plan.groups) == 3
    assert plan.captured is plan.groups[1]
    assert StepPlan.of(rows[:1], heads, lambda one, _width: one is head).captured is None


def test_all_positions_are_in_sight() -> None:
    plan = StepPlan.of([running(drawn=4), running(prompt=20, drawn=2)], OutputHeads(ToyDecoder()))
    assert plan.length == 22  # more than 21, the position of the second's last token
    plan.advance()
    assert plan.length == 23


@pytest.mark.parametrize(
    ("others", "steps"),
    [
        ([], 49),  # until the limit
        ([running(drawn=45)], 5),
        ([running(ENDLESS, 85, limit=200)], 5),  # the grammar's own length
        ([running(prompt=3, drawn=6, room=11)], 3),  # positions 8, 9 and 10
        ([running(DESIGN, 1)], 1),  # its next token is one of another set
        ([running(DESIGN, 2)], 3),
    ],
)
def test_a_plan_holds_until_anyone_leaves_draws_otherwise_or_lacks_room(
    others: list[TokenSequence], steps: int
) -> None:
    plan = StepPlan.of([running(), *others], OutputHeads(ToyDecoder()))
    assert plan.steps == steps
    plan.advance()
    assert plan.steps == steps - 1
