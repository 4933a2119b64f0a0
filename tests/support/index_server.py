"""A package index (PEP 503 and 658) with small real wheels made on the spot."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from tests.support.faulty_http import Answer, FaultyServer, sha256


@dataclass(frozen=True)
class Wheel:
    name: str
    version: str
    file: str
    data: bytes
    metadata: bytes
    unpacked: int

    @property
    def path(self) -> str:
        return f"packages/{sha256(self.data)[:2]}/{self.file}"


def make_wheel(
    name: str,
    version: str,
    files: dict[str, bytes],
    *,
    local: str = "",
    requires: tuple[str, ...] = (),
) -> Wheel:
    """Make a wheel; `local` is a part of the version that only the file name has."""
    stem = name.replace("-", "_")
    info = f"{stem}-{version}.dist-info"
    lines = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}"]
    metadata = "\n".join([*lines, *(f"Requires-Dist: {r}" for r in requires)]).encode() + b"\n"
    content = files | {
        f"{info}/METADATA": metadata,
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\n"
        b"Tag: py3-none-any\n",
    }
    record = ""
    for path, data in content.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        record += f"{path},sha256={digest},{len(data)}\n"
    content[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, data in content.items():
            archive.writestr(zipfile.ZipInfo(path), data)
    file = f"{stem}-{version}{local}-py3-none-any.whl"
    unpacked = sum(map(len, content.values()))
    return Wheel(name, version + local, file, buffer.getvalue(), metadata, unpacked)


def index_of(wheels: list[Wheel], outside: list[Wheel]) -> FaultyServer:
    """Serve `wheels` as an index below /simple/ and `outside` only below /outside/."""
    answers: dict[str, Answer] = {}
    for wheel in wheels:
        link = (
            f'<a href="/files/{wheel.path}#sha256={sha256(wheel.data)}" '
            f'data-core-metadata="sha256={sha256(wheel.metadata)}">{wheel.file}</a>'
        )
        page = re.sub(r"[-_.]+", "-", wheel.name).lower()
        answers[f"/simple/{page}/"] = Answer(f"<!DOCTYPE html>{link}".encode(), "text/html")
        answers[f"/files/{wheel.path}"] = Answer(wheel.data)
        answers[f"/files/{wheel.path}.metadata"] = Answer(wheel.metadata)
    for wheel in outside:
        answers[f"/outside/{wheel.file}"] = Answer(wheel.data)
    return FaultyServer(lambda path: answers.get(unquote(path)))


def write_pins(
    folder: Path, server: FaultyServer, wheels: list[Wheel], outside: list[Wheel], models: dict
) -> None:
    """Write environment.json and models.json for what the servers have."""
    entries = []
    for wheel in [*wheels, *outside]:
        where = (
            {"url": f"{server.url}/outside/{wheel.file.replace('+', '%2B')}"}
            if wheel in outside
            else {"path": wheel.path}
        )
        entries.append(
            {"name": wheel.name, "version": wheel.version, "file": wheel.file}
            | {"sha256": sha256(wheel.data), "size": len(wheel.data), "unpacked": wheel.unpacked}
            | {"requires": []}
            | where
        )
    folder.mkdir(parents=True, exist_ok=True)
    lock = {"python": "3.11", "platform": "any", "wheels": entries}
    (folder / "environment.json").write_text(json.dumps(lock))
    (folder / "models.json").write_text(json.dumps({"models": models}))
