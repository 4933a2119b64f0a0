"""ensure: one builds, the others wait; a failure is told once, and its work kept for the next."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.volume_parts import (
    QUICK,
    claim_of,
    elsewhere,
    take_over_the_lease,
)
from volume import installer
from volume.errors import DownloadError, FullError, LeaseLostError, NotWritableError, VolumeError
from volume.installer import Installer, environment_variables, take_over
from volume.layout import Layout
from volume.lease import Lease, Timing, is_free, newest_claim
from volume.pins import pinned_environment

ROOT = Path(__file__).parents[3]


class Here:
    """An installer of one thing, whose building the test chooses."""

    def __init__(self, folder: Path) -> None:
        self.said: list[str] = []
        self.installer = Installer(Layout(folder), self.said.append, timing=QUICK)
        self.final = folder / "places" / "thing"
        self.leases = self.installer.layout.leases / "thing"
        self.cache = self.installer.layout.cache / "thing"
        self.built: list[Path] = []
        self.act: Callable[[], None] = lambda: None

    def build(self, work: Path, lease: Lease) -> Path:
        assert len(self.built) < 3, "it builds for ever"
        self.built.append(work)
        (work / "whole").mkdir(exist_ok=True)
        (work / "whole" / "file").write_bytes(b"mine")
        self.act()
        return work / "whole"

    def ensure(self) -> Path:
        return self.installer.ensure("thing", self.final, self.build)


@pytest.fixture
def here(tmp_path: Path) -> Here:
    return Here(tmp_path)


def fail_with(error: Exception) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


def test_an_installer_is_patient_unless_told(tmp_path: Path) -> None:
    plain = Installer(Layout(tmp_path), print)
    assert (plain.attempts, plain.pause, plain.uv, plain.wheelhouse) == (5, 1.0, "uv", None)
    assert plain.timing == Timing(heartbeat=5.0, takeover=60.0, poll=1.0)


def test_what_is_missing_is_built_once_under_the_lease_and_leaves_no_work(here: Here) -> None:
    free = []
    here.act = lambda: free.append(is_free(here.leases, newest_claim(here.leases)))
    assert here.ensure() == here.final
    assert (here.final / "file").read_bytes() == b"mine"
    assert here.built == [here.cache / "00000001"]
    assert free == [False]
    assert is_free(here.leases, 1)
    assert not here.cache.exists()
    assert here.ensure() == here.final
    assert len(here.built) == 1
    assert newest_claim(here.leases) == 1


def test_who_waits_says_for_whom_and_takes_what_the_other_built(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim_of(here.leases, 3, elsewhere())

    def said(text: str) -> None:
        here.said.append(text)
        here.final.mkdir(parents=True)

    monkeypatch.setattr(here, "installer", Installer(here.installer.layout, said, timing=QUICK))
    assert here.ensure() == here.final
    assert here.said == ["thing: waiting for process 1 on elsewhere"]
    assert here.built == []


def test_who_gets_the_lease_after_another_built_does_not_build_again(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    acquire = installer.acquire

    def just_after_another(folder: Path, **options: object) -> Lease | None:
        lease = acquire(folder, **options)
        here.final.mkdir(parents=True)
        (here.cache / "00000000").mkdir(parents=True)
        return lease

    monkeypatch.setattr(installer, "acquire", just_after_another)
    assert here.ensure() == here.final
    assert here.built == []
    assert not here.cache.exists()
    assert is_free(here.leases, 1)


def test_who_publishes_second_is_content_with_the_first(here: Here) -> None:
    def another_publishes() -> None:
        here.final.mkdir(parents=True)
        (here.final / "file").write_bytes(b"theirs")

    here.act = another_publishes
    assert here.ensure() == here.final
    assert (here.final / "file").read_bytes() == b"theirs"
    assert not here.cache.exists()


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.ENOSPC, FullError), (errno.EROFS, NotWritableError), (errno.EIO, VolumeError)],
)
def test_what_the_volume_refuses_is_explained_at_the_first_time(
    here: Here, number: int, kind: type[VolumeError]
) -> None:
    here.act = fail_with(OSError(number, os.strerror(number)))
    with pytest.raises(VolumeError) as failed:
        here.ensure()
    assert type(failed.value) is kind
    assert len(here.built) == 1
    assert is_free(here.leases, 1)


def test_an_install_that_fails_keeps_its_work_for_the_next(here: Here) -> None:
    here.act = fail_with(DownloadError("the hub does not answer"))
    with pytest.raises(DownloadError, match="does not answer"):
        here.ensure()
    assert len(here.built) == 1
    assert not here.final.exists()
    assert (here.cache / "00000001" / "whole" / "file").exists()
    seen = []
    here.act = lambda: seen.append(sorted(path.name for path in here.cache.iterdir()))
    here.ensure()
    assert here.built[1] == here.cache / "00000002"
    assert seen == [["00000002"]]


def test_what_is_no_fault_of_the_volume_goes_on_and_frees_the_lease(here: Here) -> None:
    here.act = fail_with(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        here.ensure()
    assert is_free(here.leases, 1)


def test_a_volume_on_which_no_lease_can_be_taken_is_told(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(installer, "acquire", refuse)
    with pytest.raises(NotWritableError, match="mount it for writing once"):
        here.ensure()


@pytest.mark.parametrize("error", [LeaseLostError("lost"), FileNotFoundError("renamed away")])
def test_who_stood_still_takes_what_its_heir_built(here: Here, error: Exception) -> None:
    def lose() -> None:
        take_over_the_lease(here.leases)
        here.final.mkdir(parents=True)
        raise error

    here.act = lose
    assert here.ensure() == here.final
    assert here.said == ["thing: another worker took over"]
    assert len(here.built) == 1


def test_who_stood_still_builds_again_when_its_heir_dies(here: Here) -> None:
    def lose_once() -> None:
        if len(here.built) == 1:
            take_over_the_lease(here.leases)
            raise LeaseLostError("lost")

    here.act = lose_once
    assert here.ensure() == here.final
    assert here.built == [here.cache / "00000001", here.cache / "00000003"]
    assert (here.final / "file").read_bytes() == b"mine"


# Whose downloads a holder goes on with.


def test_the_latest_predecessors_work_is_taken_over_and_older_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "thing"
    for generation in (2, 9, 10):
        (folder / f"{generation:08d}").mkdir(parents=True)
        (folder / f"{generation:08d}" / "of").write_text(str(generation))
    own = take_over(folder, 12)
    assert own == folder / "00000012"
    assert (own / "of").read_text() == "10"
    assert [path.name for path in folder.iterdir()] == ["00000012"]


def test_a_later_holders_work_is_left_alone(tmp_path: Path) -> None:
    later = tmp_path / "thing" / "00000007"
    later.mkdir(parents=True)
    own = take_over(tmp_path / "thing", 5)
    assert list(own.iterdir()) == []
    assert later.is_dir()


def test_half_a_download_gets_a_new_inode_and_whole_files_do_not(tmp_path: Path) -> None:
    first = take_over(tmp_path / "thing", 1)
    (first / "deep").mkdir()
    half, whole = first / "deep" / "x.incomplete", first / "deep" / "y"
    half.write_bytes(b"half")
    whole.write_bytes(b"whole")
    inodes = half.stat().st_ino, whole.stat().st_ino
    own = take_over(tmp_path / "thing", 2)
    assert (own / "deep" / "x.incomplete").read_bytes() == b"half"
    assert (own / "deep" / "x.incomplete").stat().st_ino != inodes[0]
    assert (own / "deep" / "y").stat().st_ino == inodes[1]
    assert sorted(path.name for path in (own / "deep").iterdir()) == ["x.incomplete", "y"]


# What a program gets that runs in the installed environment.


def test_the_installed_modules_come_first_and_the_users_own_stay(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/mine")
    variables = environment_variables(here.installer)
    assert variables["PYTHONPATH"].split(os.pathsep) == [str(ROOT), "/mine"]
    site = here.installer.layout.site_packages(pinned_environment().digest)
    site.mkdir(parents=True)
    variables = environment_variables(here.installer)
    assert variables["PYTHONPATH"].split(os.pathsep) == [str(site), str(ROOT), "/mine"]
    assert variables["PYTHONDONTWRITEBYTECODE"] == "1"
    assert variables["PATH"] == os.environ["PATH"]
    monkeypatch.delenv("PYTHONPATH")
    assert environment_variables(here.installer)["PYTHONPATH"] == f"{site}{os.pathsep}{ROOT}"
