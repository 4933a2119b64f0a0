from __future__ import annotations

import pytest

from worker.text.line import Line, Replacement, joined


@pytest.mark.parametrize(
    ("text", "replacements", "said"),
    [
        ("All as written.", (), "All as written."),
        ("It is 5 km.", ((6, 7, "five"), (8, 10, "kilometres")), "It is five kilometres."),
        ("5", ((0, 1, "five"),), "five"),
        ("5 of 6", ((0, 1, "five"), (5, 6, "six")), "five of six"),
        ("到2点", ((1, 2, "两"),), "到两点"),
    ],
)
def test_what_is_said_stands_in_the_place_of_what_is_written(
    text: str, replacements: tuple[tuple[int, int, str], ...], said: str
) -> None:
    assert Line(text, tuple(Replacement(*one) for one in replacements)).said == said


@pytest.mark.parametrize(
    ("text", "first", "others", "said"),
    [
        ("a 5", ((0, 1, "ah"),), ((2, 3, "five"),), "ah five"),
        ("a 5", ((2, 3, "V"),), ((2, 3, "five"),), "a V"),
        (
            "$14.8 billion",
            ((6, 13, "milliard"),),
            ((0, 5, "fourteen point eight"), (6, 13, "billion dollars")),
            "fourteen point eight milliard dollars",
        ),
        ("the 5 May", ((6, 9, "my"),), ((4, 5, "fifth"), (6, 9, "of May")), "the fifth of my"),
        ("IV 5", ((0, 4, "drip"),), ((0, 2, "four"), (3, 4, "five")), "drip"),
    ],
)
def test_of_two_that_overlap_the_first_is_said_with_what_the_other_adds(
    text: str,
    first: tuple[tuple[int, int, str], ...],
    others: tuple[tuple[int, int, str], ...],
    said: str,
) -> None:
    both = ([Replacement(*one) for one in group] for group in (first, others))
    assert Line(text, joined(text, *both)).said == said
