"""What is said of what is written, row by row: english.txt and chinese.txt.

"written => said" holds for `auto` and `on`; "written ?> said" for `on`, where `auto` leaves all as
it is written.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from worker.text.line import Line
from worker.text.spoken.normalize import Normalize, replacements

HERE = Path(__file__).parent
ROWS = [
    (language, *re.split(" ([=?])> ", line))
    for language in ("english", "chinese")
    for line in (HERE / f"{language}.txt").read_text(encoding="utf-8").splitlines()
]


def said(text: str, language: str, mode: Normalize) -> str:
    return Line(text, replacements(text, language, mode)).said


def test_there_are_hundreds() -> None:
    assert len(ROWS) > 500


@pytest.mark.parametrize(("name", "written", "sure", "expected"), ROWS)
def test_a_row(name: str, written: str, sure: str, expected: str) -> None:
    language = "en" if name == "english" else "zh"
    assert said(written, language, "on") == expected
    assert said(written, language, "auto") == (expected if sure == "=" else written)
    assert said(written, language, "off") == written
