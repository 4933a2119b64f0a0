"""Nix with a store of its own: builds from nothing that leave nothing on the machine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.nix.host import tool

REPOSITORY = Path(__file__).parents[2]
SETTINGS = """\
experimental-features = nix-command flakes
sandbox = false
fsync-metadata = false
build-users-group =
substituters =
flake-registry =
"""


@dataclass(frozen=True)
class Workshop:
    """A folder that is /nix for the commands run in it; without a network."""

    folder: Path
    nixpkgs: Path
    upstream: Path

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
        """Run a command to its end, in the folder, which is also its user's own."""
        around = [tool("bwrap"), "--dev-bind", "/", "/", "--bind", str(self.folder), "/nix"]
        kept = {
            n: v for n, v in os.environ.items() if not n.startswith(("RUNPOD_V", "SPARK_", "XDG_"))
        }
        environment = kept | {
            "NIX_CONFIG": SETTINGS,
            "HOME": str(self.folder),
            "XDG_CACHE_HOME": str(self.folder / "cache"),
            **variables,
        }
        return subprocess.run(
            [*around, "--unshare-net", *command],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            timeout=1800,
            check=False,
        )

    def nix(
        self, *arguments: str, tree: Path, to_it: Sequence[str] = (), **variables: str
    ) -> subprocess.CompletedProcess[bytes]:
        """Run `nix` with the flake's inputs replaced; `FLAKE` in an argument is the flake.

        `to_it` are the arguments of what `nix run` runs.
        """
        inputs = ["--override-input", "nixpkgs", f"path:{self.nixpkgs}"]
        inputs += ["--override-input", "spark-tts", f"path:{self.upstream}"]
        inputs += ["--no-write-lock-file"]
        flake = [argument.replace("FLAKE", f"path:{tree}") for argument in arguments]
        rest = ["--", *to_it] if to_it else []
        return self.run(tool("nix"), *flake, *inputs, *rest, **variables)

    def fails(self, *arguments: str, tree: Path) -> str:
        """Run `nix`, which must fail, and return what it said."""
        done = self.nix(*arguments, tree=tree)
        assert done.returncode != 0, f"nix {' '.join(arguments)} succeeded"
        return done.stderr.decode()

    def build(self, output: str, tree: Path) -> str:
        """Build an output of the flake and return its store path."""
        done = self.nix("build", "--no-link", "--json", f"FLAKE#{output}", tree=tree)
        assert done.returncode == 0, done.stderr.decode()
        return str(json.loads(done.stdout)[0]["outputs"]["out"])

    def evaluate(self, attribute: str, tree: Path) -> Any:
        """Return the value of an attribute of the flake."""
        done = self.nix("eval", "--json", f"FLAKE#{attribute}", tree=tree)
        assert done.returncode == 0, done.stderr.decode()
        return json.loads(done.stdout)

    def content(self, path: str) -> str:
        """Return the hash of a store path's whole content, names and modes included."""
        done = self.run(tool("nix"), "hash", "path", path)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode().strip()


def copy_tree(folder: Path) -> Path:
    """Copy what git has, or would have, of the working tree; nothing that was built in it."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        text=True,
        capture_output=True,
        check=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        source, target = REPOSITORY / name, folder / name
        if source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    return folder
