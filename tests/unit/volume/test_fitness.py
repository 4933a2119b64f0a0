"""A wheel for another C++ ABI than torch's is refused in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from volume.errors import DamagedError, PinError
from volume.fitness import check_abi
from volume.layout import wheel_abi, why_unloadable
from volume.pins import PinnedWheel, pinned_environment


def wheel(abi: str) -> PinnedWheel:
    file = f"flash_attn-2.8.0.post2+cu12torch2.6cxx11abi{abi}-cp311-cp311-linux_x86_64.whl"
    return PinnedWheel("flash-attn", "2.8.0.post2", file, sha256="", unpacked=0)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Where a torch is that knows nothing but its ABI: the one of CUDA 12.6."""
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("from torch import _C\n")
    (tmp_path / "torch" / "_C.py").write_text("_GLIBCXX_USE_CXX11_ABI = True\n")
    return tmp_path


@pytest.mark.slow("starts a process")
def test_the_locked_build_fits(site: Path) -> None:
    locked = pinned_environment().wheels
    assert any("cxx11abi" in wheel.file for wheel in locked)
    check_abi(locked, site)


@pytest.mark.slow("starts a process")
def test_the_other_build_does_not(site: Path) -> None:
    with pytest.raises(PinError) as refused:
        check_abi([wheel("FALSE")], site)
    assert wheel("FALSE").file in str(refused.value)
    assert "cxx11abiTRUE" in str(refused.value)


@pytest.mark.slow("starts a process")
def test_a_torch_that_does_not_import(site: Path) -> None:
    (site / "torch" / "_C.py").write_text("raise ImportError('libcudart.so.12: no such file')\n")
    with pytest.raises(DamagedError, match=r"libcudart\.so\.12"):
        check_abi([wheel("TRUE")], site)


def test_nobody_asks_torch_without_need(tmp_path: Path) -> None:
    plain = PinnedWheel("numpy", "2", "numpy-2-cp311-cp311-linux_x86_64.whl", sha256="", unpacked=0)
    check_abi([plain], tmp_path)


@pytest.mark.slow("starts a process")
def test_each_wheel_is_looked_at_and_its_name_may_be_in_small_letters(site: Path) -> None:
    check_abi([wheel("TRUE"), wheel("true")], site)
    with pytest.raises(PinError, match="cxx11abifalse"):
        check_abi([wheel("TRUE"), wheel("false")], site)


@pytest.mark.slow("starts a process")
def test_what_torch_says_besides_does_not_matter(site: Path) -> None:
    (site / "torch" / "_C.py").write_text("print('FALSE alarm')\n_GLIBCXX_USE_CXX11_ABI = True\n")
    check_abi([wheel("TRUE")], site)


FLASH = "flash_attn-2.8.0.post2+cu12torch2.6cxx11abi{}-cp311-cp311-linux_x86_64.whl"


@pytest.mark.parametrize(("tag", "new_abi"), [("TRUE", False), ("FALSE", True), ("false", True)])
def test_why_a_wheel_of_another_abi_cannot_be_loaded(tag: str, new_abi: bool) -> None:
    why = why_unloadable(FLASH.format(tag), new_abi=new_abi)
    assert why is not None
    assert why.startswith(FLASH.format(tag))
    assert f"pin the build with cxx11abi{str(new_abi).upper()}" in why


@pytest.mark.parametrize(
    ("tag", "new_abi"), [("TRUE", True), ("FALSE", False), ("true", True), ("false", False)]
)
def test_a_wheel_of_the_same_abi_can(tag: str, new_abi: bool) -> None:
    assert why_unloadable(FLASH.format(tag), new_abi=new_abi) is None


@pytest.mark.parametrize("new_abi", [True, False])
def test_a_wheel_whose_name_says_nothing_of_it_can(new_abi: bool) -> None:
    file = "flash_attn-2.8.0-cp311-cp311-linux_x86_64.whl"
    assert wheel_abi(file) is None
    assert why_unloadable(file, new_abi=new_abi) is None
