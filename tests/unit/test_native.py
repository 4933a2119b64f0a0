"""C that is built at first use: from what, where it is kept, and what happens where it cannot."""

from __future__ import annotations

import ctypes
import os
import stat
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support import any_cpu
from worker.speech import int8, native
from worker.speech.native import Kernel, cpu_flags, cpu_has_bfloat16, open_library

VNNI = ("avx512_vnni",)
# Instead of a compiler: notes how it was called and writes so many bytes into the file after -o.
STAND_IN = """
import os, sys
with open({calls!r}, "a") as calls:
    print(*sys.argv[1:], os.environ.get("ZIG_LOCAL_CACHE_DIR"), sep="|", file=calls)
with open(sys.argv[sys.argv.index("-o") + 1], "wb") as made:
    made.write({made!r})
{then}
"""


class Compiler:
    """A program in the compiler's place, and what it was asked."""

    def __init__(self, folder: Path, made: bytes = b"", then: str = "") -> None:
        self._calls = folder / "calls"
        self.command = [
            sys.executable,
            "-c",
            STAND_IN.format(calls=str(self._calls), made=made, then=then),
            "-O3",
        ]

    @property
    def calls(self) -> list[list[str]]:
        lines = self._calls.read_text().splitlines() if self._calls.exists() else []
        return [line.split("|") for line in lines]


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache on a machine whose CPU has all that is needed."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(native, "cpu_flags", lambda: any_cpu.FLAGS)
    return tmp_path / "cache"


def use(monkeypatch: pytest.MonkeyPatch, command: list[str]) -> None:
    monkeypatch.setattr(native, "_compiler", lambda _extensions: command)


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which libraries are opened; they are not really."""
    paths: list[str] = []

    def note(path: str) -> Any:
        paths.append(path)
        return object()

    monkeypatch.setattr(ctypes, "CDLL", note)
    return paths


# Built, and only opened the next time


@pytest.mark.slow("starts a process")
def test_a_library_is_built_once_and_then_only_opened(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: list[str]
) -> None:
    compiler = Compiler(tmp_path, b"made")
    use(monkeypatch, compiler.command)
    assert open_library("lm", VNNI)
    assert open_library("lm", VNNI)
    (call,) = compiler.calls
    (built,) = files(cache)
    assert opened == [str(built)] * 2
    assert built.parent.name == "spark-tts-serverless"
    assert built.name.startswith("lm-")
    assert built.read_bytes() == b"made"
    sources = [str(native.SOURCES / name) for name in ("lm.c", "pool.c")]
    assert call[1:3] == sources
    assert call[-3:-1] == ["-lm", "-lpthread"]
    made = Path(call[call.index("-o") + 1])
    assert made != built  # beside its place: nobody may see half a library
    assert made.parent.parent == built.parent
    assert Path(call[-1]).parent == made.parent  # what the compiler keeps goes with it


@pytest.mark.slow("starts a process")
def test_each_kernel_has_a_library_of_its_own(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: list[str]
) -> None:
    use(monkeypatch, Compiler(tmp_path).command)
    assert open_library("lm", VNNI)
    assert open_library("wave", ("avx512_bf16",))
    assert sorted(path.name.split("-")[0] for path in files(cache)) == ["lm", "wave"]


@pytest.mark.slow("starts a process")
@pytest.mark.parametrize("changed", ["lm.c", "pool.c", "pool.h", "options", "nothing", "wave.c"])
def test_another_source_or_another_way_to_build_it_is_another_library(
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    opened: list[str],
    changed: str,
) -> None:
    sources = tmp_path / "sources"
    sources.mkdir()
    for name in ("lm.c", "wave.c", "pool.c", "pool.h"):
        (sources / name).write_bytes((native.SOURCES / name).read_bytes())
    monkeypatch.setattr(native, "SOURCES", sources)
    command = Compiler(tmp_path).command
    use(monkeypatch, command)
    assert open_library("lm", VNNI)
    if (sources / changed).exists():
        (sources / changed).write_text((sources / changed).read_text() + "\n")
    if changed == "options":
        use(monkeypatch, [*command, "-mcpu=another"])
    assert open_library("lm", VNNI)
    assert len(set(opened)) == len(files(cache)) == (1 if changed in {"nothing", "wave.c"} else 2)


def test_where_the_compiler_lies_makes_no_other_library() -> None:
    assert native._digest("lm", ["/here/cc", "-O3"]) == native._digest("lm", ["/there/cc", "-O3"])


# Where it cannot be built


@pytest.mark.slow("starts a process")
@pytest.mark.parametrize("then", ["sys.exit('no such option')", "os.kill(os.getpid(), 9)"])
def test_a_compiler_that_fails_leaves_nothing_behind(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: list[str], then: str
) -> None:
    compiler = Compiler(tmp_path, b"half a libr", then)
    use(monkeypatch, compiler.command)
    assert open_library("lm", VNNI) is None
    assert files(cache) == []
    assert open_library("lm", VNNI) is None
    assert len(compiler.calls) == 2  # it is tried again
    assert opened == []
    use(monkeypatch, Compiler(tmp_path, b"whole").command)
    assert open_library("lm", VNNI)


@pytest.mark.slow("starts a process")
def test_a_compiler_that_says_nothing_and_makes_nothing_is_a_failure(
    cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(native.log, "propagate", True)
    for says, told in (("pass", "No such file"), ("exit(1)", "said nothing")):
        use(monkeypatch, [sys.executable, "-c", says])
        assert open_library("lm", VNNI) is None
        assert told in caplog.text


@pytest.mark.slow("starts a process")
def test_a_compiler_that_hangs_is_given_up(
    cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(native.log, "propagate", True)
    monkeypatch.setattr(native, "SECONDS", 0.2)
    use(monkeypatch, [sys.executable, "-c", "import time; time.sleep(60)"])
    assert open_library("lm", VNNI) is None
    assert "could not be built" in caplog.text
    assert files(cache) == []


def test_without_a_compiler_torchs_kernels_serve(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "_compiler", lambda _extensions: None)
    assert open_library("lm", VNNI) is None
    assert not cache.exists()


@pytest.mark.slow("starts a process")
def test_a_compiler_that_is_gone_is_told(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, [str(cache / "cc")])
    assert open_library("lm", VNNI) is None


def test_a_cache_that_cannot_be_written_is_told(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(native.log, "propagate", True)
    compiler = Compiler(tmp_path)
    use(monkeypatch, compiler.command)
    cache.write_text("a file where the folder should be")
    assert open_library("lm", VNNI) is None
    assert "could not be built" in caplog.text
    assert compiler.calls == []


def test_a_user_without_a_home_gets_torchs_kernels_and_is_told(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As in a container whose user id is in no /etc/passwd: pathlib asks there."""
    monkeypatch.setattr(native.log, "propagate", True)
    compiler = Compiler(tmp_path)
    use(monkeypatch, compiler.command)
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(os, "getuid", lambda: (1 << 31) - 5)
    assert open_library("lm", VNNI) is None
    assert "set XDG_CACHE_HOME" in caplog.text
    assert compiler.calls == []


@pytest.mark.slow("starts a process")
def test_a_file_that_is_no_library_is_told(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, Compiler(tmp_path, b"not a library").command)
    assert open_library("lm", VNNI) is None
    assert Kernel.of("lm", VNNI, 2) is None


@pytest.mark.slow("starts a process")
@pytest.mark.parametrize("lacking", ["avx512f", "avx512bw", "avx512dq", "avx512vl", "fma", "f16c"])
def test_a_cpu_that_lacks_any_instruction_builds_and_opens_nothing(
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    opened: list[str],
    lacking: str,
) -> None:
    compiler = Compiler(tmp_path)
    use(monkeypatch, compiler.command)
    monkeypatch.setattr(native, "cpu_flags", lambda: any_cpu.FLAGS - {lacking})
    assert open_library("lm", VNNI) is None
    monkeypatch.setattr(native, "cpu_flags", lambda: any_cpu.FLAGS - {"avx512_vnni"})
    assert open_library("lm", VNNI) is None
    assert compiler.calls == []
    assert opened == []
    assert open_library("wave", ("avx512_bf16",))


# The compiler


def test_ziglang_is_taken_where_it_is_else_the_systems(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(native, "find_spec", lambda name: name == "ziglang")
    command = native._compiler(VNNI)
    assert command is not None
    assert command[:4] == [sys.executable, "-m", "ziglang", "cc"]
    assert command[-3:] == ["-target", "x86_64-linux-gnu.2.28", "-mcpu=x86_64_v4+avx512vnni"]
    monkeypatch.setattr(native, "find_spec", lambda _name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert native._compiler(VNNI) is None
    (tmp_path / "cc").write_text("#!/bin/sh\n")
    (tmp_path / "cc").chmod(stat.S_IRWXU)
    command = native._compiler(("avx512_bf16",))
    assert command is not None
    assert command[0] == str(tmp_path / "cc")
    assert command[-2:] == ["-march=x86-64-v4", "-mavx512bf16"]
    for options in (command, native._compiler(VNNI) or []):
        assert {"-O3", "-shared", "-fPIC", "-g0", "-s"} <= set(options)


def test_the_cache_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert native._user_cache() == tmp_path / "spark-tts-serverless"
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for unset in (lambda: monkeypatch.setenv("XDG_CACHE_HOME", ""),
                  lambda: monkeypatch.delenv("XDG_CACHE_HOME")):  # fmt: skip
        unset()
        assert native._user_cache() == tmp_path / "home" / ".cache" / "spark-tts-serverless"


# The CPU


def test_flags_are_those_of_the_first_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "processor\t: 0\nmodel name\t: x\nflags\t\t: fpu fma avx512f\n\nflags\t\t: fpu\n"
    monkeypatch.setattr(Path, "read_text", lambda *_args, **_more: text)
    assert {"fpu", "fma", "avx512f"} <= cpu_flags()
    monkeypatch.setattr(Path, "read_text", lambda *_args, **_more: "Features\t: neon\n")
    assert cpu_flags() == set()

    def none(*_args: Any, **_more: Any) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", none)
    assert cpu_flags() == set()


@pytest.mark.parametrize(
    ("flags", "has"),
    [
        ({"avx512_bf16"}, True),
        ({"amx_bf16"}, True),
        ({"avx512_vnni", "fma"}, False),
        (set(), False),
    ],
)
def test_bfloat16_is_of_either_kind(
    monkeypatch: pytest.MonkeyPatch, flags: set[str], has: bool
) -> None:
    monkeypatch.setattr(native, "cpu_flags", lambda: flags)
    assert cpu_has_bfloat16() is has


# The team of threads


def threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


@pytest.mark.slow("needs compiled C")
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="this system has no /proc")
def test_a_kernel_has_a_team_that_goes_home_with_it() -> None:
    with any_cpu.kernels("avx512_vnni"):
        library = open_library("lm", VNNI)
    assert library is not None
    before = threads()
    kernel = Kernel(library, 4)
    assert threads() == before + 3  # the caller is the fourth
    del kernel
    assert threads() == before


def test_no_memory_for_a_team_is_an_error() -> None:
    library = type("Library", (), {})()
    library.pool_open = lambda _threads: None
    library.pool_open.restype = None
    with pytest.raises(MemoryError):
        Kernel(library, 2)


@pytest.mark.slow("needs compiled C")
def test_jobs_of_many_threads_share_a_team() -> None:
    """One call at a time: products of two threads are each their own."""
    with any_cpu.kernels("avx512_vnni"):
        kernel = int8.Kernel.open(2)
    assert kernel is not None
    packed = int8.Packed(kernel, 64, 32)
    packed.fill(torch.randn(64, 32, generator=torch.Generator().manual_seed(1)))
    inputs = [torch.full((3, 32), float(i + 1)) for i in range(4)]
    expected = [packed(x) for x in inputs]
    wrong: list[int] = []

    def work(i: int) -> None:
        wrong.extend(i for _ in range(50) if not torch.equal(packed(inputs[i]), expected[i]))

    running = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    assert wrong == []
