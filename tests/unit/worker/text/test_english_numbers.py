"""Numbers in words are num2words' own."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from num2words import num2words

from worker.text.english_numbers import in_words


@given(st.integers(0, 10**15) | st.integers(0, 2_200))
def test_they_are_what_num2words_says(number: int) -> None:
    assert in_words(number) == num2words(number)
    assert in_words(number, "ordinal") == num2words(number, to="ordinal")
    if number < 10_000:
        assert in_words(number, "year") == num2words(number, to="year")


@pytest.mark.slow("starts a process")
def test_no_other_language_is_imported() -> None:
    script = (
        "import sys; from worker.text.english_numbers import in_words; print(in_words(105));"
        "print([name for name in sys.modules if name.startswith('num2words.lang_')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    words, modules = done.stdout.splitlines()
    assert words == "one hundred and five"
    assert set(modules.strip("[]").replace("'", "").split(", ")) == {
        "num2words.lang_EN",
        "num2words.lang_EU",
    }
