"""Finds the modules of a pack without asking the volume, each as the module that stands there.

A hook on Python's path gives folders of the environment a finder that looks into the pack first.
What is not in there is found in the folder as ever; so are sources, for tracebacks, and data files,
for `__file__` and `__path__` name the true places. Only what runs comes from the pack: bytecode
through the loader's own `get_data`, libraries from the container's disk.

Alternatives, tried or considered: a finder in front of `sys.meta_path` would go past code that asks
PathFinder itself (worker/stand_ins.py) and past the order of `sys.path`; zipimport gives modules a
`__file__` that is no file, and inflates; unpacking all files and linking the rest takes 0.7 to 2 s.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.machinery import (
    BYTECODE_SUFFIXES,
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    ModuleSpec,
    SourceFileLoader,
    SourcelessFileLoader,
)
from importlib.util import cache_from_source, spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from volume.start_pack.contents import Contents
from volume.start_pack.known_files import KnownFiles

Found = dict[tuple[str, str], str]  # a folder below site-packages and a name in it -> a file
# Modules, by their names, and what is waited for before their code is given.
First = Mapping[str, Callable[[], object]]


@dataclass(frozen=True)
class Pack:
    """What the finders and loaders of a pack share."""

    site: str
    contents: Contents
    files: Found
    first: First
    known: KnownFiles = field(default_factory=KnownFiles)


def install(
    contents: Contents, site: Path, namespaces: Sequence[str], first: First | None = None
) -> None:
    """Have Python find the modules below `site` in the pack first, from now on."""
    files = files_of(contents) | namespaces_of(namespaces)
    sys.path_hooks.insert(0, hook(Pack(os.fspath(site), contents, files, first or {})))
    for place in tuple(sys.path_importer_cache):  # those that were looked into already
        if _below(place, os.fspath(site)) is not None:
            sys.path_importer_cache.pop(place, None)


def files_of(contents: Contents) -> Found:
    """Index the files of the pack by what Python asks for."""
    found: Found = {}
    for path in contents.libraries:
        folder, _, name = path.rpartition("/")
        suffix = next((suffix for suffix in EXTENSION_SUFFIXES if name.endswith(suffix)), None)
        if suffix is not None:
            found[folder, name.removesuffix(suffix)] = path
    for path in contents.sources:
        folder, _, name = path.rpartition("/")
        if name == "__init__.py":
            folder, _, name = folder.rpartition("/")
            found[folder, name] = path
        else:
            found.setdefault((folder, name.removesuffix(".py")), path)
    return found


def namespaces_of(packages: Sequence[str]) -> Found:
    """Index the packages without code of their own."""
    found: Found = {}
    for package in packages:
        folder, _, name = package.rpartition("/")
        found[folder, name] = package
    return found


def hook(pack: Pack) -> Callable[[str], PackFinder]:
    """Make the function of `sys.path_hooks` for the folders that the pack has modules in."""
    folders = {folder for folder, _ in pack.files}

    def find(place: str) -> PackFinder:
        folder = _below(place, pack.site)
        if folder is None or folder not in folders:
            raise ImportError(f"no folder of the start pack: {place}", path=place)
        return PackFinder(place, folder, pack)

    return find


def _below(place: str, site: str) -> str | None:
    """The path of a folder below `site`, "" for `site` itself; None where it is elsewhere."""
    if place == site:
        return ""
    return place[len(site) + 1 :] if place.startswith(f"{site}/") else None


class PackFinder(FileFinder):
    """Finds the modules of one folder."""

    def __init__(self, place: str, folder: str, pack: Pack) -> None:
        super().__init__(
            place,
            (ExtensionFileLoader, EXTENSION_SUFFIXES),
            (SourceFileLoader, SOURCE_SUFFIXES),
            (SourcelessFileLoader, BYTECODE_SUFFIXES),
        )
        self._folder, self._pack = folder, pack

    def find_spec(self, fullname: str, target: ModuleType | None = None) -> ModuleSpec | None:
        """Find a module in the pack, else in the folder."""
        name = fullname.rpartition(".")[2]
        path = self._pack.files.get((self._folder, name))
        if path is None:
            return super().find_spec(fullname, target)
        place = f"{self._pack.site}/{path}"
        if path.endswith(f"/{name}") or path == name:
            spec = ModuleSpec(fullname, None, is_package=True)  # as FileFinder tells PathFinder
            spec.submodule_search_locations = [place]
            return spec
        if not path.endswith(".py"):
            library = PackLibrary(fullname, place, path, self._pack.contents)
            return spec_from_file_location(fullname, place, loader=library)
        package = [place.rpartition("/")[0]] if path.endswith("/__init__.py") else None
        return spec_from_file_location(
            fullname,
            place,
            loader=PackModule(fullname, place, path, self._pack),
            submodule_search_locations=package,
        )


class PackModule(SourceFileLoader):
    """Loads a module by its bytecode of the pack; all else of it is on the volume."""

    def __init__(self, name: str, place: str, path: str, pack: Pack) -> None:
        super().__init__(name, place)
        self._path, self._pack = path, pack
        self._bytecode_place = cache_from_source(place)

    def get_code(self, fullname: str) -> CodeType | None:
        """The module's code."""
        self._pack.known.add(fullname, self.path)
        if fullname in self._pack.first:
            self._pack.first[fullname]()
        return super().get_code(fullname)

    def path_stats(self, path: str) -> dict[str, Any]:
        """The time and size of the source, which bytecode of the pack does not ask for."""
        if path == self.path and self._pack.contents.bytecode(self._path) is not None:
            return {"mtime": 0, "size": None}
        return dict(super().path_stats(path))

    def get_data(self, path: str) -> bytes:
        """The bytes of a file of the module's: the volume's, but for its bytecode."""
        if path == self._bytecode_place:
            data = self._pack.contents.bytecode(self._path)
            if data is not None:
                return data
        return super().get_data(path)


class PackLibrary(ExtensionFileLoader):
    """Loads an extension module from where the pack's copy of it is."""

    def __init__(self, name: str, place: str, path: str, contents: Contents) -> None:
        super().__init__(name, place)
        self._path, self._contents = path, contents

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Load the library, once its copy is there.

        The wait is here and not in the finder, which is called under the lock of all imports.
        """
        self.path = spec.origin = os.fspath(self._contents.library(self._path))
        return super().create_module(spec)
