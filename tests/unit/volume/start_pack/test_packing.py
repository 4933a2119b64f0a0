"""Which of the files that a start reads go where in its pack."""

from __future__ import annotations

import importlib.util
import marshal
import os
import py_compile
import sys
from pathlib import Path

import pytest

from tests.support.packed_site import EXTENSION, MODULES, packed_site, recording_of
from volume.start_pack.elf import Dynamic, in_order_of_need, read_dynamic
from volume.start_pack.pack import Ahead
from volume.start_pack.packing import (
    DATA,
    LARGE,
    SMALL,
    bytecode,
    cut,
    data_files,
    is_worth_copying,
    namespaces,
    needed_of_the_system,
    recorded_sources,
    siblings,
    sort_libraries,
    with_packages,
)
from volume.start_pack.recording import GAP, Library, Recording, merged

PAGE = 4096
NOTHING = Recording((), (), (), (), ())


def site_of(folder: Path, *paths: str) -> Path:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text("A = 1\n")
    return folder


# Modules.


def test_modules_come_in_the_order_of_their_first_use(tmp_path: Path) -> None:
    site = site_of(tmp_path, "b.py", "a.py", "read.py", "gone.py", "memory.py")
    opened = (
        f"{site}/b.py",
        "/elsewhere/x.py",
        importlib.util.cache_from_source(f"{site}/gone.py"),
        f"{site}/read.py",
        importlib.util.cache_from_source(f"{site}/a.py"),
        f"{site}/missing.py",
    )
    modules = tuple(f"{site}/{name}" for name in ("memory.py", "a.py", "b.py", "missing.py"))
    recording = Recording(opened, (*modules, "/elsewhere/x.py"), (), (), ())
    # gone.py was imported and taken away again; read.py was read, and is no module.
    assert recorded_sources(recording, site) == ["b.py", "gone.py", "a.py", "memory.py"]


def test_files_of_several_requests_are_read_ahead_where_they_stand(tmp_path: Path) -> None:
    sizes = {"a.py": DATA[1], "b.py": DATA[1], "p/data.json": DATA[0] + 1, "never.txt": DATA[1]}
    site = site_of(tmp_path, *sizes, "p/large", "p/small")
    for name, size in {**sizes, "p/large": DATA[1] + 1, "p/small": DATA[0]}.items():
        with (site / name).open("wb") as file:
            file.truncate(size)
    opened = (
        importlib.util.cache_from_source(f"{site}/a.py"),
        *(f"{site}/{name}" for name in ("p/data.json", "b.py", "p/large", "p/small", "gone", "p")),
        f"{site}/p/data.json",
        "/elsewhere/x.json",
    )
    found = data_files(Recording(opened, (), (), (), ()), site)
    assert found == (
        Ahead("p/data.json", ((0, DATA[0] + 1),)),
        Ahead("b.py", ((0, DATA[1]),)),
    )


def test_a_module_brings_the_packages_that_it_is_in(tmp_path: Path) -> None:
    site = site_of(tmp_path, "p/__init__.py", "p/q/__init__.py", "p/q/m.py", "n/m.py")
    assert with_packages(site, ["p/q/m.py", "n/m.py", "p/__init__.py"]) == [
        "p/__init__.py",
        "p/q/__init__.py",
        "p/q/m.py",
        "n/m.py",
    ]
    assert namespaces(site, ["p/q/m.py", "n/m.py", "top.so"]) == ("n",)


@pytest.mark.parametrize("kind", ["none", "times", "hash", "unchecked", "old", "other"])
def test_bytecode_is_of_the_source_that_is_there(tmp_path: Path, kind: str) -> None:
    site = site_of(tmp_path, "m.py")
    source = site / "m.py"
    cached = Path(importlib.util.cache_from_source(str(source)))
    if kind in {"times", "old"}:
        py_compile.compile(str(source))
    if kind == "hash":
        py_compile.compile(
            str(source), invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH
        )
    if kind == "unchecked":
        mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
        py_compile.compile(str(source), invalidation_mode=mode)
    if kind == "old":
        source.write_text("A = 22\n")
        os.utime(source, (1, 1))
    if kind == "other":
        cached.parent.mkdir()
        cached.write_bytes(b"????" + bytes(20))
    (content,) = bytecode(site, ["m.py"])
    found: dict[str, object] = {}
    exec(marshal.loads(content.data[16:]), found)
    assert found["A"] == (22 if kind == "old" else 1)
    assert content.data[:8] == importlib.util.MAGIC_NUMBER + b"\1\0\0\0"
    assert content.data[8:16] == importlib.util.source_hash(source.read_bytes())


def test_what_cannot_be_compiled_or_read_is_left_to_python(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("A = (\n")
    (tmp_path / "null.py").write_bytes(b"\0")
    site_of(tmp_path, "good.py")
    found = bytecode(tmp_path, ["bad.py", "null.py", "none.py", "good.py"])
    assert [content.path for content in found] == ["good.py"]


# Libraries.


@pytest.mark.parametrize(
    ("size", "ranges", "copied"),
    [
        (SMALL, (), True),
        (SMALL + 1, (), False),
        (SMALL + PAGE, ((0, PAGE),), True),
        (LARGE, ((0, LARGE - SMALL),), True),
        (LARGE, ((0, LARGE - SMALL - 1),), False),
        (LARGE + 1, ((0, LARGE + 1),), False),
        (SMALL + 10, ((0, 10 * SMALL),), True),  # its last page ends after it
        (LARGE, None, True),
        (LARGE + 1, None, False),
    ],
)
def test_what_is_small_or_mostly_touched_is_copied(
    size: int, ranges: tuple[tuple[int, int], ...] | None, copied: bool
) -> None:
    assert is_worth_copying(size, ranges) is copied


def library(site: Path, path: str, size: int) -> str:
    (site / path).parent.mkdir(parents=True, exist_ok=True)
    with (site / path).open("wb") as file:
        file.truncate(size)
    return f"{site}/{path}"


def test_each_library_has_its_place(tmp_path: Path) -> None:
    site = tmp_path
    small = library(site, "p/small.so", 10)
    large = library(site, "p.libs/large.so.1", LARGE + 1)
    untold = library(site, "q/untold.so", 65 << 20)
    top = library(site, "top.so", 10)
    library(site, "p.libs/unread.so.2", 10)
    library(site, "p.libs/notes.solution", 10)
    recording = Recording(
        (),
        (),
        (small, top),
        (),
        (
            Library(small, ((0, 10),)),
            Library(large, ((0, PAGE), (LARGE, LARGE + PAGE))),
            Library(untold, None),
            Library(top, ((0, 10),)),
            Library(f"{site}/gone.so", ((0, 10),)),
            Library("/lib/libc.so.6", ((0, 10),)),
        ),
    )
    plan = sort_libraries(recording, site)
    assert plan.copied == ("p/small.so", "top.so")
    assert plan.links == ("p.libs/large.so.1", "p.libs/unread.so.2", "q/untold.so")
    assert [(one.path, one.ranges) for one in plan.ahead] == [
        ("p.libs/large.so.1", ((0, PAGE), (LARGE, LARGE + 1)))
    ]
    assert plan.preload == ()  # no libraries at all, to look at


def test_ranges_end_with_the_file() -> None:
    assert cut(((0, 10), (20, 40), (40, 50)), 30) == ((0, 10), (20, 30))


def test_pages_become_ranges_joined_over_small_gaps() -> None:
    assert merged([]) == ()
    assert merged([3, 1, 2]) == ((PAGE, 4 * PAGE),)
    within, beyond = GAP // PAGE, GAP // PAGE + 1
    assert merged([0, within + 1]) == ((0, (within + 2) * PAGE),)
    assert merged([0, beyond + 1]) == ((0, PAGE), ((beyond + 1) * PAGE, (beyond + 2) * PAGE))


def test_all_libraries_of_a_package_stand_beside_each_other(tmp_path: Path) -> None:
    library(tmp_path, "p/a.so", 1)
    library(tmp_path, "p/deep/b.so.3.1", 1)
    library(tmp_path, "p/c.sock", 1)
    library(tmp_path, "q/d.so", 1)
    assert siblings(tmp_path, ["p/a.so", "loose.so"]) == {"p/a.so", "p/deep/b.so.3.1"}


def test_a_library_says_what_it_needs(tmp_path: Path) -> None:
    site = packed_site(tmp_path).site
    said = read_dynamic(site / EXTENSION)
    assert said is not None
    assert said.calls_python
    assert "libc.so.6" in said.needed
    libc = next(Path(line.split()[-1]) for line in maps() if line.rstrip().endswith("/libc.so.6"))
    plain = read_dynamic(libc)
    assert plain is not None
    assert (plain.name, plain.calls_python) == ("libc.so.6", False)


def maps() -> list[str]:
    return Path("/proc/self/maps").read_text().splitlines()


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"\x7fELF\x02\x01" + bytes(100), b"x" * 999])
def test_what_is_no_library_says_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "l.so").write_bytes(content)
    assert read_dynamic(tmp_path / "l.so") is None
    assert read_dynamic(tmp_path / "none.so") is None


def test_each_library_comes_after_what_it_needs() -> None:
    libraries = {
        "t/top.so": Dynamic("top.so", ("mid.so", "libm.so.6"), False),
        "t/mid-1.so": Dynamic("mid.so", ("low-x.so",), False),
        "u/low-x.so": Dynamic("other name", ("top.so",), False),  # a circle, too
    }
    assert in_order_of_need(libraries) == ["u/low-x.so", "t/mid-1.so", "t/top.so"]
    assert needed_of_the_system(libraries) == ("libm.so.6",)


def test_a_recording_is_written_and_read(tmp_path: Path) -> None:
    recording = recording_of(packed_site(tmp_path).site)
    recording.write(tmp_path / "r.json")
    assert Recording.read(tmp_path / "r.json") == recording
    untold = Recording((), (), (), (), (Library("/a.so", None),))
    untold.write(tmp_path / "r.json")
    assert Recording.read(tmp_path / "r.json") == untold


def test_the_whole_pack(tmp_path: Path) -> None:
    packed = packed_site(tmp_path)
    paths = [path for segment in packed.index.segments for path in segment.paths]
    recorded = {"parcel/__init__.py", "parcel/paper.py", "loose.py", "open_air/tent.py"}
    assert set(paths) == recorded | {EXTENSION}
    assert recorded < set(MODULES)
    assert packed.index.namespaces == ("open_air",)
    assert sys.version_info[:2] == (3, 11)
