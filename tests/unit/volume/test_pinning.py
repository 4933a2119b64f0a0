"""Pinning: what is resolved, what a wheel says of itself, read by ranges."""

from __future__ import annotations

import http.client
import io
import json
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.faulty_http import Answer, FaultyServer, sha256
from tests.support.index_server import Wheel, index_of, make_wheel
from volume.errors import DownloadError
from volume.pinning import __main__ as cli
from volume.pinning import demo
from volume.pinning import environment as pinning
from volume.pinning.environment import (
    best_wheel,
    file_name,
    index_entry,
    outside_entry,
    pin_environment,
    resolve,
    write_stub,
)
from volume.pinning.remote_wheel import RangeReader, content_length, facts_of, read_wheel

SOURCE = """
python = "3.11"
platform = "x86_64-manylinux_2_28"
requirements = ["top==1.5", "fast==2.0"]
overrides = ["middle"]
[excluded]
unwanted = "a command line"
[[wheel]]
url = "https://example.test/a/fast-2.0%2Bcu1-py3-none-any.whl"
sha256 = "abc"
unpacked = 1000
requires = ["bottom"]
"""
OUTSIDE = "fast-2.0+cu1-py3-none-any.whl"


@pytest.fixture(scope="module")
def top() -> Wheel:
    return make_wheel("top", "1.5", {"top.py": b"x" * 900}, requires=("bottom", "more>1"))


@pytest.fixture(scope="module")
def big() -> Wheel:
    return make_wheel("big", "1", {"big.bin": bytes(400_000)}, requires=("a", "b; extra == 'c'"))


@pytest.fixture(scope="module")
def index(top: Wheel, big: Wheel) -> Iterator[FaultyServer]:
    with index_of([top, big], []).running() as server:
        yield server


@pytest.fixture
def source(tmp_path: Path) -> Path:
    file = tmp_path / "environment.toml"
    file.write_text(SOURCE)
    return file


def top_package(index: FaultyServer, wheel: Wheel) -> str:
    """A package of a pylock.toml, with another wheel after the right one."""
    url = f"{index.url}/files/{wheel.path}"
    return f"""
[[packages]]
name = "top"
version = "1.5"
[[packages.wheels]]
url = "{url}"
size = {len(wheel.data)}
hashes = {{sha256 = "{sha256(wheel.data)}"}}
[[packages.wheels]]
url = "{index.url}/files/top-1.5-py2-none-any.whl"
size = 1
hashes = {{sha256 = "0"}}
"""


FAST = f"""
[[packages]]
name = "fast"
version = "2.0"
wheels = [{{url = "file:///x/{OUTSIDE}", hashes = {{sha256 = "of the stub"}}}}]
"""


@pytest.fixture
def uv(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, Any]]:
    """A uv that writes this pylock.toml, and keeps what it was asked."""
    seen: dict[str, Any] = {}

    def gives(packages: str) -> dict[str, Any]:
        def run(command: list[str], *, cwd: Path, check: bool) -> None:
            assert check
            seen["command"] = command
            seen["files"] = {path.name: path.read_bytes() for path in sorted(Path(cwd).iterdir())}
            (Path(cwd) / "pylock.toml").write_text(packages)

        monkeypatch.setattr(subprocess, "run", run)
        return seen

    return gives


def test_the_lock_holds_each_wheel_with_what_it_says_of_itself(
    index: FaultyServer, top: Wheel, uv: Callable, source: Path, tmp_path: Path
) -> None:
    uv(top_package(index, top) + FAST)
    pin_environment("my-uv", source, tmp_path / "lock.json")
    lock = json.loads((tmp_path / "lock.json").read_text())
    assert {key: lock[key] for key in ("python", "platform", "requirements", "overrides")} == {
        "python": "3.11",
        "platform": "x86_64-manylinux_2_28",
        "requirements": ["top==1.5", "fast==2.0"],
        "overrides": ["middle"],
    }
    assert lock["excluded"] == {"unwanted": "a command line"}
    assert lock["wheels"] == [
        {
            "name": "top",
            "version": "1.5",
            "file": top.file,
            "sha256": sha256(top.data),
            "path": f"files/{top.path}",
            "size": len(top.data),
            "unpacked": top.unpacked,
            "requires": ["bottom", "more>1"],
        },
        {
            "name": "fast",
            "version": "2.0",
            "file": OUTSIDE,
            "sha256": "abc",
            "url": "https://example.test/a/fast-2.0%2Bcu1-py3-none-any.whl",
            "size": None,
            "unpacked": 1000,
            "requires": ["bottom"],
        },
    ]


def test_a_wheel_that_is_named_and_not_resolved_stops_it(
    index: FaultyServer, top: Wheel, uv: Callable, source: Path, tmp_path: Path
) -> None:
    uv(top_package(index, top))
    with pytest.raises(ValueError, match=r"resolved without: fast-2\.0"):
        pin_environment("my-uv", source, tmp_path / "lock.json")
    assert not (tmp_path / "lock.json").exists()


def test_uv_is_asked_for_the_image_and_given_stubs_of_the_outside_wheels(uv: Callable) -> None:
    seen = uv("packages = []")
    asked = {
        "python": "3.11",
        "platform": "x86_64-manylinux_2_28",
        "requirements": ["a==1", "b"],
        "overrides": ["c"],
        "excluded": {"d": "why", "e": "why"},
    }
    assert resolve("my-uv", asked, {OUTSIDE: {"requires": ["bottom"]}}) == []
    command = " ".join(seen["command"])
    assert command.startswith("my-uv pip compile requirements.in --no-build")
    assert "--python-version 3.11 --python-platform x86_64-manylinux_2_28" in command
    assert "--overrides overrides.in --excludes excluded.in" in command
    assert "--find-links ." in command
    files = seen["files"]
    assert files["requirements.in"] == b"a==1\nb"
    assert files["overrides.in"] == b"c"
    assert files["excluded.in"] == b"d\ne"
    assert OUTSIDE in files


def test_a_stub_has_a_name_a_version_and_requirements(tmp_path: Path) -> None:
    write_stub(tmp_path / OUTSIDE, ["bottom", "more>1"])
    with zipfile.ZipFile(tmp_path / OUTSIDE) as wheel:
        info = "fast-2.0+cu1.dist-info"
        assert wheel.namelist() == [f"{info}/METADATA", f"{info}/WHEEL", f"{info}/RECORD"]
        assert wheel.read(f"{info}/METADATA").decode() == (
            "Metadata-Version: 2.1\nName: fast\nVersion: 2.0+cu1\n"
            "Requires-Dist: bottom\nRequires-Dist: more>1\n"
        )
        assert wheel.read(f"{info}/WHEEL") == b"Wheel-Version: 1.0\nTag: py3-none-any\n"
        assert facts_of(wheel).requires == ("bottom", "more>1")


def test_a_size_that_the_index_does_not_tell_is_asked_of_the_server(
    index: FaultyServer, top: Wheel
) -> None:
    url = f"{index.url}/files/{top.path}"
    package = {"name": "top", "version": "1.5"}
    wheel = {"url": url, "hashes": {"sha256": "abc"}}
    assert content_length(url) == len(top.data)
    entry = index_entry(package, top.file, wheel)
    assert entry["size"] == len(top.data)
    assert entry["unpacked"] == top.unpacked
    assert (
        outside_entry(package, top.file, wheel | {"sha256": "d", "unpacked": 1, "requires": []})[
            "sha256"
        ]
        == "d"
    )


def test_names_in_addresses_are_unquoted() -> None:
    assert file_name("https://x.test/a%2Fb/fast-2.0%2Bcu1-py3-none-any.whl?x=1#y") == OUTSIDE


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ("a-1-cp311-cp311-manylinux_2_17_x86_64", "a-1-cp39-abi3-manylinux_2_28_x86_64"),
        ("a-1-cp311-abi3-manylinux_2_17_x86_64", "a-1-py3-none-manylinux_2_28_x86_64"),
        ("a-1-cp311-cp311-any", "a-1-cp311-abi3-manylinux_2_28_x86_64"),
        ("a-1-py3-none-manylinux1_x86_64", "a-1-py3-none-any"),
        ("a-1-py3-none-manylinux_2_28_x86_64", "a-1-py3-none-manylinux_2_17_x86_64"),
        ("a-1-py3-none-manylinux_2_5_x86_64", "a-1-py3-none-linux_x86_64"),
        (
            "a-1-py3-none-manylinux_2_17_x86_64.manylinux_2_28_x86_64",
            "a-1-py3-none-manylinux_2_27_x86_64",
        ),
    ],
)
def test_of_two_wheels_the_nearer_is_taken(better: str, worse: str) -> None:
    urls = [f"https://x.test/{name}.whl" for name in (better, worse)]
    assert best_wheel(urls) == urls[0]
    assert best_wheel(urls[::-1]) == urls[0]


# A wheel on a server.


@pytest.fixture
def ranges(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The first and the last byte of each request."""
    asked: list[tuple[int, int]] = []
    urlopen = urllib.request.urlopen

    def heard(request: urllib.request.Request, timeout: float) -> object:
        first, _, last = (request.get_header("Range") or "").removeprefix("bytes=").partition("-")
        asked.append((int(first), int(last)))
        return urlopen(request, timeout=timeout)

    monkeypatch.setattr(urllib.request, "urlopen", heard)
    return asked


@pytest.fixture(scope="module")
def plain() -> Iterator[FaultyServer]:
    with FaultyServer({"/x": Answer(bytes(range(100)))}.get).running() as server:
        yield server


def test_a_remote_file_is_read_by_ranges_from_any_place(
    plain: FaultyServer, ranges: list[tuple[int, int]]
) -> None:
    reader = RangeReader(f"{plain.url}/x", 100)
    assert reader.readable()
    assert reader.seekable()
    assert reader.read(3) == bytes([0, 1, 2])
    assert reader.tell() == 3
    assert reader.seek(2, io.SEEK_CUR) == 5
    assert reader.read(1) == bytes([5])
    assert reader.seek(-2, io.SEEK_END) == 98
    assert reader.read(10) == bytes([98, 99])
    assert reader.read(10) == b""
    assert reader.seek(99) == 99
    assert reader.read(1) == bytes([99])
    assert ranges == [(0, 2), (5, 5), (98, 99), (99, 99)]


def test_no_more_is_asked_for_than_is_read(
    plain: FaultyServer, ranges: list[tuple[int, int]]
) -> None:
    reader = RangeReader(f"{plain.url}/x", 100)
    buffer = bytearray(b"?" * 20)
    assert reader.readinto(memoryview(buffer)[5:15]) == 10
    assert bytes(buffer) == b"?" * 5 + bytes(range(10)) + b"?" * 5
    assert ranges == [(0, 9)]


def test_a_server_that_gives_the_whole_for_a_part_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Whole(io.BytesIO):
        status = 200

    monkeypatch.setattr("urllib.request.urlopen", lambda request, timeout: Whole(b"x" * 4))
    with pytest.raises(DownloadError, match="no range requests here"):
        RangeReader("https://x.test/y", 4).read(4)
    with pytest.raises(DownloadError, match=r"x\.test/y: no range requests here \(HTTP 200\)"):
        read_wheel("https://x.test/y", 400)


@pytest.mark.parametrize(
    "error",
    [
        urllib.error.URLError("no route"),
        TimeoutError("no route"),
        http.client.BadStatusLine("no route"),
    ],
)
def test_why_a_wheel_could_not_be_read_is_told_and_not_that_it_is_none(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(request: urllib.request.Request, timeout: float) -> object:
        raise error

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    with pytest.raises(DownloadError, match=r"x\.test/y: .*no route"):
        read_wheel("https://x.test/y", 400)


def test_a_wheel_is_read_without_most_of_its_bytes(
    index: FaultyServer, big: Wheel, ranges: list[tuple[int, int]]
) -> None:
    facts = read_wheel(f"{index.url}/files/{big.path}", len(big.data))
    assert facts.requires == ("a", "b; extra == 'c'")
    assert facts.unpacked == big.unpacked
    assert sum(last + 1 - first for first, last in ranges) < 150_000


def test_the_metadata_is_the_wheels_own(tmp_path: Path) -> None:
    """A wheel may carry another's, deeper inside."""
    with zipfile.ZipFile(tmp_path / "x.whl", "w") as wheel:
        wheel.writestr("pkg/vendored/y-1.dist-info/METADATA", "Requires-Dist: wrong\n")
        wheel.writestr("x-1.dist-info/METADATA", "Name: x\n")
        assert facts_of(wheel).requires == ()


# The command.


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    calls: list[tuple[object, ...]] = []
    for name in ("pin_demo", "pin_environment", "pin_model"):
        monkeypatch.setattr(cli, name, lambda *given, name=name: calls.append((name, *given)))
    return calls


@pytest.mark.parametrize(
    ("arguments", "calls"),
    [
        ([], [("pin_demo",), ("pin_environment", "uv")]),
        (["--uv", "x"], [("pin_demo",), ("pin_environment", "x")]),
        (["--model", "demo"], [("pin_demo",)]),
        (["--model", "m"], [("pin_model", "m", "main")]),
        (["--model", "m", "--revision", "v2"], [("pin_model", "m", "v2")]),
    ],
)
def test_each_command_writes_its_own_locks_alone(
    done: list, monkeypatch: pytest.MonkeyPatch, arguments: list[str], calls: list
) -> None:
    monkeypatch.setattr(sys, "argv", ["volume.pinning", *arguments])
    cli.main()
    assert done == calls


def test_the_demos_entry_replaces_its_own_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / "models.json"
    lock.write_text('{"note": 1, "models": {"other": {"a": 1}, "demo": {"old": 1}}}')
    monkeypatch.setattr(demo, "MODEL_PINS", lock)
    monkeypatch.setattr(demo, "demo_entry", lambda: {"new": 1})
    demo.pin_demo()
    assert json.loads(lock.read_text()) == {
        "note": 1,
        "models": {"other": {"a": 1}, "demo": {"new": 1}},
    }


def test_the_lock_is_made_from_the_file_beside_it() -> None:
    assert pinning.SOURCE.name == "environment.toml"
    assert pinning.SOURCE.is_file()
