"""Where things are installed: a volume, a folder of the operator's, or the container's disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from volume import mount
from volume.errors import NotMountedError, VolumeError
from volume.mount import ALLOWED, IN_IMAGE, Place, container_disk_allowed, find_place
from worker.settings import Settings


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the platform would mount a volume; nothing is there yet."""
    monkeypatch.setattr(mount, "DEFAULT_MOUNT", tmp_path / "mount")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    return tmp_path / "mount"


@pytest.fixture
def mounts(monkeypatch: pytest.MonkeyPatch) -> set[Path]:
    """What counts as a mount point: a test has no right to mount."""
    points: set[Path] = set()
    monkeypatch.setattr("os.path.ismount", lambda path: Path(path) in points)
    return points


def test_the_mount_point_is_the_platforms_unless_told(at: Path, tmp_path: Path) -> None:
    at.mkdir()
    for value in ({}, {"RUNPOD_VOLUME": ""}, {"RUNPOD_VOLUME": f" {at}\n"}):
        assert find_place(value) == Place(at)
    below = tmp_path / "a" / "b"
    assert find_place({"RUNPOD_VOLUME": f" {below} "}) == Place(below)
    assert below.is_dir()


def test_the_platforms_own_one() -> None:
    assert Path("/runpod-volume") == mount.DEFAULT_MOUNT
    assert Settings.model_fields["runpod_volume"].default == mount.DEFAULT_MOUNT


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in ("file", "file/below"):
        with pytest.raises(
            NotMountedError, match=r"RUNPOD_VOLUME .*: (Not a directory|File exists)"
        ):
            find_place({"RUNPOD_VOLUME": str(tmp_path / folder)})


def test_a_volume_that_is_missing_is_not_made_and_the_ways_out_are_named(at: Path) -> None:
    with pytest.raises(NotMountedError, match="attach a network volume") as told:
        find_place({})
    assert f"{ALLOWED}=true" in str(told.value)
    assert not at.exists()


def test_where_it_is_allowed_the_containers_disk_stands_in_for_what_is_not_mounted(
    at: Path, tmp_path: Path
) -> None:
    place = find_place({ALLOWED: "true"})
    assert place == Place(tmp_path / "tmp" / "without-volume", on_container=True)
    assert place.folder.is_dir()
    assert not at.exists()
    at.mkdir()
    assert find_place({ALLOWED: "true"}) == Place(at)
    assert find_place({ALLOWED: "true", "RUNPOD_VOLUME": str(tmp_path)}) == Place(tmp_path)


def test_a_containers_disk_that_cannot_be_written_is_told(at: Path, tmp_path: Path) -> None:
    (tmp_path / "tmp").touch()
    said = f"no volume is mounted, and {tmp_path}/tmp.*: Not a directory"
    with pytest.raises(NotMountedError, match=said):
        find_place({ALLOWED: "true"})


@pytest.mark.parametrize("allowed", [True, False])
def test_cached_models_below_the_mount_point_are_no_volume(
    at: Path, mounts: set[Path], allowed: bool
) -> None:
    """The platform shows them below the same folder, on an endpoint that has no volume."""
    (at / "huggingface-cache" / "hub").mkdir(parents=True)
    mounts.add(at / "huggingface-cache")
    if allowed:
        assert find_place({ALLOWED: "true"}).on_container
    else:
        with pytest.raises(NotMountedError, match="only RunPod's cached models"):
            find_place({})
    assert [path.name for path in at.iterdir()] == ["huggingface-cache"]


def test_cached_models_on_a_mount_that_nobody_can_write_are_no_volume(
    at: Path, mounts: set[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (at / "huggingface-cache").mkdir(parents=True)
    mounts.add(at)
    assert find_place({ALLOWED: "true"}) == Place(at)  # a new volume that they are mounted within
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert find_place({ALLOWED: "true"}).on_container


def test_a_volume_with_more_on_it_or_nothing_is_one(at: Path, mounts: set[Path]) -> None:
    at.mkdir()
    assert find_place({}) == Place(at)
    (at / "huggingface-cache").mkdir()
    (at / "SparkTTS-serverless").mkdir()
    assert find_place({}) == Place(at)


@pytest.mark.parametrize(
    "value", ["0", "1", "true", "True", "YES", "y", "t", "on", "off", "no", "n", "f", "False"]
)
def test_the_variable_is_read_as_the_workers_settings_read_it(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv(ALLOWED, f" {value}\n")
    assert container_disk_allowed(os.environ) is Settings().allow_container_disk


def test_an_image_with_the_environment_needs_no_word_of_the_operator(at: Path) -> None:
    image = {IN_IMAGE: "/nix/store/environment"}
    for blank in ({}, {ALLOWED: ""}, {ALLOWED: " "}):
        assert find_place(image | blank).on_container
        with pytest.raises(NotMountedError):
            find_place(blank)
    with pytest.raises(NotMountedError):
        find_place(image | {ALLOWED: "false"})


def test_another_value_is_refused_in_words(at: Path) -> None:
    with pytest.raises(
        VolumeError, match="ALLOW_CONTAINER_DISK must be true or false, not 'perhap"
    ):
        find_place({ALLOWED: "perhaps"})


@pytest.fixture
def in_pod(at: Path, tmp_path: Path, mounts: set[Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a pod would mount a volume; a folder of the container's, until it is a mount point."""
    folder = tmp_path / "workspace"
    folder.mkdir()
    monkeypatch.setattr(mount, "POD_MOUNT", folder)
    return folder


def test_a_pods_volume_is_found_and_that_it_is_used_is_told(
    at: Path, in_pod: Path, mounts: set[Path]
) -> None:
    mounts.add(in_pod)
    for variables in ({}, {"RUNPOD_VOLUME": str(at)}, {IN_IMAGE: "/env"}, {ALLOWED: "true"}):
        place = find_place(variables)
        assert (place.folder, place.on_container) == (in_pod, False)
        assert place.note == (
            f"nothing is mounted at {at}, and a volume at {in_pod}, as in a pod: it is used"
        )
    assert not at.exists()


def test_a_folder_where_a_pod_has_its_volume_is_none(at: Path, in_pod: Path) -> None:
    """Ten gigabytes would go to the container's disk."""
    (in_pod / "notebooks").mkdir()
    words = f"nor, as in a pod, at {in_pod}, which is a folder of the container's disk: attach"
    with pytest.raises(NotMountedError, match=words):
        find_place({})
    assert find_place({ALLOWED: "true"}).on_container


def test_the_endpoints_volume_comes_before_a_pods_and_the_operators_word_before_both(
    at: Path, in_pod: Path, mounts: set[Path], tmp_path: Path
) -> None:
    mounts.add(in_pod)
    at.mkdir()
    place = find_place({})
    assert place.folder == at
    assert place.note == (
        f"volumes are mounted at {at} and {in_pod}: {at} is used; RUNPOD_VOLUME may name the other"
    )
    assert find_place({"RUNPOD_VOLUME": str(in_pod)}) == Place(in_pod)
    assert find_place({"RUNPOD_VOLUME": str(tmp_path / "own")}) == Place(tmp_path / "own")
    (at / "huggingface-cache").mkdir()  # cached models alone are no volume
    assert find_place({}).folder == in_pod
