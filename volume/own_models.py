"""An operator's own model: SPARK_MODEL=ORG/NAME@REVISION -> what is installed of that repository.

A fine-tuned checkpoint in the published layout, from the hub or from what the platform has cached.
REVISION is a commit: a branch moves, and workers that started on different days would speak with
different weights. What a branch means now is told, and refused.

    named        a repository and a commit; anything else is refused in words
    listed       files, sizes, hashes and licence, by the hub's own list of that commit; what is no
                 part of a checkpoint stays there
    looked at    the small files and the weights' headers come first: what does not fit is named
                 before gigabytes are downloaded
    checked      the whole once more (python -m worker.speech.fit), before it is published
    recorded     its manifest has the sha256 of each file, and they are the pins from then on
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from volume.cached_models import COMMIT, Snapshot, link_cached, snapshots_of
from volume.errors import DownloadError, PinError, PreparationError, UnfitModelError
from volume.hub import fetch_files
from volume.hub_api import Patience, RefusedError, Repository, ask, first_bytes
from volume.installer import Installer, program_variables
from volume.layout import Layout
from volume.lease import Lease
from volume.manifest import FileEntry, intact_manifest
from volume.pins import PinnedModel, model_names, pinned_model
from volume.process import run_child
from volume.progress import gigabytes

# As the hub has it: letters, digits, "-", "_" and ".", 96 in all, "--" and ".." nowhere.
_PART = r"(?![^/]*(?:--|\.\.))[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?"
_REPOSITORY = re.compile(rf"(?=.{{3,96}}$){_PART}/{_PART}").fullmatch
_FOLDER = re.compile(r"(?P<org>.+?)--(?P<name>.+)@(?P<commit>[0-9a-f]{40})").fullmatch
_LICENCE = re.compile(r"^license:[ \t]*[\"']?([^\s\"']+)", re.MULTILINE)
README = "README.md"
README_MAX = 1 << 20  # characters that are looked through for the licence

FEATURES = "wav2vec2-large-xlsr-53"
NEEDED = (
    *("config.yaml", "LLM/config.json", "LLM/tokenizer.json", "LLM/model.safetensors"),
    *("BiCodec/config.yaml", "BiCodec/model.safetensors", f"{FEATURES}/config.json"),
)
# Of each group the first that is there is taken.
ONE_OF = (
    (f"{FEATURES}/model.safetensors", f"{FEATURES}/pytorch_model.bin"),
    (f"{FEATURES}/preprocessor_config.json", f"{FEATURES}/processor_config.json"),
)
ALIGNER = ("aligner/config.json", "aligner/vocab.json")  # which a model may bring, or not
ALIGNER_WEIGHTS = ("aligner/model.safetensors", "aligner/pytorch_model.bin")
OPTIONAL = (
    *(f"{FEATURES}/processor_config.json", README, "LICENSE", "LICENSE.md", "LICENSE.txt"),
    *("LLM/tokenizer_config.json", "LLM/vocab.json", "LLM/merges.txt", "LLM/added_tokens.json"),
    *("LLM/special_tokens_map.json", "LLM/generation_config.json"),
    *("aligner/preprocessor_config.json", "aligner/processor_config.json"),
    *("aligner/special_tokens_map.json", "aligner/tokenizer_config.json"),
)
WEIGHTS = (".safetensors", ".bin")
SMALL_MAX = 100_000_000  # bytes of a file that is none of the weights
HEADER_MAX = 100_000_000  # bytes of a safetensors file's header, as its own library has it
MISFIT = "does not fit: "  # begins each reason that worker.speech.fit gives


@dataclass(frozen=True)
class OwnModel:
    """A repository on a hub and one of its commits."""

    repository: str
    commit: str

    def __str__(self) -> str:
        """Return it as the operator names it."""
        return f"{self.repository}@{self.commit}"


def is_own(name: str) -> bool:
    """Say whether a model's name is that of a repository: none that is pinned has a slash."""
    return "/" in name


def own_model(installer: Installer, text: str) -> PinnedModel:
    """Return what is to be installed, or has been, of a repository, ORG/NAME@COMMIT.

    Raises PinError where it is not so named, UnfitModelError where files are missing, DownloadError
    where neither the hub nor the platform's cache has it.
    """
    own = parse(installer, text)
    installed = installed_model(installer, own)
    if installed is not None:
        return installed
    listed, licence = _list(installer, own)
    files = choose_files(own, listed)
    model = _model(installer, own, files, licence)
    left = len(listed) - len(files)
    installer.say(
        f"{own}: {len(files)} files, {gigabytes(model.size)}, licence {model.licence}"
        + (f"; {left} other files are no part of a voice model and stay there" if left else "")
    )
    return model


def parse(installer: Installer, text: str) -> OwnModel:
    """Return the repository and the commit that a text names; raises PinError, saying how."""
    repository, _, revision = text.partition("@")
    if not _REPOSITORY(repository):
        raise PinError(
            f"{text!r} names no model: write ORG/NAME@REVISION, a repository of the hub and a "
            "commit of it"
        )
    if COMMIT(revision):
        return OwnModel(repository, revision)
    shown = revision or "main"
    try:
        commit = ask(repository, shown, _patience(installer)).commit
    except DownloadError as error:
        there = snapshots_of(installer.layout, repository, installer.say)
        cached = ", ".join(sorted({snapshot.revision for snapshot in there}))
        raise PinError(
            f"{text!r} names no commit, by which all workers have the same bytes; write "
            f"{repository}@ and its 40 digits"
            + (f". The platform has cached: {cached}" if cached else f" ({error})")
        ) from None
    raise PinError(
        f"{shown!r} of {repository} may be another commit tomorrow, and then not all workers would "
        f"speak with the same bytes; today it is this one: {repository}@{commit}"
    )


def installed_model(installer: Installer, own: OwnModel) -> PinnedModel | None:
    """Return an own model as its manifest recorded it; None where it is not installed."""
    model = _model(installer, own, (), None)
    folder = installer.layout.models / model.resource
    if not folder.is_dir():
        return None
    files = intact_manifest(folder)
    if files is None:  # both are damaged: what it has is known from the hub alone
        return None
    return _model(installer, own, files, licence_of(folder / README))


def installed_models(installer: Installer) -> list[PinnedModel]:
    """Return all own models that are installed.

    Of one whose manifests are damaged the files are as the hub lists them; where it does not
    answer, none is known.
    """
    found = []
    for own in own_folders(installer.layout):
        model = installed_model(installer, own)
        if model is None:
            try:
                listed, licence = _list(installer, own)
                model = _model(installer, own, choose_files(own, listed), licence)
            except (DownloadError, UnfitModelError) as error:
                installer.say(f"{own}: its manifests are damaged, and {error}")
                model = _model(installer, own, (), None)
        found.append(model)
    return found


def own_folders(layout: Layout) -> list[OwnModel]:
    """Return which own models there are folders of."""
    names = sorted(path.name for path in layout.models.glob("*--*@*") if path.is_dir())
    found = (_FOLDER(name) for name in names)
    return [OwnModel(f"{one['org']}/{one['name']}", one["commit"]) for one in found if one]


def obtain_fitting(
    installer: Installer, model: PinnedModel, folder: Path, lease: Lease
) -> tuple[FileEntry, ...]:
    """Put an own model into `folder`, each file checked; return those that are links.

    Raises UnfitModelError naming each thing that does not fit, as early as it can be known.
    """
    linked = link_cached(installer, model, model.files, folder, lease)
    there = {file.path for file in linked}
    lacking = [file for file in model.files if file.path not in there]
    small = tuple(file for file in lacking if not file.path.endswith(WEIGHTS))
    large = tuple(file for file in lacking if file.path.endswith(WEIGHTS))
    if lacking:  # whether it may be had at all: the client would say it less plainly
        first_bytes(model.repository, model.revision, lacking[0].path, 1, _patience(installer))
    if small:
        fetch_files(installer, model, small, folder, lease)
    if large:
        _look_early(installer, model, folder, large, lease)
        fetch_files(installer, model, large, folder, lease)
    check_fit(installer, model, folder, lease)
    return linked


def _look_early(
    installer: Installer,
    model: PinnedModel,
    folder: Path,
    large: Iterable[FileEntry],
    lease: Lease,
) -> None:
    """Check the small files and the headers of the weights, before these are downloaded.

    In a folder of their own: links to what is there, and for weights of which only the header is
    known files with holes, which have their size and take no room.
    """
    with tempfile.TemporaryDirectory(prefix="own-model-") as name:
        for file in model.files:
            path = Path(name) / file.path
            path.parent.mkdir(parents=True, exist_ok=True)
            if (folder / file.path).is_file():
                path.symlink_to((folder / file.path).resolve())
        for file in large:
            if file.path.endswith(".safetensors") and not (Path(name) / file.path).exists():
                _write_header(installer, model, file, Path(name) / file.path)
        check_fit(installer, model, Path(name), lease, early=True)


def _write_header(installer: Installer, model: PinnedModel, file: FileEntry, path: Path) -> None:
    def begin(count: int) -> bytes:
        patience = _patience(installer)
        return first_bytes(model.repository, model.revision, file.path, count, patience)

    length = int.from_bytes(begin(8), "little")
    if not 0 < length < HEADER_MAX:
        raise UnfitModelError(f"{model.name}: {file.path} is no safetensors file")
    header = begin(8 + length)
    with path.open("wb") as out:
        out.write(header)
        out.truncate(max(file.size or 0, len(header)))


def check_fit(
    installer: Installer, model: PinnedModel, folder: Path, lease: Lease, *, early: bool = False
) -> None:
    """Have the worker look at a checkpoint; raises UnfitModelError with its reasons."""
    command = [sys.executable, "-m", "worker.speech.fit", str(folder)]
    outcome = run_child(
        [*command, "--early"] if early else command,
        environment=program_variables(installer),
        watch=lambda _: lease.check(),
    )
    if outcome.status:
        lines = outcome.output.splitlines()
        reasons = [line.removeprefix(MISFIT) for line in lines if line.startswith(MISFIT)]
        if reasons:
            told = "\n".join(f"  {reason}" for reason in reasons)
            raise UnfitModelError(f"{model.resource} is none that this worker speaks with:\n{told}")
        raise PreparationError(f"{model.name} could not be checked:\n{outcome.last_lines}")


def choose_files(own: OwnModel, listed: dict[str, FileEntry]) -> tuple[FileEntry, ...]:
    """Return the files of a checkpoint among those of its repository; raises UnfitModelError.

    They are taken by their whole names, so that what else a repository holds, and whatever it is
    called, is left alone.
    """
    chosen, missing = list(NEEDED), []
    for group in (*ONE_OF, *([ALIGNER_WEIGHTS] if _has_aligner(listed) else [])):
        found = [path for path in group if path in listed]
        chosen += found[:1]
        if not found:
            missing.append(" or ".join(group))
    if _has_aligner(listed):
        chosen += ALIGNER
    missing += [path for path in chosen if path not in listed]
    if missing:
        shards = "LLM/model.safetensors.index.json" in listed
        raise UnfitModelError(
            f"{own} is no checkpoint in the published layout; missing: {', '.join(missing)}"
            + (
                "; LLM has its weights in several files, which is not supported: save one by "
                'save_pretrained(..., max_shard_size="50GB")'
                if shards and "LLM/model.safetensors" in missing
                else ""
            )
        )
    chosen += [path for path in OPTIONAL if path in listed]
    files = tuple(listed[path] for path in sorted(set(chosen)))
    for file in files:
        size = 1 if file.size is None else file.size
        small = not file.path.endswith(WEIGHTS)
        if (size == 0 and file.path in NEEDED) or (small and size > SMALL_MAX):
            raise UnfitModelError(f"{own}: {file.path} cannot have {file.size} bytes")
    return files


def _has_aligner(listed: dict[str, FileEntry]) -> bool:
    return any(path in listed for path in (*ALIGNER, *ALIGNER_WEIGHTS))


def licence_of(readme: Path) -> str | None:
    """Return the licence that a model card names in its head (YAML between two lines of "---")."""
    try:
        with readme.open(encoding="utf-8", errors="replace") as file:
            text = file.read(README_MAX)
    except OSError:
        return None
    head = text.removeprefix("---\n").partition("\n---")[0] if text.startswith("---\n") else ""
    found = _LICENCE.search(head)
    return _plain(found[1]) if found else None


def _list(installer: Installer, own: OwnModel) -> tuple[dict[str, FileEntry], str | None]:
    """Return the files of a commit and its licence: by the hub, else by a whole cached snapshot.

    The platform may have been given a token that the worker has not.
    """
    try:
        told: Repository = ask(own.repository, own.commit, _patience(installer))
    except DownloadError as error:
        for snapshot in snapshots_of(installer.layout, own.repository, installer.say):
            if snapshot.revision == own.commit:
                listed = _cached_files(snapshot)
                if _is_whole(own, listed):
                    installer.say(f"{own}: the platform's cached files are taken; {error}")
                    return listed, licence_of(snapshot.folder / README)
        raise
    if told.commit != own.commit:
        raise RefusedError(f"{own}: the hub answers with another commit, {told.commit}")
    return told.files, told.licence


def _cached_files(snapshot: Snapshot) -> dict[str, FileEntry]:
    names = {*NEEDED, *OPTIONAL, *ALIGNER, *ALIGNER_WEIGHTS, *(p for g in ONE_OF for p in g)}
    there = (path for path in sorted(names) if (snapshot.folder / path).is_file())
    return {path: FileEntry(path, (snapshot.folder / path).stat().st_size, None) for path in there}


def _is_whole(own: OwnModel, listed: dict[str, FileEntry]) -> bool:
    try:
        return bool(choose_files(own, listed))
    except UnfitModelError:
        return False


def _model(
    installer: Installer, own: OwnModel, files: tuple[FileEntry, ...], licence: str | None
) -> PinnedModel:
    return PinnedModel(
        name=own.repository,
        source="own",
        revision=own.commit,
        licence=_plain(licence) or "not named by its repository: ask its owner",
        files=files,
        repository=own.repository,
        aligners=_pinned_aligners(installer.pins),
        prepared=True,
    )


def _plain(licence: str | None) -> str | None:
    """Return the licence's name where it is one that a line can hold."""
    return licence if licence and len(licence) < 100 and licence.isprintable() else None


def _pinned_aligners(pins: Path) -> tuple[tuple[str, str], ...]:
    """Return what times the words of the published voice model: an own one speaks alike."""
    models = (pinned_model(name, pins) for name in model_names(pins))
    return next((model.aligners for model in models if model.aligners), ())


def _patience(installer: Installer) -> Patience:
    return Patience(installer.attempts, installer.pause)
