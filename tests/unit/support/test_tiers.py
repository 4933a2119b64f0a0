"""What keeps the quick tier quick, and what a session makes once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.shared import Shared
from tests.support.worker_process import REPOSITORY

CONFTEST = """
import pytest
from tests.support.tiers import QuickWatch, is_slow

def pytest_configure(config):
    config.addinivalue_line("markers", "slow(reason)")
    config.pluginmanager.register(QuickWatch())

def pytest_itemcollected(item):
    if is_slow(item):
        item.add_marker("slow")

@pytest.fixture
def judge():
    return None

@pytest.fixture
def process():
    import subprocess
    subprocess.run(["true"])
"""
TESTS = """
import ctypes, multiprocessing, os, pytest, subprocess

def wait(process):
    process.start()
    process.join()

def test_quick():
    assert os.getpid()

def test_process():
    subprocess.run(["true"])

def test_process_of_a_fixture(process):
    pass

def test_fork():
    wait(multiprocessing.get_context("fork").Process(target=int))

def test_spawn():
    wait(multiprocessing.get_context("spawn").Process(target=int))

def test_compiled(tmp_path):
    with pytest.raises(OSError):
        ctypes.CDLL(str(tmp_path / "spark-tts-serverless" / "lm-1.so"))

def test_training():
    import torch
    torch.optim.SGD([torch.ones(1, requires_grad=True)]).step()

@pytest.mark.slow("starts a process")
def test_marked():
    subprocess.run(["true"])

def test_slow_by_its_fixture(judge):
    subprocess.run(["true"])
"""


@pytest.mark.slow("starts a process")
def test_only_a_slow_test_may_start_a_process_use_compiled_c_or_train(tmp_path: Path) -> None:
    for folder in ("unit", "e2e"):
        (tmp_path / "tests" / folder).mkdir(parents=True)
        (tmp_path / "tests" / folder / f"test_{folder}.py").write_text(TESTS)
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    path = [str(REPOSITORY), *filter(None, sys.path)]  # wherever this process has its pytest from
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-rA", "-q", "--import-mode=importlib", "tests"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": os.pathsep.join(path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    said = dict(line.split()[1::-1] for line in done.stdout.splitlines() if "test_" in line[:30])
    unit = {n.partition("::")[2]: how for n, how in said.items() if n.startswith("tests/unit/")}
    assert unit == {
        "test_quick": "PASSED",
        "test_process": "FAILED",
        "test_process_of_a_fixture": "FAILED",
        "test_fork": "FAILED",
        "test_spawn": "FAILED",
        "test_compiled": "FAILED",
        "test_training": "FAILED",
        "test_marked": "PASSED",
        "test_slow_by_its_fixture": "PASSED",
    }, done.stdout
    assert done.stdout.count("not quick: mark it `slow`") >= 6
    elsewhere = {how for name, how in said.items() if name.startswith("tests/e2e/")}
    assert elsewhere == {"PASSED"}


def test_a_folder_is_made_once_and_anew_where_that_failed(tmp_path: Path) -> None:
    shared, calls = Shared(tmp_path / "shared"), []

    def make(folder: Path) -> None:
        calls.append(sorted(path.name for path in folder.iterdir()))
        (folder / "half").touch()
        if len(calls) == 1:
            raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        shared.folder("model", make)
    made = shared.folder("model", make)
    assert Shared(tmp_path / "shared").folder("model", make) == made
    assert calls == [[], []]
    assert shared.folder("other", lambda _folder: None) != made
