"""The folder that stands in for the bucket: whole files, and errors that say what to do."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from worker.errors import NotFoundError, StorageError
from worker.settings import Settings
from worker.storage.base import READ_BYTES_MAX
from worker.storage.local import LocalStorage
from worker.storage.open import open_storage
from worker.storage.s3 import S3Storage

KEY = "output/x.wav"


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    storage = LocalStorage(tmp_path / "store")
    storage.write_bytes(KEY, b"old", "audio/wav")
    return storage


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.wav"
    path.write_bytes(b"new and longer")
    return path


@pytest.fixture
def full(storage: LocalStorage, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full after the first bytes."""

    def copy(_source: Path, target: Path) -> None:
        with target.open("wb") as file:
            file.write(b"ha")
        raise OSError(errno.ENOSPC, "No space left on device", str(target))

    monkeypatch.setattr(shutil, "copyfile", copy)
    monkeypatch.setattr(Path, "write_bytes", lambda path, _content: copy(path, path))


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_what_is_no_plain_file_is_not_listed(storage: LocalStorage, tmp_path: Path) -> None:
    folder = tmp_path / "store" / "output"
    (folder / "folder.json").mkdir()
    (folder / "link.json").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(folder / "pipe.json")
    assert [file.key for file in storage.children("output/")] == [KEY]


def test_what_cannot_be_listed_or_removed_is_an_error_in_words(
    storage: LocalStorage, tmp_path: Path
) -> None:
    for use in (lambda: storage.children(f"{KEY}/"), lambda: storage.delete("output")):
        with pytest.raises(StorageError, match=r"could not be (listed|removed): ") as caught:
            use()
        assert str(tmp_path) not in caught.value.message


@pytest.mark.usefixtures("full")
def test_a_full_disk_leaves_what_was_there(
    storage: LocalStorage, clip: Path, tmp_path: Path
) -> None:
    for use in (
        lambda: storage.put(clip, KEY, "audio/wav"),
        lambda: storage.write_bytes(KEY, b"new", "audio/wav"),
        lambda: storage.put(clip, "output/other.wav", "audio/wav"),
    ):
        with pytest.raises(StorageError, match="could not be stored: No space left") as caught:
            use()
        assert str(tmp_path) not in caught.value.message
    assert storage.read_bytes(KEY) == b"old"
    assert files(tmp_path / "store") == [tmp_path / "store" / KEY]


@pytest.mark.usefixtures("full")
def test_a_full_scratch_disk_leaves_no_half_copy(storage: LocalStorage, tmp_path: Path) -> None:
    into = tmp_path / "job" / "file"
    into.parent.mkdir()
    with pytest.raises(StorageError, match="could not be read: No space left"):
        storage.get(KEY, into)
    assert list(into.parent.iterdir()) == []


def test_content_is_flushed_before_its_name_is_there(
    storage: LocalStorage, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that loses power must not leave an empty file under a result's name."""
    done: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def flush(descriptor: int) -> None:
        done.append(f"{os.fstat(descriptor).st_size} bytes flushed")
        fsync(descriptor)

    def rename(path: Path, target: Path) -> Path:
        done.append(f"renamed to {target.name}")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(Path, "replace", rename)
    storage.put(clip, KEY, "audio/wav")
    storage.write_bytes("output/y.json", b"{}", "application/json")
    assert done == [
        "14 bytes flushed",
        "renamed to x.wav",
        "2 bytes flushed",
        "renamed to y.json",
    ]


def test_a_small_thing_of_just_the_limit_is_read(storage: LocalStorage) -> None:
    storage.write_bytes(KEY, bytes(READ_BYTES_MAX), "audio/wav")
    assert len(storage.read_bytes(KEY)) == READ_BYTES_MAX
    storage.write_bytes(KEY, bytes(READ_BYTES_MAX + 1), "audio/wav")
    with pytest.raises(StorageError, match="larger than 1048576 bytes"):
        storage.read_bytes(KEY)


def test_nothing_is_read_of_what_is_too_large(storage: LocalStorage, tmp_path: Path) -> None:
    into = tmp_path / "into"
    with pytest.raises(StorageError, match="has 3 bytes; at most 0"):
        storage.get(KEY, into, max_bytes=0)
    assert not into.exists()
    assert storage.get(KEY, into, max_bytes=3).read_bytes() == b"old"


def test_a_folder_is_nothing_that_could_be_read(storage: LocalStorage, tmp_path: Path) -> None:
    assert not storage.exists("output")
    for use in (
        lambda: storage.read_bytes("output"),
        lambda: storage.get("output", tmp_path / "into"),
    ):
        with pytest.raises(NotFoundError):
            use()


def test_a_name_that_cannot_be_looked_up_is_an_error(storage: LocalStorage) -> None:
    with pytest.raises(StorageError, match="could not be looked up: File name too long"):
        storage.exists("a" * 300)
    with pytest.raises(StorageError, match="could not be read: File name too long"):
        storage.read_bytes("a" * 300)


def test_a_relative_folder_stays_where_it_was_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    storage = LocalStorage(Path("mine"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    storage.write_bytes(KEY, b"x", "audio/wav")
    assert (tmp_path / "mine" / KEY).read_bytes() == b"x"
    assert storage.url(KEY, 60) == (tmp_path / "mine" / KEY).as_uri()


def test_check_makes_the_folder_and_leaves_nothing_in_it(tmp_path: Path) -> None:
    LocalStorage(tmp_path / "a" / "b").check()
    assert (tmp_path / "a" / "b").is_dir()
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_check_passes_again_and_leaves_results_alone(storage: LocalStorage, tmp_path: Path) -> None:
    storage.check()
    storage.check()
    assert files(tmp_path / "store") == [tmp_path / "store" / KEY]


def test_check_finds_a_folder_that_cannot_be_written(
    storage: LocalStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(tmp_path))

    for call in ("write_bytes", "replace", "mkdir"):
        with monkeypatch.context() as patch:
            patch.setattr(Path, call, refuse)
            with pytest.raises(StorageError) as caught:
                storage.check()
        assert caught.value.message == (
            "the folder of LOCAL_STORAGE_DIR, by default SparkTTS-serverless/local on the volume, "
            "cannot be written: Read-only file system; for a bucket set S3_BUCKET_NAME"
        )
    storage.check()


def test_a_bucket_is_used_before_a_folder(tmp_path: Path) -> None:
    both = Settings(s3_bucket_name="speech", local_storage_dir=tmp_path)
    assert isinstance(open_storage(both), S3Storage)
    assert isinstance(open_storage(Settings(local_storage_dir=tmp_path)), LocalStorage)
    none = Settings(s3_bucket_name="", local_storage_dir=tmp_path)
    assert isinstance(open_storage(none), LocalStorage)
