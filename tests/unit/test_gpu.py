"""Which GPUs are taken: by their age, and by the memory that is free."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from worker.errors import SetupError
from worker.speech.gpu import check_gpu

GIB = 1 << 30


@pytest.mark.parametrize(
    ("capability", "free", "said"),
    [
        ((7, 0), 8 * GIB, None),  # a V100 is just new enough
        ((6, 9), 8 * GIB, "6.9; 7.0 or newer"),
        ((8, 0), 8 * GIB, None),
        ((12, 0), 8 * GIB, None),
        ((7, 0), GIB, None),  # and this is just enough memory
        ((7, 0), GIB - 1, "1023 of 8192 MiB free"),
        ((7, 0), 0, "0 of 8192 MiB free"),
    ],
)
def test_a_gpu_must_be_new_enough_and_have_room(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], free: int, said: str | None
) -> None:
    for name, given in (
        ("is_available", True),
        ("get_device_name", "a GPU"),
        ("get_device_capability", capability),
        ("mem_get_info", (free, 8 * GIB)),
    ):
        monkeypatch.setattr(f"torch.cuda.{name}", lambda given=given: given)
    with pytest.raises(SetupError, match=f"^a GPU has .*{said}") if said else nullcontext():
        check_gpu()


def test_a_usable_gpu_is_not_asked_for_its_driver(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "nvidiactl").touch()
    for name, given in (
        ("is_available", True),
        ("get_device_name", "a GPU"),
        ("get_device_capability", (8, 0)),
        ("mem_get_info", (2 * GIB, 8 * GIB)),
    ):
        monkeypatch.setattr(f"torch.cuda.{name}", lambda given=given: given)
    check_gpu(tmp_path)


def test_without_a_gpu_nothing_is_asked_of_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name in ("get_device_name", "get_device_capability", "mem_get_info"):
        monkeypatch.delattr(f"torch.cuda.{name}")
    check_gpu(tmp_path)
