"""The production lock: complete, consistent, and the same pins as the project's own."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.tags import Tag
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version

from volume.environment import requirement
from volume.layout import ENVIRONMENT_PINS
from volume.pinning.environment import SOURCE, best_wheel
from volume.pins import pinned_environment

PYPROJECT = Path(__file__).parents[3] / "pyproject.toml"
# The image: CPython 3.11 on x86-64 Linux (PEP 508 names).
IMAGE = {
    "implementation_name": "cpython",
    "implementation_version": "3.11.9",
    "os_name": "posix",
    "platform_machine": "x86_64",
    "platform_python_implementation": "CPython",
    "platform_release": "",
    "platform_system": "Linux",
    "platform_version": "",
    "python_full_version": "3.11.9",
    "python_version": "3.11",
    "sys_platform": "linux",
}


@pytest.fixture
def lock() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(ENVIRONMENT_PINS.read_text())
    return content


def unmet(lock: dict[str, Any]) -> Iterator[tuple[str, Requirement]]:
    """Every requirement, of the lock and of each wheel in it, that no wheel in it satisfies.

    Starts from what the lock asks for and follows the extras, so that an extra of an extra counts.
    """
    wheels = {canonicalize_name(wheel["name"]): wheel for wheel in lock["wheels"]}
    whole = {canonicalize_name(Requirement(text).name) for text in lock["overrides"]}
    waiting = [("the lock", Requirement(text), "") for text in lock["requirements"]]
    waiting += [
        (name, Requirement(text), "")
        for name, wheel in wheels.items()
        for text in wheel["requires"]
    ]
    seen = set()
    while waiting:
        asker, wanted, extra = waiting.pop()
        if wanted.marker and not wanted.marker.evaluate(IMAGE | {"extra": extra}):
            continue
        name = canonicalize_name(wanted.name)
        if name not in wheels:
            yield asker, wanted
            continue
        version = Version(wheels[name]["version"])
        if wanted.specifier and not wanted.specifier.contains(version, prereleases=True):
            yield asker, wanted
        extras = set() if name in whole else wanted.extras
        for further in extras - {e for n, e in seen if n == name}:
            seen.add((name, further))
            waiting += [(name, Requirement(text), further) for text in wheels[name]["requires"]]


def test_the_lock_satisfies_every_requirement_of_every_wheel(lock: dict[str, Any]) -> None:
    missing = {canonicalize_name(wanted.name) for _, wanted in unmet(lock)}
    assert missing == set(lock["excluded"])


@pytest.mark.parametrize("victim", ["numpy", "nvidia-cudnn-cu12", "aiodns", "botocore"])
def test_that_test_sees_a_wheel_that_is_missing_or_too_old(
    lock: dict[str, Any], victim: str
) -> None:
    wheel = next(wheel for wheel in lock["wheels"] if wheel["name"] == victim)
    wheel["version"] = "0.0.1"
    assert victim in {wanted.name for _, wanted in unmet(lock)}
    lock["wheels"].remove(wheel)
    assert victim in {canonicalize_name(wanted.name) for _, wanted in unmet(lock)}


def test_metadata_was_read_from_the_wheels(lock: dict[str, Any]) -> None:
    requires = {wheel["name"]: wheel["requires"] for wheel in lock["wheels"]}
    assert any(text.startswith("botocore") for text in requires["boto3"])
    assert any("extra ==" in text for text in requires["fastapi"])
    assert sum(len(texts) for texts in requires.values()) > 300


def test_every_wheel_fits_the_image(lock: dict[str, Any]) -> None:
    for wheel in lock["wheels"]:
        name, version, _, tags = parse_wheel_filename(wheel["file"])
        assert name == canonicalize_name(wheel["name"])
        assert version == Version(wheel["version"])
        assert any(fits(tag) for tag in tags), wheel["file"]


def fits(tag: Tag) -> bool:
    """CPython 3.11, the stable ABI of an earlier one or pure Python; glibc 2.28 at most."""
    python = tag.interpreter in {"cp311", "py3", "py2.py3", "py311"} or (
        tag.abi == "abi3" and int(tag.interpreter.removeprefix("cp3")) <= 11
    )
    glibc = re.fullmatch(r"manylinux_2_(\d+)_x86_64", tag.platform)
    known = tag.platform in {"any", "linux_x86_64", "manylinux1_x86_64", "manylinux2010_x86_64"}
    return python and (known or "2014" in tag.platform or bool(glibc and int(glibc[1]) <= 28))


def test_wheels_are_named_by_hash_and_by_path_or_url_and_no_index_has_a_host(
    lock: dict[str, Any],
) -> None:
    outside = {wheel["name"] for wheel in lock["wheels"] if "url" in wheel}
    assert outside == {"torch", "torchaudio", "flash-attn"}
    for wheel in lock["wheels"]:
        assert re.fullmatch(r"[0-9a-f]{64}", wheel["sha256"])
        assert wheel["unpacked"] > 0
        if wheel["name"] not in outside:
            assert re.fullmatch(r"packages/[0-9a-f/]+/" + re.escape(wheel["file"]), wheel["path"])
            assert wheel["size"] > 0


def test_the_lock_is_the_one_that_its_source_asks_for(lock: dict[str, Any]) -> None:
    source = tomllib.loads(SOURCE.read_text())
    for key in ("python", "platform", "requirements", "overrides", "excluded"):
        assert lock[key] == source[key]
    stated = {wheel["sha256"]: wheel["url"] for wheel in source["wheel"]}
    assert stated == {w["sha256"]: w["url"] for w in lock["wheels"] if "url" in w}


def test_the_image_and_the_developers_have_the_same_versions() -> None:
    source = tomllib.loads(SOURCE.read_text())
    image = {Requirement(text).name: Requirement(text) for text in source["requirements"]}
    project = tomllib.loads(PYPROJECT.read_text())["project"]["dependencies"]
    for wanted in map(Requirement, project):
        if wanted.name == "spark-tts-lib":  # the image has upstream's source itself
            continue
        pinned = str(image[wanted.name].specifier).removesuffix("+cu126")
        assert pinned == str(wanted.specifier), wanted.name


def test_the_flash_attention_wheel_has_the_abi_of_its_torch(lock: dict[str, Any]) -> None:
    files = {wheel["name"]: wheel["file"] for wheel in lock["wheels"]}
    assert "cu12torch2.6cxx11abiTRUE-cp311" in files["flash-attn"]
    assert files["torch"].startswith("torch-2.6.0+cu126-cp311")


def test_the_requirements_that_uv_gets_name_each_wheel_by_its_hash() -> None:
    wheels = {wheel.name: wheel for wheel in pinned_environment().wheels}
    torch, numpy = wheels["torch"], wheels["numpy"]
    assert requirement(torch, offline=False).startswith("torch @ https://")
    assert requirement(torch, offline=True) == f"torch==2.6.0+cu126 --hash=sha256:{torch.sha256}"
    assert requirement(numpy, offline=False) == f"numpy==2.4.6 --hash=sha256:{numpy.sha256}"


def test_the_digest_depends_on_the_wheels_alone() -> None:
    lock = pinned_environment()
    reordered = type(lock)(lock.python, "elsewhere", tuple(reversed(lock.wheels)))
    assert reordered.digest == lock.digest
    assert type(lock)(lock.python, lock.platform, lock.wheels[1:]).digest != lock.digest


def test_the_wheel_nearest_to_the_platform_is_locked() -> None:
    pure = "https://index.test/a/soundfile-0.14.0-py2.py3-none-any.whl"
    binary = "https://index.test/b/soundfile-0.14.0-py2.py3-none-manylinux_2_28_x86_64.whl"
    stable = "https://index.test/c/cryptography-50.0.0-cp39-abi3-manylinux_2_28_x86_64.whl"
    exact = "https://index.test/d/cryptography-50.0.0-cp311-cp311-manylinux_2_17_x86_64.whl"
    assert best_wheel([pure, binary]) == binary
    assert best_wheel([exact, stable]) == exact
