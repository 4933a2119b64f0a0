"""A flash-attn that cannot be loaded beside torch is refused in words before anything is loaded."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from importlib import invalidate_caches
from pathlib import Path

import pytest
import torch

from volume.layout import pinned_wheel, wheel_abi
from worker.errors import SetupError
from worker.speech.device_checks import check_flash_attention, check_hardware

WHEEL = "flash_attn-2.8.0.post2+cu12torch2.6cxx11abi{}-cp311-cp311-linux_x86_64.whl"


def test_the_locked_wheel_fits_the_locked_torch() -> None:
    locked = pinned_wheel("flash-attn")
    assert locked is not None
    assert wheel_abi(locked) is True  # torch 2.6.0+cu126's, by its release notes


def test_without_a_gpu_the_worker_runs_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    check_flash_attention(WHEEL.format("FALSE"))
    check_flash_attention(WHEEL.format("TRUE"))


def test_a_wheel_that_nobody_locked() -> None:
    assert pinned_wheel("no-such-wheel") is None
    check_flash_attention(None)


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Puts a flash_attn of this code where it is found, beside a GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch._C, "_GLIBCXX_USE_CXX11_ABI", True)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def install(code: str) -> None:
        (tmp_path / "flash_attn.py").write_text(code)
        invalidate_caches()

    yield install
    sys.modules.pop("flash_attn", None)


@pytest.mark.parametrize("installed", [True, False])
def test_on_a_gpu_it_is_asked_where_it_is_installed(
    install: Callable[[str], None], installed: bool
) -> None:
    """Without flash-attn torch's own attention is used, and there is nothing to refuse."""
    if installed:
        install("")
    with pytest.raises(SetupError, match="pin the build") if installed else nullcontext():
        check_flash_attention(WHEEL.format("FALSE"))
    check_flash_attention(WHEEL.format("TRUE"))
    check_flash_attention(None)


@pytest.mark.parametrize("wheel", [WHEEL.format("TRUE"), None])
@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("import flash_attn_2_cuda", r"\(No module named 'flash_attn_2_cuda'\)"),
        (
            "raise ImportError('x.so: undefined symbol: _ZN3c105ErrorC2E\\nmore')",
            r"\(x.so: undefined symbol: _ZN3c105ErrorC2E\)",
        ),
        ("raise OSError('libcudart.so.12: cannot open')", r"\(libcudart.so.12: cannot open\)"),
        ("raise ImportError", r"\(ImportError\)"),
    ],
)
def test_what_cannot_be_imported_is_refused_in_one_line(
    install: Callable[[str], None], code: str, why: str, wheel: str | None
) -> None:
    install(code)
    with pytest.raises(SetupError, match=why) as refused:
        check_flash_attention(wheel)
    assert refused.value.message.startswith("flash-attn is installed and cannot be imported")
    assert "\n" not in refused.value.message


def test_the_gpu_is_asked_before_flash_attention(
    install: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise SetupError("the GPU is too old")

    install("import flash_attn_2_cuda")
    monkeypatch.setattr("worker.speech.device_checks.check_gpu", refuse)
    with pytest.raises(SetupError, match="too old"):
        check_hardware(None)
    monkeypatch.setattr("worker.speech.device_checks.check_gpu", lambda: None)
    with pytest.raises(SetupError, match="flash_attn_2_cuda"):
        check_hardware(None)
    install("")
    check_hardware(WHEEL.format("TRUE"))
    with pytest.raises(SetupError, match="pin the build"):
        check_hardware(WHEEL.format("FALSE"))
