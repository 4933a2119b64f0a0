"""The image's entry point: installs what is pinned and missing, then becomes the worker."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from volume.environment import install_environment
from volume.in_use import announce, keep_announcing
from volume.installer import Installer, environment_variables
from volume.models import install_model
from volume.pins import PinnedEnvironment, PinnedModel
from volume.start_clock import installer_ran, now
from volume.start_pack.making import offer_pack, pack_folder
from volume.start_pack.runtime import PACK, SITE


def run(
    installer: Installer,
    environment: PinnedEnvironment,
    models: Sequence[PinnedModel],
    *,
    module: str,
    arguments: Sequence[str],
) -> None:
    """Install what is missing, then replace this process by `python -m module`; does not return."""
    began = now()
    layout = installer.layout
    try:
        names = [model.resource for model in models]
        if installer.in_image is None:
            names += [environment.digest, pack_folder(installer, environment).name]
        uses = announce(layout.uses, names)
    except OSError as error:  # read-only or full: it can serve all the same
        installer.say(f"gc cannot see this worker: {error.strerror}")
    else:
        keep_announcing(uses, installer.timing.heartbeat)
    with timed(installer, "environment"):
        install_environment(installer, environment)
    for model in models:
        with timed(installer, model.name):
            install_model(installer, model)
    with timed(installer, "start pack"):
        pack = offer_pack(installer, environment)
    variables = environment_variables(installer) | installer_ran(began)
    if pack is not None:
        variables |= {PACK: str(pack), SITE: str(installer.site_packages)}
    os.execve(sys.executable, [sys.executable, "-m", module, *arguments], variables)  # noqa: S606


@contextmanager
def timed(installer: Installer, label: str) -> Iterator[None]:
    """Say how many seconds the step took."""
    started = time.monotonic()
    yield
    installer.say(f"{label}: ready after {time.monotonic() - started:.2f} s")
