"""A new image with a new lock installs beside the old one; `run` and `gc` know who uses what."""

import json
from dataclasses import replace
from pathlib import Path

from tests.support.hub_server import hub_pins
from tests.support.index_server import index_of, make_wheel, write_pins
from tests.support.volume_world import REPOSITORY, World
from tests.support.waiting import until

WORKER = b"""
import part_late, pathlib, sys, time
gate = pathlib.Path(sys.argv[1])
print("up", part_late.VERSION, flush=True)
while not gate.exists():
    time.sleep(0.02)
import part_later
print("still", part_later.VERSION, flush=True)
"""


def release(here: World, folder: Path, version: str):
    """An index and pins of one release, whose wheel has a worker that imports late."""
    value = f"VERSION = {version!r}\n".encode()
    files = {"part_late.py": value, "part_later.py": value, "serve.py": WORKER}
    wheel = make_wheel("late", version, files)
    server = index_of([wheel], [])
    models = {"small": hub_pins(REPOSITORY, here.model_files)}
    return server, lambda: write_pins(folder, server, [wheel], [], models)


def test_an_old_worker_goes_on_while_a_new_release_installs_and_gc_waits_for_it(
    small_world: World, tmp_path: Path
):
    here = replace(small_world, takeover=1.0)
    gate = tmp_path / "gate"
    old_index, write_old = release(here, tmp_path / "old", "1")
    new_index, write_new = release(here, tmp_path / "new", "2")
    with old_index.running(), new_index.running():
        write_old()
        write_new()
        here.index.find = old_index.find
        old = here.start("run", "--", str(gate), pins=tmp_path / "old", module="serve")
        assert old.stdout is not None
        lines = iter(old.stdout.readline, "")
        seen = next(line for line in lines if line.startswith("up"))
        assert seen == "up 1\n"
        here.index.find = new_index.find
        status, output = here.volume("install", pins=tmp_path / "new")
        assert status == 0, output
        assert len(list(here.layout.environments.iterdir())) == 2
        status, output = here.volume("gc", pins=tmp_path / "new")
        assert (status, output) == (0, "nothing to remove\n")
        gate.touch()
        assert "still 1\n" in list(lines)
        assert old.wait(timeout=30) == 0
        until(lambda: not any(here.layout.uses.glob("*/*")), 60, pause=0.05)
        status, output = here.volume("gc", "--dry-run", pins=tmp_path / "new")
        assert output.startswith("would remove ")
        status, output = here.volume("gc", pins=tmp_path / "new")
        assert output.startswith("removed ")
        assert len(list(here.layout.environments.iterdir())) == 1
        status, output = here.volume("verify", pins=tmp_path / "new")
        assert status == 0, output


def test_run_installs_says_the_seconds_and_becomes_the_worker(small_world: World):
    here = small_world
    status, output = here.volume("run", module="part_2.code")
    assert status == 0, output
    assert "environment: ready after " in output
    assert "small: ready after " in output


def test_status_tells_people_and_programs_what_is_there(small_world: World):
    here = small_world
    assert "not installed" in here.volume("status")[1]
    here.installed()
    status, output = here.volume("status", "--json")
    assert status == 0
    report = json.loads(output)
    assert report["free_bytes"] > 0
    items = {item["kind"]: item for item in report["items"]}
    assert set(items) == {"environment", "model", "start pack"}
    environment, model = items["environment"], items["model"]
    assert not items["start pack"]["complete"]
    assert environment["name"] == here.environment.digest
    assert environment["complete"]
    assert model["bytes"] == sum(map(len, here.model_files.values()))
    assert model["files"] == len(here.model_files)
    assert model["licence"] == "Apache-2.0"
    assert environment["versions"]["part-0"] == "1.0"


def test_gc_removes_what_a_killed_install_left_but_not_what_another_is_at(small_world: World):
    here = small_world
    here.index.rate = 20_000.0
    installer = here.start("install", "--environment")
    until(lambda: any(here.layout.cache.glob("*/*/uv/*")), 60, pause=0.02)
    assert here.volume("gc") == (0, "nothing to remove\n")
    installer.kill()
    installer.communicate()
    status, output = here.volume("gc")
    assert (status, output[:26]) == (0, "removed cache/environment-")
    assert list(here.layout.cache.iterdir()) == []
    here.index.rate = 1e9
    here.installed("--environment")
