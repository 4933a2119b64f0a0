"""What README.md and docs/ tell the reader to type."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tests.support.worker_process import REPOSITORY

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """What stands between two fences."""

    file: Path
    language: str
    text: str


def texts() -> dict[Path, str]:
    """All documents, in their order."""
    files = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
    return {file: file.read_text() for file in files}


def blocks() -> list[Block]:
    """All blocks of all documents, in their order."""
    return [Block(file, *found) for file, text in texts().items() for found in _BLOCK.findall(text)]


# The languages of programs that ask servers for something: those are started for them.
CLIENTS = ("sh", "python", "javascript")


@dataclass(frozen=True)
class Program:
    """A program of a client, and the heading that it stands below."""

    file: Path
    heading: str
    language: str
    text: str
    number: int  # in its file, from 1 on

    @property
    def name(self) -> str:
        return f"{self.file.stem}-{self.number}-{self.language}"

    @property
    def needs(self) -> list[str]:
        """The recordings that it reads, which its reader has."""
        return sorted({*re.findall(r"@(\w+\.wav)", self.text)})


def programs() -> list[Program]:
    """All programs of clients, in their order."""
    heads = re.compile(rf"^#+ ([^\n]+)$|{_BLOCK.pattern}", re.MULTILINE | re.DOTALL)
    found: list[Program] = []
    for file, text in texts().items():
        heading, number = "", 0
        for match in heads.finditer(text):
            title, language, program = match.groups()
            if title is not None:
                heading = title
            elif language in CLIENTS:
                number += 1
                found.append(Program(file, heading, language, program, number))
    return found


@dataclass(frozen=True)
class Table:
    """The cells of a Markdown table, row by row, and the line of the file that its head is on."""

    line: int
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def tables(text: str) -> list[Table]:
    """All tables of a document, outside of its blocks. Raises ValueError where one has no head."""
    # A block's lines stay lines, so that numbers of lines are those of the file.
    plain = _BLOCK.sub(lambda block: "\n" * block[0].count("\n"), text).splitlines()
    found: list[Table] = []
    at = 0
    while at < len(plain):
        last = at
        while last < len(plain) and plain[last].lstrip().startswith("|"):
            last += 1
        if last > at:
            head, *rows = map(_cells, plain[at:last])
            if not rows or not all(re.fullmatch(":?-{3,}:?", cell) for cell in rows[0]):
                raise ValueError(f"line {at + 1}: {plain[at]!r} is a row of no table")
            found.append(Table(at + 1, head, tuple(rows)))
        at = max(last, at + 1)
    return found


def _cells(line: str) -> tuple[str, ...]:
    """Of a row: what stands between bars that no backslash precedes, without the outer two."""
    _, *cells, after = re.split(r"(?<!\\)\|", line.strip())
    # What follows the last bar is a cell too, of a row that does not end there.
    return tuple(cell.strip() for cell in [*cells, *filter(None, [after])])


def commands(name: str, language: str = "console") -> list[str]:
    """The command lines that begin with this program's name, each whole."""
    return [
        line
        for block in blocks()
        if block.language == language
        for line in block.text.replace("\\\n", " ").splitlines()
        if line.startswith(f"{name} ")
    ]
