"""A start under faults of its volume: the job is answered, and a line says what was wrong."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.platform.start.whole import lay_out, start
from tests.support.slow_volume import SlowVolume, slow_volume
from tests.support.waiting import until

MOST = 600  # seconds until a start has read so much


@pytest.fixture(scope="module")
def volume(demo_volume: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    lay_out(folder, demo_volume)
    return folder


def still_after(volume: SlowVolume, read: int, seconds: float) -> Callable[[object], None]:
    """Have the volume stand still for so long once so many bytes have been read."""

    def stand(process: subprocess.Popen[str]) -> None:
        until(lambda: volume.counts.bytes_read > read or process.poll() is not None, MOST)
        with volume.standing_still():
            time.sleep(seconds)

    return stand


def test_a_volume_that_stands_still_in_the_middle_of_a_start_is_told_and_waited_for(
    volume: Path, slow_mount: None, times: Callable[[int, int], int]
) -> None:
    megabytes = (100, 0, 1, 10, 30, 60, 200, 300)  # of the 500 that a start reads
    for read in megabytes[: times(1, len(megabytes))]:
        with slow_volume(volume, 0.05, follow=True) as slow:
            started = start(slow.path, meanwhile=still_after(slow, read << 20, times(5, 10)))
            assert slow.counts.bytes_read > read << 20
        assert started.answered, started.written
        late = started.told("volume answered late")
        assert all(event["seconds"] > 3 for event in late)
        if read >= 100:  # what comes first is not the worker's own
            assert late, started.written
