"""Which kernels the language model runs on, on a dry GPU, and why not on those of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.support.dry_gpu import dry_gpu
from tests.support.dry_gpu.kernels import fused_kernels
from tests.support.dry_gpu.streams import Gpu
from tests.support.events import Events
from tests.support.random_checkpoint import Sizes, make_random_checkpoint
from worker.speech.checkpoint import Checkpoint
from worker.speech.cuda import cubins as keeping
from worker.speech.cuda import open as opening
from worker.speech.cuda.driver import Driver
from worker.speech.cuda.nvrtc import Library
from worker.speech.lm.fused_model import FusedLanguageModel
from worker.speech.lm.interface import Decoder
from worker.speech.lm.loading import load_language_model
from worker.speech.lm.torch_model import LanguageModel

FITTING = Sizes(hidden=64, heads=2, kv_heads=1, intermediate=96, layers=1)
GPU = torch.device("cuda")
NOT_POSSIBLE = "fused kernels are not possible"


@pytest.fixture(scope="module")
def fitting(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return Checkpoint(make_random_checkpoint(tmp_path_factory.mktemp("fitting") / "m", FITTING))


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gpu]:
    """Its cubins are neither kept nor looked for anywhere."""
    monkeypatch.setattr(keeping, "shared_folders", lambda: iter(()))
    with dry_gpu() as found:
        yield found


def load(checkpoint: Checkpoint, dtype: str = "auto", *, fused: bool = True) -> Decoder:
    return load_language_model(checkpoint, checkpoint, dtype, GPU, lambda: None, fused=fused)


@pytest.mark.parametrize("dtype", ["auto", "bfloat16"])
def test_a_gpu_runs_the_workers_own_kernels(
    gpu: Gpu, fitting: Checkpoint, events: Events, dtype: str
) -> None:
    with fused_kernels(gpu) as launcher:
        lm = load(fitting, dtype)
    assert isinstance(lm, FusedLanguageModel)
    assert lm.launcher is launcher
    assert lm.device.type == "cuda"
    assert events() == []


def test_in_float32_or_where_it_is_asked_for_torchs_run_without_a_word(
    gpu: Gpu, fitting: Checkpoint, events: Events
) -> None:
    with fused_kernels(gpu):
        exact, plain = load(fitting, "float32"), load(fitting, fused=False)
    assert (type(exact), exact.dtype) == (LanguageModel, torch.float32)
    assert (type(plain), plain.dtype) == (LanguageModel, torch.bfloat16)
    assert events() == []


def test_a_gpu_without_bfloat16_runs_torchs(
    gpu: Gpu, fitting: Checkpoint, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_how: False)
    with fused_kernels(gpu):
        lm = load(fitting)
    assert (type(lm), lm.dtype) == (LanguageModel, torch.float32)
    assert events() == []


def test_a_model_of_other_sizes_runs_on_torchs(
    gpu: Gpu, tiny_checkpoint: Path, events: Events
) -> None:
    with fused_kernels(gpu):
        assert type(load(Checkpoint(tiny_checkpoint))) is LanguageModel
    ((text, fields),) = events()
    assert text == NOT_POSSIBLE
    assert "its heads have" in fields["reason"]


def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "find_library", lambda: None)


def no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "find_library", lambda: Library(Path("none"), "none"))
    monkeypatch.setattr(opening, "Driver", lambda _name: Driver("none.so"))


def old_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: (12, 0))


@pytest.mark.parametrize(
    ("lacking", "said"),
    [
        (no_compiler, "no compiler for CUDA kernels"),
        (no_driver, "CUDA kernels cannot be loaded"),
        (old_gpu, "no CUDA kernels for this GPU"),
    ],
)
@pytest.mark.usefixtures("gpu")
def test_where_they_cannot_be_had_torchs_run_and_two_events_say_why(
    fitting: Checkpoint, events: Events, monkeypatch: pytest.MonkeyPatch, lacking: object, said: str
) -> None:
    assert callable(lacking)
    lacking(monkeypatch)
    assert type(load(fitting)) is LanguageModel
    assert [text for text, _ in events()] == [said, NOT_POSSIBLE]


def test_on_a_cpu_nobody_asks_for_them(fitting: Checkpoint, events: Events) -> None:
    cpu = torch.device("cpu")
    lm = load_language_model(fitting, fitting, "bfloat16", cpu, lambda: None)
    assert type(lm) is LanguageModel
    assert events() == []
