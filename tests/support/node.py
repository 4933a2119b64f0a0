"""Node.js, with npm's packages of the tests in reach of an `import`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

BIN = Path(sys.executable).parent
PACKAGES = BIN.parent / "node" / "node_modules"  # the Makefile puts them there


def node_command(program: str, folder: Path) -> list[str]:
    """The command that runs a module of JavaScript, which is put into this folder."""
    packages = folder / "node_modules"
    if not packages.exists():
        packages.symlink_to(PACKAGES)
    script = folder / "program.mjs"
    script.write_text(program)
    return [str(BIN / "node"), str(script)]


def run_node(
    program: str, folder: Path, env: Mapping[str, str], seconds: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    return subprocess.run(
        node_command(program, folder), cwd=folder, env=dict(env), text=True, capture_output=True,
        timeout=seconds, check=False,
    )  # fmt: skip
