"""The file of a start pack: an index, then segments of whole files, each by its sha256.

    offset 0     magic, 16 bytes; the index's length, 8 bytes little-endian; its sha256, 32 bytes
    offset 56    the index, JSON
    then         the segments, in the order in which a start uses them

Whoever reads it checks the index before it believes it, and each segment before it uses a byte.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

NAME = "start.pack"
_MAGIC = b"spark start pack"
_HEAD = struct.Struct("<16sQ32s")
_INDEX_MAX = 64 << 20
_FIRST_READ = 1 << 20  # most likely all of the index
SEGMENT = 2 << 20  # bytes, where the files in it are smaller

CODE, LIBRARIES = "code", "libraries"


class UnusablePackError(Exception):
    """The pack cannot be used; the message says why."""


@dataclass(frozen=True)
class Segment:
    """So many bytes of the pack: the files `paths` of `sizes`, one after the other."""

    kind: str  # CODE or LIBRARIES
    offset: int
    sha256: str
    paths: tuple[str, ...]  # below site-packages
    sizes: tuple[int, ...]  # bytes

    @property
    def end(self) -> int:
        """The offset after its last byte."""
        return self.offset + sum(self.sizes)


@dataclass(frozen=True)
class Ahead:
    """A file of the environment that is not in the pack, and what a start touches of it."""

    path: str
    ranges: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Index:
    """What is in a pack: all paths are below site-packages.

    In CODE the path is a module's source and the bytes are those of its .pyc; in LIBRARIES both are
    the library's. `links` are libraries that are linked beside these, and not copied.
    `preload` are to be loaded before they are asked for, each after those that it needs, and all
    after the `system`'s, which are names. `namespaces` are packages without code of their own.
    """

    key: str
    segments: tuple[Segment, ...]
    links: tuple[str, ...]
    ahead: tuple[Ahead, ...]
    preload: tuple[str, ...]
    system: tuple[str, ...]
    namespaces: tuple[str, ...]


@dataclass(frozen=True)
class Content:
    """A file to be packed."""

    path: str
    data: bytes


def write_pack(
    file: BinaryIO, plan: Index, *, code: Sequence[Content], libraries: Sequence[Content]
) -> Index:
    """Write a pack into the empty `file`; return its index: the plan with its segments."""
    groups = [(CODE, group) for group in _grouped(code)]
    groups += [(LIBRARIES, group) for group in _grouped(libraries)]
    # An index says where its segments are, and its own length moves them: it is written twice.
    offset = 0
    while True:
        segments = []
        place = offset
        for kind, group in groups:
            segments.append(_segment(kind, group, place))
            place = segments[-1].end
        index = replace(plan, segments=tuple(segments))
        text = json.dumps(asdict(index), separators=(",", ":")).encode()
        if _HEAD.size + len(text) <= offset:
            break
        offset = _aligned(_HEAD.size + len(text) + 16 * len(segments))
    file.write(_HEAD.pack(_MAGIC, len(text), hashlib.sha256(text).digest()))
    file.write(text)
    file.write(bytes(offset - _HEAD.size - len(text)))
    for _, group in groups:
        file.writelines(content.data for content in group)
    return index


def _segment(kind: str, group: Sequence[Content], offset: int) -> Segment:
    digest = hashlib.sha256()
    for content in group:
        digest.update(content.data)
    paths = tuple(content.path for content in group)
    sizes = tuple(len(content.data) for content in group)
    return Segment(kind, offset, digest.hexdigest(), paths, sizes)


def _grouped(contents: Sequence[Content]) -> list[list[Content]]:
    """Cut into groups of SEGMENT bytes or more, or one file."""
    groups: list[list[Content]] = []
    room = 0
    for content in contents:
        if room <= 0:
            groups.append([])
            room = SEGMENT
        groups[-1].append(content)
        room -= len(content.data)
    return groups


def _aligned(offset: int, to: int = 4096) -> int:
    return -(-offset // to) * to


def read_index(path: Path) -> Index:
    """Return the index of the pack. Raises UnusablePackError."""
    try:
        with path.open("rb", buffering=0) as file:
            start = file.read(_FIRST_READ)
            magic, length, digest = _HEAD.unpack(start[: _HEAD.size])
            if magic != _MAGIC or length > _INDEX_MAX:
                raise UnusablePackError("it is no start pack")
            text = start[_HEAD.size : _HEAD.size + length]
            if missing := length - len(text):
                text += os.pread(file.fileno(), missing, _HEAD.size + len(text))
    except OSError as error:
        raise UnusablePackError(error.strerror or str(error)) from None
    except struct.error:
        raise UnusablePackError("it is cut short") from None
    if hashlib.sha256(text).digest() != digest:
        raise UnusablePackError("its index is damaged")
    return parsed(json.loads(text))


def parsed(content: dict[str, Any]) -> Index:
    """Make the index of what JSON says, which a digest has vouched for."""
    segments = (
        Segment(s["kind"], s["offset"], s["sha256"], tuple(s["paths"]), tuple(s["sizes"]))
        for s in content["segments"]
    )
    ahead = (
        Ahead(a["path"], tuple((first, end) for first, end in a["ranges"]))
        for a in content["ahead"]
    )
    return Index(
        content["key"],
        tuple(segments),
        tuple(content["links"]),
        tuple(ahead),
        tuple(content["preload"]),
        tuple(content["system"]),
        tuple(content["namespaces"]),
    )
