"""Mending by who finds damage in a start: what another has mended meanwhile is left."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.volume_parts import Parts, parts
from volume.lease import Lease
from volume.manifest import intact_manifest, scan, write_manifest
from volume.mend import mend


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Parts:
    return parts(tmp_path, monkeypatch)


@pytest.fixture
def folder(here: Parts) -> Path:
    final = here.layout.models / "m@1"
    final.mkdir(parents=True)
    (final / "a").write_bytes(b"bad a")
    (final / "b").write_bytes(b"bad b")
    write_manifest(final, scan(final))
    return final


def anew(work: Path, lease: Lease) -> Path:
    for name in ("a", "b"):
        (work / name).write_bytes(f"good {name}".encode())
    return work


def test_what_another_has_mended_meanwhile_is_not_made_again(here: Parts, folder: Path) -> None:
    def made(work: Path, lease: Lease) -> Path:
        pytest.fail("made again")

    mend(here.installer, "m@1", folder, ["a"], made, still=list)
    assert (folder / "a").read_bytes() == b"bad a"


def test_what_is_damaged_when_the_lease_has_come_is_mended(here: Parts, folder: Path) -> None:
    mend(here.installer, "m@1", folder, ["a"], anew, still=lambda: ["b"])
    assert (folder / "a").read_bytes() == b"bad a"
    assert (folder / "b").read_bytes() == b"good b"
    assert intact_manifest(folder) == scan(folder)


def test_a_link_is_put_in_place_as_a_link_that_holds_from_there(here: Parts, folder: Path) -> None:
    blob = here.layout.mount / "blob"
    blob.write_bytes(b"cached")

    def linked(work: Path, lease: Lease) -> Path:
        (work / "a").symlink_to(blob)
        return work

    mend(here.installer, "m@1", folder, ["a"], linked)
    assert (folder / "a").resolve() == blob
    assert not (folder / "a").readlink().is_absolute()
