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


def test_what_stands_in_is_gone_also_where_the_import_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("paramiko", "cpuinfo"):
        monkeypatch.delitem(sys.modules, name, raising=False)

    def fail() -> None:
        with sdk.light():
            assert {"paramiko", "cpuinfo"} <= set(sys.modules)
            raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        fail()
    assert not {"paramiko", "cpuinfo"} & set(sys.modules)


def test_a_module_is_imported_when_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    later = sdk._later("colorsys")
    assert later.__name__ == "colorsys"
    assert "colorsys" not in sys.modules
    assert later.rgb_to_hsv(0, 0, 1)[2] == 1
    with pytest.raises(AttributeError):
        _ = later.no_such_thing


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        ("processor : 0\nmodel name : A: fast one\nmodel name : B\n", {"brand_raw": "A: fast one"}),
        ("processor : 0\nBogoMIPS : 50\n", {}),  # as on Arm
        (None, {}),  # no such file
    ],
)
def test_the_processor_is_named_as_linux_names_it(
    monkeypatch: pytest.MonkeyPatch, lines: str | None, named: dict[str, str]
) -> None:
    def read(path: Path, **_: object) -> str:
        assert path == Path("/proc/cpuinfo")
        if lines is None:
            raise FileNotFoundError
        return lines

    monkeypatch.setattr(Path, "read_text", read)
    monkeypatch.delitem(sys.modules, "cpuinfo", raising=False)
    with sdk.light():
        import cpuinfo

        found = cpuinfo.get_cpu_info()
    assert found == named
