"""What came of the mutants: a table by area, and the test that saw each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from scripts.documents import write_between
from scripts.mutants.mutant import ORIGINS, REPOSITORY, Mutant

DOCUMENT = REPOSITORY / "docs" / "ARCHITECTURE.md"
SEEN_BY = REPOSITORY / "docs" / "mutants.json"
MARKS = ("<!-- mutants -->\n", "<!-- /mutants -->")


@dataclass(frozen=True)
class Result:
    """A mutant and the test that saw it, or an empty string."""

    mutant: Mutant
    by: str


def missed(results: Sequence[Result]) -> list[Result]:
    """Those that count and that no test saw."""
    return [result for result in results if not (result.by or result.mutant.equivalent)]


def table(results: Sequence[Result]) -> str:
    """Killed and survived by area and by origin, as Markdown."""
    lines = [
        "| area | killed | survived | equivalent | killed, of those counted |",
        "| --- | --- | --- | --- | --- |",
    ]
    areas = sorted({result.mutant.area for result in results})
    rows = [
        (area.replace("_", ", "), [r for r in results if r.mutant.area == area]) for area in areas
    ]
    rows += [
        (f"*{origin}*: {what}", [r for r in results if r.mutant.origin == origin])
        for origin, what in ORIGINS.items()
    ]
    rows.append(("**all**", list(results)))
    for name, some in rows:
        equivalent = sum(bool(result.mutant.equivalent) for result in some)
        survived = len(missed(some))
        killed = len(some) - equivalent - survived
        share = f"{killed / (killed + survived):.0%}" if killed + survived else ""
        lines.append(f"| {name} | {killed} | {survived} | {equivalent} | {share} |")
    return "\n".join(lines) + "\n"


def seen_by() -> dict[str, str]:
    """The test that saw each mutant at the last whole run, by the mutant's title."""
    if not SEEN_BY.is_file():
        return {}
    seen: dict[str, str] = json.loads(SEEN_BY.read_text(encoding="utf-8"))
    return seen


def write(results: Sequence[Result]) -> None:
    """Put the table into docs/ARCHITECTURE.md, and what each was seen by beside it."""
    write_between(DOCUMENT, MARKS, table(results))
    seen = {result.mutant.title: result.by for result in results}
    SEEN_BY.write_text(json.dumps(seen, indent=1, sort_keys=True) + "\n", encoding="utf-8")
