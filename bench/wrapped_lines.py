"""How many line breaks within sentences cut them: python -m bench.wrapped_lines PATH ...

Of each file, or each file of text in a folder, the paragraphs are taken that are plainly prose that
somebody wrapped: two lines and more, each but the last of 50 to 110 columns, from a capital to a
full stop, without the marks of lists, tables and code. The same words on one line say where
sentences end; a line break anywhere else should cut nothing.

With --width each is wrapped anew, to so many columns.

Of another version, from a folder of it: PYTHONPATH=FOLDER python bench/wrapped_lines.py PATH ...
"""

from __future__ import annotations

import argparse
import re
import textwrap
from collections.abc import Iterable, Iterator
from itertools import accumulate, pairwise
from pathlib import Path

from worker.text.sentences import split

SUFFIXES = {".md", ".rst", ".txt", ""}
LARGEST = 200_000  # bytes
_NOT_PROSE = re.compile(r"[|`#={}\\]|^\s*(?:[-*•]|\d+[.)])\s", re.MULTILINE)


def paragraphs(files: Iterable[Path]) -> Iterator[list[str]]:
    """The lines of each wrapped paragraph, none twice."""
    seen = set()
    for file in files:
        for paragraph in re.split(r"\n\s*\n", file.read_text(encoding="utf-8", errors="replace")):
            lines = [line.strip() for line in paragraph.splitlines() if line.strip()]
            if paragraph not in seen and is_wrapped_prose(lines):
                yield lines
            seen.add(paragraph)


def is_wrapped_prose(lines: list[str]) -> bool:
    text = "\n".join(lines)
    return (
        len(lines) > 1
        and all(50 < len(line) <= 110 for line in lines[:-1])
        and re.match(r"[A-Z\"“]", text) is not None
        and text.endswith((".", "!", "?", ":"))
        and not text.isupper()
        and _NOT_PROSE.search(text) is None
    )


def breaks(lines: list[str]) -> tuple[int, list[tuple[str, str]]]:
    """How many breaks are within sentences, and those that cut them, each with its lines."""
    ends = _ends(split(" ".join(lines)))
    cuts = _ends(split("\n".join(lines)))
    within = [
        (place, pair)
        for place, pair in zip(_ends(lines), pairwise(lines), strict=False)
        if place not in ends
    ]
    return len(within), [pair for place, pair in within if place in cuts]


def wrapped(lines: list[str], width: int) -> list[str]:
    text = " ".join(" ".join(lines).split())
    return textwrap.wrap(text, width, break_on_hyphens=False, break_long_words=False)


def _ends(pieces: Iterable[str]) -> dict[int, None]:
    """Where pieces end, in letters and digits."""
    return dict.fromkeys(accumulate(sum(map(str.isalnum, piece)) for piece in pieces))


def files_of(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and file.suffix in SUFFIXES and file.stat().st_size < LARGEST:
                yield file


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("paths", nargs="+", type=Path)
    parser.add_argument("--width", type=int, help="columns to wrap the paragraphs to")
    parser.add_argument("--show", action="store_true", help="print the lines that are cut")
    arguments = parser.parse_args()
    lines = paragraphs(files_of(arguments.paths))
    if arguments.width:
        lines = (wrapped(paragraph, arguments.width) for paragraph in lines)
    found = list(map(breaks, lines))
    cut = [pair for _, pairs in found for pair in pairs]
    within = sum(count for count, _ in found)
    print(f"{len(found)} paragraphs, {within} breaks within sentences: {len(cut)} cut them")
    for first, second in cut if arguments.show else []:
        print(f"  {first}\n  {second}\n")


if __name__ == "__main__":
    main()
