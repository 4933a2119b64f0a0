"""python -m volume.pinning: make volume/pins/ anew, or lock one model at another revision."""

from __future__ import annotations

import argparse

from volume.pinning.demo import write_demo_entry
from volume.pinning.environment import write_environment_lock
from volume.pinning.model import raise_model


def main() -> None:
    """Write the demo's entry and the environment lock; with --model that model's entry alone."""
    arguments = argparse.ArgumentParser(prog="python -m volume.pinning", description=__doc__)
    arguments.add_argument("--uv", default="uv", help="the uv executable")
    arguments.add_argument("--model", metavar="NAME", help="lock this model of a hub, or demo")
    arguments.add_argument("--revision", default="main", help="at this branch, tag or commit")
    options = arguments.parse_args()
    if options.model == "demo":
        write_demo_entry()
        return
    if options.model is not None:
        raise_model(options.model, options.revision)
        return
    write_demo_entry()
    write_environment_lock(options.uv)


if __name__ == "__main__":
    main()
