"""python -m scripts.uncovered [--write]: what no test enters, held against docs/COVERAGE.md.

Reads what `coverage` measured (make coverage) and lists each function of worker/ and volume/ with a
line or branch that nothing entered. Ends with 1 where one has no reason in the document's table,
or where the table has one that is entered by now. --write puts the functions into the table, the
reasons that stand there kept; new ones get none, and need one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from coverage import Coverage

from scripts.documents import write_between

REPOSITORY = Path(__file__).parents[1]
DOCUMENT = REPOSITORY / "docs" / "COVERAGE.md"
MARKS = ("<!-- uncovered -->\n", "<!-- /uncovered -->")
HEAD = "| file | in | reason |\n| --- | --- | --- |\n"

Place = tuple[str, str]  # a file, and a function in it; "" for what stands in no function


def main() -> int:
    """Compare; give the exit status."""
    report = measured()
    found, table = uncovered(report), reasons(DOCUMENT.read_text(encoding="utf-8"))
    if "--write" in sys.argv[1:]:
        rows = (f"| {file} | {name} | {table.get((file, name), '')} |\n" for file, name in found)
        write_between(DOCUMENT, MARKS, HEAD + "".join(rows))
        table = {place: table.get(place, "") for place in found}
    for (file, name), lines in found.items():
        if not table.get((file, name)):
            print(f"{file}: {name or 'the module'}: not entered: {lines}; no reason is given")
    entered = [place for place in table if place not in found]
    for file, name in entered:
        print(f"{file}: {name or 'the module'}: has a reason, and is entered by now")
    totals = report["totals"]
    print(
        f"{totals['covered_branches']} of {totals['num_branches']} branches and "
        f"{totals['covered_lines']} of {totals['num_statements']} lines are entered"
    )
    return 1 if entered or any(not table.get(place) for place in found) else 0


def measured() -> dict[str, Any]:
    """What `coverage json` gives."""
    with TemporaryDirectory() as folder:
        out = Path(folder) / "coverage.json"
        data = Coverage()
        data.load()
        data.json_report(outfile=str(out))
        report: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return report


def uncovered(report: Mapping[str, Any]) -> dict[Place, str]:
    """Each function with lines or branches that nothing entered, and those."""
    found: dict[Place, str] = {}
    for file, about in sorted(report["files"].items()):
        for name, part in about["functions"].items():
            lines = [str(line) for line in part["missing_lines"]]
            lines += [f"{a}->{b}" for a, b in part["missing_branches"]]
            if lines:
                found[file, name] = ", ".join(lines)
    return found


def reasons(document: str) -> dict[Place, str]:
    """The document's table: the reason for each function."""
    between = document.partition(MARKS[0])[2].partition(MARKS[1])[0]
    rows = [line.strip().strip("|").split("|", 2) for line in between.splitlines()[2:]]
    return {(file.strip(), name.strip()): reason.strip() for file, name, reason in rows}


if __name__ == "__main__":
    sys.exit(main())
