"""A start that is recorded, packed and started from: real workers on a real slow mount."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.platform.start.whole import lay_out, start
from tests.support.slow_volume import slow_volume
from volume.layout import Layout
from volume.start_pack.pack import CODE, NAME, read_index

CALLS = 600  # on the volume, in one start with its first job


@pytest.fixture(scope="module")
def volume(demo_volume: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the pack that a first start has made."""
    folder = tmp_path_factory.mktemp("packed")
    lay_out(folder, demo_volume)
    first = start(folder)
    assert first.answered, first.written
    assert "start pack: a start is rehearsed" in first.written
    assert not first.told("start pack fails")
    return folder


def pack_of(volume: Path) -> Path:
    (folder,) = (path for path in Layout(volume).starts.iterdir() if path.is_dir())
    return folder / NAME


def test_it_holds_what_a_start_reads(volume: Path) -> None:
    index = read_index(pack_of(volume))
    code = {path for s in index.segments if s.kind == CODE for path in s.paths}
    assert {"torch/__init__.py", "runpod/__init__.py", "fastapi/__init__.py"} < code
    assert any(path.startswith("botocore/") for path in code)  # the bucket's client
    ahead = {file.path: file.ranges for file in index.ahead}
    size = sum(end - first for first, end in ahead["torch/lib/libtorch_cpu.so"])
    assert 10e6 < size < 300e6
    assert "torch/lib/libtorch_cpu.so" in index.preload
    assert "torch/lib/libtorch_python.so" not in index.preload  # which calls Python


def test_a_start_asks_a_slow_volume_for_little(volume: Path, slow_mount: None) -> None:
    with slow_volume(volume, 1, follow=True) as slow:
        started = start(slow.path)
        counts = slow.counts
    assert started.answered, started.written
    assert not started.told("start pack fails")
    assert "start is rehearsed" not in started.written
    assert counts.metadata <= CALLS, counts


def test_a_start_from_a_damaged_pack_says_so_and_answers(volume: Path) -> None:
    pack = pack_of(volume)
    whole = pack.read_bytes()
    index = read_index(pack)
    try:
        for segment in (index.segments[0], index.segments[-1]):
            spoilt = bytearray(whole)
            spoilt[segment.end - 1] ^= 1
            pack.write_bytes(spoilt)
            started = start(volume)
            assert started.answered, started.written
            (told,) = started.told("start pack fails")
            assert told["reason"] == "a part of the start pack is damaged"
    finally:
        pack.write_bytes(whole)
