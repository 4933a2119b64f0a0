"""The reader of sentence sets, and what counts as right."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import sentence_ends
from bench.sentence_ends import is_right, read_python, read_table

TABLE = """# A comment.
#
# Another one.

The first one is here. The second one is there.
---
The first one is here.
The second one is there.
===
# a case with a comment
Two lines\\nof a text
---
Two lines
of a text
===
# no case at all
#---
"""
PYTHON = """
raise RuntimeError("never run")
CASES = [
    ("The first one is here. So is this.", ["The first one is here.", "So is this."]),
    param("One is here.", ["One is here."], marks=1),
    ("no", "case"), ("nor", ["this", 1]), (name, ["One."]),
]
"""


def test_a_table_is_read() -> None:
    assert list(read_table(TABLE)) == [
        (
            "The first one is here. The second one is there.",
            ["The first one is here.", "The second one is there."],
        ),
        ("Two lines\nof a text", ["Two lines", "of a text"]),
    ]


def test_the_pairs_of_a_python_file_are_read_and_nothing_is_run() -> None:
    assert list(read_python(PYTHON)) == [
        ("The first one is here. So is this.", ["The first one is here.", "So is this."]),
        ("One is here.", ["One is here."]),
    ]


@pytest.mark.parametrize(
    ("text", "sentences", "right"),
    [
        ("The train left. It was full.", ["The train left.", "It was full."], True),
        ("The train left. It was full.", ["The train left. It was full."], False),
        ("The train left at five. No.", ["The train left at five.", "No."], True),  # joined: short
        ("The train left and it was full.", ["The train left", "and it was full."], False),
        ("word " * 60, ["word " * 60], True),  # cut: long
        ("word " * 30, ["word " * 20, "word " * 10], False),
    ],
)
def test_what_is_right(text: str, sentences: list[str], right: bool) -> None:
    assert is_right(text, sentences) is right


def test_the_share_of_a_folder_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "set.txt").write_text(TABLE, encoding="utf-8")
    (tmp_path / "set.py").write_text(
        "X = ('The train left at five', ['The train left', 'at five today'])"
    )
    (tmp_path / "notes.md").write_text("no cases")
    monkeypatch.setattr("sys.argv", ["sentence_ends", str(tmp_path), "--show"])
    sentence_ends.main()
    printed = capsys.readouterr().out
    assert f"{tmp_path.name}: 2 of 3 (66.7%)" in printed
    assert "ours    ['The train left at five']" in printed
