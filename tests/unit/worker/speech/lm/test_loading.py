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
from worker.errors import SetupError
from worker.speech.checkpoint import Checkpoint
from worker.speech.cuda import cubins as keeping
from worker.speech.cuda import open as opening
from worker.speech.cuda.driver import Driver
from worker.speech.cuda.launcher import GpuLauncher
from worker.speech.cuda.nvrtc import Library
from worker.speech.lm.fused_model import FusedLanguageModel
from worker.speech.lm.interface import Decoder
from worker.speech.lm.loading import load_language_model
from worker.speech.lm.torch_model import LanguageModel

pytestmark = pytest.mark.slow("compiles the kernels for a CPU")

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
    assert not lm.in_int8  # `auto` never chooses it
    assert lm.device.type == "cuda"
    assert events() == []


def test_in_int8_it_runs_them_on_the_prepared_weights(
    gpu: Gpu, fitting: Checkpoint, events: Events, tmp_path: Path
) -> None:
    with fused_kernels(gpu) as launcher:
        published = Checkpoint(tmp_path)  # nothing is there
        lm = load_language_model(fitting, published, "int8", GPU, lambda: None)
    assert isinstance(lm, FusedLanguageModel)
    assert lm.in_int8
    assert lm.launcher is launcher
    assert events() == []


def test_int8_is_refused_for_other_sizes_and_for_torchs_kernels(
    gpu: Gpu, fitting: Checkpoint, tiny_checkpoint: Path
) -> None:
    with fused_kernels(gpu):
        with pytest.raises(SetupError, match=r"int8 cannot be had here \(its heads have"):
            load(Checkpoint(tiny_checkpoint), "int8")
        with pytest.raises(SetupError, match="torch has no kernels for it"):
            load(fitting, "int8", fused=False)


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


@pytest.mark.usefixtures("gpu")
def test_int8_where_they_cannot_be_had_is_refused_and_an_event_says_why(
    fitting: Checkpoint, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_compiler(monkeypatch)
    with pytest.raises(SetupError, match=r"int8 cannot be had here \(its kernels cannot be had"):
        load(fitting, "int8")
    assert [text for text, _ in events()] == ["no compiler for CUDA kernels"]


def test_int8_without_its_own_products_is_refused(
    gpu: Gpu, fitting: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fused_kernels(gpu) as launcher:
        found = {"lm": launcher}
        monkeypatch.setattr(GpuLauncher, "open", lambda _gpu, file="lm", *_more: found.get(file))
        with pytest.raises(SetupError, match="its kernels cannot be had here"):
            load(fitting, "int8")


def test_on_a_cpu_nobody_asks_for_them(fitting: Checkpoint, events: Events) -> None:
    cpu = torch.device("cpu")
    lm = load_language_model(fitting, fitting, "bfloat16", cpu, lambda: None)
    assert type(lm) is LanguageModel
    assert events() == []
