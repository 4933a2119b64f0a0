"""python -m volume: put on the network volume what the worker needs, and keep it whole.

The exit status says what went wrong; volume/errors.py lists them.
"""

from __future__ import annotations

from volume.stops import hear_stops, unwind_at_stops

if __name__ == "__main__":  # before the imports below
    hear_stops()

import argparse
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from volume.cleanup import collect
from volume.container_disk import require_room
from volume.environment import install_environment
from volume.errors import DamagedError, FullError, VolumeError, explain
from volume.installer import Installer
from volume.layout import PREPARED, Layout, folder_name
from volume.lease import Timing
from volume.models import install_model
from volume.mount import IN_IMAGE, Place, find_place
from volume.own_models import installed_models, is_own, own_folders, own_model
from volume.pins import (
    PINS,
    PinnedEnvironment,
    PinnedModel,
    model_names,
    pinned_environment,
    pinned_model,
)
from volume.progress import gigabytes
from volume.run import run
from volume.start_pack.making import install_pack, pack_folder
from volume.status import report, survey, table
from volume.variables import leave_out_unusable
from volume.verify import (
    Finding,
    damaged_cubins,
    repair_environment,
    repair_model,
    repair_pack,
    repair_prepared,
    verify,
)


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    arguments = argparse.ArgumentParser(prog="python -m volume", description=__doc__)
    arguments.add_argument(
        "--attempts", type=_at_least_one, default=5, help="how often a download is tried, 5"
    )
    commands = arguments.add_subparsers(dest="command", required=True)
    install = commands.add_parser("install", help="install what is missing")
    _add_what(install)
    install.add_argument(
        "--environment", action="store_true", help="the environment, alone or beside the models"
    )
    status = commands.add_parser("status", help="what is there")
    status.add_argument("--json", action="store_true")
    check = commands.add_parser("verify", help="hash everything again and name each bad file")
    check.add_argument("--repair", action="store_true", help="fetch the bad files again")
    gc = commands.add_parser("gc", help="remove what is not pinned and nobody uses")
    gc.add_argument("--dry-run", action="store_true", help="only print what would be removed")
    gc.add_argument(
        "--own-models",
        action="store_true",
        help="models of your own too (ORG/NAME@REVISION), but for the one in SPARK_MODEL",
    )
    start = commands.add_parser("run", help="install what is missing, then become the worker")
    _add_what(start)
    start.add_argument("arguments", nargs="*", help="arguments for it, after --")
    return arguments


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"it must be a whole number of 1 or more, not {text!r}")
    return int(text)


def _add_what(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--model",
        action="append",
        metavar="NAME",
        help="a pinned model, or ORG/NAME@REVISION of a hub; several times for several. Without "
        "it, SPARK_MODEL, what times its words in WHISPERX_LANGUAGES, and the environment",
    )
    command.add_argument(
        "--wheelhouse", type=Path, help="a folder of wheels to install from, offline"
    )


def main(
    argv: list[str] | None = None,
    *,
    pins: Path = PINS,
    timing: Timing = Timing(),  # noqa: B008 - frozen
    module: str = "worker",
    rehearsal: str | None = None,
) -> int:
    """Run one command; the exit status is 0 when everything that was asked for is so.

    `pins` is the folder of what may be installed, `timing` that of the leases; `run` becomes
    `python -m module`, and `rehearsal` is the module whose run is recorded for the start pack.
    """
    options = parser().parse_args(argv)
    place: Place | None = None
    try:
        leave_out_unusable(os.environ, say)
        place = find_place(os.environ)
        if place.note:
            say(place.note)
        in_image = os.environ.get(IN_IMAGE)
        installer = Installer(
            layout=Layout(place.folder),
            say=say,
            uv=find_uv(),
            pins=pins,
            wheelhouse=getattr(options, "wheelhouse", None),
            timing=timing,
            attempts=options.attempts,
            rehearsal=None if place.on_container else rehearsal,
            lasting=not place.on_container,
            in_image=Path(in_image) if in_image else None,
        )
        return command(options, installer, place, module)
    except (VolumeError, OSError) as error:
        problem = explain(error) if isinstance(error, OSError) else error
        where = ""
        if place and place.on_container and isinstance(problem, FullError):
            where = "; here it is the container's disk, which the endpoint's settings make larger"
        say(f"error: {problem}{where}")
        return problem.exit_status


def command(options: argparse.Namespace, installer: Installer, place: Place, module: str) -> int:
    """Run the command that the options name; `run` becomes `python -m module`."""
    if options.command == "status":
        items = survey(installer.layout, installer.pins, installer.in_image)
        print(json.dumps(report(installer.layout, items)) if options.json else table(items))
    elif options.command == "verify":
        return check_all(installer, repair=options.repair)
    elif options.command == "gc":
        remove_unused(installer, dry_run=options.dry_run, own_models=options.own_models)
    elif options.command == "run":
        environment = pinned_environment(installer.pins)
        models = models_to_install(options.model, installer)
        check_container_disk(place, installer, environment, models)
        run(installer, environment, models, module=module, arguments=options.arguments)
    else:
        wanted = options.environment or not options.model
        models = []
        if options.model or not options.environment:
            models = models_to_install(options.model, installer)
        environment = pinned_environment(installer.pins)
        check_container_disk(place, installer, environment if wanted else None, models)
        if wanted:
            print(install_environment(installer, environment))
        for model in models:
            print(install_model(installer, model))
        if wanted and models and installer.rehearsal and installer.in_image is None:
            print(install_pack(installer, environment))
    return 0


def check_container_disk(
    place: Place,
    installer: Installer,
    environment: PinnedEnvironment | None,
    models: Sequence[PinnedModel],
) -> None:
    """Where there is no volume, say so, and raise FullError unless all of it fits."""
    if place.on_container:
        installer.say(f"no volume is mounted: this worker installs for itself, in {place.folder}")
        require_room(installer, environment, models)


def models_to_install(names: list[str] | None, installer: Installer) -> list[PinnedModel]:
    """Return the models of these names, else those that the settings ask for."""
    if names:
        return [find_model(name, installer) for name in names]
    speech = find_model(spoken_model(), installer)
    aligners = dict(speech.aligners)
    languages = (os.environ.get("WHISPERX_LANGUAGES") or "en,zh").split(",")
    wanted = [aligners[language.strip()] for language in languages if language.strip() in aligners]
    return [speech, *(pinned_model(name, installer.pins) for name in wanted)]


def find_model(name: str, installer: Installer) -> PinnedModel:
    """Return the model of this name: a pinned one, or one of the operator's own."""
    return own_model(installer, name) if is_own(name) else pinned_model(name, installer.pins)


def spoken_model() -> str:
    """Return the name of the model that workers speak with."""
    return (os.environ.get("SPARK_MODEL") or "Spark-TTS-0.5B").strip()


def check_all(installer: Installer, *, repair: bool) -> int:
    """Verify all that is installed and to be kept; raises DamagedError when something stays bad."""
    bad = 0
    for finding, mend in findings(installer):
        found = finding
        if found.damaged and repair:
            mend(found)
            found = verify(found.resource, found.folder, found.pinned)
        for path in found.damaged:
            print(f"damaged: {found.resource}: {path}")
        if not found.damaged:
            print(f"clean: {found.resource}")
        bad += len(found.damaged)
    for cubin in damaged_cubins(installer.layout.cubins):
        if repair:
            cubin.unlink(missing_ok=True)
            print(f"removed, for a worker to compile again: {cubin.name}")
        else:
            print(f"damaged: cubins: {cubin.name}")
            bad += 1
    if bad:
        raise DamagedError(f"{bad} damaged files; mend them with: python -m volume verify --repair")
    return 0


def findings(installer: Installer) -> Iterator[tuple[Finding, Callable[[Finding], None]]]:
    """Give what is found in each installed folder that is to be kept, and what can mend it.

    A model comes before what was prepared from it, so that it is whole when it is needed for that.
    """
    layout = installer.layout
    environment = pinned_environment(installer.pins)
    folder = layout.environments / environment.digest
    if folder.is_dir():
        yield (
            verify("environment", folder),
            partial(repair_environment, installer, environment),
        )
    pinned = [pinned_model(name, installer.pins) for name in model_names(installer.pins)]
    for model in (*pinned, *installed_models(installer)):
        folder = layout.models / model.resource
        if folder.is_dir():
            yield verify(model.name, folder, model.files), partial(repair_model, installer, model)
        if (folder / PREPARED).is_dir():
            yield (
                verify(f"{model.name}, prepared", folder / PREPARED),
                partial(repair_prepared, installer, model),
            )
    folder = pack_folder(installer, environment)
    if folder.is_dir():
        yield verify("start pack", folder), partial(repair_pack, installer, environment)


def remove_unused(installer: Installer, *, dry_run: bool, own_models: bool) -> None:
    """Remove what this image does not pin; the operator's own models only where they ask for it."""
    layout = installer.layout
    keep = {layout.environments / pinned_environment(installer.pins).digest}
    models = (pinned_model(name, installer.pins) for name in model_names(installer.pins))
    keep |= {layout.models / model.resource for model in models}
    spoken = spoken_model()
    own = [str(model) for model in own_folders(layout)]
    kept = [name for name in own if not own_models or name == spoken]
    keep |= {layout.models / folder_name(name) for name in kept}
    keep.add(pack_folder(installer, pinned_environment(installer.pins)))
    word = "would remove" if dry_run else "removed"
    removals = collect(layout, keep, dry_run=dry_run, timing=installer.timing)
    for removal in removals:
        print(f"{word} {removal.name}, {gigabytes(removal.bytes)}")
    if not removals:
        print("nothing to remove")
    for name in kept:
        if name != spoken:
            say(f"kept, for no image pins it: {name}; gc --own-models removes it")


def find_uv() -> str:
    """Return the uv beside this interpreter, else the one on PATH."""
    beside = Path(sys.executable).with_name("uv")
    return str(beside) if beside.exists() else shutil.which("uv") or "uv"


def say(text: str) -> None:
    """Tell the operator."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    unwind_at_stops()
    sys.exit(main(rehearsal="worker.serve.rehearsal"))
