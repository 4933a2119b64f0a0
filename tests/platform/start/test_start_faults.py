"""A start under faults of its volume and its disk: the job is answered, and the fault is told."""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.platform.start.whole import Start, start
from tests.support.slow_volume import SlowVolume, slow_volume
from tests.support.volume_world import flip_a_bit
from tests.support.waiting import until
from volume.start_pack.pack import read_index

MOST = 600  # seconds until a start has read so much


def still_after(volume: SlowVolume, read: int, seconds: float) -> Callable[[object], None]:
    """Have the volume stand still for so long once so many bytes have been read."""

    def stand(process: subprocess.Popen[str]) -> None:
        until(lambda: volume.counts.bytes_read > read or process.poll() is not None, MOST)
        with volume.standing_still():
            time.sleep(seconds)

    return stand


def test_a_volume_that_stands_still_in_the_middle_of_a_start_is_told_and_waited_for(
    whole_volume: Path, slow_mount: None, times: Callable[[int, int], int]
) -> None:
    megabytes = (200, 0, 1, 20, 50, 100, 150, 300)  # of the 500 that a start reads
    for read in megabytes[: times(1, len(megabytes))]:
        with slow_volume(whole_volume, 0.05, follow=True) as slow:
            started = start(slow.path, meanwhile=still_after(slow, read << 20, times(5, 10)))
            assert slow.counts.bytes_read > read << 20
        assert started.answered, started.written
        late = started.told("volume answered late")
        assert all(event["seconds"] > 3 for event in late)
        if read:  # or it was `volume run` that waited
            assert late, started.written


def reasons(started: Start) -> list[str]:
    """Of a start that answered its job all the same: what it says of its pack."""
    assert started.answered, started.written
    return [event["reason"] for event in started.told("start pack fails")]


@contextmanager
def changed(path: Path, change: Callable[[Path], object]) -> Iterator[None]:
    good = path.read_bytes()
    change(path)
    try:
        yield
    finally:
        path.write_bytes(good)


def test_a_whole_pack_is_used_and_nothing_is_told(whole_volume: Path, pack: Path) -> None:
    assert reasons(start(whole_volume)) == []


def test_a_bit_flipped_in_any_part_of_a_pack_costs_no_job(whole_volume: Path, pack: Path) -> None:
    chance = random.Random(1)
    size = pack.stat().st_size
    for segment in read_index(pack).segments:
        place = chance.uniform(segment.offset, segment.end - 1) / (size - 1)
        with changed(pack, lambda path, place=place: flip_a_bit(path, place)):
            assert reasons(start(whole_volume)) == ["a part of the start pack is damaged"]


def test_a_pack_cut_short_anywhere_costs_no_job(whole_volume: Path, pack: Path) -> None:
    """A library may come whose own libraries do not."""
    size = pack.stat().st_size
    cuts = [0, 10, 60, 4096, *(size * part // 16 for part in range(1, 16)), size - 1]
    for end in cuts:
        with changed(pack, lambda path, end=end: os.truncate(path, end)):
            (reason,) = reasons(start(whole_volume))
            assert "of no use" in reason or reason == "a part of the start pack cannot be read"


# Mounts a file system at a folder, for what follows it alone.
MOUNT = 'folder=$1; options=$2; shift 2; mount -t tmpfs -o "$options" none "$folder" && exec "$@"'


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("size=400m", []),
        ("size=400m,noexec", ["lets nothing be executed"]),
        ("size=100m", ["has no room"]),
        ("size=8m", ["has no room"]),
    ],
)
def test_a_small_or_strict_disk_costs_no_job(
    whole_volume: Path, pack: Path, tmp_path: Path, options: str, told: Sequence[str]
) -> None:
    around = ["unshare", "-m", "sh", "-c", MOUNT, "sh", str(tmp_path), options]
    if subprocess.run([*around, "true"], check=False, capture_output=True).returncode:
        pytest.skip("the machine allows no mounts of one's own")
    found = reasons(start(whole_volume, around=around, TMPDIR=str(tmp_path)))
    assert len(found) == len(told)
    assert all(part in reason for part, reason in zip(told, found, strict=True))


# Fills the folder once the worker has found room in it, and gives it back before the job.
FILL = """
(until ls "$TMPDIR" | grep -q spark-start-; do sleep 0.005; done
 head -c 300m /dev/zero > "$TMPDIR/other"; sleep 3; rm "$TMPDIR/other") >/dev/null 2>&1 &
exec "$@"
"""


def test_a_disk_that_fills_while_a_pack_is_unpacked_costs_no_job(
    whole_volume: Path, pack: Path, tmp_path: Path, slow_mount: None
) -> None:
    around = ["unshare", "-m", "sh", "-c", MOUNT, "sh", str(tmp_path), "size=160m"]
    if subprocess.run([*around, "true"], check=False, capture_output=True).returncode:
        pytest.skip("the machine allows no mounts of one's own")
    around += ["sh", "-c", FILL, "sh"]
    with slow_volume(whole_volume, 3, follow=True) as slow:
        (reason,) = reasons(start(slow.path, around=around, TMPDIR=str(tmp_path)))
    assert reason == "the start pack cannot be unpacked: No space left on device"
