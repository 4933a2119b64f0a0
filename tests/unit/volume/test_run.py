"""run: says what it will use, installs it, and becomes the worker."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest

from tests.support.volume_parts import QUICK, Parts, parts
from volume import run as running
from volume.errors import DownloadError
from volume.start_pack.key import pack_key


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Parts:
    return parts(tmp_path, monkeypatch)


@pytest.fixture
def steps(here: Parts, monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """What `run` does, in its order: nothing of it is done but the announcing."""
    done: list[tuple[object, ...]] = []

    def counts(files: list[Path], interval: float) -> None:
        done.append(("counts for", sorted(file.parent.name for file in files), interval))

    def becomes(program: str, command: list[str], variables: dict[str, str]) -> None:
        done.append(("becomes", program, command, variables["PYTHONPATH"].split(os.pathsep)[0]))

    monkeypatch.setattr(running, "keep_announcing", counts)
    monkeypatch.setattr(
        running, "install_environment", lambda _, lock: done.append(("environment", lock.digest))
    )
    monkeypatch.setattr(running, "install_model", lambda _, lock: done.append(("model", lock.name)))
    monkeypatch.setattr(os, "execve", becomes)
    return done


def start(here: Parts) -> None:
    running.run(here.installer, here.environment, [here.model], module="it", arguments=["-x", "y"])


def test_it_is_announced_before_anything_is_looked_for_and_started_when_all_is_there(
    here: Parts, steps: list
) -> None:
    site = here.layout.site_packages(here.environment.digest)
    site.mkdir(parents=True)
    start(here)
    key = pack_key(here.environment.digest)
    assert steps == [
        (
            "counts for",
            sorted([here.environment.digest, key, here.model.resource]),
            QUICK.heartbeat,
        ),
        ("environment", here.environment.digest),
        ("model", "small"),
        ("becomes", sys.executable, [sys.executable, "-m", "it", "-x", "y"], str(site)),
    ]
    labels = [line.partition(": ready after ")[0] for line in here.said]
    assert labels == ["environment", "small", "start pack"]


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC, errno.EDQUOT])
def test_where_nothing_can_be_written_it_serves_all_the_same(
    here: Parts, steps: list, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(running, "announce", refuse)
    start(here)
    assert [step[0] for step in steps] == ["environment", "model", "becomes"]
    assert here.said[0] == f"gc cannot see this worker: {os.strerror(number)}"


def test_what_cannot_be_installed_is_not_started(
    here: Parts, steps: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise DownloadError("the hub is down")

    monkeypatch.setattr(running, "install_model", fail)
    with pytest.raises(DownloadError, match="the hub is down"):
        start(here)
    assert [step[0] for step in steps] == ["counts for", "environment"]
    assert not any("small" in line for line in here.said)
