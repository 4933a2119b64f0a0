"""Audio that waits on the disk: all of it comes back, in order, a little at a time."""

from __future__ import annotations

import resource
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.audio.spool import BLOCK, Clip, Spool, laid_out
from worker.audio.waveform import Audio, Span
from worker.errors import StorageError

RATE = 16_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("spool")


def counted(length: int, first: int = 0) -> Audio:
    """Samples of which no two are alike."""
    return Audio(np.arange(first, first + length, dtype=np.float32), RATE)


def test_what_is_added_comes_back_to_the_bit(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    given_ = [np.random.default_rng(n).normal(size=n).astype(np.float32) for n in (5, 0, 70_000)]
    clips = [spool.add(Audio(samples, RATE)) for samples in given_]
    for samples, clip in reversed(list(zip(given_, clips, strict=True))):
        read = spool.read(clip)
        assert read.sample_rate == RATE
        assert read.samples.dtype == np.float32
        np.testing.assert_array_equal(read.samples, samples)
    assert (tmp_path / "spool").stat().st_size == 4 * 70_005


def test_other_kinds_of_samples_are_kept_as_float32(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    wide = np.arange(10.0)[::2]  # float64, not in one piece
    np.testing.assert_array_equal(spool.read(spool.add(Audio(wide, RATE))).samples, wide)


@given(
    sizes=st.lists(st.tuples(st.integers(0, 900), st.integers(0, 500)), min_size=1, max_size=8),
    end=st.integers(0, 900),
)
def test_no_sample_is_lost_or_added(folder: Path, sizes: list[tuple[int, int]], end: int) -> None:
    before, lengths = zip(*sizes, strict=True)
    file = folder / "spool"
    file.unlink(missing_ok=True)
    spool = Spool(file)
    clips = [spool.add(counted(n, 1 + 1_000 * i)) for i, n in enumerate(lengths)]
    silences = [*before, end]
    whole = np.concatenate([*spool.blocks(clips, silences), np.zeros(0)])
    spans = laid_out(clips, silences)
    assert len(whole) == sum(lengths) + sum(silences) == round(spans[-1].end * RATE) + end
    for i, (span, n) in enumerate(zip(spans, lengths, strict=True)):
        first, last = round(span.start * RATE), round(span.end * RATE)
        np.testing.assert_array_equal(whole[first:last], counted(n, 1 + 1_000 * i).samples)
        whole[first:last] = 0
    assert not whole.any()  # the silence


@pytest.mark.parametrize("gap", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 5 * RATE])
@pytest.mark.parametrize("length", [BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK])
def test_a_block_is_bounded(tmp_path: Path, gap: int, length: int) -> None:
    spool = Spool(tmp_path / "spool")
    clips = [spool.add(counted(length)), spool.add(counted(length))]
    sizes = [len(block) for block in spool.blocks(clips, [gap, gap, 1])]
    assert max(sizes) <= BLOCK
    assert sum(sizes) == 2 * length + 2 * gap + 1


def test_clips_lie_where_their_order_puts_them() -> None:
    """Whatever order they were added in: a sentence that is spoken again is added last."""
    clips = [Clip(99, 16_000, RATE), Clip(0, 0, RATE), Clip(5, 16_000, RATE)]
    silences = [0, 8_000, 8_000, 0]
    assert laid_out(clips, silences) == (Span(0.0, 1.0), Span(1.5, 1.5), Span(2.0, 3.0))
    assert laid_out(clips[:1], [4_000, 80_000]) == (Span(0.25, 1.25),)


def test_hours_of_gaps_take_no_memory(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    clip = spool.add(counted(RATE))
    tracemalloc.start()
    total = sum(len(block) for block in spool.blocks([clip] * 3_600, [5 * RATE] * 3_601))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total == 3_600 * RATE + 3_601 * 5 * RATE  # six hours
    assert peak < 2_000_000


def test_a_full_disk_is_told_of(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    kept = spool.add(counted(10_000))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(StorageError, match="temporary folder"):
            spool.add(counted(10_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    np.testing.assert_array_equal(spool.read(kept).samples, counted(10_000).samples)
    clip = spool.add(counted(10, 7))  # what was written in part is not in its way
    np.testing.assert_array_equal(spool.read(clip).samples, counted(10, 7).samples)


def test_audio_that_is_gone_is_told_of(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    clip = spool.add(counted(100))
    (tmp_path / "spool").write_bytes(b"1234")
    with pytest.raises(StorageError, match="lost audio"):
        spool.read(clip)
    (tmp_path / "spool").unlink()
    with pytest.raises(StorageError, match="could not be read"):
        spool.read(clip)
