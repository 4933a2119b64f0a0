"""python -m volume.pinning: make volume/pins/ anew, or pin one model at another revision."""

from __future__ import annotations

import argparse

from volume.pinning.demo import pin_demo
from volume.pinning.environment import pin_environment
from volume.pinning.model import pin_model


def main() -> None:
    """Write the demo's entry and the environment's pins; with --model that model's entry alone."""
    arguments = argparse.ArgumentParser(prog="python -m volume.pinning", description=__doc__)
    arguments.add_argument("--uv", default="uv", help="the uv executable")
    arguments.add_argument("--model", metavar="NAME", help="pin this model of a hub, or demo")
    arguments.add_argument("--revision", default="main", help="at this branch, tag or commit")
    options = arguments.parse_args()
    if options.model == "demo":
        pin_demo()
        return
    if options.model is not None:
        pin_model(options.model, options.revision)
        return
    pin_demo()
    pin_environment(options.uv)


if __name__ == "__main__":
    main()
