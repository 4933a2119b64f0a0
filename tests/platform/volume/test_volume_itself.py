"""A volume that is full, read-only or not there."""

import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.support.volume_world import World
from tests.support.waiting import until
from volume.layout import Layout

Tmpfs = Callable[[str], Path]


def on(here: World, mount: Path) -> World:
    return World(Layout(mount), here.pins, here.index, here.hub, here.wheels, here.model_files)


def test_a_full_disk_is_told_with_the_missing_bytes_and_room_helps(
    small_world: World, tmpfs: Tmpfs
):
    here = on(small_world, tmpfs("size=900k"))
    filler = here.layout.mount / "filler"
    filler.write_bytes(b"0" * 700_000)
    status, output = here.volume("install")
    assert status == 5, output
    assert "the environment does not fit on the volume: " in output
    missing = int(output.split("the volume: ")[1].split(" bytes")[0])
    assert 0 < missing < 300_000
    filler.unlink()
    status, output = here.volume("install")
    assert status == 5, output
    assert "small does not fit on the volume: " in output
    subprocess.run(["mount", "-o", "remount,size=4m", str(here.layout.mount)], check=True)
    here.installed()
    assert here.volume("verify") == (0, "clean: environment\nclean: small\n")


def test_a_disk_that_fills_up_during_the_install_is_told_too(small_world: World, tmpfs: Tmpfs):
    here = on(small_world, tmpfs("size=4m"))
    here.index.rate = 100_000.0
    installer = here.start("install", "--environment")

    def downloading() -> bool:
        assert installer.poll() is None
        return any(here.layout.cache.glob("*/*/uv/*"))

    until(downloading, 60)
    filler = here.layout.mount / "filler"
    with filler.open("wb") as file:
        file.write(b"0" * 3_800_000)
    output, _ = installer.communicate(timeout=120)
    assert installer.returncode == 5, output
    assert "bytes" in output.split("does not fit")[1]
    filler.unlink()
    here.index.rate = 1e9
    here.installed("--environment")


def test_a_read_only_volume_that_is_complete_serves(small_world: World, tmpfs: Tmpfs):
    here = on(small_world, tmpfs("size=8m"))
    here.installed()
    subprocess.run(["mount", "-o", "remount,ro", str(here.layout.mount)], check=True)
    here.installed()
    status, output = here.volume("run", module="part_0.code")
    assert status == 0, output
    assert here.volume("verify") == (0, "clean: environment\nclean: small\n")
    assert here.volume("status")[0] == 0


def test_a_read_only_volume_that_is_incomplete_says_so(small_world: World, tmpfs: Tmpfs):
    here = on(small_world, tmpfs("size=8m"))
    here.installed("--environment")
    subprocess.run(["mount", "-o", "remount,ro", str(here.layout.mount)], check=True)
    status, output = here.volume("run")
    assert status == 4
    assert "incomplete and cannot be written" in output


def test_a_volume_that_cannot_be_is_not_mounted(small_world: World, tmp_path: Path):
    (tmp_path / "file").write_text("")
    status, output = on(small_world, tmp_path / "file").volume("status")
    assert status == 3
    assert "RUNPOD_VOLUME" in output
