"""Few output heads for all grammars: what a head is, and which are kept."""

from __future__ import annotations

from collections.abc import Callable

import torch

from tests.support.toy_decoder import VOCABULARY, ToyDecoder
from worker.speech.batch.output_head import KEPT, OutputHeads
from worker.speech.grammar import Grammar


def grammar(*steps: set[int], end: int | None = None) -> Grammar:
    return Grammar(tuple(frozenset(step) for step in steps), end)


def test_a_head_has_its_tokens_in_order_and_knows_the_place_of_the_end() -> None:
    heads = OutputHeads(ToyDecoder())
    head = heads.get(frozenset({40, 3, 17}), 17)
    assert head.ids.tolist() == [3, 17, 40]
    assert head.end == 1
    hidden = torch.arange(VOCABULARY).float()[None]
    assert head.logits(hidden).tolist() == [[3, 17, 40]]


def test_an_end_that_a_head_lacks_has_no_place() -> None:
    heads = OutputHeads(ToyDecoder())
    assert heads.get(frozenset({1, 2}), 3).end is None
    assert heads.get(frozenset({1, 2}), None).end is None


def test_the_same_tokens_with_and_without_an_end_are_two_heads() -> None:
    heads = OutputHeads(ToyDecoder())
    allowed = frozenset({1, 2, 3})
    assert [heads.get(allowed, end).end for end in (None, 2, 3, None, 2)] == [None, 1, 2, None, 1]


def test_heads_and_compiled_grammars_are_made_once() -> None:
    heads = OutputHeads(ToyDecoder())
    one = grammar({1, 2}, {3, 4})
    assert heads.compiled(one) is heads.compiled(grammar({1, 2}, {3, 4}))
    assert heads.get(frozenset({1, 2}), 1) is heads.get(frozenset({1, 2}), 1)
    assert heads.compiled(grammar({1, 2}, {3})) is not heads.compiled(one)


def test_what_is_in_use_is_kept_and_the_longest_unused_is_let_go() -> None:
    heads = OutputHeads(ToyDecoder())
    finders: list[Callable[[int], object]] = [
        lambda n: heads.compiled(grammar({n, 1000})),
        lambda n: heads.get(frozenset({n // 10, 20 + n % 10, 40}), None),
    ]
    for find in finders:
        used, unused = find(0), find(1)
        for n in range(2, KEPT):
            find(n)
            assert find(0) is used
        assert find(1) is unused  # just so many are kept
        for n in range(KEPT, 2 * KEPT - 1):
            find(n)
            assert find(0) is used
        assert find(1) is not unused


def test_equal_sets_of_two_grammars_are_one_object() -> None:
    """They are compared at each step, and have 8,193 members while the model speaks."""
    heads = OutputHeads(ToyDecoder())
    one = heads.compiled(grammar({9}, {1, 2}, {1, 2, 0}, end=0))
    other = heads.compiled(grammar({1, 2}, {1, 2, 0}, end=0))
    assert other.allowed[-1] is one.allowed[-1]
    assert other.allowed[0] is one.allowed[1]
    assert heads.compiled(grammar({3}, {4})).allowed == ({3}, {4})


def test_a_head_that_is_to_last_outlives_all_others() -> None:
    """The captured steps draw from it: another one of the same tokens would not be theirs."""
    decoder = ToyDecoder()
    heads = OutputHeads(decoder)
    allowed = frozenset({1, 2})
    kept = heads.pin(allowed, 1)
    for n in range(2 * KEPT):
        heads.get(frozenset({n // 10, 20 + n % 10, 40}), None)
    assert heads.get(allowed, 1) is kept
    assert heads.pin(allowed, 1) is kept
    assert decoder.heads.count(allowed) == 1
    assert heads.get(allowed, None) is not kept
