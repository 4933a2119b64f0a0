"""What becomes of `make test` where one of its processes dies."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]
CONFTEST = """
import pytest
from tests.support.in_two import Together

@pytest.hookimpl
def pytest_xdist_make_scheduler(config, log):
    return Together(config, log)
"""
DEADLY = """
import os
def test_before(): pass
def test_deadly(): os._exit(9)
"""


@pytest.mark.slow("starts a process")
def test_a_test_that_ends_its_process_is_named_and_ends_the_run(tmp_path: Path) -> None:
    (options,) = re.findall(
        r"^IN_TWO := (.+)$", (REPOSITORY / "Makefile").read_text(), re.MULTILINE
    )
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_deadly.py").write_text(DEADLY)
    for number in range(3):
        (tmp_path / "tests" / f"test_other_{number}.py").write_text("def test_other(): pass")
    path = [str(REPOSITORY), *filter(None, sys.path)]  # wherever this process has its pytest from
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options.split(), "tests"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": os.pathsep.join(path)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert "crashed while running 'tests/test_deadly.py::test_deadly'" in done.stdout
