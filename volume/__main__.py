"""python -m volume: put on the network volume what the worker needs."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from volume.layout import Layout
from volume.locks import UnknownModelError, load_model_lock
from volume.models import CorruptFileError, install_model


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    arguments = argparse.ArgumentParser(prog="python -m volume", description=__doc__)
    commands = arguments.add_subparsers(dest="command", required=True)
    install = commands.add_parser("install", help="install what is missing")
    install.add_argument("--model", action="append", required=True, metavar="NAME")
    return arguments


def main(argv: list[str] | None = None) -> int:
    """Run one command; the exit status is 0 when everything that was asked for is there."""
    options = parser().parse_args(argv)
    layout = Layout(Path(os.environ.get("RUNPOD_VOLUME") or "/runpod-volume"))
    try:
        for name in options.model:
            print(install_model(layout, load_model_lock(name)))
    except (CorruptFileError, UnknownModelError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
