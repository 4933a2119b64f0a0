"""A worker's first lines: the pack is used, or one reason is told why it is not."""

from __future__ import annotations

import errno
import fcntl
import importlib
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from importlib.machinery import ExtensionFileLoader
from pathlib import Path

import pytest

from tests.support.packed_site import PackedSite, packed_site
from volume.start_pack import runtime
from volume.start_pack.finder import PackModule
from volume.start_pack.read_ahead import Reading
from volume.start_pack.runtime import PACK, SITE, Start, begin

SECONDS = 60


@pytest.fixture
def packed(tmp_path: Path) -> PackedSite:
    return packed_site(tmp_path)


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(os, "environ", dict(os.environ))
    # Put back afterwards: a start has it wait for the linker, for good.
    monkeypatch.setattr(ExtensionFileLoader, "create_module", ExtensionFileLoader.create_module)
    hooks, path, modules = list(sys.path_hooks), list(sys.path), set(sys.modules)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(0.005)
    yield folder
    sys.setswitchinterval(interval)
    sys.path_hooks[:], sys.path[:] = hooks, path
    for name in set(sys.modules) - modules:
        if name.partition(".")[0] in {"parcel", "loose"}:
            del sys.modules[name]
    sys.path_importer_cache.clear()


def started(packed: PackedSite) -> Start:
    sys.path.insert(0, str(packed.site))
    importlib.invalidate_caches()
    return begin({PACK: str(packed.folder), SITE: str(packed.site)})


def told(start: Start) -> list[str]:
    found: list[str] = []
    start.listen(found.append)
    return found


def is_packed(name: str) -> bool:
    spec = importlib.import_module(name).__spec__
    return spec is not None and isinstance(spec.loader, PackModule)


def test_modules_come_from_the_pack(packed: PackedSite) -> None:
    start = started(packed)
    assert is_packed("parcel")
    assert told(start) == []
    start.end(0)


def test_without_a_pack_nothing_is_told() -> None:
    hooks = list(sys.path_hooks)
    start = begin({})
    assert told(start) == []
    assert sys.path_hooks == hooks
    assert sys.getswitchinterval() == pytest.approx(0.0003)
    start.end()


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lambda file: file.unlink(), "No such file"),
        (lambda file: file.write_bytes(b""), "cut short"),
        (lambda file: file.write_bytes(file.read_bytes()[:200]), "damaged"),
        (lambda file: file.write_bytes(b"spark" * 100), "no start pack"),
        (lambda file: file.parent.rename(file.parent.with_name("moved")), "No such file"),
    ],
)
def test_a_pack_of_no_use_is_told_and_left(packed: PackedSite, harm: object, reason: str) -> None:
    harm(packed.file)  # type: ignore[operator]
    start = started(packed)
    (problem,) = told(start)
    assert reason in problem
    assert not is_packed("parcel")
    start.end()


def test_the_pack_of_another_key_is_none(packed: PackedSite) -> None:
    other = packed.folder.with_name("other")
    packed.folder.rename(other)
    start = begin({PACK: str(other), SITE: str(packed.site)})
    assert told(start) == ["the start pack is of no use: it is that of key"]
    start.end()


def test_a_pack_whose_end_is_missing_serves_what_is_there(packed: PackedSite) -> None:
    packed.file.write_bytes(packed.file.read_bytes()[:-10])
    start = started(packed)
    assert is_packed("parcel")
    backend = importlib.import_module("parcel._cffi_backend")
    assert Path(backend.__file__ or "").resolve().is_relative_to(packed.site)
    assert told(start) == ["a part of the start pack cannot be read"]
    start.end()


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_where_no_folder_can_be_made_libraries_come_from_the_volume(
    packed: PackedSite, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(runtime.tempfile, "mkdtemp", refuse)
    start = started(packed)
    assert told(start) == [f"libraries are loaded from the volume: {os.strerror(number)}"]
    assert is_packed("parcel")
    backend = importlib.import_module("parcel._cffi_backend")
    assert Path(backend.__file__ or "").is_relative_to(packed.site)
    start.end()


def test_where_there_is_no_room_it_is_told(
    packed: PackedSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "SPARE", 1 << 60)
    start = started(packed)
    (problem,) = told(start)
    assert "has no room" in problem
    assert is_packed("parcel")
    start.end()


def test_one_problem_is_told_and_no_second() -> None:
    start = Start()
    start.tell("first")
    found = told(start)
    start.tell("second")
    assert found == ["first"]
    later = Start()
    found = told(later)
    later.tell("third")
    later.tell("fourth")
    assert found == ["third"]
    start.end()
    later.end()


def test_what_is_given_up_at_the_end_is_no_problem(packed: PackedSite) -> None:
    start = Start()
    found = told(start)
    start.read_ahead.close()
    start.read_ahead.join(SECONDS)
    start.end()
    start.tell("given up")
    assert found == []


def test_what_killed_workers_left_goes_and_what_is_in_use_stays(
    packed: PackedSite, temporary: Path
) -> None:
    for name in ("spark-start-left", "spark-start-used", "spark-tts-1-x"):
        (temporary / name).mkdir()
    lock = os.open(temporary / "spark-start-used", os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    start = started(packed)
    names = {path.name for path in temporary.iterdir()}
    assert "spark-start-left" not in names
    assert {"spark-start-used", "spark-tts-1-x"} < names
    assert len(names) == 3  # and its own
    os.close(lock)
    start.end()


def test_plugins_are_left_out_but_where_the_operator_wants_them() -> None:
    os.environ.pop("PYDANTIC_DISABLE_PLUGINS", None)
    os.environ["TORCH_DEVICE_BACKEND_AUTOLOAD"] = "1"
    begin({}).end()
    assert os.environ["PYDANTIC_DISABLE_PLUGINS"] == "__all__"
    assert os.environ["TORCH_DEVICE_BACKEND_AUTOLOAD"] == "1"


def test_the_end_of_a_start_waits_for_what_is_awaited(tmp_path: Path) -> None:
    start = begin({})
    file = tmp_path / "weights"
    file.write_bytes(bytes(100))
    start.awaited.append(start.read_ahead.add(file))
    slow = Reading(file, None)
    start.awaited.append(slow)
    waiting = threading.Thread(target=start.finish, daemon=True)
    waiting.start()
    assert start.awaited[0].done.wait(SECONDS)
    assert waiting.is_alive()
    slow.done.set()
    waiting.join(SECONDS)
    assert not waiting.is_alive()


def test_the_large_libraries_come_when_the_first_imports_are_done(
    packed: PackedSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    monkeypatch.setattr(runtime, "import_first", lambda: done.append("first"))
    start = started(packed)
    assert not start.libraries_begin.is_set()
    start.import_first()
    assert start.libraries_begin.is_set()
    assert done == ["first"]
    start.end()


def test_without_a_pack_nothing_is_imported_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "import_first", pytest.fail)
    start = begin({})
    start.import_first()
    start.end()


def test_who_waits_for_a_library_goes_on_where_the_start_ends_early(packed: PackedSite) -> None:
    start = started(packed)
    start.end()
    assert start.libraries_begin.is_set()
