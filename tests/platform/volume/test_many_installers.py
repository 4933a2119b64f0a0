"""Many workers at once on an empty volume: one result, and no file fetched for each of them."""

import random
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from urllib.parse import unquote

from tests.support.volume_world import World
from tests.support.waiting import until
from volume.lease import newest_claim


def test_eight_installers_some_of_them_killed_share_one_install(
    small_world: World, times: Callable[[int, int], int]
):
    here = small_world
    here.index.rate = here.hub.rate = 200_000.0
    moments = random.Random(8)
    kills = times(2, 5)
    installers = [here.start("install") for _ in range(8)]
    for killed in installers[:kills]:
        time.sleep(moments.uniform(0.3, 1.5))
        killed.kill()
    results = [(i.communicate(timeout=240)[0], i.returncode) for i in installers]
    assert [code for _, code in results[kills:]] == [0] * (8 - kills), results
    status, output = here.volume("verify")
    assert (status, output) == (0, "clean: environment\nclean: small\n")
    assert [p.name for p in here.layout.environments.iterdir()] == [here.environment.digest]
    assert [p.name for p in here.layout.models.iterdir()] == [here.model.resource]
    assert list(here.layout.cache.iterdir()) == []
    # By name: some lie below the index's files, one at a URL of its own.
    wheels = {unquote(path).rpartition("/")[2]: sent for path, sent in here.index.sent.items()}
    for wheel in here.wheels:
        assert 0 < wheels[wheel.file] <= len(wheel.data) * (1 + kills), wheel.file
    blobs = {path: sent for path, sent in here.hub.sent.items() if path.startswith("/cdn/")}
    assert blobs
    for path, sent in blobs.items():
        assert sent <= len(here.hub.find(path).body) * (1 + kills), path


def test_an_installer_that_stood_still_is_replaced_and_harms_nothing_when_it_wakes(
    small_world: World,
):
    here = replace(small_world, takeover=1.0)
    here.index.rate = 20_000.0
    lease = here.layout.leases / f"environment-{here.environment.digest}"
    first = here.start("install", "--environment")
    until(lambda: any(here.layout.cache.glob("*/*/uv/*")), 60, pause=0.02)
    first.send_signal(signal.SIGSTOP)
    here.index.rate = 1e9
    here.installed("--environment")
    assert newest_claim(lease) == 2
    first.send_signal(signal.SIGCONT)
    output, _ = first.communicate(timeout=60)
    assert first.returncode == 0, output
    status, output = here.volume("verify")
    assert status == 0, output


def test_a_waiting_installer_says_for_whom_it_waits(small_world: World):
    here = small_world
    here.index.rate = 100_000.0
    first = here.start("install", "--environment")
    until(lambda: any(here.layout.cache.glob("*/*/uv/*")), 60, pause=0.02)
    output = here.installed("--environment")
    first.communicate(timeout=60)
    assert f"waiting for process {first.pid} on " in output
