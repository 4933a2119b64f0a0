"""C that is built at first use: from what, where it is kept, and what happens where it cannot."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import stat
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support import any_cpu
from tests.support.events import Events
from worker import cpu_info
from worker.speech.lm.int8_model import Packed
from worker.speech.native import build
from worker.speech.native.build import Interface, open_library
from worker.speech.native.lm import LmKernel
from worker.speech.native.wave import WaveKernel

LM, WAVE = LmKernel.interface, WaveKernel.interface
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
    monkeypatch.setattr(cpu_info, "flags", lambda: any_cpu.FLAGS)
    return tmp_path / "cache"


def use(monkeypatch: pytest.MonkeyPatch, command: list[str]) -> None:
    monkeypatch.setattr(build, "_compiler", lambda _extensions: command)


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
    monkeypatch.setattr(Interface, "bind", lambda _self, _library: None)
    return paths


# Built, and only opened the next time


@pytest.mark.slow("starts a process")
def test_a_library_is_built_once_and_then_only_opened(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: list[str]
) -> None:
    compiler = Compiler(tmp_path, b"made")
    use(monkeypatch, compiler.command)
    assert open_library(LM)
    assert open_library(LM)
    (call,) = compiler.calls
    (built,) = files(cache)
    assert opened == [str(built)] * 2
    assert built.parent.name == "spark-tts-serverless"
    assert built.name.startswith("lm-")
    assert built.read_bytes() == b"made"
    sources = [str(build.SOURCES / name) for name in ("lm.c", "pool.c")]
    assert call[1:3] == sources
    assert call[-3:-1] == ["-lm", "-lpthread"]
    made = Path(call[call.index("-o") + 1])
    assert made != built  # beside its place: nobody may see half a library
    assert made.parent.parent == built.parent
    kept = Path(call[-1])
    assert kept.parent == built.parent
    assert not kept.exists()  # nor does what the compiler keeps for itself stay


@pytest.mark.slow("starts a process")
def test_each_kernel_has_a_library_of_its_own(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: list[str]
) -> None:
    use(monkeypatch, Compiler(tmp_path).command)
    assert open_library(LM)
    assert open_library(WAVE)
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
        (sources / name).write_bytes((build.SOURCES / name).read_bytes())
    monkeypatch.setattr(build, "SOURCES", sources)
    command = Compiler(tmp_path).command
    use(monkeypatch, command)
    assert open_library(LM)
    if (sources / changed).exists():
        (sources / changed).write_text((sources / changed).read_text() + "\n")
    if changed == "options":
        use(monkeypatch, [*command, "-mcpu=another"])
    assert open_library(LM)
    assert len(set(opened)) == len(files(cache)) == (1 if changed in {"nothing", "wave.c"} else 2)


def test_where_the_compiler_lies_makes_no_other_library() -> None:
    assert build._digest("lm", ["/here/cc", "-O3"]) == build._digest("lm", ["/there/cc", "-O3"])


# Where it cannot be built


@pytest.mark.slow("starts a process")
@pytest.mark.parametrize("then", ["sys.exit('no such option')", "os.kill(os.getpid(), 9)"])
def test_a_compiler_that_fails_leaves_nothing_behind(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: list[str], then: str
) -> None:
    compiler = Compiler(tmp_path, b"half a libr", then)
    use(monkeypatch, compiler.command)
    assert open_library(LM) is None
    assert files(cache) == []
    assert open_library(LM) is None
    assert len(compiler.calls) == 2  # it is tried again
    assert opened == []
    use(monkeypatch, Compiler(tmp_path, b"whole").command)
    assert open_library(LM)


@pytest.mark.slow("starts a process")
def test_a_compiler_that_says_nothing_and_makes_nothing_is_a_failure(
    cache: Path, monkeypatch: pytest.MonkeyPatch, events: Events
) -> None:
    for says, told in (("pass", "No such file"), ("exit(1)", "said nothing")):
        use(monkeypatch, [sys.executable, "-c", says])
        assert open_library(LM) is None
        name, fields = events()[-1]
        assert (name, fields["kernel"]) == ("kernel could not be built", "lm")
        assert told in fields["error"]


@pytest.mark.slow("starts a process")
def test_what_the_compiler_says_last_is_told(
    cache: Path, monkeypatch: pytest.MonkeyPatch, events: Events
) -> None:
    use(monkeypatch, [sys.executable, "-c", r"exit('lm.c:7: warning\nno such option\n')"])
    assert open_library(LM) is None
    fields = {"kernel": "lm", "error": "no such option"}
    assert events() == [("kernel could not be built", fields)]


@pytest.mark.slow("starts a process")
def test_a_compiler_that_hangs_is_given_up(
    cache: Path, monkeypatch: pytest.MonkeyPatch, events: Events
) -> None:
    monkeypatch.setattr(build, "SECONDS", 0.2)
    use(monkeypatch, [sys.executable, "-c", "import time; time.sleep(60)"])
    assert open_library(LM) is None
    assert events() == [("kernel took too long to build", {"kernel": "lm", "seconds": 0.2})]
    assert files(cache) == []


def test_without_a_compiler_torchs_kernels_serve(
    cache: Path, monkeypatch: pytest.MonkeyPatch, events: Events
) -> None:
    monkeypatch.setattr(build, "_compiler", lambda _extensions: None)
    assert open_library(LM) is None
    assert not cache.exists()
    assert events() == [("no compiler for a kernel", {"kernel": "lm"})]


@pytest.mark.slow("starts a process")
def test_a_compiler_that_is_gone_is_told(
    cache: Path, monkeypatch: pytest.MonkeyPatch, events: Events
) -> None:
    use(monkeypatch, [str(cache / "cc")])
    assert open_library(LM) is None
    ((name, fields),) = events()
    assert name == "kernel could not be built"
    assert str(cache / "cc") in fields["error"]


def test_a_cache_that_cannot_be_written_is_told(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events: Events
) -> None:
    compiler = Compiler(tmp_path)
    use(monkeypatch, compiler.command)
    cache.write_text("a file where the folder should be")
    assert open_library(LM) is None
    ((name, fields),) = events()
    assert name == "kernel could not be built"
    assert str(cache) in fields["error"]
    assert compiler.calls == []


def test_a_user_without_a_home_gets_torchs_kernels_and_is_told(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events: Events
) -> None:
    """As in a container whose user id is in no /etc/passwd: pathlib asks there."""
    compiler = Compiler(tmp_path)
    use(monkeypatch, compiler.command)
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(os, "getuid", lambda: (1 << 31) - 5)
    assert open_library(LM) is None
    assert "set XDG_CACHE_HOME" in events()[0][1]["error"]
    assert compiler.calls == []


@pytest.mark.slow("starts a process")
def test_a_file_that_is_no_library_is_told(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events: Events
) -> None:
    use(monkeypatch, Compiler(tmp_path, b"not a library").command)
    assert open_library(LM) is None
    assert LmKernel.open(2) is None
    assert [name for name, _ in events()] == ["kernel could not be built"] * 2


@pytest.mark.slow("starts a process")
@pytest.mark.parametrize("lacking", ["avx512f", "avx512bw", "avx512dq", "avx512vl", "fma", "f16c"])
def test_a_cpu_that_lacks_any_instruction_builds_and_opens_nothing(
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    opened: list[str],
    events: Events,
    lacking: str,
) -> None:
    compiler = Compiler(tmp_path)
    use(monkeypatch, compiler.command)
    monkeypatch.setattr(cpu_info, "flags", lambda: any_cpu.FLAGS - {lacking})
    assert open_library(LM) is None
    monkeypatch.setattr(cpu_info, "flags", lambda: any_cpu.FLAGS - {"avx512_vnni"})
    assert open_library(LM) is None
    assert events() == [
        ("CPU lacks what a kernel needs", {"kernel": "lm", "lacking": [name]})
        for name in (lacking, "avx512_vnni")
    ]
    assert compiler.calls == []
    assert opened == []
    assert open_library(WAVE)


# The compiler


def test_ziglang_is_taken_where_it_is_else_the_systems(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(build, "find_spec", lambda name: name == "ziglang")
    command = build._compiler(LM.extensions)
    assert command is not None
    assert command[:4] == [sys.executable, "-m", "ziglang", "cc"]
    assert command[-3:] == ["-target", "x86_64-linux-gnu.2.28", "-mcpu=x86_64_v4+avx512vnni"]
    monkeypatch.setattr(build, "find_spec", lambda _name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert build._compiler(LM.extensions) is None
    (tmp_path / "cc").write_text("#!/bin/sh\n")
    (tmp_path / "cc").chmod(stat.S_IRWXU)
    command = build._compiler(("avx512_bf16",))
    assert command is not None
    assert command[0] == str(tmp_path / "cc")
    assert command[-2:] == ["-march=x86-64-v4", "-mavx512bf16"]
    for options in (command, build._compiler(LM.extensions) or []):
        assert {"-O3", "-shared", "-fPIC", "-g0", "-s"} <= set(options)


# The library and Python agree


class Pair(ctypes.Structure):
    _fields_ = (("first", ctypes.c_int64), ("second", ctypes.c_float))


class Toy(build.Kernel):
    """A C file of a few lines, which is the test's own."""

    interface = Interface(
        "toy", (), {"toy_sum": (ctypes.c_int64, (ctypes.POINTER(Pair),))}, (Pair,)
    )


TOY = """
#include "pool.h"
#include <stdint.h>
typedef struct { int64_t first; float second; } Pair;
int64_t toy_sum(const Pair *pair) { return pair->first + (int64_t)pair->second; }
const int64_t *toy_struct_sizes(void) {
    static const int64_t sizes[] = {sizeof(Pair), 0};
    return sizes;
}
"""


@pytest.fixture
def opened_toy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: Path) -> Callable[..., Any]:
    """Builds the toy after a change of its source, and opens it."""
    monkeypatch.setattr(build, "_compiler", any_cpu.compiler)

    def open_toy(old: str = "", new: str = "") -> Toy | None:
        sources = Path(shutil.copytree(build.SOURCES, tmp_path / "native"))
        assert old in TOY
        (sources / "toy.c").write_text(TOY.replace(old, new))
        monkeypatch.setattr(build, "SOURCES", sources)
        return Toy.open(1)

    return open_toy


@pytest.mark.slow("compiles C")
def test_a_library_that_fits_is_taken(opened_toy: Callable[..., Any], events: Events) -> None:
    toy = opened_toy()
    assert toy.library.toy_sum(ctypes.byref(Pair(1 << 40, 2.5))) == (1 << 40) + 2
    with pytest.raises(ctypes.ArgumentError):
        toy.library.toy_sum(1 << 40)
    assert events() == []


@pytest.mark.slow("compiles C")
@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("float second", "double second, third", "Pair has 24 bytes in C and 16 in Python"),
        ("int64_t first", "float first", "Pair has 8 bytes in C and 16 in Python"),
        ("{sizeof(Pair), 0}", "{0}", "Pair has 0 bytes in C and 16 in Python"),
        ("(Pair), 0", "(Pair), 8, 0", "it has more structs than the 1 of Python"),
        ("toy_sum(", "toy_product(", "it has no function toy_sum"),
        ("toy_struct_sizes(", "toy_sizes(", "it has no function toy_struct_sizes"),
    ],
)
def test_a_library_of_another_source_is_refused(
    opened_toy: Callable[..., Any], events: Events, old: str, new: str, error: str
) -> None:
    """Its calls would read and write beside what Python gives them."""
    assert opened_toy(old, new) is None
    assert events() == [("kernel does not fit the worker", {"kernel": "toy", "error": error})]


def c_type(declared: str) -> str:
    """A C type, or an argument with its name, as one of those that ctypes tells apart."""
    return "pointer" if "*" in declared else declared.split(maxsplit=1)[0]


def python_type(given: Any) -> str:
    names = {None: "void", ctypes.c_int: "int", ctypes.c_int64: "int64_t"}
    return names.get(given, "pointer")


@pytest.mark.parametrize("interface", [LM, WAVE], ids=lambda interface: interface.name)
def test_functions_are_declared_in_python_as_in_c(interface: Interface) -> None:
    name, both = interface.name, {**interface.functions, **build.POOL_FUNCTIONS}
    source = (build.SOURCES / f"{name}.c").read_text() + (build.SOURCES / "pool.c").read_text()
    declared = {
        function: (c_type(result), [c_type(argument) for argument in arguments.split(",")])
        for result, function, arguments in re.findall(
            rf"^((?!static)\w[\w ]*[ *])((?:{name}|pool)_\w+)\(([^)]*)\)", source, re.MULTILINE
        )
    }
    assert declared.pop(f"{name}_struct_sizes") == ("pointer", ["void"])
    assert declared.pop("pool_run")[0] == "void"  # which C alone calls
    assert declared == {
        function: (python_type(result), [python_type(argument) for argument in arguments])
        for function, (result, arguments) in both.items()
    }


def declared_fields(source: str, struct: str) -> list[tuple[str, str]]:
    """The names of a C struct's fields, in order, each with its type; pointers are one type."""
    (body,) = re.findall(rf"typedef struct \{{([^}}]*)\}} {struct};", source)
    fields = []
    for line in re.sub(r"/\*.*?\*/", "", body, flags=re.DOTALL).split(";")[:-1]:
        kind, names = line.strip().removeprefix("const ").split(maxsplit=1)
        for name in names.split(","):
            pointer = "pointer" if "*" in name else kind
            fields.append((name.strip(" *"), pointer))
    return fields


@pytest.mark.parametrize(
    ("interface", "struct"),
    [(one, struct) for one in (LM, WAVE) for struct in one.structs],
    ids=lambda given: given.name if isinstance(given, Interface) else given.__name__,
)
def test_structs_have_the_fields_of_c(interface: Interface, struct: Any) -> None:
    """Padding hides a field of another type from the sizes that are compared at the load."""
    names = {ctypes.c_int64: "int64_t", ctypes.c_float: "float"}
    source = (build.SOURCES / f"{interface.name}.c").read_text()
    assert declared_fields(source, struct.__name__) == [
        (name, names.get(kind, "pointer")) for name, kind in struct._fields_
    ]


# The team of threads


def threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


@pytest.mark.slow("compiles C")
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="this system has no /proc")
def test_a_kernel_has_a_team_that_goes_home_with_it() -> None:
    with any_cpu.kernels("avx512_vnni"):
        library = open_library(LM)
    assert library is not None
    before = threads()
    kernel = LmKernel(library, 4)
    assert threads() == before + 3  # the caller is the fourth
    del kernel
    assert threads() == before


def test_no_memory_for_a_team_is_an_error() -> None:
    library = type("Library", (), {})()
    library.pool_open = lambda _threads: None
    with pytest.raises(MemoryError):
        LmKernel(library, 2)


@pytest.mark.slow("compiles C")
def test_jobs_of_many_threads_share_a_team() -> None:
    """One call at a time: products of two threads are each their own."""
    with any_cpu.kernels("avx512_vnni"):
        kernel = LmKernel.open(2)
    assert kernel is not None
    packed = Packed(kernel, 64, 32)
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
