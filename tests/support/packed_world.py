"""A volume whose small environment has a worker of its own, and a rehearsal for a start pack.

All processes are real: the installer, the rehearsal, the workers. Only torch and the model are not
there, so that a start takes half a second.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tests.support.hub_server import hub_pins
from tests.support.index_server import Wheel, index_of, make_wheel, write_pins
from tests.support.volume_world import REPOSITORY, Mounting, World, as_it_is, world
from volume.start_pack.key import pack_key
from volume.start_pack.pack import NAME

MODULES = 40
REHEARSAL = "app.rehearsal"
SERVE = "app.serve"
LIBRARY = "markupsafe._speedups"  # a small one, of which the wheel has a copy
# Says what it loads from the volume itself: in two halves, so that the volume may change meanwhile.
_SERVE = """
import os, sys, time
from importlib import import_module
from volume.start_pack.runtime import begin

def say(line):  # at once: two threads do
    os.write(1, f"{line}\\n".encode())

start = begin()
start.listen(lambda problem: say(f"told: {problem}"))
opened = set()
ends = (".py", ".pyc")
sys.addaudithook(lambda event, a: event == "open" and str(a[0]).endswith(ends) and opened.add(a[0]))

def load(first, last):
    opened.clear()
    parts = [import_module(f"app.part_{number}") for number in range(first, last)]
    return f"version {parts[0].VERSION}, {sum('/app/' in path for path in opened)} modules"

say(f"up: {load(0, 20)}")
while sys.argv[1:] and not os.path.exists(sys.argv[1]):
    time.sleep(0.02)
rest = load(20, 40)
library = os.path.realpath(import_module("app._speedups").__file__)
say(f"whole: {rest}" + " and 1 library" * ("/envs/" in library))
start.read_ahead.close()
"""
_REHEARSAL = """
import os, time
for number in range(40):
    __import__(f"app.part_{number}")
import app._speedups
time.sleep(float(os.environ.get("REHEARSAL_SECONDS", "0")))
"""


def app_wheel(version: str) -> Wheel:
    """The worker's wheel."""
    found = importlib.util.find_spec(LIBRARY)
    assert found is not None
    assert found.origin is not None
    library = Path(found.origin)
    parts = {
        f"app/part_{number}.py": f"VERSION = {version!r}\nTEXT = {'x' * 9000!r}\n".encode()
        for number in range(MODULES)
    }
    files = {
        "app/__init__.py": b"",
        "app/serve.py": _SERVE.encode(),
        "app/rehearsal.py": _REHEARSAL.encode(),
        f"app/{library.name}": library.read_bytes(),
    }
    return make_wheel("app", version, parts | files)


@contextmanager
def packed_world(folder: Path, mounting: Mounting = as_it_is) -> Iterator[World]:
    """A world whose workers are those of the wheel `app`; nothing is installed."""
    with world(folder, mounting) as here, released(here, folder / "release", "1") as made:
        yield made


@contextmanager
def released(here: World, folder: Path, version: str) -> Iterator[World]:
    """The same volume as a release with another environment has it."""
    folder.mkdir(parents=True)
    wheel = app_wheel(version)
    index = index_of([wheel], [])
    models = {"small": hub_pins(REPOSITORY, here.model_files)}
    with index.running():
        write_pins(folder / "pins", index, [wheel], [], models)
        yield replace(here, pins=folder / "pins", index=index, wheels=[wheel], rehearsal=REHEARSAL)


def pack_of(here: World) -> Path:
    """The place of the start pack of this world's release."""
    return here.layout.starts / pack_key(here.environment.digest) / NAME
