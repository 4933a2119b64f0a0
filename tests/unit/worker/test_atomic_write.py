"""A file appears whole or not at all."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from worker.atomic_write import replacing


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "clip.wav"
    path.write_bytes(b"old")
    return path


def test_what_was_written_replaces_the_file_and_nothing_else_is_left(path: Path) -> None:
    with replacing(path) as part:
        part.write_bytes(b"new and longer")
    assert path.read_bytes() == b"new and longer"
    assert list(path.parent.iterdir()) == [path]


def test_a_file_that_was_not_there_appears(tmp_path: Path) -> None:
    with replacing(tmp_path / "new") as part:
        part.write_bytes(b"new")
        assert not (tmp_path / "new").exists()
    assert (tmp_path / "new").read_bytes() == b"new"


def test_readers_see_the_old_file_until_the_end(path: Path) -> None:
    with replacing(path) as part:
        part.write_bytes(b"half")
        assert path.read_bytes() == b"old"


def test_it_is_written_in_a_hidden_folder_of_the_same_disk(path: Path) -> None:
    """A rename does not cross disks, and who lists the folder sees no half files."""
    with replacing(path) as part:
        part.touch()
        assert part.parent.parent == path.parent
        assert part.parent.name.startswith(".")


def test_two_writers_of_one_file_have_a_part_each(path: Path) -> None:
    with replacing(path) as one, replacing(path) as other:
        assert one != other
        one.write_bytes(b"one")
        other.write_bytes(b"other")
    assert path.read_bytes() == b"one"


@pytest.mark.parametrize("error", [OSError, ValueError, KeyboardInterrupt, asyncio.CancelledError])
def test_a_block_that_fails_leaves_the_file_as_it_was(
    path: Path, error: type[BaseException]
) -> None:
    def fail() -> None:
        with replacing(path) as part:
            part.write_bytes(b"half")
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]


def test_a_block_that_writes_nothing_is_an_error_and_leaves_the_file(path: Path) -> None:
    with pytest.raises(FileNotFoundError), replacing(path):
        pass
    assert path.read_bytes() == b"old"


def test_a_rename_that_fails_leaves_the_file_as_it_was(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_part: Path, _path: Path) -> Path:
        raise PermissionError

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(PermissionError), replacing(path) as part:
        part.write_bytes(b"new")
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "gone" / "clip"):
        pytest.fail("the block must not run")
