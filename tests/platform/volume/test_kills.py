"""kill -9 at any moment: nothing half is ever seen, and the next install completes."""

import random
import time
from collections.abc import Callable
from pathlib import Path

from tests.support.volume_reader import reading
from tests.support.volume_world import Mounting, World, world
from volume.manifest import intact_manifest


def test_an_install_killed_at_a_random_moment_is_completed_by_the_next(
    tmp_path: Path, mounting: Mounting, times: Callable[[int, int], int]
):
    moments = random.Random(20250409)
    with world(tmp_path, mounting) as first:
        started = time.monotonic()
        first.installed()
        usual = time.monotonic() - started
        environment, model = (
            frozenset(file.path for file in intact_manifest(folder) or ())
            for folder in (first.environment_folder, first.model_folder)
        )
        assert len(environment) > 20
        assert len(model) == 4
        for turn in range(times(3, 100)):
            with first.with_volume(tmp_path / f"volume-{turn}") as here:
                expected = {here.environment_folder: environment, here.model_folder: model}
                with reading(expected) as looks:
                    killed = here.start("install")
                    time.sleep(moments.uniform(0, usual))
                    killed.kill()
                    killed.communicate()
                    here.installed()
                    status, output = here.volume("verify")
                    assert status == 0, output
                assert looks.problems == []
                assert looks.found > 0


def test_an_install_killed_before_its_last_step_fetches_no_large_file_again(small_world: World):
    here = small_world
    name = here.model.resource
    files = here.layout.cache / name / "00000001" / "files"
    leases = here.layout.leases / name
    leases.mkdir(parents=True)
    (leases / "00000001.claim").touch()
    (leases / "00000001.released").touch()
    for path, data in here.model_files.items():
        (files / path).parent.mkdir(parents=True, exist_ok=True)
        (files / path).write_bytes(data)
    (files / "manifest.json").write_text("{")
    here.installed("--model", "small")
    assert here.volume("verify") == (0, "clean: small\n")
    fetched = {path for path in here.hub.started if "/api/" not in path}
    assert {path.rpartition("/")[2] for path in fetched} == {"tokenizer.json"}
