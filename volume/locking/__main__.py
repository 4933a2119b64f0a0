"""python -m volume.locking: make volume/locks/ anew."""

from __future__ import annotations

import argparse

from volume.locking.demo import write_demo_entry
from volume.locking.environment import write_environment_lock


def main() -> None:
    """Write the demo's entry and the environment lock."""
    arguments = argparse.ArgumentParser(prog="python -m volume.locking", description=__doc__)
    arguments.add_argument("--uv", default="uv", help="the uv executable")
    options = arguments.parse_args()
    write_demo_entry()
    write_environment_lock(options.uv)


if __name__ == "__main__":
    main()
