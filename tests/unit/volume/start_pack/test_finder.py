"""Modules come from the pack as they would from the volume, and what is not in it from there."""

from __future__ import annotations

import importlib
import importlib.resources
import importlib.util
import inspect
import linecache
import pickle
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.packed_site import EXTENSION, MODULES, PackedSite, packed_site
from volume.start_pack import finder
from volume.start_pack.contents import Contents
from volume.start_pack.finder import PackLibrary, PackModule


@pytest.fixture
def packed(tmp_path: Path) -> PackedSite:
    return packed_site(tmp_path)


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    hooks, path, modules = list(sys.path_hooks), list(sys.path), set(sys.modules)
    yield
    sys.path_hooks[:], sys.path[:] = hooks, path
    for name in set(sys.modules) - modules:
        if name.partition(".")[0] in {"parcel", "loose", "open_air"}:
            del sys.modules[name]
    sys.path_importer_cache.clear()
    linecache.clearcache()


def start(packed: PackedSite, folder: Path, *, damaged: bool = False) -> Contents:
    """Install the finder, as a worker's start does, with the pack delivered."""
    folder.mkdir(exist_ok=True)
    contents = Contents(packed.index, packed.site, folder, lambda _: None)
    data = packed.file.read_bytes()
    for first, end in contents.ranges:
        contents.take(first, None if damaged else memoryview(data[first:end]))
    sys.path.insert(0, str(packed.site))
    importlib.invalidate_caches()
    finder.install(contents, packed.site, packed.index.namespaces)
    return contents


def without_sources(packed: PackedSite) -> None:
    """Leave on the volume only what the pack does not have."""
    for path in ("parcel/__init__.py", "parcel/paper.py", "loose.py", "open_air/tent.py"):
        (packed.site / path).unlink()
    (packed.site / EXTENSION).unlink()


def test_modules_run_without_a_file_of_theirs(packed: PackedSite, tmp_path: Path) -> None:
    start(packed, tmp_path / "t")
    without_sources(packed)
    parcel = importlib.import_module("parcel")
    assert (parcel.WEIGHT, parcel.paper.WEIGHT) == (42, 41)
    assert importlib.import_module("open_air.tent").PEGS == 4
    assert isinstance(parcel.__spec__.loader, PackModule)


def test_a_library_is_loaded_from_its_copy(packed: PackedSite, tmp_path: Path) -> None:
    start(packed, tmp_path / "t")
    without_sources(packed)
    backend = importlib.import_module("parcel._cffi_backend")
    assert backend.__version__
    assert isinstance(backend.__spec__.loader, PackLibrary)
    assert Path(backend.__file__ or "") == tmp_path / "t" / EXTENSION


def same(one: ModuleType, other: ModuleType) -> None:
    for name in ("__file__", "__name__", "__package__", "__cached__"):
        assert getattr(one, name) == getattr(other, name)
    assert list(getattr(one, "__path__", [])) == list(getattr(other, "__path__", []))
    assert (one.__spec__ is None) == (other.__spec__ is None)


@pytest.mark.parametrize("name", ["parcel", "parcel.paper", "loose"])
def test_a_module_is_what_it_would_be_from_the_volume(
    packed: PackedSite, tmp_path: Path, name: str
) -> None:
    sys.path.insert(0, str(packed.site))
    importlib.invalidate_caches()
    plain = importlib.import_module(name)
    for loaded in [name for name in sys.modules if name.partition(".")[0] in {"parcel", "loose"}]:
        del sys.modules[loaded]
    start(packed, tmp_path / "t")
    from_pack = importlib.import_module(name)
    assert isinstance(from_pack.__spec__ and from_pack.__spec__.loader, PackModule)
    same(from_pack, plain)


def test_what_was_not_recorded_is_found_on_the_volume(packed: PackedSite, tmp_path: Path) -> None:
    start(packed, tmp_path / "t")
    unread = importlib.import_module("parcel.unread")
    assert unread.WEIGHT == 7
    assert not isinstance(unread.__spec__ and unread.__spec__.loader, PackModule)
    (packed.site / "late.py").write_text("HERE = 1\n")
    importlib.invalidate_caches()
    assert importlib.util.find_spec("late") is not None
    assert importlib.util.find_spec("parcel.none") is None
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("parcel.none")


def test_data_files_are_the_volumes(packed: PackedSite, tmp_path: Path) -> None:
    start(packed, tmp_path / "t")
    parcel = importlib.import_module("parcel")
    assert (importlib.resources.files(parcel) / "data.txt").read_text() == "forty-two\n"
    place = f"{packed.site}/parcel/data.txt"
    assert parcel.__spec__.loader.get_data(place) == b"forty-two\n"


def test_tracebacks_and_sources_are_the_volumes(packed: PackedSite, tmp_path: Path) -> None:
    start(packed, tmp_path / "t")
    paper = importlib.import_module("parcel.paper")
    try:
        paper.fail()
    except ValueError as error:
        told = "".join(traceback.format_exception(error))
    assert f'{packed.site}/parcel/paper.py", line 5, in fail' in told
    assert "raise ValueError(WEIGHT)" in told
    assert inspect.getsource(paper) == MODULES["parcel/paper.py"]
    assert inspect.getmodule(paper.fail) is paper
    assert pickle.loads(pickle.dumps(paper.fail)) is paper.fail


def test_inspect_asks_the_file_system_of_no_module(
    packed: PackedSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(packed, tmp_path / "t")
    paper = importlib.import_module("parcel.paper")
    asked: list[object] = []
    real = inspect.os.path.realpath
    monkeypatch.setattr(
        inspect.os.path, "realpath", lambda path: (asked.append(path), real(path))[1]
    )
    inspect.getmodule(compile("1", "elsewhere.py", "eval"))  # it goes through all modules
    assert not [path for path in asked if str(path).startswith(str(packed.site))]
    assert paper


@pytest.mark.parametrize("name", ["parcel", "loose", "parcel._cffi_backend", "open_air.tent"])
def test_a_pack_that_fails_leaves_a_start_as_it_was(
    packed: PackedSite, tmp_path: Path, name: str
) -> None:
    start(packed, tmp_path / "t", damaged=True)
    module = importlib.import_module(name)
    assert Path(module.__file__ or "").resolve().is_relative_to(packed.site)


def test_no_bytecode_is_written_for_what_the_pack_has(packed: PackedSite, tmp_path: Path) -> None:
    start(packed, tmp_path / "t")
    importlib.import_module("loose")
    assert not list(packed.site.rglob("*.pyc"))


def test_a_module_that_was_imported_late_comes_from_the_volume(
    packed: PackedSite, tmp_path: Path
) -> None:
    start(packed, tmp_path / "t").clear()
    assert importlib.import_module("parcel").WEIGHT == 42


def test_folders_elsewhere_are_others(packed: PackedSite, tmp_path: Path) -> None:
    start(packed, tmp_path / "t")
    for place in (str(tmp_path), f"{packed.site}-more", f"{packed.site}/elsewhere"):
        with pytest.raises(ImportError):
            sys.path_hooks[0](place)
    assert sys.path_hooks[0](f"{packed.site}/parcel")
