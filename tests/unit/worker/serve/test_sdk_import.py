"""RunPod's SDK is imported without what a worker never uses, and nothing of it is lost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from worker import cpu_info
from worker.serve import sdk_import

PROBE = """
import sys
from importlib import import_module
from worker.serve import sdk_import
sdk_import.lighten()
import_module("runpod")
left_out = {"paramiko", "cpuinfo", "tomli", "tomlkit", "tqdm", "tqdm_loggable"}
assert not left_out & set(sys.modules), "they were imported"
from runpod.serverless.utils.rp_debugger import PROCESSOR
from runpod.cli.groups.ssh import functions
print(PROCESSOR)
print(functions.paramiko.RSAKey.__module__)
from runpod.serverless.utils import rp_upload
from runpod.cli.groups.config import functions as config
with rp_upload.tqdm(total=1, disable=True) as bar:
    assert type(bar).__module__.startswith("tqdm"), bar
assert config.toml.loads("a = 1") == config.tomlkit.parse("a = 1") == {"a": 1}
import cpuinfo
print(cpuinfo.__file__)
"""


@pytest.mark.slow("starts a process")
def test_the_sdk_has_all_that_it_had() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROBE], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    processor, module, others = done.stdout.splitlines()
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    assert processor in [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    assert module == "paramiko.rsakey"
    assert others.endswith("cpuinfo/__init__.py")  # everybody else gets the real one


@pytest.mark.parametrize(
    ("name", "told"), [("A: fast one", {"brand_raw": "A: fast one"}), (None, {})]
)
def test_the_processor_is_named_as_linux_names_it(
    monkeypatch: pytest.MonkeyPatch, name: str | None, told: dict[str, str]
) -> None:
    monkeypatch.setattr(cpu_info, "model_name", lambda: name)
    assert sdk_import._cpuinfo().get_cpu_info() == told
