"""kill -9 at any moment: nothing half is ever seen, and the next install completes."""

import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from tests.support.volume_reader import reading
from tests.support.volume_world import world
from volume.manifest import intact_manifest


def test_an_install_killed_at_a_random_moment_is_completed_by_the_next(
    tmp_path: Path, times: Callable[[int, int], int]
):
    moments = random.Random(20250409)
    with world(tmp_path) as first:
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
            here = first.with_volume(tmp_path / f"volume-{turn}")
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
            shutil.rmtree(here.layout.mount)
