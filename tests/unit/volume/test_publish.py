"""Publishing: flushed, then renamed; nobody's file is written over, no copy is left behind."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from volume import publish
from volume.publish import (
    flush,
    portable,
    publish_file_if_absent,
    publish_folder,
    remove_folder,
    replace_by_link,
    replace_file,
)


@pytest.fixture
def staged(tmp_path: Path) -> Path:
    (tmp_path / "staged").mkdir()
    (tmp_path / "staged" / "a").write_bytes(b"new")
    return tmp_path / "staged"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def failing(number: int) -> object:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def test_a_folder_is_flushed_before_it_is_renamed(
    staged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    final, order = staged.parent / "places" / "final", []
    rename = Path.rename

    def renamed(self: Path, target: Path) -> Path:
        order.append("rename")
        return rename(self, target)

    monkeypatch.setattr(publish, "flush", lambda path: order.append(f"flush {path.name}"))
    monkeypatch.setattr(Path, "rename", renamed)
    assert publish_folder(staged, final)
    assert order == ["flush staged", "rename"]


def test_what_cannot_be_flushed_is_not_published(
    staged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(name: object, use_errno: bool) -> SimpleNamespace:
        return SimpleNamespace(syncfs=lambda descriptor: ctypes.set_errno(errno.ENOSPC) or -1)

    monkeypatch.setattr(ctypes, "CDLL", no_room)
    with pytest.raises(OSError, match="No space left") as failed:
        publish_folder(staged, staged.parent / "final")
    assert failed.value.filename == str(staged)
    assert not (staged.parent / "final").exists()


def test_flushing_needs_the_path_and_leaves_nothing_open(staged: Path) -> None:
    def opened() -> int:
        return sum(1 for _ in Path("/proc/self/fd").iterdir())

    before = opened()
    flush(staged)
    flush(staged / "a")
    assert opened() == before
    with pytest.raises(FileNotFoundError):
        flush(staged / "nothing")


@pytest.mark.parametrize("number", [errno.ENOTEMPTY, errno.EEXIST])
def test_who_is_second_hears_it_and_nothing_of_the_first_is_touched(
    staged: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    final = staged.parent / "final"
    final.mkdir()
    monkeypatch.setattr(Path, "rename", failing(number))
    assert publish_folder(staged, final) is False
    assert names(final) == []
    assert names(staged) == ["a"]


@pytest.mark.parametrize("number", [errno.EIO, errno.EROFS, errno.ENOSPC, errno.EXDEV])
def test_a_rename_that_fails_otherwise_is_an_error(
    staged: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    (staged.parent / "final").mkdir()
    monkeypatch.setattr(Path, "rename", failing(number))
    with pytest.raises(OSError, match=re.escape(os.strerror(number))):
        publish_folder(staged, staged.parent / "final")


def test_a_rename_that_finds_something_else_than_a_folder_is_an_error(
    staged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "rename", failing(errno.EEXIST))
    with pytest.raises(FileExistsError):
        publish_folder(staged, staged.parent / "final")


def test_a_clip_that_is_there_is_not_even_copied_beside(
    staged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    final = staged.parent / "clip"
    final.write_bytes(b"mine")
    monkeypatch.setattr(shutil, "copyfile", failing(errno.EROFS))
    assert publish_file_if_absent(staged / "a", final) is False
    assert final.read_bytes() == b"mine"


def test_a_clip_that_a_user_puts_there_just_then_stays(
    staged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    final, link = staged.parent / "here" / "clip", os.link

    def a_user_is_first(source: Path, target: Path) -> None:
        final.write_bytes(b"mine")
        link(source, target)

    monkeypatch.setattr(os, "link", a_user_is_first)
    assert publish_file_if_absent(staged / "a", final) is False
    assert final.read_bytes() == b"mine"
    assert names(final.parent) == ["clip"]


def test_where_no_links_are_a_clip_is_put_all_the_same(
    staged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    final = staged.parent / "here" / "clip"
    monkeypatch.setattr(os, "link", failing(errno.EPERM))
    assert publish_file_if_absent(staged / "a", final) is True
    assert final.read_bytes() == b"new"
    assert names(final.parent) == ["clip"]


def test_where_no_links_are_a_users_clip_stays_too(
    staged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    final = staged.parent / "here" / "clip"

    def a_user_is_first(source: Path, target: Path) -> None:
        final.write_bytes(b"mine")
        raise PermissionError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", a_user_is_first)
    assert publish_file_if_absent(staged / "a", final) is False
    assert final.read_bytes() == b"mine"
    assert names(final.parent) == ["clip"]


def test_a_copy_is_synced_before_it_takes_a_files_place(
    staged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    final = staged / "deep" / "old"
    final.parent.mkdir()
    final.write_bytes(b"old")
    synced = []

    def sync(descriptor: int) -> None:
        synced.append((Path(f"/proc/self/fd/{descriptor}").read_bytes(), final.read_bytes()))

    monkeypatch.setattr(os, "fsync", sync)
    replace_file(staged / "a", final)
    assert synced == [(b"new", b"old")]
    assert final.read_bytes() == b"new"
    assert names(final.parent) == ["old"]


@pytest.mark.parametrize("step", ["copyfile", "fsync", "replace"])
def test_what_cannot_be_replaced_stays_and_no_copy_is_left(
    staged: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    final = staged / "deep" / "old"
    final.parent.mkdir()
    final.write_bytes(b"old")
    owner: object = {"copyfile": shutil, "fsync": os, "replace": Path}[step]
    monkeypatch.setattr(owner, step, failing(errno.ENOSPC))
    with pytest.raises(OSError, match="No space left"):
        replace_file(staged / "a", final)
    assert final.read_bytes() == b"old"
    assert names(final.parent) == ["old"]


def test_a_copy_that_fails_half_way_is_removed(
    staged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(source: Path, target: Path) -> None:
        target.write_bytes(b"ne")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", half)
    with pytest.raises(OSError, match="No space left"):
        publish_file_if_absent(staged / "a", staged.parent / "here" / "clip")
    assert names(staged.parent / "here") == []


def test_a_missing_folder_is_made_for_a_missing_file(staged: Path) -> None:
    replace_file(staged / "a", staged / "deep" / "deeper" / "a")
    assert (staged / "deep" / "deeper" / "a").read_bytes() == b"new"


def test_what_cannot_be_removed_is_left_without_a_word(
    staged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove_folder(staged / "nothing")
    monkeypatch.setattr(shutil, "rmtree", failing(errno.EBUSY))
    remove_folder(staged)
    assert names(staged) == ["a"]
    monkeypatch.undo()
    remove_folder(staged)
    assert not staged.exists()


@pytest.mark.parametrize(("target", "absolute"), [("mount/cache/blob", False), ("blob", True)])
def test_a_link_names_what_is_on_the_volume_from_itself_and_all_else_absolutely(
    tmp_path: Path, target: str, absolute: bool
) -> None:
    link = tmp_path / "mount" / "models" / "m@1" / "file"
    link.parent.mkdir(parents=True)
    (tmp_path / target).parent.mkdir(exist_ok=True)
    (tmp_path / target).write_bytes(b"it")
    held = portable(tmp_path / target, link, tmp_path / "mount")
    assert held.is_absolute() == absolute
    replace_by_link(held, link)
    assert link.read_bytes() == b"it"
