"""What many tests share: models, engines, a volume, the judge; and nothing leaves the machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

# Read when torch is imported: threads that wait sleep, so that two runs side by side on few
# cores do not slow each other down tenfold.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

from tests.support.checkpoints import make_checkpoint
from tests.support.loopback_only import sitecustomize  # noqa: F401 - guards this process
from tests.support.random_checkpoint import FULL
from tests.support.worker_process import environment, run
from worker.speech.engine import Engine
from worker.speech.lm.int8_weights import EXTENSIONS, Kernel
from worker.speech.native.build import cpu_flags

if TYPE_CHECKING:  # the judge is in the development environment alone; unit tests run without it
    from faster_whisper import WhisperModel

# A busy machine makes no test red.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")

REPOSITORY = Path(__file__).parents[1]
DEMO = REPOSITORY / "volume" / "demo" / "checkpoint"
DEMO_VOICE = REPOSITORY / "volume" / "demo" / "voices" / "demo.wav"


@pytest.fixture(scope="session", autouse=True)
def _two_threads() -> Iterator[None]:
    """The same arithmetic on every machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def demo_checkpoint() -> Path:
    """The embedded checkpoint: it speaks, cloned and in styles."""
    return DEMO


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random checkpoint with every token: it babbles, in all modes."""
    return make_checkpoint(tmp_path_factory.mktemp("checkpoints") / "tiny")


@pytest.fixture(scope="session")
def full_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random checkpoint of the published model's size: 4 GB."""
    return make_checkpoint(tmp_path_factory.mktemp("checkpoints") / "full", FULL)


@pytest.fixture(
    scope="session",
    params=["demo", "tiny", pytest.param("full", marks=pytest.mark.full_size)],
)
def checkpoint(request: pytest.FixtureRequest) -> Path:
    """Each of them, one after the other."""
    return Path(request.getfixturevalue(f"{request.param}_checkpoint"))


@pytest.fixture(scope="session")
def demo_engine(demo_checkpoint: Path) -> Engine:
    """The embedded checkpoint, loaded."""
    return Engine.load(demo_checkpoint, "float32", "cpu")


@pytest.fixture(scope="session")
def tiny_engine(tiny_checkpoint: Path) -> Engine:
    """The tiny random checkpoint, loaded."""
    return Engine.load(tiny_checkpoint, "float32", "cpu")


@pytest.fixture(scope="session")
def demo_volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A volume on which `python -m volume install --model demo` was run."""
    volume = tmp_path_factory.mktemp("volume")
    done = run("-m", "volume", "install", "--model", "demo", env=environment(volume))
    assert done.returncode == 0, done.stderr
    return volume


@pytest.fixture(scope="session")
def judge(tmp_path_factory: pytest.TempPathFactory) -> WhisperModel:
    """Whisper base."""
    from tests.support.judge import load_judge

    return load_judge(tmp_path_factory.mktemp("judge"))


@pytest.fixture(scope="session")
def kernel() -> Kernel:
    """The kernel must be there where the CPU can run it: a lost compiler is a failure."""
    found = Kernel.open()
    if found is None:
        lacking = set(EXTENSIONS) - cpu_flags()
        assert lacking, "this CPU can run the kernel, and it was not built"
        pytest.skip(f"this CPU lacks {', '.join(sorted(lacking))}")
    return found
