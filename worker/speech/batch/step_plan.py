"""What stays the same from one step to the next, so that no step looks for it at each sequence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from worker.speech.batch.output_head import OutputHead, OutputHeads
from worker.speech.batch.sequence import DrawKind, TokenSequence


@dataclass(frozen=True)
class DrawGroup:
    """Sequences that draw alike: from one output head, at one width."""

    head: OutputHead
    width: int
    places: tuple[int, ...]  # where they stand among all that draw, ascending
    sequences: list[TokenSequence]  # that stand there
    spread: list[TokenSequence | None]  # all that draw; None for those of other groups

    @property
    def whole(self) -> bool:
        """Whether all draw alike."""
        return len(self.places) == len(self.spread)


def groups_of(sequences: Sequence[TokenSequence], heads: OutputHeads) -> list[DrawGroup]:
    """Group the sequences that draw next by what their draws are made of."""
    alike: dict[DrawKind, list[int]] = {}
    for place, one in enumerate(sequences):
        if not one.fully_drawn:
            alike.setdefault(one.draw_kind, []).append(place)
    groups = []
    for (allowed, end, width), places in alike.items():
        spread: list[TokenSequence | None] = [None] * len(sequences)
        for place in places:
            spread[place] = sequences[place]
        members = [sequences[place] for place in places]
        groups.append(DrawGroup(heads.get(allowed, end), width, tuple(places), members, spread))
    return groups


@dataclass
class StepPlan:
    """Who draws with whom, for as many steps as nobody joins, leaves or draws otherwise."""

    groups: list[DrawGroup]
    captured: DrawGroup | None  # the one of them whose draws are part of captured steps
    length: int  # of the cache that the next step looks at: more than any position
    steps: int  # that are left of it

    @classmethod
    def of(
        cls,
        sequences: Sequence[TokenSequence],
        heads: OutputHeads,
        is_captured: Callable[[OutputHead, int], bool] = lambda _head, _width: False,
    ) -> StepPlan:
        """Plan the next steps of sequences that run, one at least.

        `is_captured` tells whether captured steps draw from a head, at a width: from one at most.
        """
        groups = groups_of(sequences, heads)
        return cls(
            groups,
            next((one for one in groups if is_captured(one.head, one.width)), None),
            max([one.position for one in sequences]) + 1,
            min([one.steps_alike for one in sequences]),
        )

    def advance(self) -> None:
        """Go on to the next step."""
        self.length += 1
        self.steps -= 1
