"""What the import-linter contracts cannot say: `volume` needs nothing but Python itself."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

MODULES = sorted((REPOSITORY / "volume").rglob("*.py"))


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_volume_imports_only_the_standard_library(module: Path) -> None:
    imported = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add("volume" if node.level else str(node.module))
    roots = {name.split(".")[0] for name in imported}
    assert roots <= {*sys.stdlib_module_names, "volume"}


def test_there_is_something_to_look_at() -> None:
    assert len(MODULES) > 3
