"""Every command in README.md and docs/ is run as it is written."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.support.worker_process import environment

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Run by CI itself on every change (.ci/run), or a long command of its own: here only resolved.
WHOLE_RUNS = re.compile(
    r"^make (test|image-test|lint|parity-full|faults|hostile|load|bench|llama|demo-\w+)\b",
    re.MULTILINE,
)
LINE = re.compile(r"^(?:\$ )?(python -m volume [^\n]*?)(?:  .*)?$", re.MULTILINE)
# "": drawings; console: commands that need nixpkgs, whose outputs tests/nix looks up.
KNOWN = {"bash", "json", "console", ""}


@dataclass(frozen=True)
class Block:
    file: Path
    language: str
    text: str


def blocks() -> list[Block]:
    files = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
    return [Block(file, *found) for file in files for found in BLOCK.findall(file.read_text())]


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(b, id=f"{b.file.name}-{n}")
        for n, b in enumerate(blocks())
        if b.language == "bash"
    ],
)
def test_a_command_does_what_it_says(block: Block, tmp_path: Path) -> None:
    script = WHOLE_RUNS.sub(r"make --dry-run \1", block.text)
    env = environment(tmp_path)
    env.pop("RUNPOD_VOLUME")  # the documents say where theirs is
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=REPOSITORY,
        env=env,
        text=True,
        capture_output=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"status":"FAILED"' not in done.stdout.replace(" ", "")


def test_every_block_is_of_a_kind_that_is_tested() -> None:
    """JSON in docs/API.md is parsed by test_docs_generated; bash is run above."""
    assert {block.language for block in blocks()} <= KNOWN
    assert any(block.language == "bash" for block in blocks())


def test_the_volume_commands_are_what_the_document_says(
    tmp_path: Path,
) -> None:
    """Those that need no network do their work; all of them are known to the command line."""
    commands = LINE.findall((REPOSITORY / "docs" / "VOLUME.md").read_text())
    assert len(commands) > 5
    env = environment(tmp_path)
    for command in commands:
        offline = "--model demo" in command or "status" in command or "gc" in command
        run_it = command if offline else f"{command} --help"
        done = subprocess.run(
            ["bash", "-c", run_it], cwd=REPOSITORY, env=env, text=True, capture_output=True,
            timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
