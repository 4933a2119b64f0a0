"""A step as it is captured on a GPU, run here uncaptured: the same tokens whatever its size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.support.events import Events
from tests.support.toy_decoder import VOCABULARY, ToyDecoder
from worker.speech.batch import device_batch as rows_module
from worker.speech.batch.device_batch import NARROW, NOTHING, DeviceBatch, Places, width
from worker.speech.batch.output_head import OutputHead
from worker.speech.batch.sampling import ALL, Sampling
from worker.speech.lm.torch_model import LanguageModel

CPU = torch.device("cpu")
PROMPTS = [(5, 6, 7, 8), (9,), (10, 11, 12)]
SAMPLINGS = [Sampling(temperature=0), Sampling(seed=3), Sampling(top_k=7, top_p=0.5, seed=9)]


@pytest.fixture(scope="module")
def lm(tiny_checkpoint: Path) -> LanguageModel:
    return LanguageModel.load(tiny_checkpoint / "LLM", torch.float32, CPU)


def started(lm: LanguageModel, slots: int) -> tuple[DeviceBatch, OutputHead]:
    rows = DeviceBatch(lm, slots, 1024)
    ids = torch.arange(20, 400)
    head = OutputHead(ids, lm.head(ids), end=7)
    hidden = lm.prefill(PROMPTS, rows.cache.rows(0, len(PROMPTS)))
    for place, (prompt, how) in enumerate(zip(PROMPTS, SAMPLINGS, strict=True)):
        rows.set(place, f"row {place}", 50, len(prompt), 0, 1, how)
    rows.draw(hidden, slice(0, len(PROMPTS)), head)
    return rows, head


def one_step(rows: DeviceBatch, count: int, length: int, head: OutputHead) -> Tensor:
    """A step of the first rows: their tokens."""
    return rows.draw(rows.advance(count, length), slice(0, count), head)


def steps(lm: LanguageModel, slots: int, count: int, length: int | None) -> list[list[int]]:
    with torch.inference_mode():
        rows, head = started(lm, slots)
        return [
            one_step(rows, count, length or 5 + step, head)[: len(PROMPTS)].tolist()
            for step in range(20)
        ]


def test_a_padded_step_draws_what_an_exact_one_does(lm: LanguageModel) -> None:
    exact = steps(lm, 3, 3, None)
    assert steps(lm, 8, 8, 512) == exact
    assert steps(lm, 4, 4, 1024) == exact
    assert len({token for row in exact for token in row}) > 10


def test_places_past_the_batch_stay_within_the_cache(lm: LanguageModel) -> None:
    with torch.inference_mode():
        rows, head = started(lm, 4)
        rows.at[3] = 1022
        for _ in range(5):
            one_step(rows, 4, 1024, head)
        assert rows.at[3] == 1023
        assert (rows.drawn < 1024).all()


def test_a_row_that_moves_goes_on_as_it_would_have(lm: LanguageModel) -> None:
    exact = steps(lm, 3, 3, None)
    with torch.inference_mode():
        rows, head = started(lm, 3)
        seen = [one_step(rows, 3, 100, head).tolist() for _ in range(10)]
        rows.move(2, 0, int(rows.at[2]))
        moved = [one_step(rows, 2, 100, head).tolist() for _ in range(10)]
    assert seen == exact[:10]
    assert [row[0] for row in moved] == [row[2] for row in exact[10:]]
    assert [row[1] for row in moved] == [row[1] for row in exact[10:]]


# Neighbours: rows of a toy, whose states are given by hand and are the logits themselves

TOKENS = torch.arange(VOCABULARY)
EACH = [
    Sampling(temperature=0),
    Sampling(0.4, 50, 1.0, seed=1),
    Sampling(3.0, 3, 1.0, seed=2),
    Sampling(1.5, 0, 0.3, seed=3),
    Sampling(1.5, 0, 1.0, seed=4),
    Sampling(1.0, 1, 0.9, seed=5),
    Sampling(2.0, 0, 1.0, seed=6, min_tokens=9),
]
END = 11
STEPS = 14


def toy(slots: int, positions: int = 64) -> tuple[DeviceBatch, OutputHead]:
    decoder = ToyDecoder()
    return DeviceBatch(decoder, slots, positions), OutputHead(TOKENS, decoder.head(TOKENS), END)


def states(seed: int, rows: int) -> Tensor:
    """Logits in which the end is likely."""
    made = torch.randn(rows, VOCABULARY, generator=torch.Generator().manual_seed(seed)) * 2
    made[:, END] += 4
    return made


def begin(rows: DeviceBatch, place: int, which: int, drawn: int = 0) -> None:
    rows.set(place, f"row {which}", 50, 5 + which, drawn, which % 3, EACH[which])


def alone(which: int) -> list[int]:
    """The tokens of a row that has nobody beside it, from the states that are its own."""
    rows, head = toy(1)
    begin(rows, 0, which)
    return [
        int(rows.draw(states(step, len(EACH))[which : which + 1], slice(0, 1), head))
        for step in range(STEPS)
    ]


@pytest.fixture(scope="module")
def each_alone() -> list[list[int]]:
    return [alone(which) for which in range(len(EACH))]


def by_slice(rows: list[int]) -> list[Places]:
    return [slice(rows[0], rows[-1] + 1)]


def by_list(rows: list[int]) -> list[Places]:
    return [rows]


def one_by_one(rows: list[int]) -> list[Places]:
    return [[row] for row in reversed(rows)]


def in_two_slices(rows: list[int]) -> list[Places]:
    return [slice(rows[0], rows[3]), slice(rows[3], rows[-1] + 1)]


def in_two_lists(rows: list[int]) -> list[Places]:
    return [rows[1::2], rows[::2]]


@pytest.mark.parametrize("order", [False, True], ids=["in order", "backwards"])
@pytest.mark.parametrize("shared", [by_slice, by_list, one_by_one, in_two_slices, in_two_lists])
def test_a_row_draws_what_it_draws_alone(
    each_alone: list[list[int]],
    shared: Callable[[list[int]], list[Places]],
    order: bool,
) -> None:
    """Whatever stands beside it, at whatever place, and whoever is drawn together with it."""
    which = list(range(len(EACH)))[:: -1 if order else 1]
    rows, head = toy(len(EACH) + 3)
    for place, one in enumerate(which, 2):
        begin(rows, place, one)
    seen: list[list[int]] = [[] for _ in EACH]
    for step in range(STEPS):
        hidden = states(step, len(EACH))[which]
        for places in shared(list(range(2, 2 + len(EACH)))):
            mine = list(range(*places.indices(99))) if isinstance(places, slice) else places
            tokens = rows.draw(hidden[[place - 2 for place in mine]], places, head)
            assert rows.ids[places].tolist() == tokens.tolist()
            for place, token in zip(mine, tokens.tolist(), strict=True):
                seen[which[place - 2]].append(token)
    assert seen == each_alone
    assert rows.at[2:-1].tolist() == [5 + one - 1 + STEPS for one in which]
    assert rows.drawn.tolist() == [0, 0, *[STEPS] * len(EACH), 0]
    assert rows.ids[[0, 1, -1]].tolist() == [0, 0, 0]  # nobody's


def test_a_row_at_a_used_place_has_nothing_of_the_one_before(each_alone: list[list[int]]) -> None:
    rows, head = toy(2)
    for which in range(len(EACH)):
        for before in (3, 6, 0):
            begin(rows, 1, before)
            rows.draw(states(before, 1), [1], head)
        begin(rows, 1, which)
        drawn = [int(rows.draw(states(n, 7)[which][None], [1], head)) for n in range(STEPS)]
        assert drawn == each_alone[which]


def test_a_row_that_waited_again_goes_on_with_its_own_draws(each_alone: list[list[int]]) -> None:
    """Where memory was short, a row begins anew with tokens that it has drawn already."""
    for which in range(len(EACH)):
        rows, head = toy(3)
        begin(rows, 1, which, drawn=7)
        drawn = [int(rows.draw(states(n, 7)[which][None], [1], head)) for n in range(7, STEPS)]
        assert drawn == each_alone[which][7:]


def test_the_last_token_of_a_prompt_may_be_left_to_the_first_step() -> None:
    """Then the row advances before it draws: the draws are the same."""
    prompt, seen = [7, 9, 4], []
    for left in (0, 1):
        decoder = ToyDecoder()
        rows, head = DeviceBatch(decoder, 2, 64), OutputHead(TOKENS, decoder.head(TOKENS), None)
        part = prompt[: len(prompt) - left]
        hidden = decoder.prefill([part], rows.cache.rows(1, 1))
        rows.ids[1] = 33  # of the row before
        rows.set(1, "row", 50, len(prompt), 0, 0, Sampling(1.0, 20, 0.9, seed=3), last=prompt[-1])
        drawn = [] if left else rows.draw(hidden, [1], head).tolist()
        for step in range(4):
            hidden = rows.advance(2, len(prompt) + step + 1)[1:]
            drawn += rows.draw(hidden, [1], head).tolist()
        seen.append(drawn[:4])
    assert seen[0] == seen[1]


def test_a_moved_row_takes_all_that_is_its_own_with_it(each_alone: list[list[int]]) -> None:
    for which in range(len(EACH)):
        rows, head = toy(len(EACH))
        other = (which + 3) % len(EACH)
        begin(rows, 5, which)
        begin(rows, 1, other)
        begin(rows, 2, other)
        first = [int(rows.draw(states(n, 7)[which][None], [5], head)) for n in range(3)]
        rows.move(5, 1, 7 + which)
        begin(rows, 5, other)  # somebody else comes to the place that it left
        assert (int(rows.at[1]), int(rows.ids[1])) == (4 + which + 3, first[-1])
        hidden = [states(n, 7) for n in range(STEPS)]
        seen = [
            rows.draw(torch.stack([hidden[n][which], hidden[n - 3][other]]), slice(1, 3), head)
            for n in range(3, STEPS)
        ]
        assert first + [int(two[0]) for two in seen] == each_alone[which]
        assert [int(two[1]) for two in seen] == each_alone[other][: STEPS - 3]


def test_a_moved_row_draws_as_widely_as_before() -> None:
    """Who stood there was greedy; what it may draw is more than a narrow draw looks at."""
    count = 4 * NARROW
    head = OutputHead(torch.arange(count), lambda hidden: hidden, None)
    logits = torch.linspace(1, 0, count)[None]
    moved, alone = (DeviceBatch(ToyDecoder(), slots, 100) for slots in (2, 1))
    moved.set(0, "greedy", 90, 3, 0, 0, Sampling(temperature=0))
    for rows, place in ((moved, 1), (alone, 0)):
        rows.set(place, "wide", 90, 3, 0, 0, Sampling(1.0, 0, 1.0, seed=1))
    moved.move(1, 0, 3)
    drawn = [[int(rows.draw(logits, [0], head)) for _ in range(20)] for rows in (moved, alone)]
    assert drawn[0] == drawn[1]
    assert max(drawn[0]) >= NARROW


def test_a_moved_rows_cache_goes_with_it() -> None:
    """As far as it is told, and nothing else is touched."""
    asked = []

    class Cache:
        def copy(self, source: int, target: int, length: int) -> None:
            asked.append((source, target, length))

    rows, _ = toy(4)
    rows.cache = Cache()
    rows.move(3, 1, 17)
    assert asked == [(3, 1, 17)]


# Ends


@pytest.mark.parametrize(
    ("end_from", "min_tokens", "first"), [(0, 0, 0), (2, 0, 2), (0, 3, 3), (2, 5, 5), (5, 2, 5)]
)
def test_an_answer_may_end_from_the_later_of_grammar_and_sampling_on(
    end_from: int, min_tokens: int, first: int
) -> None:
    """The end is by far the most likely; before, the next likely one is drawn."""
    rows, head = toy(2)
    how = Sampling(temperature=0, min_tokens=min_tokens)
    rows.set(0, "row", 50, 3, 0, end_from, how)
    rows.set(1, "other", 50, 3, 0, 7, how)
    logits = torch.zeros(2, VOCABULARY)
    logits[:, END], logits[:, 20] = 9, 5
    seen = [rows.draw(logits, slice(0, 2), head).tolist() for _ in range(8)]
    assert [row[0] for row in seen] == [20] * first + [END] * (8 - first)
    assert [row[1] for row in seen] == [20] * 7 + [END]


def test_without_an_end_nothing_is_struck_out() -> None:
    rows, head = toy(1)
    rows.set(0, "row", 50, 3, 0, 9, Sampling(temperature=0, min_tokens=9))
    logits = torch.zeros(1, VOCABULARY)
    logits[:, END] = 9
    assert rows.draw(logits, slice(0, 1), replace(head, end=None)).tolist() == [END]


# The last position


def test_counters_stay_where_there_is_room() -> None:
    """A row past the batch runs along in each captured step, for as long as the worker lives."""
    rows, head = toy(2, positions=8)
    rows.set(0, "row", 8, 6, 5, 0, EACH[4])
    seen = []
    for _ in range(5):
        rows.draw(states(1, 2), slice(0, 2), head)
        seen.append((int(rows.at[0]), int(rows.drawn[0]), int(rows.at[1]), int(rows.drawn[1])))
    assert seen == [(6, 6, 1, 1), (7, 7, 2, 2), (7, 7, 3, 3), (7, 7, 4, 4), (7, 7, 5, 5)]


# Steps


def test_a_step_feeds_each_row_its_last_token_at_its_place() -> None:
    fed = []

    class Decoder(ToyDecoder):
        def step(self, ids: Tensor, positions: Tensor, cache: object, length: int) -> Tensor:
            fed.append((ids.tolist(), positions.tolist(), length))
            return super().step(ids, positions, cache, length)

    decoder = Decoder()
    rows = DeviceBatch(decoder, 4, 64)
    head = OutputHead(TOKENS, decoder.head(TOKENS), None)
    for place, fed_before in enumerate((5, 9)):
        rows.set(place, "row", 20, fed_before, 0, 0, Sampling(temperature=0))
    sums = torch.tensor([3, 30])  # of what each was fed before
    rows.cache.tokens[:2, 0] = sums
    tokens = rows.draw(decoder._states(sums), slice(0, 2), head)
    assert tokens.tolist() == [3, 30]
    assert one_step(rows, 2, 10, head).tolist() == [6, 60 % VOCABULARY]
    assert one_step(rows, 1, 7, head).tolist() == [12]
    assert fed == [([3, 30], [5, 9], 10), ([6], [6], 7)]


def test_a_row_without_numbers_draws_nothing_and_its_neighbours_what_they_would() -> None:
    """Its place stays one that can be fed: on a GPU a step follows before anyone has looked."""
    rows, head = toy(3)
    for place in range(3):
        rows.set(place, "row", 20, 3, 0, 0, Sampling(temperature=0))
    for bad in (float("nan"), float("-inf"), float("inf")):
        logits = states(1, 3)
        expected = rows.draw(logits.clone(), slice(0, 3), replace(head, end=None)).tolist()
        logits[1] = bad
        drawn = rows.draw(logits, slice(0, 3), replace(head, end=None)).tolist()
        assert drawn == [expected[0], NOTHING, expected[2]]
        assert rows.ids.tolist() == [expected[0], 0, expected[2]]


@pytest.mark.parametrize(
    ("sampling", "candidates"),
    [
        (Sampling(temperature=0), 64),
        (Sampling(top_k=50), 64),
        (Sampling(top_k=64), 64),
        (Sampling(top_k=65), 1024),
        (Sampling(top_k=1024), 1024),
        (Sampling(top_k=1025), ALL),
        (Sampling(top_k=0), ALL),
    ],
)
def test_rows_of_a_narrow_top_k_look_at_as_many_candidates(
    sampling: Sampling, candidates: int
) -> None:
    assert width(sampling) == candidates


@pytest.mark.parametrize("places", [[2], slice(2, 3)])
def test_a_wide_row_beside_narrow_ones_looks_at_all_that_it_may(
    lm: LanguageModel, places: Places
) -> None:
    """Of 380 tokens that are equally likely; the rows that stand first look at 64."""
    ids = torch.arange(20, 400)
    head = OutputHead(ids, lm.head(ids), end=None)
    states = torch.zeros(1, lm.config.hidden_size)
    how, drawn = Sampling(top_k=0, top_p=1.0, seed=6), []
    for slots, where in ((3, places), (1, slice(0, 1))):
        rows = DeviceBatch(lm, slots, 64)
        for place in range(slots):
            wide = place == slots - 1
            rows.set(place, "row", 50, 3, 0, 0, how if wide else Sampling(top_k=5))
        drawn.append([int(rows.draw(states, where, head)) for _ in range(40)])
    assert drawn[0] == drawn[1]
    assert max(drawn[0]) - min(drawn[0]) > 250


# Captured steps, on a stand-in for Graphs that runs what it was given


class Eager:
    """In the place of captured graphs: runs the same work, at sizes that hold the batch."""

    def __init__(
        self,
        advance: Callable[[int, int], object],
        draw: Callable[[int], Tensor],
        sizes: Sequence[int],
        lengths: Sequence[int],
    ) -> None:
        self.made = (sizes, lengths)
        self.asked: list[tuple[int, ...]] = []
        self._advance, self._draw, self._slots = advance, draw, sizes[-1]
        for _ in range(3):  # as captures do
            advance(self._slots, lengths[-1])
            draw(self._slots)

    def step(self, count: int, length: int) -> Tensor:
        self.asked.append((count, length))
        self._advance(self._slots, length)
        return self._draw(self._slots)[:count]


@pytest.fixture
def captured(monkeypatch: pytest.MonkeyPatch) -> Callable[[DeviceBatch, OutputHead], Eager]:
    """Captures as on a GPU, which is a name here."""
    monkeypatch.setattr(rows_module, "CudaGraphs", Eager)

    def capture(rows: DeviceBatch, head: OutputHead) -> Eager:
        rows._lm.device = torch.device("cuda")
        rows.capture(head)
        rows._lm.device = CPU
        assert isinstance(rows._graphs, Eager)
        return rows._graphs

    return capture


def test_nothing_is_captured_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(rows_module, "CudaGraphs")
    rows, head = toy(1)
    rows.capture(head)
    rows.set(0, "row", 20, 3, 0, 0, Sampling(temperature=0))
    rows.cache.tokens[0, 0] = 7
    assert not rows.draws_captured(head, NARROW)
    assert one_step(rows, 1, 9, head).tolist() == [7]


def test_what_is_captured_holds_all_slots_and_leaves_the_rows_as_new(
    captured: Callable[[DeviceBatch, OutputHead], Eager],
) -> None:
    rows, head = toy(3)
    graphs = captured(rows, head)
    assert graphs.made == ((1, 2, 3), (64,))
    assert not any(counter.any() for counter in (rows.ids, rows.at, rows.drawn))


def after(first: Exception, then: Exception) -> Exception:
    """What is raised while another is being handled, as at the end of a capture."""
    then.__context__ = first
    return then


@pytest.mark.parametrize(
    ("error", "goes_on"),
    [
        (RuntimeError("CUDA error: operation failed due to a previous error during capture"), True),
        (torch.OutOfMemoryError("CUDA out of memory"), False),
        (
            after(torch.OutOfMemoryError("no"), RuntimeError("CUDA error: capture invalidated")),
            False,
        ),
    ],
)
def test_where_steps_cannot_be_captured_they_run_as_they_are_written(
    monkeypatch: pytest.MonkeyPatch,
    events: Events,
    error: Exception,
    goes_on: bool,
) -> None:
    """But where memory was short, fewer rows may be captured: the caller is told."""

    def fail(*_args: object, **_more: object) -> None:
        raise error

    monkeypatch.setattr(rows_module, "CudaGraphs", fail)
    rows, head = toy(2)
    rows._lm.device = torch.device("cuda")
    with nullcontext() if goes_on else pytest.raises(torch.OutOfMemoryError):
        rows.capture(head)
    rows._lm.device = CPU
    rows.set(0, "row", 20, 3, 0, 0, Sampling(temperature=0))
    rows.cache.tokens[0, 0] = 7
    assert not rows.draws_captured(head, NARROW)
    assert one_step(rows, 1, 9, head).tolist() == [7]
    told = [("ERROR", "steps run uncaptured", {"error": str(error)})]
    assert events.with_levels() == (told if goes_on else [])


def test_the_captured_draw_is_of_one_head_and_of_narrow_rows(
    captured: Callable[[DeviceBatch, OutputHead], Eager],
) -> None:
    rows, head = toy(2)
    assert not rows.draws_captured(head, NARROW)
    captured(rows, head)
    assert rows.draws_captured(head, NARROW)
    assert not rows.draws_captured(head, NARROW + 1)
    assert not rows.draws_captured(replace(head), NARROW)


@pytest.mark.parametrize("speaking", [[0, 1, 2], [0, 2], [1], [2, 1], []])
def test_a_captured_draw_is_that_of_the_rows_that_speak_and_leaves_the_others(
    captured: Callable[[DeviceBatch, OutputHead], Eager], speaking: list[int]
) -> None:
    """Whether they spoke the last time or not; the places past the batch run along."""
    (plain, head), (rows, _) = toy(4), toy(4)
    graphs = captured(rows, head)
    for each in (plain, rows):
        for place in range(3):
            each.set(place, f"row {place}", 40, 5 + place, place, 0, EACH[place + 1])
            each.ids[place] = 3 * place + 1
            each.cache.tokens[place, 0] = 7 * place
    for step in range(6):
        # Once everyone, then those alone.
        chosen = [0, 1, 2] if step == 0 else speaking
        fed = plain.advance(3, 20).clone()
        hidden = rows.advance(3, 20, chosen)
        assert torch.equal(hidden, fed)
        drawn = rows.captured_draw.tolist()
        if chosen:
            expected = plain.draw(fed[chosen], chosen, head).tolist()
            assert [drawn[place] for place in chosen] == expected
        for mine, theirs in ((rows.ids, plain.ids), (rows.at, plain.at), (rows.drawn, plain.drawn)):
            assert mine[:3].tolist() == theirs[:3].tolist()
    assert graphs.asked == [(3, 20)] * 6


def test_counters_of_captured_rows_stay_where_there_is_room(
    captured: Callable[[DeviceBatch, OutputHead], Eager],
) -> None:
    rows, head = toy(2, positions=8)
    captured(rows, head)
    rows.set(0, "row", 8, 6, 5, 0, EACH[4])
    seen = []
    for _ in range(4):
        rows.advance(1, 8, [0])
        seen.append((int(rows.at[0]), int(rows.drawn[0])))
    assert seen == [(6, 6), (7, 7), (7, 7), (7, 7)]


def test_a_captured_row_without_numbers_draws_nothing(
    captured: Callable[[DeviceBatch, OutputHead], Eager], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, head = toy(2)
    captured(rows, head)
    for place in range(2):
        rows.set(place, "row", 20, 3, 0, 0, Sampling(temperature=0))
    feed = rows._feed

    def feed_without_numbers(count: int, length: int) -> Tensor:
        hidden = feed(count, length)
        hidden[0] = float("nan")
        return hidden

    monkeypatch.setattr(rows, "_feed", feed_without_numbers)
    rows.advance(2, 9, [0, 1])
    tokens = rows.captured_draw.tolist()
    assert tokens[0] == NOTHING
    assert tokens[1] != NOTHING
    assert rows.ids.tolist() == [0, tokens[1]]
