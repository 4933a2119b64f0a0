"""volume/pins/environment.toml -> environment.json: every wheel of the production environment.

uv resolves against whatever package index it is set to. The wheels that no index has stand in for
themselves as stubs that carry their stated metadata. What an index serves is recorded by the path
below its file root, so the pins name no host; the others by their URL.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
import tomllib
import urllib.parse
import zipfile
from pathlib import Path
from typing import Any

from volume.layout import ENVIRONMENT_PINS
from volume.pinning.remote_wheel import content_length, read_wheel

SOURCE = ENVIRONMENT_PINS.with_suffix(".toml")


def pin_environment(uv: str, source_file: Path = SOURCE, target: Path = ENVIRONMENT_PINS) -> None:
    """Resolve anew, asking the index that `uv` is set to; raises CalledProcessError if it fails."""
    source = tomllib.loads(source_file.read_text())
    outside = {file_name(wheel["url"]): wheel for wheel in source["wheel"]}
    wheels = []
    for package in resolve(uv, source, outside):
        url = best_wheel([wheel["url"] for wheel in package["wheels"]])
        if (file := file_name(url)) in outside:
            wheels.append(outside_entry(package, file, outside.pop(file)))
        else:
            (wheel,) = [w for w in package["wheels"] if w["url"] == url]
            wheels.append(index_entry(package, file, wheel))
    if outside:
        raise ValueError(f"resolved without: {', '.join(outside)}")
    pins = {key: source[key] for key in ("python", "platform", "requirements", "overrides")}
    pins |= {"excluded": source["excluded"], "wheels": wheels}
    target.write_text(json.dumps(pins, indent=1) + "\n")


def resolve(uv: str, source: dict[str, Any], outside: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the packages of the pylock.toml (PEP 751) that uv makes of `source`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, wheel in outside.items():
            write_stub(folder / file, wheel["requires"])
        for option in ("requirements", "overrides", "excluded"):
            (folder / f"{option}.in").write_text("\n".join(source[option]))
        command = [uv, "pip", "compile", "requirements.in", "--no-build", "--quiet"]
        command += ["--find-links", ".", "--format", "pylock.toml", "--output-file", "pylock.toml"]
        command += ["--python-version", source["python"], "--python-platform", source["platform"]]
        command += ["--overrides", "overrides.in", "--excludes", "excluded.in"]
        subprocess.run(command, cwd=folder, check=True)  # noqa: S603 - no shell, no user's text
        packages = tomllib.loads((folder / "pylock.toml").read_text())["packages"]
    return list(packages)


def write_stub(path: Path, requires: list[str]) -> None:
    """Make a wheel that has nothing but a name, a version and requirements."""
    name, version, *tags = path.name.removesuffix(".whl").split("-")
    with zipfile.ZipFile(path, "w") as wheel:
        info = f"{name}-{version}.dist-info"
        metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}"]
        metadata += [f"Requires-Dist: {requirement}" for requirement in requires]
        wheel.writestr(f"{info}/METADATA", "\n".join(metadata) + "\n")
        wheel.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nTag: {'-'.join(tags)}\n")
        wheel.writestr(f"{info}/RECORD", "")


def best_wheel(urls: list[str]) -> str:
    """Return the wheel that an installer would take of those that fit the platform.

    The nearest Python tag wins, then the nearest ABI, then a platform's wheel over one for any.
    """

    def rank(url: str) -> tuple[bool, bool, bool, list[int]]:
        python, abi, platform = file_name(url).removesuffix(".whl").split("-")[-3:]
        glibc = [int(minor) for minor in re.findall(r"manylinux_2_(\d+)", platform)]
        return "cp311" in python, abi == "cp311", platform != "any", [max(glibc, default=0)]

    return max(urls, key=rank)


def index_entry(package: dict[str, Any], file: str, wheel: dict[str, Any]) -> dict[str, Any]:
    """Return the entry of a wheel that the index has, with what the wheel says of itself."""
    size = wheel.get("size") or content_length(wheel["url"])
    facts = read_wheel(wheel["url"], size)
    return {
        "name": package["name"],
        "version": package["version"],
        "file": file,
        "sha256": wheel["hashes"]["sha256"],
        "path": urllib.parse.unquote(urllib.parse.urlsplit(wheel["url"]).path.lstrip("/")),
        "size": size,
        "unpacked": facts.unpacked,
        "requires": list(facts.requires),
    }


def outside_entry(package: dict[str, Any], file: str, wheel: dict[str, Any]) -> dict[str, Any]:
    """Return the entry of a wheel that is named by URL."""
    return {
        "name": package["name"],
        "version": package["version"],
        "file": file,
        "sha256": wheel["sha256"],
        "url": wheel["url"],
        "size": None,
        "unpacked": wheel["unpacked"],
        "requires": wheel["requires"],
    }


def file_name(url: str) -> str:
    """Return the last part of a URL's path, unquoted."""
    return urllib.parse.unquote(urllib.parse.urlsplit(url).path.rsplit("/", 1)[-1])
