"""Cubins that are kept: what they are known by, what is damaged, and where nothing can be kept."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.events import Events
from worker.speech.cuda import cubins as keeping
from worker.speech.cuda.cubins import (
    ARCHITECTURES,
    KEPT,
    Cubins,
    compile_all,
    open_cubins,
    shared_folders,
)
from worker.speech.cuda.nvrtc import CompileError, Library, find_library

pytestmark = pytest.mark.slow("compiles CUDA C")

ROOT = Path(__file__).parents[5]
HEADER = "constexpr float FACTOR = 2.5f;\n"
SOURCE = """
#include "factor.cuh"
extern "C" __global__ void scale(float *values) { values[threadIdx.x] *= FACTOR; }
"""


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    folder = tmp_path / "sources"
    folder.mkdir()
    (folder / "toy.cu").write_text(SOURCE)
    (folder / "factor.cuh").write_text(HEADER)
    return folder


@pytest.fixture
def library() -> Library:
    library = find_library()
    assert library is not None
    return library


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "kept"


@pytest.fixture
def cubins(folder: Path, library: Library, sources: Path) -> Cubins:
    return Cubins([folder], library, sources)


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


# Compiled once


def test_a_cubin_is_compiled_once_and_then_only_read(
    cubins: Cubins, folder: Path, sources: Path, tmp_path: Path, events: Events
) -> None:
    cubin = cubins.get("toy", "sm_86")
    ((name, fields),) = events()
    assert name == "CUDA kernels compiled"
    assert (fields["kernels"], fields["architecture"]) == ("toy", "sm_86")
    (kept,) = files(folder)
    assert kept.read_bytes() == cubin
    first, architecture, key, content = kept.stem.split("-")
    assert (first, architecture, len(key)) == ("toy", "sm_86", 16)
    assert content == hashlib.sha256(cubin).hexdigest()
    # Whoever reads opens no compiler: there may be none any more.
    reader = Cubins([folder], Library(tmp_path / "none", find_version()), sources)
    assert reader.get("toy", "sm_86") == cubin
    assert len(events()) == 1


def find_version() -> str:
    library = find_library()
    assert library is not None
    return library.version


def test_each_architecture_has_a_file_of_its_own(cubins: Cubins, folder: Path) -> None:
    assert cubins.get("toy", "sm_80") != cubins.get("toy", "sm_90")
    assert [path.name.split("-")[1] for path in files(folder)] == ["sm_80", "sm_90"]


@pytest.mark.parametrize("changed", ["source", "header", "a new header", "options", "NVRTC", "no"])
def test_whatever_it_is_compiled_from_makes_another_cubin(
    cubins: Cubins,
    folder: Path,
    sources: Path,
    library: Library,
    monkeypatch: pytest.MonkeyPatch,
    changed: str,
) -> None:
    cubins.get("toy", "sm_80")
    if changed == "source":
        (sources / "toy.cu").write_text(SOURCE + "\n")
    elif changed == "header":
        (sources / "factor.cuh").write_text(HEADER + "\n")
    elif changed == "a new header":
        (sources / "other.cuh").touch()
    elif changed == "options":
        monkeypatch.setattr(keeping, "OPTIONS", (*keeping.OPTIONS, "--fmad=false"))
    elif changed == "NVRTC":
        library = Library(library.path, library.version + ".post1")
    Cubins([folder], library, sources).get("toy", "sm_80")
    keys = {path.name.split("-")[2] for path in files(folder)}
    assert len(keys) == (1 if changed == "no" else 2)


def test_what_is_moved_from_one_file_to_another_makes_another_key(
    cubins: Cubins, sources: Path
) -> None:
    before = cubins._key("toy")
    (sources / "factor.cuh").write_text("")
    (sources / "more.cuh").write_text(HEADER)
    assert cubins._key("toy") != before


def test_of_older_ones_a_few_stay(
    cubins: Cubins, folder: Path, sources: Path, library: Library
) -> None:
    other = folder / f"toy-sm_90-{'0' * 16}-{'0' * 64}.cubin"
    folder.mkdir()
    other.touch()
    made = []
    for version in range(KEPT + 2):
        named = Cubins([folder], Library(library.path, str(version)), sources)
        named.get("toy", "sm_80")
        (new,) = set(files(folder)) - {other, *made}
        os.utime(new, (version, version))
        made.append(new)
        made = [path for path in made if path.exists()]
    assert len(made) == KEPT
    assert [int(path.stat().st_mtime) for path in made] == list(range(2, KEPT + 2))
    assert other.exists()


def test_what_another_worker_removes_meanwhile_keeps_nobody_from_keeping(
    cubins: Cubins, folder: Path, events: Events
) -> None:
    folder.mkdir()
    (folder / "toy-sm_80-gone.cubin").symlink_to("nowhere")  # listed, and not there
    cubin = cubins.get("toy", "sm_80")
    assert [name for name, _ in events()] == ["CUDA kernels compiled"]
    assert cubins.get("toy", "sm_80") == cubin
    assert [name for name, _ in events()] == ["CUDA kernels compiled"]


# Damaged


@pytest.mark.parametrize("damage", ["cut", "changed", "empty"])
def test_a_damaged_file_is_told_and_made_again(
    cubins: Cubins, folder: Path, events: Events, damage: str
) -> None:
    cubin = cubins.get("toy", "sm_80")
    (kept,) = files(folder)
    spoiled = {"cut": cubin[:-9], "changed": cubin[:-1] + b"?", "empty": b""}[damage]
    kept.write_bytes(spoiled)
    assert cubins.get("toy", "sm_80") == cubin
    assert [name for name, _ in events()] == [
        "CUDA kernels compiled",
        "CUDA kernels damaged",
        "CUDA kernels compiled",
    ]
    assert events.of("CUDA kernels damaged") == [{"kernels": "toy", "file": kept.name}]
    assert kept.read_bytes() == cubin
    assert cubins.get("toy", "sm_80") == cubin
    assert len(events()) == 3


def test_a_file_that_cannot_be_read_is_made_again(cubins: Cubins, folder: Path) -> None:
    cubin = cubins.get("toy", "sm_80")
    (kept,) = files(folder)
    kept.unlink()
    kept.mkdir()  # reading it fails, and so does replacing it
    assert cubins.get("toy", "sm_80") == cubin


# Many at once


CHILD = """
import sys
from pathlib import Path
from worker.speech.cuda.cubins import Cubins
from worker.speech.cuda.nvrtc import find_library
cubins = Cubins([Path(sys.argv[1])], find_library(), Path(sys.argv[2]))
print("ready", flush=True)
sys.stdin.read()
print(len(cubins.get("toy", "sm_80")))
"""


def test_processes_that_compile_at_once_leave_one_whole_file(
    folder: Path, sources: Path, cubins: Cubins
) -> None:
    command = [sys.executable, "-c", CHILD, str(folder), str(sources)]
    children = [
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(4)
    ]
    for child in children:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
    for child in children:
        child.stdin.close()
    outputs = [child.stdout.read() for child in children]
    assert [child.wait() for child in children] == [0] * len(children)
    (kept,) = files(folder)
    assert {int(output) for output in outputs} == {kept.stat().st_size}
    assert hashlib.sha256(kept.read_bytes()).hexdigest() == kept.stem.split("-")[-1]
    assert [*folder.iterdir()] == [kept]


# Where nothing can be kept


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_place_that_cannot_be_written_is_told_and_the_worker_goes_on(
    folder: Path, cubins: Cubins, events: Events
) -> None:
    folder.write_text("a file where the folder should be")
    assert cubins.get("toy", "sm_80")
    assert events.warnings() == ["CUDA kernels not kept"]
    assert str(folder) in events.of("CUDA kernels not kept")[0]["error"]


def test_a_full_place_keeps_nothing_and_leaves_nothing(
    folder: Path, cubins: Cubins, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "write_bytes", full)
    assert cubins.get("toy", "sm_80")
    assert "No space left" in events.of("CUDA kernels not kept")[0]["error"]
    assert [*folder.iterdir()] == []


def test_without_any_place_it_is_compiled_each_time(
    library: Library, sources: Path, events: Events
) -> None:
    cubins = Cubins([], library, sources)
    assert cubins.get("toy", "sm_80") == cubins.get("toy", "sm_80")
    assert len(events.of("CUDA kernels compiled")) == 2
    assert "neither a volume nor a home" in events.of("CUDA kernels not kept")[0]["error"]


def test_the_next_place_is_taken_where_the_first_is_read_only(
    tmp_path: Path, folder: Path, library: Library, sources: Path, events: Events
) -> None:
    first = tmp_path / "read-only"
    first.write_text("")
    both = Cubins([first, folder], library, sources)
    cubin = both.get("toy", "sm_80")
    assert len(files(folder)) == 1
    assert both.get("toy", "sm_80") == cubin
    assert events.warnings() == []
    assert len(events.of("CUDA kernels compiled")) == 1


def test_they_are_shared_on_the_volume_else_in_the_users_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("RUNPOD_VOLUME", f" {tmp_path} ")
    cache = tmp_path / "cache" / "spark-tts-serverless" / "cubins"
    assert [*shared_folders()] == [tmp_path / "SparkTTS-serverless" / "cubins", cache]
    monkeypatch.setenv("RUNPOD_VOLUME", str(tmp_path / "none"))
    assert [*shared_folders()] == [cache]
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(os, "getuid", lambda: (1 << 31) - 5)
    assert [*shared_folders()] == []
    assert [*tmp_path.iterdir()] == []


# Without NVRTC, and ahead of time


def test_a_machine_without_nvrtc_is_told(
    monkeypatch: pytest.MonkeyPatch, events: Events, folder: Path
) -> None:
    monkeypatch.setattr(keeping, "find_library", lambda: None)
    assert open_cubins([folder]) is None
    assert events() == [("no compiler for CUDA kernels", {})]


def test_a_source_that_does_not_compile_is_an_error_and_keeps_nothing(
    cubins: Cubins, folder: Path, sources: Path
) -> None:
    (sources / "toy.cu").write_text("wrong")
    with pytest.raises(CompileError, match=r"toy\.cu"):
        cubins.get("toy", "sm_80")
    assert not folder.exists()


def test_all_kernels_are_compiled_ahead_for_all_architectures(
    cubins: Cubins, folder: Path, sources: Path, events: Events
) -> None:
    (sources / "bad.cu").write_text("wrong")
    shutil.copy(sources / "toy.cu", sources / "second.cu")
    assert not compile_all(cubins)
    kept = {tuple(path.name.split("-")[:2]) for path in files(folder)}
    assert kept == {(name, one) for name in ("toy", "second") for one in ARCHITECTURES}
    told = events.of("CUDA kernels do not compile")
    assert [fields["kernels"] for fields in told] == ["bad"] * len(ARCHITECTURES)
    (sources / "bad.cu").unlink()
    assert compile_all(cubins)


def test_the_installers_command_compiles_what_the_worker_has(gpu_kernels: Path) -> None:
    names = {path.stem for path in keeping.SOURCES.glob("*.cu")}
    kept = {tuple(path.name.split("-")[:2]) for path in files(gpu_kernels)}
    assert kept == {(name, one) for name in names for one in ARCHITECTURES}
