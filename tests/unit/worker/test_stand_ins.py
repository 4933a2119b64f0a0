"""What a package gets in the place of modules, and that nobody else gets it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.abc import Loader
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, SimpleNamespace
from typing import Any

import pytest

from worker.stand_ins import StandIns, later, run_apart

CODE = {
    "__init__": "loaded = True",
    "plain": "import slow_one\nfound = slow_one",
    "dotted": "from slow_two.part import name\nfound = name",
    "binds_the_parent": "import slow_two.part\nfound = slow_two",
    "renames_a_part": "import slow_three.part as found",
    "relative": "from . import plain\nfrom .slow_one import found",
    "slow_one": "found = 'its own'",
    "later": "def use():\n    import slow_one\n    return slow_one",
    "parts": "from slow_two import part, other\nfound = part.name, other",
    "other": "import math, os.path\nfrom os import path as found\nassert isinstance(1, int)",
    "asks": "found = __import__('slow_two.part', fromlist=['name']).name",
}
GIVEN = {
    "slow_one": SimpleNamespace(),
    "slow_two.part": SimpleNamespace(name="a stand-in"),
    "slow_three": SimpleNamespace(part="of a stand-in"),
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """`light_one` on the path, beside the slow modules that it asks for."""
    for folder, files in {
        "light_one": CODE,
        "slow_two": {"__init__": "other = 'real'", "part": "name = 'real'"},
        ".": {"slow_one": "real = True", "light_one_too": "import slow_one as found"},
    }.items():
        (tmp_path / folder).mkdir(exist_ok=True)
        for name, code in files.items():
            (tmp_path / folder / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", sys.meta_path[:])
    yield "light_one"
    for name in list(sys.modules):
        if name.startswith(("light_one", "slow_")):
            del sys.modules[name]


def found(module: str) -> object:
    return import_module(module).found


def test_the_package_gets_what_stands_in_and_sys_modules_nothing(package: str) -> None:
    StandIns(package, GIVEN).install()
    assert found("light_one.plain") is GIVEN["slow_one"]
    assert found("light_one.dotted") == "a stand-in"
    assert found("light_one.asks") == "a stand-in"
    assert found("light_one.parts") == ("a stand-in", "real")
    assert found("light_one.renames_a_part") == "of a stand-in"
    assert import_module("light_one.later").use() is GIVEN["slow_one"]
    assert import_module(package).loaded
    assert not {"slow_one", "slow_two.part"} & set(sys.modules)


def test_all_else_is_what_it_was(package: str) -> None:
    StandIns(package, GIVEN).install()
    assert found("light_one.relative") == "its own"
    assert found("light_one.other").__name__ == "posixpath"
    assert found("light_one.binds_the_parent").part.name == "real"
    assert import_module("light_one.plain").__file__.endswith("plain.py")
    with pytest.raises(ModuleNotFoundError, match=r"light_one\.nothing"):
        import_module("light_one.nothing")


def test_other_packages_get_the_real_ones(package: str) -> None:
    StandIns(package, GIVEN).install()
    assert found("light_one_too").real
    assert found("light_one.plain") is GIVEN["slow_one"]  # though the real one is there by now


def test_a_bare_package_is_its_folders_alone(package: str, tmp_path: Path) -> None:
    (tmp_path / package / "__init__.py").write_text("raise AssertionError('it is run')")
    StandIns(package, GIVEN, bare=True).install()
    assert found("light_one.plain") is GIVEN["slow_one"]
    assert list(import_module(package).__path__) == [str(tmp_path / package)]


def test_the_first_module_alone(package: str, tmp_path: Path) -> None:
    code = (
        "from light_one import plain, later\nimport slow_one\nfound = plain, later.use(), slow_one"
    )
    (tmp_path / package / "__init__.py").write_text(code)
    one, plain = SimpleNamespace(), SimpleNamespace()
    StandIns(package, {"slow_one": one, "light_one.plain": plain}, first=True).install()
    got, used, direct = found(package)
    assert (got, direct) == (plain, one)
    assert used.real
    assert found("light_one.plain").real  # and for all others it is there


def test_a_package_is_served_once_and_by_the_first(package: str) -> None:
    before = len(sys.meta_path)
    StandIns(package, GIVEN).install()
    StandIns(package, {}).install()
    StandIns("another", {}).install()
    assert len(sys.meta_path) == before + 2
    assert found("light_one.plain") is GIVEN["slow_one"]


def test_a_module_that_is_run_apart_is_its_caller_s_alone(package: str) -> None:
    apart = run_apart("light_one.plain", GIVEN)
    assert apart.found is GIVEN["slow_one"]
    assert apart.__name__ == "light_one.plain"
    assert not {"light_one.plain", "slow_one"} & set(sys.modules)
    assert found("light_one.plain").real
    assert run_apart("light_one.plain", GIVEN) is not apart
    assert run_apart("light_one.relative", GIVEN).found == "its own"


@pytest.mark.parametrize("name", ["light_one.nothing", "nothing_at_all"])
def test_what_is_not_there_is_not_run_apart(package: str, name: str) -> None:
    with pytest.raises(ModuleNotFoundError, match=name):
        run_apart(name, GIVEN)


class Kept(SourceFileLoader):
    """A loader that has the code from elsewhere, as the start pack's has it."""

    def get_code(self, fullname: str) -> CodeType:
        return compile("import slow_one\nfound = 'kept', slow_one", fullname, "exec")


class KeptFinder:
    """Finds what it keeps."""

    def find_spec(self, name: str, *given: Any) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, *given) if name == "light_one.plain" else None
        if spec is not None:
            spec.loader = Kept(name, spec.origin)
        return spec


def test_code_comes_from_where_other_finders_have_it(package: str) -> None:
    sys.meta_path.insert(0, KeptFinder())
    StandIns(package, GIVEN).install()
    assert found("light_one.plain") == ("kept", GIVEN["slow_one"])
    assert import_module("light_one.plain").__file__.endswith("plain.py")
    assert run_apart("light_one.plain", {"slow_one": 1}).found == ("kept", 1)


def test_a_module_is_imported_when_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    module = later("colorsys", hls_to_rgb=7)
    assert module.__name__ == "colorsys"
    assert module.hls_to_rgb == 7
    assert "colorsys" not in sys.modules
    assert module.rgb_to_hsv(0, 0, 1)[2] == 1
    with pytest.raises(AttributeError):
        _ = module.no_such_thing


class Wrapped(Loader):
    """Another loader in a wrapper that is no loader of files itself."""

    def __init__(self, loader: Any) -> None:
        self.get_code = loader.get_code


def test_a_module_is_run_apart_whatever_loader_it_has(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wraps:
        def find_spec(self, name: str, *given: Any) -> ModuleSpec | None:
            spec = PathFinder.find_spec(name, *given) if name == "light_one.plain" else None
            if spec is not None:
                spec.loader = Wrapped(spec.loader)
            return spec

    sys.meta_path.insert(0, Wraps())
    assert run_apart("light_one.plain", {"slow_one": 1}).found == 1
