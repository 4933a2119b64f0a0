"""Which paragraphs count as wrapped prose, and which of their breaks are counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import wrapped_lines
from bench.wrapped_lines import breaks, is_wrapped_prose

PROSE = [
    "The committee met again in the spring and decided to move the office",
    "to the river. Nobody had asked the people of Bath what they thought.",
    "It was cold.",
]


def test_wrapped_prose() -> None:
    assert is_wrapped_prose(PROSE)
    assert not is_wrapped_prose(PROSE[:1])
    assert not is_wrapped_prose(["A title", *PROSE])
    assert not is_wrapped_prose([PROSE[0], "- an item of a list that is long enough to be a line."])
    assert not is_wrapped_prose([line.upper() for line in PROSE])


def test_breaks_within_sentences_are_counted() -> None:
    assert breaks(PROSE) == (1, [])
    title = "How the whole of the town of Bath moved its one office"
    assert breaks([title, "The river is wide."]) == (1, [(title, "The river is wide.")])


def test_the_count_of_a_folder_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "notes.md").write_text("\n\n".join(["\n".join(PROSE)] * 2))
    (tmp_path / "notes.py").write_text("\n".join(PROSE))
    monkeypatch.setattr("sys.argv", ["wrapped_lines", str(tmp_path), "--show"])
    wrapped_lines.main()
    assert capsys.readouterr().out == "1 paragraphs, 1 breaks within sentences: 0 cut them\n"
    monkeypatch.setattr("sys.argv", ["wrapped_lines", str(tmp_path), "--width", "30"])
    wrapped_lines.main()
    assert capsys.readouterr().out == "1 paragraphs, 5 breaks within sentences: 0 cut them\n"
