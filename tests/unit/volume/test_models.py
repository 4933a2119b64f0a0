"""A model: fetched, checked, prepared, and its clips put beside the user's own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.support.volume_parts import (
    FILES,
    Parts,
    held,
    parts,
    take_over_the_lease,
    with_free_bytes,
)
from volume import models
from volume.errors import DamagedError, FullError, LeaseLostError, PreparationError
from volume.hub import NOTES
from volume.layout import PREPARED
from volume.manifest import MANIFEST, TWIN, read_manifest, scan
from volume.models import convert, install_model, prepare_model
from volume.pins import EMBEDDED, pinned_model
from volume.process import Outcome


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Parts:
    return parts(tmp_path, monkeypatch)


def test_the_published_folder_holds_the_locked_files_and_two_manifests(here: Parts) -> None:
    folder = install_model(here.installer, here.model)
    assert folder == here.model_folder
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert found == {*FILES, MANIFEST, TWIN}
    assert not (folder / NOTES).exists()
    assert [file.path for file in read_manifest(folder) or ()] == sorted(FILES)
    assert here.said == ["small: licence Apache-2.0"]
    assert list(here.layout.cache.iterdir()) == []


def test_what_is_installed_is_not_fetched_again(here: Parts) -> None:
    install_model(here.installer, here.model)
    install_model(here.installer, here.model)
    assert here.programs.names == ["hub"]
    assert here.said == ["small: licence Apache-2.0"] * 2


def test_an_install_that_ended_half_way_goes_on_with_its_files(
    here: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.programs.files.pop("config.json")
    with pytest.raises(KeyError):
        install_model(here.installer, here.model)
    here.programs.files["config.json"] = FILES["config.json"]
    there = sum(len(data) for path, data in FILES.items() if path.startswith("BiCodec"))
    with_free_bytes(monkeypatch, here.model.size - there)
    install_model(here.installer, here.model)
    command = here.programs.ran[-1][1]
    assert "BiCodec/model.safetensors" not in command


def test_a_model_that_does_not_fit_is_told_before_its_download(
    here: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_free_bytes(monkeypatch, here.model.size - 1)
    with pytest.raises(FullError, match="1 bytes"):
        install_model(here.installer, here.model)
    assert here.programs.ran == []
    assert not here.model_folder.exists()


def test_a_model_that_asks_for_it_is_prepared_in_its_own_folder(here: Parts) -> None:
    here.change_pins(prepared=True)
    folder = install_model(here.installer, here.model) / PREPARED
    assert here.programs.names == ["hub", "prepare", "kernels"]
    command = here.programs.ran[1][1]
    assert command[-2] == str(here.model_folder)
    assert [file.path for file in read_manifest(folder) or ()] == ["fast.bin"]
    install_model(here.installer, here.model)
    assert here.programs.names == ["hub", "prepare", "kernels"]


def test_a_model_that_does_not_ask_for_it_is_not_prepared(here: Parts) -> None:
    folder = install_model(here.installer, here.model)
    assert here.programs.names == ["hub"]
    assert not (folder / PREPARED).exists()


@pytest.mark.parametrize("status", [1, -9])
def test_a_preparation_that_failed_or_was_killed_publishes_nothing(
    here: Parts, status: int
) -> None:
    def half(name: str, command: list[str]) -> Outcome | None:
        if name != "prepare":
            return None
        here.programs.prepare(command)
        return Outcome(status, "cannot read config.yaml")

    here.change_pins(prepared=True)
    here.programs.instead = half
    with pytest.raises(PreparationError, match=r"small could not be prepared:\ncannot read"):
        install_model(here.installer, here.model)
    assert here.model_folder.is_dir()
    assert not (here.model_folder / PREPARED).exists()


def test_what_a_killed_preparation_left_is_no_hindrance(here: Parts) -> None:
    here.change_pins(prepared=True)
    resource = f"{here.model.resource}-{PREPARED}"
    left = here.layout.cache / resource / "00000000" / "prepared"
    left.mkdir(parents=True)
    (left / "old").touch()
    folder = install_model(here.installer, here.model) / PREPARED
    assert not (folder / "old").exists()


def test_a_preparation_asks_for_room_first(here: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    install_model(here.installer, here.model)
    with_free_bytes(monkeypatch, here.model.size - 1)
    with pytest.raises(FullError, match="small, prepared"):
        prepare_model(here.installer, here.model)
    assert here.programs.names == ["hub"]
    with_free_bytes(monkeypatch, here.model.size)
    prepare_model(here.installer, here.model)


def test_the_kernels_for_gpus_are_compiled_onto_the_volume_by_its_environment(here: Parts) -> None:
    here.change_pins(prepared=True)
    install_model(here.installer, here.model)
    command, variables = here.programs.ran[-1][1], here.programs.environments[-1]
    assert command[1:] == ["-m", "worker.speech.cuda.cubins", str(here.layout.cubins)]
    assert variables["PYTHONPATH"] == here.programs.environments[-2]["PYTHONPATH"]
    assert here.said == ["small: licence Apache-2.0"]


@pytest.mark.parametrize(
    ("status", "printed", "told"),
    [(1, "no compiler for CUDA kernels", "no compiler"), (-11, "", "exit status -11")],
)
def test_kernels_that_cannot_be_compiled_do_not_fail_the_install(
    here: Parts, status: int, printed: str, told: str
) -> None:
    here.change_pins(prepared=True)
    here.programs.instead = lambda name, _: Outcome(status, printed) if name == "kernels" else None
    folder = install_model(here.installer, here.model) / PREPARED
    assert (folder / "fast.bin").is_file()
    assert "left for the first worker to compile" in here.said[0]
    assert told in here.said[0]


def test_a_compiler_that_does_not_end_is_given_up(
    here: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "COMPILE_SECONDS", -1)
    here.change_pins(prepared=True)
    assert (install_model(here.installer, here.model) / PREPARED).is_dir()
    assert "longer than -1 s" in here.said[0]
    assert not here.layout.cubins.exists()


def test_a_lost_lease_ends_the_preparation(here: Parts, tmp_path: Path) -> None:
    leases = here.layout.leases / "prepared"
    with held(leases) as lease:
        take_over_the_lease(leases)
        with pytest.raises(LeaseLostError):
            convert(here.installer, here.model, tmp_path / "folder", lease)


@pytest.fixture
def embedded(here: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model of three small files in the package, with a clip."""
    source = tmp_path / "package" / "toy"
    for path, data in {
        "checkpoint/a/b": b"1",
        "checkpoint/c": b"22",
        "voices/me.wav": b"w",
    }.items():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_bytes(data)
    entries = {
        key: [vars(file) for file in scan(source / folder)]
        for key, folder in (("files", "checkpoint"), ("voices", "voices"))
    }
    file = here.installer.pins / "models.json"
    content = json.loads(file.read_text())
    content["models"]["toy"] = {"source": "embedded", "revision": "1", "licence": "MIT"} | entries
    file.write_text(json.dumps(content))
    monkeypatch.setattr(models, "EMBEDDED", tmp_path / "package")
    return source


def test_an_embedded_model_is_copied_without_a_network(here: Parts, embedded: Path) -> None:
    lock = pinned_model("toy", here.installer.pins)
    folder = install_model(here.installer, lock)
    assert scan(folder) == lock.files
    assert (here.layout.local_storage / "voices" / "me.wav").read_bytes() == b"w"
    assert here.programs.ran == []


def test_an_embedded_model_that_the_image_has_damaged_is_refused_by_file(
    here: Parts, embedded: Path
) -> None:
    (embedded / "checkpoint" / "c").write_bytes(b"2?")
    lock = pinned_model("toy", here.installer.pins)
    with pytest.raises(DamagedError, match=r"embedded model toy is damaged: c$"):
        install_model(here.installer, lock)
    assert not (here.layout.models / lock.resource).exists()


def test_an_embedded_model_that_does_not_fit_is_told_before_it_is_copied(
    here: Parts, embedded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = pinned_model("toy", here.installer.pins)
    with_free_bytes(monkeypatch, lock.size - 1)
    with pytest.raises(FullError, match="toy does not fit"):
        install_model(here.installer, lock)
    assert list(here.layout.cache.rglob("c")) == []


def test_a_clip_comes_back_and_a_users_own_stays(here: Parts, embedded: Path) -> None:
    lock = pinned_model("toy", here.installer.pins)
    clip = here.layout.local_storage / "voices" / "me.wav"
    install_model(here.installer, lock)
    shutil.rmtree(clip.parent)
    install_model(here.installer, lock)
    assert clip.read_bytes() == b"w"
    clip.write_bytes(b"mine")
    install_model(here.installer, lock)
    assert clip.read_bytes() == b"mine"


def test_the_package_has_a_folder_for_each_embedded_model() -> None:
    assert (EMBEDDED / "demo" / "checkpoint").is_dir()
