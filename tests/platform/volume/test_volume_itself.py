"""A volume that is full, read-only or not there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.volume_world import World
from tests.support.waiting import until

if TYPE_CHECKING:
    from tests.platform.volume.conftest import Tmpfs


def test_a_full_disk_is_told_with_the_missing_bytes_and_room_helps(
    small_world: World, tmpfs: Tmpfs
):
    here = small_world.on(tmpfs.mount("size=900k"))
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
    tmpfs.change(here.layout.mount, "size=4m")
    here.installed()
    assert here.volume("verify") == (0, "clean: environment\nclean: small\n")


def test_a_disk_that_fills_up_during_the_install_is_told_too(small_world: World, tmpfs: Tmpfs):
    here = small_world.on(tmpfs.mount("size=4m"))
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
    here = small_world.on(tmpfs.mount("size=8m"))
    here.installed()
    tmpfs.change(here.layout.mount, "ro")
    here.installed()
    status, output = here.volume("run", module="part_0.code")
    assert status == 0, output
    assert here.volume("verify") == (0, "clean: environment\nclean: small\n")
    assert here.volume("status")[0] == 0


def test_a_read_only_volume_that_is_incomplete_says_so(small_world: World, tmpfs: Tmpfs):
    here = small_world.on(tmpfs.mount("size=8m"))
    here.installed("--environment")
    tmpfs.change(here.layout.mount, "ro")
    status, output = here.volume("run")
    assert status == 4
    assert "incomplete and cannot be written" in output


def test_a_volume_that_cannot_be_is_not_mounted(small_world: World, tmp_path: Path):
    (tmp_path / "file").write_text("")
    status, output = small_world.on(tmp_path / "file").volume("status")
    assert status == 3
    assert "RUNPOD_VOLUME" in output
