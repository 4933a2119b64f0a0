"""RunPod's SDK is imported without what a worker never uses, and nothing of it is lost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from worker import sdk

PROBE = """
import sys
from importlib import import_module
from worker import sdk
with sdk.light():
    import_module("runpod")
assert not {"paramiko", "cpuinfo"} & set(sys.modules), "they were imported"
from runpod.serverless.utils.rp_debugger import PROCESSOR
from runpod.cli.groups.ssh import functions
print(PROCESSOR)
print(functions.paramiko.RSAKey.__module__)
"""


def test_the_sdk_has_all_that_it_had() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROBE], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    processor, module = done.stdout.splitlines()
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    assert processor in [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    assert module == "paramiko.rsakey"


def test_modules_that_are_there_already_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cpuinfo", sys)
    monkeypatch.delitem(sys.modules, "paramiko", raising=False)
    with sdk.light():
        assert sys.modules["cpuinfo"] is sys
        assert sys.modules["paramiko"].__name__ == "paramiko"
    assert sys.modules["cpuinfo"] is sys
    assert "paramiko" not in sys.modules
