"""Documents that hold what a command found."""

from __future__ import annotations

from pathlib import Path


def write_between(document: Path, marks: tuple[str, str], between: str) -> None:
    """Replace what stands between the two marks."""
    text = document.read_text(encoding="utf-8")
    start = text.index(marks[0]) + len(marks[0])
    end = text.index(marks[1])
    document.write_text(text[:start] + between + text[end:], encoding="utf-8")
