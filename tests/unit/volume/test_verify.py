"""verify names each bad file, and mends just those: from the lock's sources, under the lease."""

from __future__ import annotations

import errno
import hashlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.index_server import make_wheel
from tests.support.volume_parts import (
    FILES,
    UNKNOWN,
    Parts,
    claim_of,
    elsewhere,
    parts,
    take_over_the_lease,
)
from volume import mend as mending
from volume.environment import install_environment
from volume.errors import DamagedError, FullError, LeaseLostError
from volume.layout import PREPARED
from volume.lease import is_free, newest_claim
from volume.manifest import (
    MANIFEST,
    TWIN,
    FileEntry,
    files_below,
    intact_manifest,
    read_manifest,
    scan,
    write_manifest,
)
from volume.models import install_model
from volume.verify import (
    Finding,
    damaged_cubins,
    damaged_wheels,
    info_folder,
    repair_environment,
    repair_model,
    repair_prepared,
    verify,
)

WEIGHTS = "LLM/model.safetensors"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Parts:
    return parts(tmp_path, monkeypatch)


@pytest.fixture
def model(here: Parts) -> Path:
    folder = install_model(here.installer, here.model)
    here.programs.ran.clear()
    return folder


@pytest.fixture
def environment(here: Parts) -> Path:
    folder = install_environment(here.installer, here.environment)
    here.programs.ran.clear()
    return folder


def look(here: Parts) -> Finding:
    return verify("small", here.model_folder, here.model.files)


def spoil(path: Path) -> bytes:
    """Change a byte and no size; returns what was there."""
    before = path.read_bytes()
    path.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    return before


def asked(command: list[str]) -> list[str]:
    return command[command.index("download") + 2 : command.index("--revision")]


# What is bad.


def test_what_is_as_it_was_installed_is_clean(here: Parts, model: Path) -> None:
    assert look(here) == Finding("small", model, here.model.files, ())


@pytest.mark.parametrize("path", [WEIGHTS, UNKNOWN])
def test_a_changed_and_a_missing_file_are_named(here: Parts, model: Path, path: str) -> None:
    spoil(model / path)
    (model / "config.json").unlink()
    assert look(here).damaged == tuple(sorted(["config.json", path]))


def test_the_locks_hash_beats_that_of_the_manifests(here: Parts, model: Path) -> None:
    """Whoever changed the file may have changed what vouches for it too."""
    spoil(model / WEIGHTS)
    write_manifest(model, scan(model))
    assert look(here).damaged == (WEIGHTS,)


def test_a_file_without_a_locked_hash_is_held_to_the_manifests(here: Parts, model: Path) -> None:
    spoil(model / UNKNOWN)
    assert look(here).damaged == (UNKNOWN,)


def test_a_locked_file_that_the_manifests_do_not_name_is_asked_for(
    here: Parts, model: Path
) -> None:
    (model / UNKNOWN).unlink()
    write_manifest(model, scan(model))
    assert look(here).damaged == (UNKNOWN,)


@pytest.mark.parametrize("name", [MANIFEST, TWIN])
def test_one_lost_manifest_is_named_and_its_twin_vouches_for_the_files(
    here: Parts, model: Path, name: str
) -> None:
    (model / name).write_text("{}")
    assert look(here).damaged == (name,)
    spoil(model / UNKNOWN)
    assert look(here).damaged == (UNKNOWN, name)


def test_without_manifests_only_the_lock_vouches(here: Parts, model: Path) -> None:
    (model / MANIFEST).unlink()
    (model / TWIN).unlink()
    (model / "stray").touch()
    assert look(here).damaged == (UNKNOWN, "stray", MANIFEST, TWIN)
    (model / UNKNOWN).unlink()
    assert look(here).damaged == (UNKNOWN, "stray", MANIFEST, TWIN)


@pytest.mark.parametrize("key", ["digest", "files", "path", "size", "sha256"])
def test_a_bit_that_flips_in_a_manifests_own_words_is_damage(
    here: Parts, model: Path, key: str
) -> None:
    text = (model / MANIFEST).read_text()
    assert f'"{key}"' in text
    (model / MANIFEST).write_text(text.replace(f'"{key}"', f'"{key[:-1]}?"', 1))
    assert look(here).damaged == (MANIFEST,)


def test_what_was_prepared_is_not_part_of_the_published(here: Parts) -> None:
    here.change_pins(prepared=True)
    folder = install_model(here.installer, here.model)
    spoil(folder / PREPARED / "fast.bin")
    assert look(here).damaged == ()
    assert verify("prepared", folder / PREPARED).damaged == ("fast.bin",)


# A model is mended.


def test_only_the_damaged_files_are_fetched(here: Parts, model: Path) -> None:
    before = spoil(model / WEIGHTS)
    kept = (model / "config.json").stat().st_ino
    repair_model(here.installer, here.model, look(here))
    assert [asked(command) for _, command in here.programs.ran] == [[WEIGHTS]]
    assert (model / WEIGHTS).read_bytes() == before
    assert (model / "config.json").stat().st_ino == kept
    assert look(here).damaged == ()
    leases = here.layout.leases / here.model.resource
    assert is_free(leases, newest_claim(leases))
    assert list(here.layout.cache.iterdir()) == []


def test_a_lost_manifest_is_written_anew_and_nothing_is_fetched(here: Parts, model: Path) -> None:
    files = read_manifest(model)
    (model / MANIFEST).unlink()
    repair_model(here.installer, here.model, look(here))
    assert here.programs.ran == []
    assert read_manifest(model, MANIFEST) == read_manifest(model, TWIN)
    assert set(read_manifest(model) or ()) == set(files or ())


def test_without_manifests_the_new_ones_name_every_file(here: Parts, model: Path) -> None:
    (model / MANIFEST).unlink()
    (model / TWIN).unlink()
    spoil(model / WEIGHTS)
    repair_model(here.installer, here.model, look(here))
    assert [asked(command) for _, command in here.programs.ran] == [[WEIGHTS, UNKNOWN]]
    assert [file.path for file in read_manifest(model) or ()] == files_below(model)
    assert look(here).damaged == ()


def test_where_the_lock_knows_every_file_lost_manifests_cost_no_download(
    here: Parts, model: Path
) -> None:
    here.change_pins(files=[vars(file) for file in scan(model)])
    (model / MANIFEST).unlink()
    (model / TWIN).unlink()
    repair_model(here.installer, here.model, look(here))
    assert here.programs.ran == []
    assert [file.path for file in read_manifest(model, TWIN) or ()] == sorted(FILES)


def test_a_manifest_tells_what_was_made_anew_and_keeps_the_rest(here: Parts, model: Path) -> None:
    """A file that goes bad while another is mended must not become right by that."""
    files = {file.path: file for file in intact_manifest(model) or ()}
    spoil(model / UNKNOWN)
    finding = look(here)
    spoil(model / "config.json")
    repair_model(here.installer, here.model, finding)
    assert {file.path: file for file in intact_manifest(model) or ()} == files
    assert verify("small", model).damaged == ("config.json",)


def test_what_a_killed_repair_left_is_not_used(here: Parts, model: Path) -> None:
    old = here.layout.cache / here.model.resource / "00000000" / "repair"
    (old / "LLM").mkdir(parents=True)
    (old / WEIGHTS).write_bytes(b"half")
    before = spoil(model / WEIGHTS)
    repair_model(here.installer, here.model, look(here))
    assert (model / WEIGHTS).read_bytes() == before


def after_the_fetch(here: Parts, act: Callable[[], None]) -> None:
    here.programs.after = lambda name, command: act()


def test_who_was_replaced_meanwhile_changes_nothing(here: Parts, model: Path) -> None:
    leases = here.layout.leases / here.model.resource
    spoil(model / WEIGHTS)
    bad, manifest = (model / WEIGHTS).read_bytes(), (model / MANIFEST).read_bytes()
    after_the_fetch(here, lambda: take_over_the_lease(leases))
    with pytest.raises(LeaseLostError):
        repair_model(here.installer, here.model, look(here))
    assert (model / WEIGHTS).read_bytes() == bad
    assert (model / MANIFEST).read_bytes() == manifest


def test_who_was_replaced_after_the_last_file_leaves_manifests_and_work_to_the_heir(
    here: Parts, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leases = here.layout.leases / here.model.resource
    heirs = here.layout.cache / here.model.resource / "heir"
    spoil(model / WEIGHTS)
    finding = look(here)
    (model / TWIN).unlink()
    put = mending.replace_file

    def last(source: Path, final: Path) -> None:
        put(source, final)
        take_over_the_lease(leases)
        heirs.mkdir()

    monkeypatch.setattr(mending, "replace_file", last)
    with pytest.raises(LeaseLostError):
        repair_model(here.installer, here.model, finding)
    assert not (model / TWIN).exists()
    assert heirs.exists()


def test_a_repair_waits_for_who_is_at_it_and_says_for_whom(here: Parts, model: Path) -> None:
    spoil(model / WEIGHTS)
    claim_of(here.layout.leases / here.model.resource, 5, elsewhere())
    repair_model(here.installer, here.model, look(here))
    assert f"{here.model.resource}: waiting for process 1 on elsewhere" in here.said


def test_a_full_volume_is_told_as_such(
    here: Parts, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(model / WEIGHTS)

    def full(source: Path, final: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(mending, "replace_file", full)
    with pytest.raises(FullError, match="make room"):
        repair_model(here.installer, here.model, look(here))


def test_what_was_prepared_is_made_again_and_the_bad_file_replaced(here: Parts) -> None:
    here.change_pins(prepared=True)
    folder = install_model(here.installer, here.model) / PREPARED
    before = spoil(folder / "fast.bin")
    here.programs.ran.clear()
    repair_prepared(here.installer, here.model, verify("prepared", folder))
    assert here.programs.names == ["prepare"]
    assert (folder / "fast.bin").read_bytes() == before
    assert verify("prepared", folder).damaged == ()
    assert newest_claim(here.layout.leases / f"{here.model.resource}-{PREPARED}") == 2


def test_what_a_killed_repair_had_prepared_is_no_hindrance(here: Parts) -> None:
    here.change_pins(prepared=True)
    folder = install_model(here.installer, here.model) / PREPARED
    (here.layout.cache / f"{here.model.resource}-{PREPARED}" / "00000000" / "repair").mkdir(
        parents=True
    )
    spoil(folder / "fast.bin")
    repair_prepared(here.installer, here.model, verify("prepared", folder))
    assert verify("prepared", folder).damaged == ()


# An environment is mended.


def mend(here: Parts) -> list[str]:
    """Mend the environment; returns the lines of the wheels that were installed for it."""
    requirements: list[str] = []

    def read(name: str, command: list[str]) -> None:
        requirements.extend(Path(command[command.index("-r") + 1]).read_text().splitlines())

    here.programs.after = read
    finding = verify("environment", here.environment_folder)
    repair_environment(here.installer, here.environment, finding)
    return [line.split("==")[0] for line in requirements]


@pytest.mark.parametrize("name", ["part_1/code.py", "part_1-1.0.dist-info/RECORD"])
def test_one_wheel_alone_is_installed_aside(here: Parts, environment: Path, name: str) -> None:
    path = environment / "site-packages" / name
    before = spoil(path)
    assert mend(here) == ["part-1"]
    assert path.read_bytes() == before
    assert verify("environment", environment).damaged == ()
    assert newest_claim(here.layout.leases / f"environment-{here.environment.digest}") == 2


def test_a_file_that_nothing_can_make_again_is_told_by_name(here: Parts) -> None:
    folder = install_environment(here.installer, here.environment)
    write_manifest(folder, (*scan(folder), FileEntry("site-packages/note", 1, "0" * 64)))
    with pytest.raises(DamagedError, match="no source for site-packages/note"):
        mend(here)


def test_without_manifests_a_generated_file_that_does_not_come_again_is_no_fault(
    here: Parts, environment: Path
) -> None:
    (environment / MANIFEST).unlink()
    (environment / TWIN).unlink()
    (environment / "site-packages" / "note").touch()
    assert sorted(mend(here)) == ["fast", "part-0", "part-1", "part-2", "part-3"]
    assert verify("environment", environment).damaged == ()


def wheels_of(here: Parts, *damaged: str) -> list[str]:
    finding = Finding("environment", here.environment_folder, (), damaged)
    return [wheel.name for wheel in damaged_wheels(here.environment, finding)]


def test_an_intact_record_says_whose_a_file_is(here: Parts, environment: Path) -> None:
    site = "site-packages"
    assert wheels_of(here, f"{site}/part_2/data.bin", MANIFEST) == ["part-2"]
    assert wheels_of(here, f"{site}/fast.py", f"{site}/part_0/code.py") == ["part-0", "fast"]
    compiled = f"{site}/part_3/__pycache__/code.cpython-311.pyc"
    assert wheels_of(here, compiled) == ["part-3"]
    assert wheels_of(here, MANIFEST, TWIN) == []


def test_a_wheels_own_file_that_is_called_as_a_manifest_is_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = parts(tmp_path, monkeypatch, [make_wheel("fast", "2.0", {MANIFEST: b"a", TWIN: b"b"})])
    folder = install_environment(here.installer, here.environment)
    for name in (MANIFEST, TWIN):
        spoil(folder / "site-packages" / name)
    finding = verify("environment", folder)
    assert finding.damaged == (f"site-packages/{MANIFEST}", f"site-packages/{TWIN}")
    repair_environment(here.installer, here.environment, finding)
    assert verify("environment", folder).damaged == ()


def test_a_damaged_or_lost_record_is_not_believed(here: Parts, environment: Path) -> None:
    record = "site-packages/part_1-1.0.dist-info/RECORD"
    assert wheels_of(here, record) == ["part-1"]
    assert wheels_of(here, "site-packages/fast.py", record) == ["fast", "part-1"]
    shutil.rmtree(environment / "site-packages" / "part_1-1.0.dist-info")
    assert wheels_of(here, "site-packages/part_1/code.py") == ["part-1"]


def test_a_wheels_folder_is_found_by_its_whole_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheels = [make_wheel(name, "2.6.0", {f"{name}.py": b""}) for name in ("torchaudio", "torch")]
    here = parts(tmp_path, monkeypatch, wheels)
    site = install_environment(here.installer, here.environment) / "site-packages"
    wheels = {wheel.name: wheel for wheel in here.environment.wheels}
    for name, lock in wheels.items():
        found = info_folder(site, lock)
        assert found is not None
        assert found.name == f"{name}-2.6.0.dist-info"
    upper = replace(wheels["torch"], file="TORCH-2.6.0-py3-none-any.whl")
    assert info_folder(site, upper) == info_folder(site, wheels["torch"])
    shutil.rmtree(site / "torch-2.6.0.dist-info")
    assert info_folder(site, wheels["torch"]) is None
    assert info_folder(site, wheels["torchaudio"]) is not None


def test_every_file_of_the_model_is_checked(here: Parts, model: Path) -> None:
    for path in FILES:
        spoil(model / path)
    assert look(here).damaged == tuple(sorted(FILES))


# Compiled kernels


def test_a_cubin_that_is_not_what_its_name_says_is_damaged(tmp_path: Path) -> None:
    names = [f"lm-{one}-0123-{hashlib.sha256(one.encode()).hexdigest()}" for one in ("a", "b", "c")]
    cubins = [tmp_path / f"{name}.cubin" for name in names]
    for path, content in zip(cubins, (b"a", b"?", b""), strict=True):
        path.write_bytes(content)
    (tmp_path / "unfinished").touch()
    assert damaged_cubins(tmp_path) == cubins[1:]
    assert damaged_cubins(tmp_path / "none") == []


def test_a_cubin_that_is_removed_meanwhile_is_no_damage(tmp_path: Path) -> None:
    (tmp_path / "lm-a-0123-00.cubin").symlink_to("gone")
    assert damaged_cubins(tmp_path) == []
