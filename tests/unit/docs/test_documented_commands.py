"""The arguments of the commands in README.md and docs/, read by the parsers that they are for."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import runpod.serverless

from tests.support.documents import blocks, texts
from tests.support.worker_process import REPOSITORY
from volume.__main__ import parser as volume_parser
from worker import speak
from worker.serve.startup import HTTP

SPEAK = REPOSITORY / "nix" / "speak.sh"
FLAKE = (REPOSITORY / "flake.nix").read_text()
MAKEFILE = (REPOSITORY / "Makefile").read_text()
MODULE = re.compile(r"\bpython -m (worker(?:\.speak)?|volume)\b([^\n`|&]*?)(?=  |[\n`|&]|$)")
MAKE = re.compile(r"(?:^|`)make ([a-z0-9-]+(?: [A-Z]+=[^`\n#]*)?)", re.MULTILINE)


def spoken(arguments: list[str]) -> None:
    """Read them as worker.speak does, up to the request of the job, or a file that is made."""
    options = speak._parser().parse_args(arguments)
    if options.turns is None:
        speak._request(options)


def started(arguments: list[str]) -> None:
    """The HTTP door has no arguments but its own; the rest is the SDK's to read."""
    if arguments != [HTTP]:
        runpod.serverless.parser.parse_args(arguments)


PARSERS: dict[str, Callable[[list[str]], object]] = {
    "worker": started,
    "worker.speak": spoken,
    "volume": lambda arguments: volume_parser().parse_args(arguments),
}
# What `nix run .#NAME -- ARGUMENTS` hands its arguments to, in the words of the flake.
APPS: dict[str, tuple[str, Callable[[list[str]], object]]] = {
    "": ("nix/speak.sh", spoken),
    "worker": ('-m worker "$@"', PARSERS["worker"]),
    "install": ('-m volume install "$@"', lambda rest: PARSERS["volume"](["install", *rest])),
}
NIX_RUN = [
    shlex.split(line)
    for block in blocks()
    if block.language == "console"
    for line in block.text.splitlines()
    if "nix run" in line
]


def modules() -> list[tuple[str, str]]:
    """Each `python -m MODULE ARGUMENTS` that has arguments."""
    found = [
        (module, " ".join(rest.split()))
        for text in texts().values()
        for module, rest in MODULE.findall(text.replace("\\\n", ""))
    ]
    return sorted({(module, rest) for module, rest in found if rest})


def test_the_documents_have_commands() -> None:
    assert len(modules()) > 6
    assert {module for module, _ in modules()} == set(PARSERS)
    assert len(NIX_RUN) > 4


@pytest.mark.parametrize(("module", "arguments"), modules())
def test_what_a_module_is_given_it_understands(module: str, arguments: str) -> None:
    PARSERS[module](shlex.split(arguments))


@pytest.mark.parametrize("command", NIX_RUN, ids=" ".join)
def test_what_nix_run_is_given_is_understood(command: list[str]) -> None:
    output = next(word for word in command if word.startswith("."))
    handed_to, read = APPS[output.removeprefix(".").removeprefix("#")]
    assert handed_to in FLAKE
    read(command[command.index("--") + 1 :])


@pytest.mark.slow("starts a process")
@pytest.mark.parametrize("model", ["demo", "Spark-TTS-0.5B"])
@pytest.mark.parametrize(
    "arguments",
    [
        ["Hi"],
        ["Hi", "--speaker-gender", "male"],
        ["Hi there.", "--pitch", "low", "--out", "a.wav"],
        ["Hi", "--voice", "ann"],
        ["Hi", "--voice-from", "ann.wav"],
    ],
)
def test_the_command_of_the_flake_adds_no_voice_of_its_own(
    tmp_path: Path, arguments: list[str], model: str
) -> None:
    """The embedded model has styles too: whatever voice the user names is the only one."""
    told = tmp_path / "told"
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\nprintf '%s\\0' \"$@\" >{told}\n")
    python.chmod(0o755)
    subprocess.run(
        [str(shutil.which("bash")), "-eu", str(SPEAK), *arguments],
        env={"python": str(python), "SPARK_MODEL": model, "RUNPOD_VOLUME": "v", "PATH": ""},
        cwd=tmp_path,
        check=True,
    )
    assert told.read_text().split("\0")[:-1] == ["-m", "worker.speak", *arguments]


def test_what_make_is_given_it_reads() -> None:
    """A variable that no rule reads would be dropped without a word."""
    given = {
        (target, name)
        for text in texts().values()
        for command in MAKE.findall(text)
        for target, *rest in [command.split()]
        for name in re.findall(r"([A-Z]+)=", " ".join(rest))
    }
    assert len(given) > 5
    # What is given to make it hands to programs too, as variables of the environment.
    program = (REPOSITORY / "scripts" / "speak.py").read_text()
    for target, name in given:
        assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE), target
        in_make = re.search(rf"\$\((?:\w+ )?{name}\)", MAKEFILE)
        assert in_make or (target == "speak" and f'environ.get("{name}")' in program), name
