"""lm.cu's arguments and numbers as Python has them: those of the source itself."""

from __future__ import annotations

import ctypes
import re

import pytest

from tests.support.cuda_on_cpu import SOURCES, CpuLauncher
from worker.speech.cuda import codec, lm
from worker.speech.lm import paged_cache

pytestmark = pytest.mark.slow("compiles the kernels for a CPU")

SOURCE = (SOURCES / "lm.cu").read_text(encoding="utf-8")
PRODUCTS = (SOURCES / "lm_products.cuh").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def kernels() -> CpuLauncher:
    return CpuLauncher()


@pytest.mark.parametrize("name", lm.KERNELS)
def test_a_kernels_structure_is_as_large_as_the_sources(kernels: CpuLauncher, name: str) -> None:
    size = ctypes.c_size_t.in_dll(kernels.library, f"{name}_size").value
    assert ctypes.sizeof(lm.KERNELS[name]) == size


def test_a_structure_of_another_size_is_refused(kernels: CpuLauncher) -> None:
    with pytest.raises(TypeError, match="embed_all takes"):
        kernels.launch("embed_all", (1, 1, 1), lm.EMBED_THREADS, lm.Tokens())


def test_a_kernel_that_does_not_wait_for_the_one_before_is_refused() -> None:
    """As codec.cu's, which need not: they never begin before that has ended."""
    waits_not = CpuLauncher("codec")
    nothing = codec.Snake(positions=0)
    waits_not.launch("snake_rows", (1, 1, 1), codec.THREADS, nothing)
    waits_not._overlaps = True
    with pytest.raises(RuntimeError, match="256 threads of snake_rows do not wait"):
        waits_not.launch("snake_rows", (1, 1, 1), codec.THREADS, nothing)


def test_all_kernels_of_the_source_are_there() -> None:
    alone = re.findall(r"^KERNEL\((\w+),", SOURCE, re.MULTILINE)
    sized = re.findall(r"^FOR_TOKENS\((\w+),", SOURCE, re.MULTILINE)
    assert {*alone, *(f"{name}_{size}" for name in sized for size in lm.TOKENS)} == {*lm.KERNELS}
    assert set(sized) == set(lm.PRODUCTS)


def test_numbers_are_those_of_the_source() -> None:
    theirs = {
        name: int(value)
        for name, value in re.findall(r"^#define (\w+) (\d+)\b", PRODUCTS + SOURCE, re.MULTILINE)
    }
    same = ("PAGE", "TILE", "CHUNK", "MOST_WARPS", "MOST_SHARING", "MOST_CANDIDATES")
    assert {name: theirs[name] for name in same} == {name: getattr(lm, name) for name in same}
    assert theirs["ATTEND_WARPS"] * lm.WARP == lm.ATTEND_THREADS
    assert theirs["DRAW_THREADS"] == lm.DRAW_THREADS
    assert theirs["MOST_SPLITS"] >= lm.SPLITS
    assert theirs["PAGE"] % theirs["KEYS"] == 0
    assert paged_cache.PAGE == lm.PAGE
