"""The pack's file: what is written is read again, and no damage is taken for it."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pytest

from volume.start_pack.pack import (
    CODE,
    LIBRARIES,
    SEGMENT,
    Ahead,
    Content,
    Index,
    UnusablePackError,
    read_index,
    write_pack,
)

PLAN = Index(
    "key", (), ("a/b.so",), (Ahead("c.so", ((0, 5), (9, 12))),), ("c.so",), ("libm",), ("n",)
)


def written(folder: Path, code: list[Content], libraries: list[Content]) -> tuple[Path, Index]:
    path = folder / "pack"
    with path.open("wb") as file:
        return path, write_pack(file, PLAN, code=code, libraries=libraries)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    code = [Content("a.py", b"1" * 10), Content("b.py", b""), Content("c.py", b"3")]
    path, index = written(tmp_path, code, [Content("d.so", bytes(SEGMENT)), Content("e.so", b"5")])
    assert read_index(path) == index
    assert (index.links, index.ahead, index.preload) == (PLAN.links, PLAN.ahead, PLAN.preload)
    data = path.read_bytes()
    found = {}
    for segment in index.segments:
        part = data[segment.offset : segment.end]
        assert hashlib.sha256(part).hexdigest() == segment.sha256
        for name, size in zip(segment.paths, segment.sizes, strict=True):
            found[segment.kind, name], part = part[:size], part[size:]
        assert not part
    assert found == {
        (CODE, "a.py"): b"1" * 10,
        (CODE, "b.py"): b"",
        (CODE, "c.py"): b"3",
        (LIBRARIES, "d.so"): bytes(SEGMENT),
        (LIBRARIES, "e.so"): b"5",
    }
    assert index.segments[-1].end == len(data)
    assert [segment.paths for segment in index.segments] == [
        ("a.py", "b.py", "c.py"),
        ("d.so",),
        ("e.so",),
    ]


def test_an_empty_pack_is_one(tmp_path: Path) -> None:
    path, index = written(tmp_path, [], [])
    assert read_index(path) == index == PLAN


def test_an_index_longer_than_the_first_look_is_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("volume.start_pack.pack._FIRST_READ", 60)
    path, index = written(tmp_path, [Content("a.py", b"1")], [])
    assert read_index(path) == index


@pytest.mark.parametrize("kept", [0, 10, 55, 56, 100])
def test_a_pack_that_is_cut_short_is_refused(tmp_path: Path, kept: int) -> None:
    path, _ = written(tmp_path, [Content("a.py", b"1")], [])
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UnusablePackError):
        read_index(path)


def test_any_flipped_bit_of_the_index_is_noticed(tmp_path: Path) -> None:
    path, index = written(tmp_path, [Content("a.py", b"1")], [])
    data = bytearray(path.read_bytes())
    length = int.from_bytes(data[16:24], "little")
    for place in range(56 + length):
        data[place] ^= 4
        path.write_bytes(data)
        with pytest.raises(UnusablePackError):
            read_index(path)
        data[place] ^= 4
    path.write_bytes(data)
    assert read_index(path) == index


def test_what_cannot_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(UnusablePackError, match="No such file"):
        read_index(tmp_path / "none")
    with pytest.raises(UnusablePackError, match="directory"):
        read_index(tmp_path)


def test_a_pack_needs_no_seeking() -> None:
    class Pipe(io.BytesIO):
        def seek(self, *_: int) -> int:
            raise AssertionError

    write_pack(Pipe(), PLAN, code=[Content("a.py", b"1")], libraries=[])
