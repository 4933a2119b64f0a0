"""/proc/cpuinfo is read in one place."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker import cpu_info

X86 = """processor\t: 0
model name\t: A: fast one
flags\t\t: fpu sse2 avx512_vnni
vmx flags\t: vnmi

processor\t: 1
model name\t: B
flags\t\t: fpu
"""
ARM = "processor\t: 0\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd\n"


@pytest.mark.parametrize(
    ("text", "name", "flags"),
    [
        (X86, "A: fast one", {"fpu", "sse2", "avx512_vnni"}),
        (ARM, None, set()),
        ("flags_of_it : x\nvmx flags : y\nmodel name \u00e9 : z\nno colon\n", None, set()),
        ("", None, set()),
    ],
)
def test_the_first_processor_counts(
    tmp_path: Path, text: str, name: str | None, flags: set[str]
) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(text)
    assert cpu_info.model_name(file) == name
    assert cpu_info.flags(file) == flags


def test_a_system_without_the_file_says_nothing(tmp_path: Path) -> None:
    assert cpu_info.model_name(tmp_path / "none") is None
    assert cpu_info.flags(tmp_path / "none") == frozenset()


def test_this_machine_names_its_processor() -> None:
    assert cpu_info.flags() >= {"fpu", "sse2"}
    name = cpu_info.model_name()
    assert name
    assert name in Path("/proc/cpuinfo").read_text()
