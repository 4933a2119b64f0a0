"""status: what is there, whether a lock names it, and who installs it just now."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.volume_parts import FILES, Parts, claim_of, elsewhere, parts, with_free_bytes
from volume.environment import install_environment
from volume.layout import PREPARED
from volume.lease import Process
from volume.models import install_model
from volume.start_pack.key import pack_key
from volume.status import Item, report, survey, table


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Parts:
    made = parts(tmp_path, monkeypatch)
    made.change_pins(prepared=True)
    return made


def look(here: Parts) -> list[Item]:
    return survey(here.layout, here.installer.pins)


def test_what_the_locks_name_is_told_before_it_is_there(here: Parts) -> None:
    environment, model, prepared, start = look(here)
    digest, resource = here.environment.digest, here.model.resource
    versions = {wheel.name: wheel.version for wheel in here.programs.wheels}
    assert environment == Item(
        "environment", digest, locked=True, complete=False, files=0, bytes=0, versions=versions
    )
    assert model == Item(
        "model", resource, locked=True, complete=False, files=0, bytes=0, licence="Apache-2.0"
    )
    name = f"{resource}/{PREPARED}"
    assert prepared == Item("prepared", name, locked=True, complete=False, files=0, bytes=0)
    assert start == replace(prepared, kind="start pack", name=pack_key(digest))


def test_what_is_installed_is_told_with_its_files_and_bytes(here: Parts) -> None:
    install_environment(here.installer, here.environment)
    install_model(here.installer, here.model)
    environment, model, prepared, _ = look(here)
    assert (model.complete, model.files) == (True, len(FILES))
    assert model.bytes == sum(map(len, FILES.values()))
    assert (prepared.complete, prepared.files, prepared.bytes) == (True, 1, 100)
    assert environment.complete
    assert environment.bytes == sum(wheel.unpacked for wheel in here.programs.wheels)
    assert not any(item.installing for item in (environment, model, prepared))


def test_a_model_that_is_not_prepared_has_no_line_for_that(here: Parts) -> None:
    here.change_pins(prepared=False)
    assert [item.kind for item in look(here)] == ["environment", "model", "start pack"]


def test_what_no_lock_names_is_told_as_such_and_files_are_not(here: Parts) -> None:
    here.layout.environments.mkdir(parents=True)
    (here.layout.environments / "note").touch()
    for folder in (here.layout.environments / "old", here.layout.models / "m@0", here.model_folder):
        folder.mkdir(parents=True)
    assert [(item.kind, item.name, item.locked) for item in look(here)] == [
        ("environment", here.environment.digest, True),
        ("model", here.model.resource, True),
        ("prepared", f"{here.model.resource}/{PREPARED}", True),
        ("start pack", pack_key(here.environment.digest), True),
        ("environment", "old", False),
        ("model", "m@0", False),
    ]


@pytest.mark.parametrize("number", range(4))
def test_who_installs_is_named_while_it_does(here: Parts, number: int) -> None:
    resource = here.model.resource
    digest = here.environment.digest
    start = f"start-{pack_key(digest)}"
    names = [f"environment-{digest}", resource, f"{resource}-{PREPARED}", start]
    leases = here.layout.leases / names[number]
    claim_of(leases, 1, elsewhere())
    told = [item.installing for item in look(here)]
    assert told.pop(number) == "process 1 on elsewhere"
    assert told == [None] * 3
    (leases / "00000001.released").touch()
    assert [item.installing for item in look(here)] == [None] * 4


@pytest.mark.parametrize("name", ["environment-old", "m@0"])
def test_who_mends_an_older_release_is_named_too(here: Parts, name: str) -> None:
    (here.layout.environments / "old").mkdir(parents=True)
    (here.layout.models / "m@0").mkdir(parents=True)
    claim_of(here.layout.leases / name, 1, elsewhere())
    told = {item.name: item.installing for item in look(here) if not item.locked}
    other = {"environment-old": "m@0", "m@0": "old"}[name]
    assert told == {name.removeprefix("environment-"): "process 1 on elsewhere", other: None}


def test_a_dead_installer_of_this_machine_is_not_named(here: Parts) -> None:
    claim_of(here.layout.leases / here.model.resource, 1, replace(Process.current(), started="1"))
    assert [item.installing for item in look(here)] == [None] * 4


def test_programs_get_it_as_json(here: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    with_free_bytes(monkeypatch, 123)
    told = json.loads(json.dumps(report(here.layout, look(here))))
    assert told["volume"] == str(here.layout.mount)
    assert told["free_bytes"] == 123
    assert [item["name"] for item in told["items"]] == [item.name for item in look(here)]


def test_people_get_a_line_for_each() -> None:
    here = Item("model", "m@1", True, True, 3, 1500, licence="MIT")
    lines = table(
        [
            here,
            replace(here, name="m@0", locked=False),
            replace(here, complete=False, installing="process 7 on host"),
        ]
    ).splitlines()
    assert [" ".join(line.split()) for line in lines] == [
        "model m@1 complete 3 files, 1.5 kB licence MIT",
        "model m@0 complete 3 files, 1.5 kB not pinned by this image",
        "model m@1 not installed, being installed by process 7 on host licence MIT",
    ]


def test_the_free_bytes_are_the_volumes(here: Parts) -> None:
    free = report(here.layout, [])["free_bytes"]
    assert abs(free - shutil.disk_usage(here.layout.mount).free) < 10**9
