"""How a token is drawn, by hand-made probabilities: each cut, their order, and their edges."""

from __future__ import annotations

import hashlib
import math

import pytest
import torch
from torch import Tensor

from tests.support.sampling import together
from worker.speech.batch.sampling import ALL, Sampling, candidates, draw, row_uniforms

UNCUT = Sampling(temperature=1.0, top_k=0, top_p=1.0)


def logits(*probabilities: float) -> Tensor:
    return torch.tensor([[math.log(p) for p in probabilities]])


def left(sampling: Sampling, *probabilities: float) -> dict[int, float]:
    """What may be drawn, by position, with its probability."""
    found, positions = candidates(logits(*probabilities), together(sampling))
    pairs = zip(positions[0].tolist(), found[0].tolist(), strict=True)
    return {position: probability for position, probability in pairs if probability > 0}


# What may be drawn


def test_without_cuts_all_may_be_drawn_as_likely_as_they_are() -> None:
    assert left(UNCUT, 0.1, 0.4, 0.2, 0.3) == pytest.approx({1: 0.4, 3: 0.3, 2: 0.2, 0: 0.1})


@pytest.mark.parametrize(
    ("top_k", "kept"), [(1, {1}), (2, {1, 3}), (3, {1, 3, 2}), (4, {0, 1, 2, 3}), (9, {0, 1, 2, 3})]
)
def test_top_k_keeps_so_many_of_the_most_likely(top_k: int, kept: set[int]) -> None:
    found = left(Sampling(1.0, top_k, 1.0), 0.1, 0.4, 0.2, 0.3)
    assert set(found) == kept
    assert sum(found.values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("top_p", "kept"), [(0.01, 1), (0.25, 1), (0.26, 2), (0.5, 2), (0.51, 3), (0.75, 3), (0.76, 4)]
)
def test_top_p_keeps_the_fewest_whose_mass_reaches_it(top_p: float, kept: int) -> None:
    """Four of a quarter each, which is exact: the mass before them is 0, .25, .5 and .75."""
    found, _ = candidates(torch.zeros(1, 4), together(Sampling(1.0, 0, top_p)))
    assert found[0].tolist() == pytest.approx([1 / kept] * kept + [0.0] * (4 - kept))


def test_top_p_1_leaves_nothing_out() -> None:
    """Next to a token of nearly 1 the mass before the others is rounded to just 1."""
    for top_k in (0, 3):
        how = together(Sampling(1.0, top_k, 1.0))
        found, _ = candidates(torch.tensor([[0.0, -25.0, -26.0]]), how)
        assert (found > 0).all()


def test_a_higher_temperature_evens_out() -> None:
    roots = [math.sqrt(p) for p in (0.5, 0.3, 0.2)]
    expected = {i: root / sum(roots) for i, root in enumerate(roots)}
    assert left(Sampling(2.0, 0, 1.0), 0.5, 0.3, 0.2) == pytest.approx(expected)
    squares = {0: 0.25 / 0.38, 1: 0.09 / 0.38, 2: 0.04 / 0.38}
    assert left(Sampling(0.5, 0, 1.0), 0.5, 0.3, 0.2) == pytest.approx(squares)


def test_top_p_looks_at_what_top_k_has_left() -> None:
    """Of .4 and .3 the first has 4/7 of the mass: already half. Of all four it has not."""
    assert set(left(Sampling(1.0, 2, 0.5), 0.4, 0.3, 0.2, 0.1)) == {0}
    assert set(left(Sampling(1.0, 0, 0.5), 0.4, 0.3, 0.2, 0.1)) == {0, 1}


def test_top_p_looks_at_what_the_temperature_has_made() -> None:
    """At temperature .5 the first has .66 of the mass, at 1 half, at 2 a little over .4."""
    kept = [len(left(Sampling(t, 0, 0.6), 0.5, 0.3, 0.2)) for t in (0.5, 1.0, 2.0)]
    assert kept == [1, 2, 2]
    assert len(left(Sampling(9.0, 0, 0.68), 0.5, 0.3, 0.2)) == 2
    assert len(left(Sampling(99.0, 0, 0.68), 0.5, 0.3, 0.2)) == 3


def test_what_is_left_has_the_whole_mass() -> None:
    found = left(Sampling(1.0, 0, 0.6), 0.4, 0.3, 0.2, 0.1)
    assert found == pytest.approx({0: 4 / 7, 1: 3 / 7})


def test_logits_of_few_bits_are_divided_in_many() -> None:
    few = torch.randn(2, 40, generator=torch.Generator().manual_seed(1)).bfloat16()
    sampling = together(Sampling(0.7, 10, 0.9))
    found, positions = candidates(few, sampling)
    assert found.dtype == torch.float32
    wanted, places = candidates(few.float(), sampling)
    assert torch.equal(found, wanted)
    values = few.float().gather(1, positions)
    assert torch.equal(values, few.float().gather(1, places))


# The numbers


def test_greedy_is_top_k_1() -> None:
    greedy = Sampling(temperature=0, top_k=50, top_p=0.5)
    assert greedy.without_exceptions() == (1.0, 1, 1.0)


def test_a_low_temperature_is_not_greedy() -> None:
    cold = Sampling(temperature=0.01, top_k=7, top_p=0.5)
    assert cold.without_exceptions() == (0.01, 7, 0.5)


@pytest.mark.parametrize(("top_k", "looked_at"), [(0, 60), (1, 1), (59, 59), (60, 60), (61, 60)])
def test_top_k_is_at_most_all_and_0_is_all(top_k: int, looked_at: int) -> None:
    found, positions = candidates(torch.zeros(2, 60), together(Sampling(1.0, top_k, 1.0)))
    assert found.shape == positions.shape == (2, looked_at)
    assert Sampling(top_k=0).without_exceptions()[1] == ALL


def test_how_a_job_draws_that_says_nothing() -> None:
    nothing = Sampling()
    assert (nothing.temperature, nothing.top_k, nothing.top_p) == (0.8, 50, 0.95)
    assert (nothing.max_tokens, nothing.min_tokens, nothing.seed) == (3000, 0, 0)


# Rows beside each other

SAMPLINGS = [
    Sampling(temperature=0),
    Sampling(0.5, 50, 0.9),
    Sampling(2.0, 3, 1.0),
    Sampling(1.0, 1, 0.1),
    Sampling(1.3, 0, 0.6),
    Sampling(1.3, 0, 1.0),
]


def test_each_row_is_cut_by_its_own_numbers() -> None:
    many = torch.randn(len(SAMPLINGS), 60, generator=torch.Generator().manual_seed(3)) * 2
    found, positions = candidates(many, together(*SAMPLINGS))
    for row, sampling in enumerate(SAMPLINGS):
        alone, places = candidates(many[row : row + 1], together(sampling))
        k = alone.shape[1]
        torch.testing.assert_close(found[row, :k], alone[0], rtol=1e-5, atol=1e-7)
        assert not found[row, k:].any()
        assert torch.equal(positions[row, :k][alone[0] > 0], places[0][alone[0] > 0])


def test_top_k_among_many_draws_what_it_draws_alone() -> None:
    """The least likely of three may be drawn, and never the fourth."""
    last = torch.tensor([1 - 1e-15] * len(SAMPLINGS), dtype=torch.float64)
    same = torch.linspace(3, -3, 60)[None].expand(len(SAMPLINGS), -1)
    drawn = draw(same, together(*SAMPLINGS), last).tolist()
    assert drawn[0] == 0
    assert drawn[2] == 2
    assert drawn[3] == 0
    assert drawn[5] == 59


# The draw


def test_a_uniform_draw_falls_on_the_token_in_whose_share_it_is() -> None:
    uniform = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    drawn = draw(logits(0.2, 0.5, 0.3).expand(1000, 3), together(UNCUT), uniform)
    assert drawn[:499].eq(1).all()  # most likely first
    assert drawn[501:799].eq(2).all()
    assert drawn[801:].eq(0).all()


def test_the_least_draw_is_the_most_likely_token() -> None:
    assert draw(logits(0.2, 0.5, 0.3), together(UNCUT), torch.tensor([0.0])).tolist() == [1]


def test_on_an_edge_the_next_token_begins() -> None:
    """As uniform draws are in [0, 1): each token has its own edge below, and not that above."""
    even = torch.zeros(1, 2)
    _, positions = candidates(even, together(UNCUT))
    for place, uniform in enumerate((0.5 - 1e-12, 0.5)):
        drawn = draw(even, together(UNCUT), torch.tensor([uniform], dtype=torch.float64))
        assert drawn[0] == positions[0, place]


@pytest.mark.parametrize("sampling", [Sampling(1.0, 0, 0.5), Sampling(1.0, 7, 1.0), UNCUT])
def test_the_greatest_draw_stays_within_what_may_be_drawn(sampling: Sampling) -> None:
    """Rounding leaves the last edge below 1 in half of all cases."""
    many = torch.randn(400, 300, generator=torch.Generator().manual_seed(8))
    most = torch.full((400,), 1 - 2**-53, dtype=torch.float64)
    drawn = draw(many, together(sampling), most)
    found, positions = candidates(many, together(sampling))
    last = (found > 0).sum(1) - 1
    assert torch.equal(drawn, positions.gather(1, last[:, None])[:, 0])


def test_a_token_that_cannot_be_is_never_drawn() -> None:
    barred = torch.tensor([[0.0, float("-inf"), 1.0, float("-inf")]]).expand(100, 4)
    uniform = torch.linspace(0, 1 - 1e-15, 100, dtype=torch.float64)
    assert set(draw(barred, together(UNCUT), uniform).tolist()) == {0, 2}


# The uniform draws


def test_draws_are_in_the_half_open_unit_interval_and_fill_it() -> None:
    uniforms = row_uniforms(3, "sentence 0", 20_000)
    assert uniforms.dtype == torch.float64
    assert 0 <= uniforms.min() < 0.001
    assert 0.999 < uniforms.max() < 1
    assert uniforms.mean() == pytest.approx(0.5, abs=0.01)


def test_draws_depend_on_seed_and_row_alone() -> None:
    first = row_uniforms(3, "sentence 0", 100)
    assert torch.equal(row_uniforms(3, "sentence 0", 100), first)
    assert not torch.equal(row_uniforms(4, "sentence 0", 100), first)
    assert not torch.equal(row_uniforms(3, "sentence 1", 100), first)


def test_a_longer_row_begins_as_a_shorter_one() -> None:
    assert torch.equal(row_uniforms(3, "a", 100)[:17], row_uniforms(3, "a", 17))


def test_a_seed_says_the_same_on_every_machine_and_day() -> None:
    """A user keeps a seed for its sound: how it becomes numbers is not to change."""
    digest = hashlib.blake2b(b"42/sentence 7", digest_size=8).hexdigest()
    generator = torch.Generator().manual_seed(int(digest, 16) // 2)
    expected = torch.rand(5, generator=generator, dtype=torch.float64)
    assert torch.equal(row_uniforms(42, "sentence 7", 5), expected)
