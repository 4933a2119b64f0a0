"""NVRTC, as the environment has it: what it is found by, what it makes, and what it says."""

from __future__ import annotations

import ctypes
import locale
from pathlib import Path

import pytest

from worker.speech.cuda.cubins import ARCHITECTURES, SOURCES
from worker.speech.cuda.nvrtc import CompileError, Library, Nvrtc, find_library

SOURCE = """
#include "factor.cuh"
struct Pair { float a, b; };
float first(Pair pair) { return pair.a; }  // no __device__, as a host's compiler reads it
extern "C" __global__ void scale(float *values, int count) {
    static_assert(sizeof(values) == 8);
    int place = blockIdx.x * blockDim.x + threadIdx.x;
    if (place < count) values[place] = first({values[place] * FACTOR, 0});
}
"""
HEADERS = {"factor.cuh": "#pragma once\nconstexpr float FACTOR = 2.5f;\n"}


@pytest.fixture(scope="module")
def nvrtc() -> Nvrtc:
    library = find_library()
    assert library is not None
    return Nvrtc(library.path)


def kernels() -> list[str]:
    return sorted(path.name for path in SOURCES.glob("*.cu"))


# Found


def test_it_is_found_in_the_environment_with_its_wheels_version() -> None:
    library = find_library()
    assert library is not None
    assert library.path.name.startswith("libnvrtc.so.")
    assert library.version.startswith("nvidia_cuda_nvrtc")


def put(folder: Path, *names: str, content: bytes = b"") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(content)


def test_the_wheels_of_cuda_12_and_13_are_known(tmp_path: Path) -> None:
    twelve, thirteen = tmp_path / "12", tmp_path / "13"
    put(twelve / "nvidia/cuda_nvrtc/lib", "libnvrtc.so.12", "libnvrtc-builtins.so.12.6")
    (twelve / "nvidia_cuda_nvrtc_cu12-12.6.77.dist-info").mkdir()
    put(thirteen / "nvidia/cu13/lib", "libnvrtc.so.13", "libnvrtc.alt.so.13", "libcudart.so.13")
    (thirteen / "nvidia_cuda_nvrtc-13.0.88.dist-info").mkdir()
    for folder, place, version in (
        (twelve, "nvidia/cuda_nvrtc/lib/libnvrtc.so.12", "nvidia_cuda_nvrtc_cu12-12.6.77"),
        (thirteen, "nvidia/cu13/lib/libnvrtc.so.13", "nvidia_cuda_nvrtc-13.0.88"),
    ):
        found = find_library([str(tmp_path / "none"), str(folder)], [])
        assert found == Library(folder / place, version)
    both = find_library([str(thirteen), str(twelve)], [])
    assert both is not None
    assert both.path.name == "libnvrtc.so.13"  # Python too imports from the first


def test_else_the_systems_newest_is_taken_and_told_from_others_by_its_full_name(
    tmp_path: Path,
) -> None:
    put(tmp_path, "libnvrtc.so.12.6.77", "libnvrtc.so.9.0", content=b"12345")
    (tmp_path / "libnvrtc.so.12").symlink_to("libnvrtc.so.12.6.77")
    found = find_library([], [tmp_path / "none", tmp_path])
    assert found is not None
    assert found.version == "libnvrtc.so.12.6.77 5"


def test_where_there_is_none_none_is_found(tmp_path: Path) -> None:
    assert find_library([str(tmp_path)], [tmp_path]) is None


def test_what_is_no_library_or_another_one_is_told(tmp_path: Path) -> None:
    put(tmp_path, "libnvrtc.so.12", content=b"no library")
    with pytest.raises(CompileError, match="cannot be opened"):
        Nvrtc(tmp_path / "libnvrtc.so.12")
    with pytest.raises(CompileError, match="nvrtcCreateProgram"):
        Nvrtc(Path("libm.so.6"))


# Compiled


@pytest.mark.slow("compiles CUDA C")
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_same_source_gives_the_same_cubin_for_each_architecture(
    nvrtc: Nvrtc, architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cubin = nvrtc.compile("toy.cu", SOURCE, HEADERS, architecture)
    assert cubin[:4] == b"\x7fELF"
    assert b"scale\0" in cubin
    # e_flags of a cubin have the architecture in their lowest byte.
    assert cubin[48] == int(architecture.removeprefix("sm_"))
    monkeypatch.chdir(tmp_path)
    library = find_library()
    assert library is not None
    assert Nvrtc(library.path).compile("toy.cu", SOURCE, HEADERS, architecture) == cubin
    assert str(Path.home()).encode() not in cubin
    assert str(tmp_path).encode() not in cubin


@pytest.mark.slow("compiles CUDA C")
def test_only_the_headers_that_are_given_are_included(
    nvrtc: Nvrtc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "factor.cuh").write_text(HEADERS["factor.cuh"])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CompileError, match=r"factor\.cuh"):
        nvrtc.compile("toy.cu", SOURCE, {}, "sm_80")


@pytest.mark.slow("compiles CUDA C")
def test_an_error_has_the_place_and_the_compilers_words(nvrtc: Nvrtc) -> None:
    with pytest.raises(CompileError) as raised:
        nvrtc.compile("toy.cu", SOURCE.replace("count)", "counts)", 1), HEADERS, "sm_86")
    said = str(raised.value)
    assert said.startswith("toy.cu for sm_86: NVRTC_ERROR_COMPILATION: toy.cu(8): error: ")
    assert '"count" is undefined' in said
    with pytest.raises(CompileError, match="NVRTC_ERROR_INVALID_OPTION"):
        nvrtc.compile("toy.cu", SOURCE, HEADERS, "sm_7")


@pytest.mark.slow("compiles CUDA C")
def test_what_is_no_architecture_of_a_gpu_gives_no_empty_cubin(nvrtc: Nvrtc) -> None:
    with pytest.raises(CompileError, match="compute_80 is no architecture"):
        nvrtc.compile("toy.cu", SOURCE, HEADERS, "compute_80")


def test_a_call_that_fails_is_named(nvrtc: Nvrtc) -> None:
    with pytest.raises(CompileError, match="nvrtcGetCUBINSize: NVRTC_ERROR_INVALID_PROGRAM"):
        nvrtc._bytes("nvrtcGetCUBIN", ctypes.c_void_p())


@pytest.mark.slow("compiles CUDA C")
def test_the_end_of_a_long_log_is_told(nvrtc: Nvrtc) -> None:
    source = "\n".join(f"unknown_{n} value_{n};" for n in range(99)) + "\n#error the last\n"
    with pytest.raises(CompileError) as raised:
        nvrtc.compile("long.cu", source, {}, "sm_80")
    assert 4_000 < len(str(raised.value)) < 4_100


@pytest.mark.slow("compiles CUDA C")
def test_the_callers_thread_keeps_its_locale(nvrtc: Nvrtc) -> None:
    """NVRTC leaves the thread that it runs in with the C locale, which is ASCII."""
    before = locale.getencoding()
    assert before.upper() == "UTF-8"
    nvrtc.compile("scale.cu", SOURCE, HEADERS, "sm_80")
    assert locale.getencoding() == before
