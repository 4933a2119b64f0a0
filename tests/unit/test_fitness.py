"""A flash-attn of another C++ ABI than torch's is refused in words before the first job."""

from __future__ import annotations

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
