"""What many tests share: models, engines, a volume, the judge; and nothing leaves the machine.

torch and the worker are imported by the fixtures that need them: tests without them start at once.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from tests.support.loopback_only import sitecustomize  # noqa: F401 - guards this process
from tests.support.shared import Shared
from tests.support.slow_volume import why_unavailable
from tests.support.tiers import QuickWatch, is_slow, place
from tests.support.worker_process import environment, run

if TYPE_CHECKING:  # the judge is in the development environment alone; unit tests run without it
    from faster_whisper import WhisperModel
    from xdist.remote import Producer
    from xdist.scheduler import LoadScopeScheduling

    from tests.support.http_worker import HttpWorker
    from worker.speech.engine import Engine
    from worker.speech.native.lm import LmKernel

# Both are read when torch is imported. Threads that wait sleep, so that two runs side by side on
# few cores do not slow each other down tenfold; and the arithmetic is the same on every machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ["OMP_NUM_THREADS"] = "2"

# A busy machine makes no test red, and the same tree gives the same verdict. FULL=1 searches anew.
settings.register_profile(
    "any machine",
    deadline=None,
    derandomize=not os.environ.get("FULL"),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("any machine")

REPOSITORY = Path(__file__).parents[1]
DEMO = REPOSITORY / "volume" / "demo" / "checkpoint"
DEMO_VOICE = REPOSITORY / "volume" / "demo" / "voices" / "demo.wav"


def pytest_configure(config: pytest.Config) -> None:
    """Keep the quick tier quick."""
    config.pluginmanager.register(QuickWatch())


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark what is slow."""
    if is_slow(item):
        item.add_marker("slow")


def pytest_sessionfinish() -> None:
    """Wait for schedulers that linger: one that frees tensors while Python ends aborts it."""
    for thread in threading.enumerate():
        if thread.name == "scheduler":
            thread.join(5)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """Have the tests of a file, or of a folder whose servers they share, run by one process."""
    from tests.support.in_two import Together

    return Together(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those with the longest tests first."""
    items.sort(key=place)


@pytest.fixture(autouse=True)
def _log_as_before() -> Iterator[None]:
    """A program that a test calls sets the worker's log up for itself: it is put back."""
    log = logging.getLogger("worker")
    handlers, level, propagate = log.handlers[:], log.level, log.propagate
    yield
    log.handlers[:], log.propagate = handlers, propagate
    log.setLevel(level)


@pytest.fixture(scope="session", autouse=True)
def _two_threads() -> None:
    """The same arithmetic where torch was imported before this file was."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(2)


@pytest.fixture(scope="session")
def made_once(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Shared:
    """What a session makes once, whatever the number of its processes."""
    base = tmp_path_factory.getbasetemp()
    return Shared((base.parent if hasattr(request.config, "workerinput") else base) / "shared")


@pytest.fixture(scope="session")
def demo_checkpoint() -> Path:
    """The embedded checkpoint: it speaks, cloned and in styles."""
    return DEMO


@pytest.fixture(scope="session")
def tiny_checkpoint(made_once: Shared) -> Path:
    """A tiny random checkpoint with every token: it babbles, in all modes."""
    from tests.support.checkpoints import make_checkpoint

    return made_once.folder("tiny", make_checkpoint)


@pytest.fixture(scope="session")
def full_checkpoint(made_once: Shared) -> Path:
    """A random checkpoint of the published model's size: 4 GB."""
    from tests.support.checkpoints import make_checkpoint
    from tests.support.random_checkpoint import FULL

    return made_once.folder("full", lambda folder: make_checkpoint(folder, FULL))


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
    from worker.speech.engine import Engine

    return Engine.load(demo_checkpoint, "float32", "cpu")


@pytest.fixture(scope="session")
def tiny_engine(tiny_checkpoint: Path) -> Engine:
    """The tiny random checkpoint, loaded."""
    from worker.speech.engine import Engine

    return Engine.load(tiny_checkpoint, "float32", "cpu")


@pytest.fixture(scope="session")
def demo_volume(made_once: Shared) -> Path:
    """A volume on which `python -m volume install --model demo` was run."""

    def install(volume: Path) -> None:
        done = run("-m", "volume", "install", "--model", "demo", env=environment(volume))
        assert done.returncode == 0, done.stderr

    return made_once.folder("volume", install)


@pytest.fixture(scope="session")
def gpu_kernels(made_once: Shared) -> Path:
    """The kernels for GPUs as an install compiles them, half a minute's work: to be copied."""

    def compile_all(folder: Path) -> None:
        done = run("-m", "worker.speech.cuda.cubins", str(folder), env=os.environ)
        assert done.returncode == 0, done.stderr

    return made_once.folder("cubins", compile_all)


@pytest.fixture(scope="session")
def slow_mount() -> None:
    """Skips the test by name where the machine has no slow mount (tests/support/slow_volume.py)."""
    lacking = why_unavailable()
    if lacking is not None:
        pytest.skip(lacking)


@pytest.fixture(scope="session")
def http_worker(
    demo_volume: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[HttpWorker]:
    """`python -m worker --http` on the embedded model, ready; its bucket is a folder.

    All that ask for it in a process share it: leave no request open, and no voice of a name that
    another may use.
    """
    from tests.support.http_worker import http_serving

    folder = tmp_path_factory.mktemp("http_worker")
    with http_serving(environment(demo_volume), folder) as worker:
        yield worker


@pytest.fixture(scope="session")
def judge(tmp_path_factory: pytest.TempPathFactory) -> WhisperModel:
    """Whisper base."""
    from tests.support.judge import load_judge

    return load_judge(tmp_path_factory.mktemp("judge"))


@pytest.fixture(scope="session")
def kernel() -> LmKernel:
    """The kernel must be there where the CPU can run it: a lost compiler is a failure."""
    from worker import cpu_info
    from worker.speech.native.lm import LmKernel

    found = LmKernel.open()
    if found is None:
        lacking = {*LmKernel.interface.extensions} - cpu_info.flags()
        assert lacking, "this CPU can run the kernel, and it was not built"
        pytest.skip(f"this CPU lacks {', '.join(sorted(lacking))}")
    return found
