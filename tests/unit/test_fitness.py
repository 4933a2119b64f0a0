"""A flash-attn of another C++ ABI than torch's is refused in words before the first job."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch

from volume.layout import locked_wheel
from worker.errors import SetupError
from worker.speech.fitness import check_flash_attention, refuse_other_abi

WHEEL = "flash_attn-2.8.0.post2+cu12torch2.6cxx11abi{}-cp311-cp311-linux_x86_64.whl"


def test_the_locked_wheel_fits_the_locked_torch() -> None:
    locked = locked_wheel("flash-attn")
    assert locked is not None
    refuse_other_abi(locked, new_abi=True)  # torch 2.6.0+cu126's, by its release notes


@pytest.mark.parametrize(("tag", "new_abi"), [("TRUE", False), ("FALSE", True)])
def test_another_abi_is_refused(tag: str, new_abi: bool) -> None:
    with pytest.raises(SetupError, match=f"cxx11abi{str(new_abi).upper()}"):
        refuse_other_abi(WHEEL.format(tag), new_abi=new_abi)


@pytest.mark.parametrize(("tag", "new_abi"), [("TRUE", True), ("FALSE", False)])
def test_the_same_abi_is_not(tag: str, new_abi: bool) -> None:
    refuse_other_abi(WHEEL.format(tag), new_abi=new_abi)


def test_without_a_gpu_the_worker_runs_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    check_flash_attention(WHEEL.format("FALSE"))
    check_flash_attention(WHEEL.format("TRUE"))


def test_a_wheel_that_nobody_locked() -> None:
    assert locked_wheel("no-such-wheel") is None
    check_flash_attention(None)


@pytest.mark.parametrize("installed", [True, False])
def test_on_a_gpu_it_is_asked_where_it_is_installed(
    monkeypatch: pytest.MonkeyPatch, installed: bool
) -> None:
    """Without flash-attn torch's own attention is used, and there is nothing to refuse."""
    asked = []

    def find(name: str) -> object:
        asked.append(name)
        return object() if installed else None

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("worker.speech.fitness.find_spec", find)
    monkeypatch.setattr(torch._C, "_GLIBCXX_USE_CXX11_ABI", True)
    with pytest.raises(SetupError, match="lock the build") if installed else nullcontext():
        check_flash_attention(WHEEL.format("FALSE"))
    check_flash_attention(WHEEL.format("TRUE"))
    check_flash_attention(None)
    assert set(asked) == {"flash_attn"}


def test_the_abi_is_read_in_any_letters_and_only_where_it_is_said() -> None:
    refuse_other_abi(WHEEL.format("true"), new_abi=True)
    with pytest.raises(SetupError, match="cxx11abiTRUE"):
        refuse_other_abi(WHEEL.format("false"), new_abi=True)
    for new_abi in (True, False):
        refuse_other_abi("flash_attn-2.8.0-cp311-cp311-linux_x86_64.whl", new_abi=new_abi)
