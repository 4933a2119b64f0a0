from __future__ import annotations

import pytest

from worker.text.line import Line, Replacement


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
