"""The sentences of sentences.txt, by which the voice is judged."""

from __future__ import annotations

from pathlib import Path

SENTENCES = Path(__file__).parent / "sentences.txt"


def sections() -> dict[str, list[str]]:
    """The sentences of each section."""
    found: dict[str, list[str]] = {}
    for line in SENTENCES.read_text().splitlines():
        if line.startswith("["):
            current = found.setdefault(line.strip("[]"), [])
        elif line and not line.startswith("#"):
            current.append(line)
    return found
