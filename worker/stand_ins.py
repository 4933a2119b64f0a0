"""Stand-in modules: what a package's own import statements get in the place of others.

For a package that imports what takes seconds and is not used here. sys.modules, which other threads
use at the same time, never holds a stand-in: the package's code is run with an `__import__` of its
own, which knows the stand-ins, and all other code gets the real modules.
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import find_spec, module_from_spec
from types import CodeType, ModuleType, SimpleNamespace
from typing import Any


@dataclass(frozen=True, eq=False)
class StandIns(MetaPathFinder):
    """Finds the package's modules as usual, and gives their imports `modules` by name.

    A dotted name is given to `from a.b import c`, and to `from a import b`: `import a.b` would bind
    `a`, and gets the stand-in of `a` where there is one. With `bare`, the package's own __init__ is
    not run: the package is a namespace with its folders. With `first`, that __init__ alone gets the
    stand-ins, and all other modules of the package import what they say.
    """

    package: str
    modules: Mapping[str, Any]
    bare: bool = False
    first: bool = False

    def install(self) -> None:
        """Find modules from now on, for good; what is imported already stays as it is.

        There is no way back: while a finder is taken out, another thread that goes through the
        list would leave one out.
        """
        if not any(isinstance(f, StandIns) and f.package == self.package for f in sys.meta_path):
            sys.meta_path.insert(0, self)

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module of the package that is Python source; None leaves it to other finders."""
        if name != self.package and (self.first or name.partition(".")[0] != self.package):
            return None
        found = self._found_behind(name, path, target)
        if found is None or not isinstance(found.loader, SourceFileLoader):
            return None
        if self.bare and name == self.package:
            bare = ModuleSpec(name, None, is_package=True)
            bare.submodule_search_locations = found.submodule_search_locations
            return bare
        found.loader = _Loader(found, self.modules)
        return found

    def _found_behind(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None
    ) -> ModuleSpec | None:
        """What the finders behind this one find: those before it have found nothing."""
        finders = sys.meta_path[:]  # as it is now: other threads may add to it
        behind = finders[finders.index(self) + 1 :]
        specs = (finder.find_spec(name, path, target) for finder in behind)
        return next((spec for spec in specs if spec is not None), None)


def later(name: str, **given: Any) -> ModuleType:
    """A module that is imported when one of its names is first used, but for those `given`."""

    def use(attribute: str) -> Any:
        return getattr(import_module(name), attribute)

    module = ModuleType(name)
    vars(module).update(given)
    module.__getattr__ = use  # type: ignore[method-assign] # a module's own (PEP 562)
    return module


def run_apart(name: str, modules: Mapping[str, Any]) -> ModuleType:
    """Run a module's source with stand-ins for what it imports, for the caller alone.

    All others, and sys.modules, have the module as it is, where they import it. Raises
    ModuleNotFoundError where there is none.
    """
    found = find_spec(name)
    if found is None or found.origin is None:
        raise ModuleNotFoundError(f"there is no module {name}", name=name)
    loader = _Loader(found, modules)
    apart = module_from_spec(ModuleSpec(name, loader, origin=found.origin))
    loader.exec_module(apart)
    return apart


class _Loader(SourceFileLoader):
    """Runs a file's code with an `__import__` that knows the stand-ins."""

    def __init__(self, found: ModuleSpec, modules: Mapping[str, Any]) -> None:
        super().__init__(found.name, str(found.origin))
        self._code_of: Callable[[str], CodeType | None] = found.loader.get_code  # type: ignore[union-attr] # of a file's module
        self._modules = modules

    def get_code(self, fullname: str) -> CodeType | None:
        """The code, from wherever the loader that was found has it."""
        return self._code_of(fullname)

    def exec_module(self, module: ModuleType) -> None:
        """Run the code: Python looks for `__import__` in the `__builtins__` of its namespace."""
        vars(module)["__builtins__"] = {**vars(builtins), "__import__": self._import}
        super().exec_module(module)

    def _import(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,  # noqa: A002 - Python's own names
        locals: Mapping[str, object] | None = None,  # noqa: A002
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> Any:
        asked = name if fromlist else name.partition(".")[0]
        if asked in self._modules and not level:
            return self._modules[asked]
        stand_ins = {
            part: self._modules[f"{name}.{part}"]
            for part in fromlist or ()
            if f"{name}.{part}" in self._modules and not level
        }
        if not stand_ins:
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        parts = [part for part in fromlist or () if part not in stand_ins]
        found = builtins.__import__(name, globals, locals, parts or ("__name__",), level)
        return SimpleNamespace(**{part: getattr(found, part) for part in parts}, **stand_ins)
