"""A volume for whole starts, made once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.platform.start.whole import ENGLISH, lay_out, pack_of
from tests.support.worker_process import environment, run


@pytest.fixture(scope="session")
def whole_volume(
    demo_volume: Path, tmp_path_factory: pytest.TempPathFactory, times: Callable[[int, int], int]
) -> Path:
    """The demo model and the development environment, to be mounted with `follow`.

    With a start pack in full alone: a rehearsal takes longer than all the rest.
    """
    folder = tmp_path_factory.mktemp("whole")
    lay_out(folder, demo_volume)
    pack = pack_of(folder)
    pack.parent.parent.mkdir(parents=True)
    if times(0, 1):
        done = run("-m", "volume", "install", env=environment(folder, **ENGLISH))
        assert done.returncode == 0, done.stderr
        assert pack.exists()
    else:
        pack.parent.with_name(f"{pack.parent.name}.failed").touch()  # it is not tried again
    return folder


@pytest.fixture(scope="session")
def pack(whole_volume: Path, times: Callable[[int, int], int]) -> Path:
    """The start pack of that volume."""
    if not times(0, 1):
        pytest.skip("in full alone (FULL=1): it needs a start pack of the whole worker")
    return pack_of(whole_volume)
