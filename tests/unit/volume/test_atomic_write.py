"""A file of the volume is there whole or not at all, and nothing is left beside it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from volume.atomic_write import replacing, staging


@pytest.fixture
def final(tmp_path: Path) -> Path:
    final = tmp_path / "file"
    final.write_bytes(b"old")
    return final


def test_the_content_is_on_the_disk_before_it_has_the_name(
    final: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(
        os, "fsync", lambda number: seen.append((os.fstat(number).st_size, final.read_bytes()))
    )
    with replacing(final) as staged:
        staged.write_bytes(b"newer")
    assert seen == [(5, b"old")]
    assert final.read_bytes() == b"newer"
    assert list(final.parent.iterdir()) == [final]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_block_that_fails_leaves_the_old_file_alone(
    final: Path, error: type[BaseException]
) -> None:
    def fail() -> None:
        with replacing(final) as staged:
            staged.write_bytes(b"half")
            raise error

    with pytest.raises(error):
        fail()
    assert final.read_bytes() == b"old"
    assert list(final.parent.iterdir()) == [final]


def test_what_is_only_staged_goes_and_its_folder_is_made(tmp_path: Path) -> None:
    final = tmp_path / "deep" / "down" / "file"
    with staging(final) as staged:
        staged.write_bytes(b"new")
        assert staged.parent == final.parent
        assert staged.name.startswith(".")
    assert list(final.parent.iterdir()) == []
