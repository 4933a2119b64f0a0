"""A layered image as a docker archive: one layer for each store path, and one for the root."""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
import tarfile
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

SECOND = 1  # when everything in the image was made: 1 January 1970, and a second


def describe() -> dict[str, Any]:
    """Return what the image is, from the environment of its derivation."""
    apart = {os.environ["configuration"], os.environ["root"]}  # noqa: SIM112 - Nix's own names
    closure = {
        line
        for graph in ("configuration", "root")
        for line in Path(graph).read_text().splitlines()
        if line.startswith("/nix/store/") and not line.endswith(".drv")
    }
    return {
        "architecture": "amd64",
        "os": "linux",
        "created": "1970-01-01T00:00:01+00:00",
        "config": json.loads(Path(os.environ["configuration"]).read_text()),  # noqa: SIM112
        "repo_tag": os.environ["tag"],  # noqa: SIM112
        "store_layers": [[path] for path in sorted(closure - apart)],
        "customisation_layer": os.environ["root"],  # noqa: SIM112
    }


def stream(conf: dict[str, Any], output: IO[bytes]) -> None:
    """Write the archive: layers, configuration, manifest."""
    layers, differences = [], []
    with tarfile.open(fileobj=output, mode="w|", format=tarfile.USTAR_FORMAT) as archive:
        sources = [pack(paths) for paths in conf["store_layers"]]
        sources.append((Path(conf["customisation_layer"]) / "layer.tar").open("rb"))
        for source in sources:
            with source:
                digest = hashlib.file_digest(source, "sha256").hexdigest()
                add(archive, f"{digest}/layer.tar", source)
                layers.append(f"{digest}/layer.tar")
                differences.append(f"sha256:{digest}")
        image = {key: conf[key] for key in ("architecture", "os", "created", "config")}
        image["rootfs"] = {"type": "layers", "diff_ids": differences}
        image["history"] = [{"created": conf["created"]} for _ in layers]
        content = json.dumps(image).encode()
        name = f"{hashlib.sha256(content).hexdigest()}.json"
        add(archive, name, io.BytesIO(content))
        manifest = [{"Config": name, "RepoTags": [conf["repo_tag"]], "Layers": layers}]
        add(archive, "manifest.json", io.BytesIO(json.dumps(manifest).encode()))


def pack(paths: list[str]) -> IO[bytes]:
    """Return a layer with these store paths, as a file."""
    file = TemporaryFile()  # noqa: SIM115 - the caller's to close
    with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as layer:
        for folder in ("nix", "nix/store"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode, entry.mtime = tarfile.DIRTYPE, 0o755, SECOND
            layer.addfile(entry)
        for path in paths:
            for member in [Path(path), *sorted(Path(path).rglob("*"))]:
                layer.add(member, recursive=False, filter=owned_by_root)
    file.seek(0)
    return file


def owned_by_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Forget who built it and when."""
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mtime = SECOND
    return entry


def add(archive: tarfile.TarFile, name: str, source: IO[bytes]) -> None:
    """Add a file from its first to its last byte."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.mtime = source.seek(0, io.SEEK_END), SECOND
    source.seek(0)
    archive.addfile(entry, source)


if __name__ == "__main__":
    if sys.argv[1] == "describe":
        json.dump(describe(), sys.stdout)
    else:
        stream(json.loads(Path(sys.argv[2]).read_text()), sys.stdout.buffer)
