"""Every command in README.md and docs/ is run as it is written."""

from __future__ import annotations

import re
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.support.documents import CLIENTS, Block, blocks
from tests.support.worker_process import environment

# Run by CI itself on every change (.ci/run), or a long command of its own, or one that fetches:
# here only resolved.
WHOLE_RUNS = re.compile(
    r"^make (test|check|image-test|lint|parity-full|faults|hostile|load|bench|llama|demo-\w+"
    r"|gpu-\w+|fuzz-http)\b",
    re.MULTILINE,
)
INLINE = re.compile(r"`((?:make|python -m) [^`]+)`")
LINE = re.compile(r"^(?:\$ )?(python -m volume [^\n]*?)(?:  .*)?$", re.MULTILINE)
# "": drawings; console: commands that need what is not here, and something in its place; the
# programs of clients are run by tests/e2e/http/test_client_documents.py.
KNOWN = {"bash", "json", "console", "", *CLIENTS}
CONSOLE = {
    "aws": "tests/unit/docs/test_aws_commands.py",
    "b2": "tests/e2e/test_b2_commands.py",
    "curl": "tests/platform/queue/test_first_job.py",
    "nix": "tests/nix/test_flake.py",
}


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
    programs = {
        next(word for word in line.split() if "=" not in word)  # a variable may stand before it
        for block in blocks()
        if block.language == "console"
        for line in block.text.replace("\\\n", " ").splitlines()
        if line.strip()
    }
    assert programs == set(CONSOLE)
    assert all((REPOSITORY / test).is_file() for test in CONSOLE.values())


def test_a_command_in_a_sentence_is_one_that_there_is() -> None:
    named = {
        command
        for file in [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
        for command in INLINE.findall(file.read_text())
    }
    makes = sorted(command for command in named if command.startswith("make "))
    modules = {command.split()[2] for command in named if command.startswith("python ")}
    assert len(makes) > 5
    assert len(modules) > 5
    assert not [module for module in modules if find_spec(module) is None]
    for command in makes:
        done = subprocess.run(
            [*command.split(), "--dry-run"], cwd=REPOSITORY, capture_output=True, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stderr.decode()}"


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
