"""The stand-in for nixpkgs, of this machine's own tools, and one for upstream's source.

Nix evaluates a flake purely: what it may know of the machine is written beside the stand-in's
files, in host.json, with a hash of everything that is copied into the store.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
import shutil
import ssl
import subprocess
import sys
import sysconfig
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

STAND_IN = Path(__file__).parent / "nixpkgs"
# The parts of the C library that a program may load by name.
GLIBC = ["ld-linux-x86-64.so.2", "libc.so.6", "libm.so.6", "libmvec.so.1", "libpthread.so.0"]
GLIBC += ["libdl.so.2", "librt.so.1", "libutil.so.1", "libresolv.so.2", "libanl.so.1"]
GLIBC += ["libnss_files.so.2", "libnss_dns.so.2"]
GCC = ["libstdc++.so.6", "libgcc_s.so.1", "libgomp.so.1"]
MODULES_LEFT_OUT = ("_tkinter", "nis", "_ctypes_test", "_test", "xx", "_xxtestfuzz")


def write_nixpkgs(folder: Path, wheelhouse: Path) -> Path:
    """Copy the stand-in into `folder`, with what it must know; its fetchers find `wheelhouse`."""
    shutil.copytree(STAND_IN, folder)
    (folder / "host.json").write_text(json.dumps(describe(wheelhouse), indent=1))
    return folder


def describe(wheelhouse: Path) -> dict[str, object]:
    """Say where the machine's tools are, and a hash of those that become part of the image."""
    program = Path(sys._base_executable).resolve()
    library = Path(sysconfig.get_path("stdlib")).resolve()
    uv = Path(sys.executable).with_name("uv").resolve()
    modules = [
        module
        for module in sorted((library / "lib-dynload").glob("*.so"))
        if not module.name.startswith(MODULES_LEFT_OUT)
    ]
    needed = libraries_of([program, *modules])
    folder = Path(libraries_of([program])["libc.so.6"]).parent
    glibc = [folder / name for name in GLIBC]
    gcc = [find_library(name) for name in GCC]
    zlib = [find_library("libz.so.1")]
    own = sorted(Path(p) for name, p in needed.items() if name not in {*GLIBC, *GCC})
    certificates = Path(
        ssl.get_default_verify_paths().cafile or "/etc/ssl/certs/ca-certificates.crt"
    )
    copied = [program, uv, certificates, *glibc, *gcc, *zlib, *own]
    copied += sorted(p for p in library.rglob("*") if p.suffix in {".py", ".so"} and is_kept(p))
    return {
        "bash": shutil.which("bash"),
        "path": "/usr/bin:/bin",
        "patchelf": tool("patchelf"),
        "wheelhouse": str(wheelhouse),
        "certificates": str(certificates),
        "python": {
            "program": str(program),
            "version": platform.python_version(),
            "library": str(library),
            "libraries": [str(path) for path in own],
        },
        "uv": {"program": str(uv), "version": version("uv")},
        "glibc": {"version": platform.libc_ver()[1], "files": [str(path) for path in glibc]},
        "gcc": [str(path) for path in gcc],
        "zlib": [str(path) for path in zlib],
        "fingerprint": fingerprint(copied),
    }


def is_kept(path: Path) -> bool:
    """Say whether a file of the standard library is part of the stand-in's Python."""
    return not {"site-packages", "dist-packages", "test"} & set(path.parts)


def tool(name: str) -> str:
    """Return the path of a program that the tests need."""
    found = shutil.which(name)
    assert found, f"{name} is not installed; `make system` installs what the tests need"
    return found


def libraries_of(files: list[Path]) -> dict[str, str]:
    """Return the path of each shared library, by its name, that any of the files needs."""
    command = ["ldd", *map(str, files)]
    output = subprocess.run(command, text=True, capture_output=True, check=True).stdout
    return dict(re.findall(r"^\s+(\S+) => (/\S+)", output, re.MULTILINE))


def find_library(name: str) -> Path:
    """Return where the loader's cache says that a library is."""
    command = ["/sbin/ldconfig", "-p"]
    output = subprocess.run(command, text=True, capture_output=True, check=True).stdout
    found = re.search(rf"^\s+{re.escape(name)} \(libc6,x86-64.*=> (\S+)", output, re.MULTILINE)
    assert found, f"{name} is not installed"
    return Path(found[1])


def fingerprint(files: list[Path]) -> str:
    """Return a hash of the files' names and content."""
    whole = hashlib.sha256()
    for path in files:
        whole.update(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return whole.hexdigest()


def write_upstream(folder: Path) -> Path:
    """Write upstream's package `sparktts` into `folder`: spark-tts-lib, its renaming undone."""
    spec = find_spec("spark_tts_lib")
    assert spec is not None, "spark-tts-lib is not installed"
    (package,) = spec.submodule_search_locations or ()
    for part in ("models", "modules", "utils"):  # beside them it has a door of its own
        shutil.copytree(
            Path(package) / part,
            folder / "sparktts" / part,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    for module in (folder / "sparktts").rglob("*.py"):
        module.write_text(module.read_text().replace("spark_tts_lib", "sparktts"))
    (folder / "LICENSE").write_text("Apache-2.0\n")
    return folder
