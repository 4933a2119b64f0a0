"""docs/VOLUME.md against the code that it describes."""

from __future__ import annotations

import re
from pathlib import Path

import volume.errors
from volume.__main__ import parser
from volume.layout import PREPARED, Layout
from volume.lease import Timing

PAGE = (Path(__file__).parents[3] / "docs" / "VOLUME.md").read_text()


def test_every_command_line_in_it_is_one() -> None:
    lines = re.findall(r"^python -m volume (.*?)(?:  .*)?$", PAGE, flags=re.MULTILINE)
    named = [parser().parse_args(line.split()).command for line in lines]
    assert sorted(set(named)) == ["gc", "install", "run", "status", "verify"]


def test_it_lists_every_exit_status() -> None:
    kinds = [kind for kind in vars(volume.errors).values() if isinstance(kind, type)]
    statuses = {kind.exit_status for kind in kinds if issubclass(kind, volume.errors.VolumeError)}
    told = {int(number) for number in re.findall(r"^\| (\d) \|", PAGE, flags=re.MULTILINE)}
    assert told == statuses | {0}


def test_it_names_the_folders_of_the_layout() -> None:
    layout = Layout(Path("/runpod-volume"))
    folders = [layout.environments, layout.models, layout.voices, layout.local_storage]
    folders += [layout.cache, layout.leases, layout.uses, layout.starts]
    assert all(f"  {folder.name}/" in PAGE for folder in folders)
    assert f"{PREPARED}/" in PAGE


def test_the_times_in_it_are_the_defaults() -> None:
    assert f"every {Timing().heartbeat:g} s" in PAGE
    assert f"for {Timing().takeover:g} s" in PAGE
