"""Which unit tests import a module: those that a fault in it must turn red."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from scripts.mutants.mutant import OURS, REPOSITORY

UNIT_TESTS = REPOSITORY / "tests" / "unit"


def nearest(file: str) -> list[str]:
    """The unit test files that import a file's module: those named for it, then few imports first.

    Paths are relative to the repository. What a module of tests/support imports counts as imported
    by the test. Where no test imports the module, those count that import one which imports it. For
    a file that is no module (the C sources), the tests of the modules beside it and of their users.
    """
    wanted = {_module(REPOSITORY / file)}
    if not file.endswith(".py"):
        wanted = {_module(path) for path in (REPOSITORY / file).parent.glob("*.py")}
        wanted |= _importers(wanted)
    while not (tests := [p for p in UNIT_TESTS.rglob("test_*.py") if wanted & imported(p)]):
        if not (more := _importers(wanted) - wanted):
            return []
        wanted |= more
    name = Path(file).stem.strip("_")
    tests.sort(key=lambda path: (name not in path.stem, len(imported(path)), path.name))
    return [str(path.relative_to(REPOSITORY)) for path in tests]


def _importers(modules: set[str]) -> set[str]:
    """The modules of the worker and the volume that import one of these."""
    paths = (
        path for package in ("worker", "volume") for path in (REPOSITORY / package).rglob("*.py")
    )
    return {_module(path) for path in paths if modules & _imports(path)}


@cache
def imported(test: Path) -> frozenset[str]:
    """The project's modules that a test imports, itself or by a package's or a helper's imports."""
    found: set[str] = set()
    waiting = [*_imports(test)]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        if "." in name:
            waiting.append(name.rpartition(".")[0])  # its package is imported first
        path = _path(name)
        if path is not None and (path.name == "__init__.py" or name.startswith("tests.support.")):
            waiting += _imports(path)
    return frozenset(found)


@cache
def _imports(path: Path) -> frozenset[str]:
    """The project's modules that a file's import statements name."""
    return frozenset(_named(ast.parse(path.read_text(encoding="utf-8"))))


def _named(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if _path(alias.name))
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))
            yield from (name for name in names if _path(name))


def _module(path: Path) -> str:
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def _path(module: str) -> Path | None:
    """A module's file, where it is one of the project's."""
    if module.partition(".")[0] not in OURS:
        return None
    base = REPOSITORY.joinpath(*module.split("."))
    paths = (base.with_suffix(".py"), base / "__init__.py")
    return next((path for path in paths if path.is_file()), None)
