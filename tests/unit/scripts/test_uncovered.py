"""docs/COVERAGE.md names functions that there are, each with its reason."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from scripts import uncovered
from scripts.uncovered import DOCUMENT, HEAD, MARKS, reasons
from tests.conftest import REPOSITORY


def part(lines: list[int], branches: list[tuple[int, int]]) -> dict[str, object]:
    return {"missing_lines": lines, "missing_branches": branches}


REPORT = {
    "files": {
        "worker/b.py": {"functions": {"": part([], []), "Row.take": part([7], [(8, -1)])}},
        "worker/a.py": {"functions": {"": part([3], [])}},
    },
    "totals": {"covered_branches": 1, "num_branches": 2, "covered_lines": 3, "num_statements": 5},
}


def functions(tree: ast.AST, prefix: str = "") -> set[str]:
    """The names of all functions, as coverage gives them: Class.method, outer.inner."""
    found = set()
    for node in ast.iter_child_nodes(tree):
        named = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        name = f"{prefix}{node.name}" if named else prefix.rstrip(".")
        if named and not isinstance(node, ast.ClassDef):
            found.add(name)
        found |= functions(node, f"{name}." if named else prefix)
    return found


def test_each_row_names_a_function_and_a_reason() -> None:
    rows = reasons(DOCUMENT.read_text(encoding="utf-8"))
    assert rows
    for (file, name), reason in rows.items():
        assert reason, f"{file}: {name} has no reason"
        known = functions(ast.parse((REPOSITORY / file).read_text(encoding="utf-8")))
        assert name in known | {""}, f"{file} has no {name}"


class TestTheComparison:
    @pytest.fixture
    def write(self, tmp_path, monkeypatch):
        """Writes the document with these rows in its table, and gives its path."""
        path = tmp_path / "COVERAGE.md"
        monkeypatch.setattr(uncovered, "DOCUMENT", path)
        monkeypatch.setattr(uncovered, "measured", lambda: REPORT)
        monkeypatch.setattr("sys.argv", ["uncovered"])

        def write(*rows: str) -> Path:
            path.write_text(MARKS[0] + HEAD + "".join(f"{row}\n" for row in rows) + MARKS[1])
            return path

        return write

    def test_what_is_not_entered_needs_a_reason(self, write, capsys):
        write("| worker/a.py |  | CUDA |", "| worker/b.py | Row.take |  |")
        assert uncovered.main() == 1
        said = capsys.readouterr().out
        assert "worker/b.py: Row.take: not entered: 7, 8->-1; no reason is given" in said
        assert "worker/a.py" not in said
        assert "1 of 2 branches and 3 of 5 lines are entered" in said

    def test_with_a_reason_for_each_all_is_well(self, write):
        write("| worker/a.py |  | CUDA |", "| worker/b.py | Row.take | CUDA |")
        assert uncovered.main() == 0

    def test_a_reason_for_what_is_entered_is_too_much(self, write, capsys):
        rows = ("| worker/a.py |  | CUDA |", "| worker/b.py | Row.take | CUDA |")
        write(*rows, "| worker/a.py | speak | CUDA |")
        assert uncovered.main() == 1
        assert "worker/a.py: speak: has a reason, and is entered by now" in capsys.readouterr().out

    def test_writing_keeps_the_reasons_and_leaves_new_rows_open(self, write, monkeypatch):
        path = write("| worker/b.py | Row.take | CUDA |", "| worker/a.py | speak | CUDA |")
        monkeypatch.setattr("sys.argv", ["uncovered", "--write"])
        assert uncovered.main() == 1
        assert reasons(path.read_text()) == {
            ("worker/a.py", ""): "",
            ("worker/b.py", "Row.take"): "CUDA",
        }
