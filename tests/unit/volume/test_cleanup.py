"""gc: what is not pinned goes, what anybody uses stays, whenever its user came."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path

import pytest

from tests.support.volume_parts import QUICK, claim_of, elsewhere
from volume import cleanup
from volume.cleanup import Removal, candidates, collect
from volume.in_use import announce, in_use
from volume.layout import PREPARED, Layout
from volume.lease import is_free, newest_claim


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], None]]:
    """What happens while the users' counts are watched, in place of the waiting."""
    happens: list[Callable[[], None]] = []

    def wait(patience: float) -> None:
        assert patience == QUICK.takeover
        for act in happens:
            act()

    monkeypatch.setattr(cleanup, "in_use", partial(in_use, sleep=wait))
    return happens


def put(folder: Path, size: int = 10) -> Path:
    folder.mkdir(parents=True)
    (folder / "file").write_bytes(b"x" * size)
    return folder


def counting(layout: Layout, resource: str) -> Callable[[], None]:
    (file,) = announce(layout.uses, [resource])
    return lambda: file.write_bytes(b"%012d" % 1) and None


def run(layout: Layout, *keep: Path, dry_run: bool = False) -> list[Removal]:
    return collect(layout, set(keep), dry_run=dry_run, timing=QUICK)


def test_what_no_lock_names_goes_with_its_bytes(layout: Layout, meanwhile: list) -> None:
    kept, old = put(layout.environments / "new"), put(layout.environments / "old", 30)
    model = put(layout.models / "m@1", 40)
    told = [Removal("old", 30), Removal("m@1", 40)]
    assert run(layout, kept, dry_run=True) == told
    assert (old / "file").exists()
    assert (model / "file").exists()
    assert not layout.cache.exists()
    assert run(layout, kept) == told
    assert (kept / "file").exists()
    assert not old.exists()
    assert not model.exists()
    assert list(layout.cache.iterdir()) == []


def test_only_folders_that_the_installer_made_are_looked_at(layout: Layout) -> None:
    put(layout.models / "a-users-own")
    put(layout.environments)
    put(layout.voices)
    put(layout.cubins)
    put(layout.local_storage)
    assert candidates(layout, set()) == []


def test_what_another_recipe_prepared_goes_and_this_ones_stays(
    layout: Layout, meanwhile: list
) -> None:
    model = put(layout.models / "m@1")
    now, before = put(model / PREPARED), put(model / "prepared-0")
    assert run(layout, model) == [Removal("prepared-0", 10)]
    assert (model / "file").exists()
    assert (now / "file").exists()
    assert not before.exists()


@pytest.mark.parametrize("dry_run", [False, True])
def test_what_is_used_stays(layout: Layout, meanwhile: list, dry_run: bool) -> None:
    used, unused = put(layout.environments / "used"), put(layout.environments / "unused")
    meanwhile.append(counting(layout, "used"))
    assert run(layout, dry_run=dry_run) == [Removal("unused", 10)]
    assert (used / "file").exists()
    assert unused.exists() == dry_run


def test_a_models_user_uses_what_was_prepared_from_it(layout: Layout, meanwhile: list) -> None:
    model = put(layout.models / "m@1")
    prepared = put(model / "prepared-0")
    meanwhile.append(counting(layout, "m@1"))
    assert run(layout, model) == []
    assert (prepared / "file").exists()


@pytest.mark.parametrize("below", ["", "prepared-0"])
def test_a_user_that_comes_after_the_look_keeps_its_files(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, below: str
) -> None:
    model = put(layout.models / "m@1")
    if below:
        put(model / below)

    def look_and_then_it_comes(uses: Path, patience: float) -> set[str]:
        announce(uses, ["m@1"])
        return set()

    monkeypatch.setattr(cleanup, "in_use", look_and_then_it_comes)
    assert run(layout, *([model] if below else [])) == []
    assert (model / below / "file").read_bytes() == b"x" * 10
    assert list(layout.cache.iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOTEMPTY, errno.EEXIST])
def test_what_its_user_installed_anew_meanwhile_stands_and_the_others_still_go(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Of a folder that is not empty a filesystem may say either."""
    old, other = put(layout.environments / "old", 30), put(layout.environments / "other", 20)
    rename = Path.rename

    def renamed_and_then_it_comes(self: Path, target: Path) -> Path:
        if target == old:
            with pytest.raises(OSError, match="not empty"):
                rename(self, target)
            raise OSError(number, os.strerror(number))
        moved = rename(self, target)
        if self == old:
            announce(layout.uses, ["old"])
            put(old, 40)
        return moved

    monkeypatch.setattr(cleanup, "in_use", lambda uses, patience: set())
    monkeypatch.setattr(Path, "rename", renamed_and_then_it_comes)
    assert run(layout) == [Removal("other", 20)]
    assert (old / "file").stat().st_size == 40
    assert not other.exists()
    assert list(layout.cache.iterdir()) == []


def test_any_other_failure_to_put_a_used_thing_back_is_told(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = put(layout.environments / "old")
    rename = Path.rename

    def refused(self: Path, target: Path) -> Path:
        if target == old:
            raise OSError(errno.EIO, "I/O error")
        announce(layout.uses, ["old"])
        return rename(self, target)

    monkeypatch.setattr(cleanup, "in_use", lambda uses, patience: set())
    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(OSError, match="I/O error"):
        run(layout)
    assert [path.name for path in layout.cache.glob("trash/*/*")] == ["file"]


def test_while_it_is_asked_again_the_folder_is_out_of_sight(
    layout: Layout, meanwhile: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were it asked before the rename, a user could come between the two."""
    old = put(layout.environments / "old")
    glob, seen = Path.glob, []

    def look(self: Path, pattern: str) -> object:
        if self == layout.uses / "old":
            seen.append(old.exists())
        return glob(self, pattern)

    monkeypatch.setattr(Path, "glob", look)
    assert run(layout) == [Removal("old", 10)]
    assert seen == [False]


def test_a_dead_user_holds_nothing(layout: Layout, meanwhile: list) -> None:
    old = put(layout.environments / "old")
    (file,) = announce(layout.uses, ["old"])
    assert run(layout) == [Removal("old", 10)]
    assert not old.exists()
    assert not file.exists()


def test_nobody_waits_where_nothing_is_to_be_removed(layout: Layout, meanwhile: list) -> None:
    kept = put(layout.environments / "new")
    announce(layout.uses, ["new"])
    meanwhile.append(lambda: pytest.fail("waited for nothing"))
    assert run(layout, kept) == []


def test_what_a_dead_installer_left_goes_under_its_lease(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, leases = put(layout.cache / "m@1", 30), layout.leases / "m@1"
    assert run(layout, dry_run=True) == [Removal("cache/m@1", 30)]
    assert work.exists()
    assert not leases.exists()
    free = []
    remove = shutil.rmtree

    def watched(folder: Path, **options: bool) -> None:
        if folder == work:
            free.append(is_free(leases, newest_claim(leases)))
        remove(folder, **options)

    monkeypatch.setattr(shutil, "rmtree", watched)
    assert run(layout) == [Removal("cache/m@1", 30)]
    assert not work.exists()
    assert free == [False]
    assert is_free(leases, 1)


def test_what_cannot_be_removed_stops_nothing_and_waits_for_the_next_gc(
    layout: Layout, meanwhile: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(layout.environments / "old")
    work = put(layout.cache / "m@1")

    def busy(*_: object, **__: object) -> None:
        raise OSError(errno.EBUSY, "Device or resource busy")

    monkeypatch.setattr(os, "unlink", busy)
    run(layout)
    monkeypatch.undo()
    assert work.exists()
    assert not (layout.environments / "old").exists()
    run(layout)
    assert list(layout.cache.iterdir()) == []


class Clock:
    """Time as the lease sees it, which passes by sleeping; `act` is done at each sleep."""

    def __init__(self, act: Callable[[int], object]) -> None:
        self.now = 0.0
        self.slept = 0
        self.act = act

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert self.slept < 1000, "it waits for ever"
        self.now += seconds
        self.slept += 1
        self.act(self.slept)


def test_what_an_installer_of_a_lost_machine_left_goes_when_its_count_has_stood_still(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It cannot be known to be dead, and it never said that it left."""
    work, leases = put(layout.cache / "m@1", 30), layout.leases / "m@1"
    claim_of(leases, 1, elsewhere())
    there = []
    clock = Clock(lambda slept: there.append((work / "file").exists()))
    monkeypatch.setattr("volume.lease.time", clock)
    assert run(layout) == [Removal("cache/m@1", 30)]
    assert QUICK.takeover < clock.now <= QUICK.takeover + 2 * QUICK.poll
    assert all(there)
    assert not work.exists()
    assert newest_claim(leases) == 2
    assert is_free(leases, 2)


def test_a_dry_run_waits_for_no_installer_and_promises_nothing_of_its_work(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, leases = put(layout.cache / "m@1"), layout.leases / "m@1"
    claim_of(leases, 1, elsewhere())
    before = sorted(leases.iterdir())
    monkeypatch.setattr("volume.lease.time", Clock(lambda slept: pytest.fail("waited")))
    assert run(layout, dry_run=True) == []
    assert (work / "file").exists()
    assert sorted(leases.iterdir()) == before


def test_the_work_of_an_installer_whose_count_goes_up_is_left_alone(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One beat is enough to know that it lives; what dead ones left beside it goes all the same."""
    work, leases = put(layout.cache / "m@1"), layout.leases / "m@1"
    left = put(layout.cache / "n@1")
    claim_of(leases, 1, elsewhere())

    def beat(slept: int) -> None:
        if slept % 5 == 0:
            (leases / "00000001.heartbeat").write_bytes(b"%012d" % (100 + slept))

    clock = Clock(beat)
    monkeypatch.setattr("volume.lease.time", clock)
    assert run(layout) == [Removal("cache/n@1", 10)]
    assert clock.slept == 5
    assert (work / "file").exists()
    assert newest_claim(leases) == 1
    assert not left.exists()


def test_an_installer_that_ends_while_gc_waits_for_it_has_left_nothing_to_tell_of(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, leases = put(layout.cache / "m@1"), layout.leases / "m@1"
    claim_of(leases, 1, elsewhere())

    def end(slept: int) -> None:
        shutil.rmtree(work)
        (leases / "00000001.released").touch()

    monkeypatch.setattr("volume.lease.time", Clock(end))
    assert run(layout) == []
    assert newest_claim(leases) == 1


def test_work_that_somebody_takes_up_just_then_is_left_and_not_told(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = put(layout.cache / "m@1")
    acquire = cleanup.acquire

    def another_was_first(folder: Path, **options: object) -> object:
        claim_of(folder, 1, elsewhere())
        return acquire(folder, **options)

    monkeypatch.setattr(cleanup, "acquire", another_was_first)
    assert run(layout) == []
    assert (work / "file").exists()


def test_what_a_killed_gc_left_in_the_trash_goes(layout: Layout) -> None:
    trash = put(layout.cache / "trash" / "abc")
    assert run(layout, dry_run=True) == []
    assert trash.exists()
    assert not layout.leases.exists()
    assert run(layout) == []
    assert not trash.exists()
    assert is_free(layout.leases / "trash", 1)


# Two at once.


class Second:
    """Another gc, which is started once and given time to do harm."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._pool = ThreadPoolExecutor(1)
        self._ends: Future[list[Removal]] | None = None

    def comes(self) -> None:
        if self._ends is None:
            self._ends = self._pool.submit(run, self._layout)
            wait([self._ends], timeout=0.3)

    def removed(self) -> list[Removal]:
        assert self._ends is not None
        return self._ends.result(timeout=10)


def test_a_second_gc_takes_nothing_that_the_first_may_put_back(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, second, rename = put(layout.environments / "old"), Second(layout), Path.rename

    def renamed(self: Path, target: Path) -> Path:
        moved = rename(self, target)
        if self == old:
            announce(layout.uses, ["old"])
            second.comes()
        return moved

    monkeypatch.setattr(cleanup, "in_use", lambda uses, patience: set())
    monkeypatch.setattr(Path, "rename", renamed)
    assert run(layout) == []
    assert second.removed() == []
    assert (old / "file").read_bytes() == b"x" * 10


def test_what_two_gcs_find_goes_once(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    put(layout.environments / "old")
    second = Second(layout)

    def looked(uses: Path, patience: float) -> set[str]:
        second.comes()
        return set()

    monkeypatch.setattr(cleanup, "in_use", looked)
    assert run(layout) == [Removal("old", 10)]
    assert second.removed() == []
    assert list(layout.cache.iterdir()) == []


def test_a_full_volume_is_cleaned_though_it_takes_no_claim(
    layout: Layout, meanwhile: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = put(layout.environments / "old")

    def full(folder: Path, **_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cleanup, "acquire", full)
    assert run(layout) == [Removal("old", 10)]
    assert not old.exists()
    assert list(layout.cache.iterdir()) == []


def test_a_volume_that_cannot_be_written_is_told(
    layout: Layout, meanwhile: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = put(layout.environments / "old")

    def refused(folder: Path, **_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(cleanup, "acquire", refused)
    with pytest.raises(OSError, match="Read-only"):
        run(layout)
    assert (old / "file").exists()
