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


def commands(name: str, language: str = "console") -> list[str]:
    """The command lines that begin with this program's name, each whole."""
    return [
        line
        for block in blocks()
        if block.language == language
        for line in block.text.replace("\\\n", " ").splitlines()
        if line.startswith(f"{name} ")
    ]
