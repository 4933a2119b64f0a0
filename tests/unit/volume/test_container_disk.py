"""Without a volume: all of it fits on the container's disk, or it is told before a download."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from shutil import rmtree
from types import SimpleNamespace

import pytest
from runpod.serverless.modules import rp_system_fitness

from tests.support.cached_models import blob_of, cache_model
from tests.support.volume_parts import FILES, Parts, parts
from tests.support.volume_world import REPOSITORY
from volume import container_disk
from volume.container_disk import bytes_kept_free, bytes_to_install, require_room
from volume.environment import OVERHEAD, install_environment
from volume.errors import FullError, VolumeError
from volume.models import install_model


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Parts:
    monkeypatch.delenv("RUNPOD_SKIP_AUTO_SYSTEM_CHECKS", raising=False)
    return parts(tmp_path, monkeypatch)


def needed(here: Parts, *, environment: bool = True) -> int:
    return bytes_to_install(here.installer, here.environment if environment else None, [here.model])


def test_what_is_there_needs_no_room(here: Parts) -> None:
    here.change_pins(prepared=True)
    installer = replace(here.installer, lasting=False)
    wheels, model = int(here.environment.size * OVERHEAD), here.model.size
    assert needed(here) == wheels + model
    assert needed(here, environment=False) == model
    install_environment(installer, here.environment)
    assert needed(here) == model
    install_model(installer, here.model)
    assert needed(here) == 0
    assert here.programs.names == ["uv", "hub"], "and nothing is prepared"


def test_an_environment_of_the_image_needs_none(here: Parts, tmp_path: Path) -> None:
    (tmp_path / "image" / "site-packages").mkdir(parents=True)
    installer = replace(here.installer, in_image=tmp_path / "image")
    assert bytes_to_install(installer, here.environment, []) == 0


def test_what_the_platform_has_cached_needs_none_and_what_is_cut_short_does(here: Parts) -> None:
    home = cache_model(here.layout.cached_models, REPOSITORY, FILES)
    unpinned = {file.path for file in here.model.files if file.size is None}
    cached = sum(len(data) for path, data in FILES.items() if path not in unpinned)
    assert bytes_to_install(here.installer, None, [here.model]) == here.model.size - cached
    longest = max(FILES, key=lambda path: len(FILES[path]))
    os.truncate(blob_of(home, longest), len(FILES[longest]) - 1)
    left = cached - len(FILES[longest])
    assert bytes_to_install(here.installer, None, [here.model]) == here.model.size - left
    rmtree(here.layout.cached_models)
    cache_model(here.layout.cached_models, REPOSITORY, FILES, "b" * 40)
    assert bytes_to_install(here.installer, None, [here.model]) == here.model.size


def disk(monkeypatch: pytest.MonkeyPatch, *, free: int, total: int) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=free, total=total))


def test_the_last_byte_decides_and_what_the_sdk_wants_free_counts(
    here: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(container_disk, "ROOT", here.layout.mount)
    everything = needed(here)
    disk(monkeypatch, free=everything + 50, total=500)
    require_room(here.installer, here.environment, [here.model])
    disk(monkeypatch, free=everything + 49, total=500)
    with pytest.raises(FullError, match=r"1 bytes .* missing: .* RunPod's SDK wants free"):
        require_room(here.installer, here.environment, [here.model])
    monkeypatch.setenv("RUNPOD_MIN_DISK_PERCENT", "9.8")
    require_room(here.installer, here.environment, [here.model])


def test_what_an_interrupted_download_has_left_counts(
    here: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNPOD_SKIP_AUTO_SYSTEM_CHECKS", "true")
    here.layout.cache.mkdir(parents=True)
    (here.layout.cache / "half").write_bytes(bytes(100))
    disk(monkeypatch, free=needed(here) - 100, total=500)
    require_room(here.installer, here.environment, [here.model])
    disk(monkeypatch, free=needed(here) - 101, total=500)
    with pytest.raises(FullError, match=r"1 bytes .* are missing: [^,]* are needed$"):
        require_room(here.installer, here.environment, [here.model])


def test_the_sdks_check_is_of_the_roots_disk_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk(monkeypatch, free=0, total=1000)
    assert bytes_kept_free(Path("/proc"), {}) == 0
    monkeypatch.setattr(container_disk, "ROOT", tmp_path)
    assert bytes_kept_free(tmp_path, {}) == 100
    assert bytes_kept_free(tmp_path, {"RUNPOD_MIN_DISK_PERCENT": "2.5"}) == 25
    assert bytes_kept_free(tmp_path, {"RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "True"}) == 0
    with pytest.raises(VolumeError, match="RUNPOD_MIN_DISK_PERCENT must be a number, not 'a lot'"):
        bytes_kept_free(tmp_path, {"RUNPOD_MIN_DISK_PERCENT": "a lot"})


def test_the_share_is_the_sdks_own() -> None:
    assert "RUNPOD_MIN_DISK_PERCENT" not in os.environ, "the SDK has read it"
    assert rp_system_fitness.MIN_DISK_PERCENT == container_disk.MIN_DISK_PERCENT
