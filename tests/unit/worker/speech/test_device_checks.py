"""Which GPUs are taken: by their age, by torch's kernels, and by the memory that is free."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from worker.errors import SetupError
from worker.speech.device_checks import check_gpu, check_gpu_memory, has_kernels

GIB = 1 << 30
CU126 = ["sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90"]  # torch 2.6.0+cu126's
LATER = [*CU126[3:], "sm_100", "sm_120", "compute_120"]


def a_gpu(monkeypatch: pytest.MonkeyPatch, **more: Any) -> None:
    """torch answers as on a machine with one, which is an A100 where nothing else is said."""
    given = {
        "is_available": True,
        "get_device_name": "a GPU",
        "get_device_capability": (8, 0),
        "get_arch_list": CU126,
        "mem_get_info": (8 * GIB, 8 * GIB),
    }
    for name, answer in {**given, **more}.items():
        monkeypatch.setattr(f"torch.cuda.{name}", lambda answer=answer: answer)


def refused(said: str | None) -> AbstractContextManager[Any]:
    return pytest.raises(SetupError, match=said) if said else nullcontext()


OLD = (
    r"^a GPU has compute capability {}; 8\.0 \(Ampere\) is the oldest that is supported: .*V100.*"
    r"T4.*; choose an Ampere, Ada or Hopper"
)
NEW = (
    r"^a GPU has compute capability {}, for which torch .* has no kernels \(it has those of sm_50, "
    r".*, sm_90\): .*newer than this torch.*RTX 50xx.*B200.*; choose an Ampere, Ada or Hopper"
)


@pytest.mark.parametrize(
    ("capability", "said"),
    [
        ((6, 1), OLD.format(r"6\.1")),
        ((7, 0), OLD.format(r"7\.0")),  # V100: torch has kernels for it, and emulates bfloat16
        ((7, 5), OLD.format(r"7\.5")),  # T4
        ((8, 0), None),  # A100
        ((8, 6), None),  # RTX 30xx, A4000
        ((8, 9), None),  # L4, RTX 40xx
        ((9, 0), None),  # H100
        ((10, 0), NEW.format(r"10\.0")),  # B200
        ((12, 0), NEW.format(r"12\.0")),  # RTX 50xx
    ],
)
def test_a_gpu_is_neither_too_old_nor_too_new(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], said: str | None
) -> None:
    a_gpu(monkeypatch, get_device_capability=capability)
    with refused(said):
        check_gpu()


@pytest.mark.parametrize("capability", [(8, 9), (10, 0), (12, 0), (12, 1), (13, 0)])
def test_a_later_torch_has_kernels_for_later_gpus(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int]
) -> None:
    a_gpu(monkeypatch, get_device_capability=capability, get_arch_list=LATER)
    check_gpu()


@pytest.mark.parametrize(
    ("capability", "kernels", "runs"),
    [
        ((8, 6), ["sm_80"], True),  # a later minor
        ((8, 0), ["sm_86"], False),  # an earlier one
        ((9, 0), ["sm_80", "sm_86"], False),  # another major
        ((8, 0), ["sm_90"], False),
        ((9, 0), ["sm_80", "compute_80"], True),  # the driver compiles it
        ((8, 0), ["compute_86"], False),
        ((12, 0), ["compute_86"], True),
        ((9, 0), ["sm_90a"], True),
        ((9, 1), ["sm_90a"], False),
        ((10, 0), ["compute_90a"], False),
        ((10, 3), ["sm_100f"], True),
        ((12, 0), ["compute_100f"], False),
        ((12, 1), ["sm_120"], True),
        ((12, 1), ["gfx1100", "sm_120"], True),
        ((12, 0), ["gfx1100", "sm_90"], False),
        ((12, 0), [], True),  # nothing is said
        ((12, 0), ["gfx1100"], True),  # or nothing that is known
    ],
)
def test_which_kernels_run_where(
    capability: tuple[int, int], kernels: list[str], runs: bool
) -> None:
    assert has_kernels(capability, kernels) is runs


@pytest.mark.parametrize(
    ("free", "said"),
    [
        (2 * GIB, None),
        (2 * GIB - 1, r"^a GPU has 2047 of 8192 MiB free; 2048 MiB .* to load .*a larger GPU$"),
        (0, r"^a GPU has 0 of 8192 MiB free"),
    ],
)
def test_a_gpu_must_have_room_for_a_model(
    monkeypatch: pytest.MonkeyPatch, free: int, said: str | None
) -> None:
    a_gpu(monkeypatch, mem_get_info=(free, 8 * GIB))
    with refused(said):
        check_gpu()


@pytest.mark.parametrize(
    ("free", "said"),
    [
        (GIB, None),
        (GIB - 1, r"^a GPU has 1023 of 8192 MiB free beside the model; 1024 MiB are needed"),
        (0, r"^a GPU has 0 of 8192 MiB free"),
    ],
)
def test_a_loaded_model_must_leave_room_for_jobs(
    monkeypatch: pytest.MonkeyPatch, free: int, said: str | None
) -> None:
    a_gpu(monkeypatch, mem_get_info=(free, 8 * GIB))
    with refused(said):
        check_gpu_memory()


def test_a_usable_gpu_is_not_asked_for_its_driver(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "nvidiactl").touch()
    a_gpu(monkeypatch)
    check_gpu(tmp_path)


def test_a_gpu_without_a_usable_driver_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    check_gpu(tmp_path)
    (tmp_path / "nvidiactl").symlink_to("/dev/null")  # a device as well
    with pytest.raises(SetupError, match=r"its driver is too old.*CUDA 12\.6 or newer"):
        check_gpu(tmp_path)


def test_without_a_gpu_nothing_is_asked_of_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name in ("get_device_name", "get_device_capability", "get_arch_list", "mem_get_info"):
        monkeypatch.delattr(f"torch.cuda.{name}")
    check_gpu(tmp_path)
    check_gpu_memory()


def test_memory_that_torch_keeps_for_reuse_is_room_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """What warming up has left, above all."""
    a_gpu(monkeypatch, mem_get_info=(GIB // 2, 8 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 5 * GIB)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: 4 * GIB)
    check_gpu_memory()
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: 5 * GIB)
    with refused("512 of 8192 MiB free"):
        check_gpu_memory()
