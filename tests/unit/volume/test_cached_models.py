"""What the platform has cached is used where it lies, if it is right; and looked at ever after."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.cached_models import blob_of, cache_model
from tests.support.hub_server import REVISION, git_blob
from tests.support.volume_parts import FILES, UNKNOWN, Parts, parts, with_free_bytes, without_pauses
from tests.support.volume_world import REPOSITORY
from volume import cached_models
from volume.cached_models import Snapshot, check_cached, snapshots_of
from volume.errors import DownloadError, NotWritableError
from volume.in_place import has_marks, links_below
from volume.layout import IN_PLACE, Layout
from volume.manifest import FileEntry, intact_manifest, scan
from volume.models import install_model
from volume.process import Outcome
from volume.status import survey, table
from volume.verify import repair_model, verify

WEIGHTS = "LLM/model.safetensors"
OTHER = "f" * 40


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Parts:
    monkeypatch.setattr(cached_models, "PLATFORM", tmp_path / "platform")
    without_pauses(monkeypatch, "hub")
    return parts(tmp_path, monkeypatch)


def cached(here: Parts, files: dict[str, bytes] = FILES, **options: object) -> Path:
    return cache_model(here.layout.cached_models, REPOSITORY, files, **options)


def asked(here: Parts) -> list[str]:
    """The files that the hub's client was asked for."""
    return [
        path
        for name, command in here.programs.ran
        if name == "hub"
        for path in command[command.index("download") + 2 : command.index("--revision")]
    ]


def flip(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


# An install.


def test_a_cached_model_is_linked_and_nothing_is_fetched(
    here: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = cached(here)
    with_free_bytes(monkeypatch, 0)  # links need no room
    folder = install_model(here.installer, here.model)
    assert asked(here) == []
    assert links_below(folder) == sorted(FILES)
    for path, data in FILES.items():
        assert (folder / path).read_bytes() == data
        assert (folder / path).resolve() == blob_of(home, path)
        assert not (folder / path).readlink().is_absolute()
    assert intact_manifest(folder) == scan(folder)
    assert verify("small", folder, here.model.files).damaged == ()
    assert here.said[0] == (
        f"small: 4 of 4 files ({sum(map(len, FILES.values())) / 1000:.1f} kB) are used where the "
        "platform has cached them"
    )


def test_the_links_hold_where_the_volume_is_mounted_elsewhere(here: Parts, tmp_path: Path) -> None:
    cached(here)
    folder = install_model(here.installer, here.model)
    moved = here.layout.mount.rename(tmp_path / "workspace")
    there = moved / folder.relative_to(here.layout.mount)
    assert (there / WEIGHTS).read_bytes() == FILES[WEIGHTS]


def test_a_cache_that_is_not_on_the_volume_is_found_too(here: Parts, tmp_path: Path) -> None:
    home = cache_model(tmp_path / "platform", REPOSITORY, FILES)
    folder = install_model(here.installer, here.model)
    assert asked(here) == []
    assert (folder / WEIGHTS).readlink() == blob_of(home, WEIGHTS)


def test_only_what_a_snapshot_lacks_is_fetched(here: Parts) -> None:
    cached(here, {path: data for path, data in FILES.items() if path != WEIGHTS})
    folder = install_model(here.installer, here.model)
    assert asked(here) == [WEIGHTS]
    assert links_below(folder) == sorted(FILES.keys() - {WEIGHTS})
    assert intact_manifest(folder) == scan(folder)


@pytest.mark.parametrize("path", [WEIGHTS, UNKNOWN])
def test_a_flipped_bit_in_a_blob_is_told_and_that_file_alone_fetched(
    here: Parts, path: str
) -> None:
    home = cached(here)
    flip(blob_of(home, path))
    before = blob_of(home, path).read_bytes()
    folder = install_model(here.installer, here.model)
    assert asked(here) == [path]
    assert (folder / path).read_bytes() == FILES[path]
    assert not (folder / path).is_symlink()
    assert blob_of(home, path).read_bytes() == before  # the platform's own
    assert (
        f"small: the platform's cached {path!r} is not used: its content is not what it should be"
        in here.said
    )


def test_a_half_written_blob_is_not_taken(here: Parts) -> None:
    home = cached(here)
    blob = blob_of(home, WEIGHTS)
    blob.write_bytes(FILES[WEIGHTS][:100])
    blob.rename(blob.with_name(f"{blob.name}.incomplete"))
    place = home / "snapshots" / REVISION / WEIGHTS
    install_model(here.installer, here.model)
    assert asked(here) == [WEIGHTS]
    assert f"small: the platform's cached {WEIGHTS!r} is not used: it is not there" in here.said
    assert place.is_symlink()


def test_a_file_that_nothing_vouches_for_is_fetched(here: Parts) -> None:
    """Its sha256 is not pinned, and without a blob's name nobody says what it should be."""
    cached(here, plain=FILES)
    folder = install_model(here.installer, here.model)
    assert asked(here) == [UNKNOWN]
    assert links_below(folder) == sorted(FILES.keys() - {UNKNOWN})


def test_a_blobs_name_vouches_for_large_files_as_for_small_ones(here: Parts) -> None:
    """As those of an alignment model of which nothing is pinned but the revision."""
    here.change_pins(files=[{"path": path, "size": None, "sha256": None} for path in FILES])
    home = cached(here)
    flip(blob_of(home, "config.json"))
    folder = install_model(here.installer, here.model)
    assert asked(here) == ["config.json"]
    assert links_below(folder) == sorted(FILES.keys() - {"config.json"})
    flip(blob_of(home, WEIGHTS))
    assert verify("small", folder, here.model.files).damaged == (WEIGHTS,)


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    return Snapshot(cache_model(tmp_path / "hub", REPOSITORY, FILES), REVISION)


def entry(path: str, size: int | None = None, sha256: str | None = None) -> FileEntry:
    return FileEntry(path, size, sha256)


def test_what_leads_out_of_the_models_folder_is_refused(snapshot: Snapshot, tmp_path: Path) -> None:
    secret = tmp_path / git_blob(b"secret")
    secret.write_bytes(b"secret")
    place = snapshot.folder / "config.json"
    place.unlink()
    place.symlink_to(secret)
    wanted = "it leads out of the cached model's folder"
    assert check_cached(snapshot, entry("config.json")) == wanted
    assert check_cached(snapshot, entry(f"../../../../{secret.name}")) == wanted
    place.unlink()
    place.symlink_to(place.name)
    assert check_cached(snapshot, entry("config.json")) == "its links lead in a circle"
    assert check_cached(snapshot, entry("LLM")) == "it is no file"
    assert check_cached(snapshot, entry("nothing")) == "it is not there"
    assert check_cached(snapshot, entry(UNKNOWN, size=7)) == "it has 8 bytes, not 7"


def test_a_blob_of_another_name_vouches_for_nothing(snapshot: Snapshot) -> None:
    for name in ("x" * 40, "0" * 41, f"{'0' * 40}.incomplete"):
        place = snapshot.folder / "config.json"
        place.unlink()
        place.symlink_to(snapshot.home / "blobs" / name)
        (snapshot.home / "blobs" / name).write_bytes(FILES["config.json"])
        assert "nothing vouches for it" in check_cached(snapshot, entry("config.json"))


# Other revisions, and no cache.


def test_another_revision_is_refused_in_words_and_the_pinned_one_fetched(here: Parts) -> None:
    here.change_pins(aligners={"en": "ear"})
    cached(here, revision=OTHER)
    folder = install_model(here.installer, here.model)
    assert sorted(asked(here)) == sorted(FILES)
    assert links_below(folder) == []
    assert not has_marks(folder)
    assert here.said[0] == (
        f"small: the platform has cached {REPOSITORY} at {OTHER}, which is not used: the revision "
        f"of this worker is {REVISION}. To speak with what is cached, set "
        f"SPARK_MODEL={REPOSITORY}@REVISION; its files are then recorded by their hashes, as those "
        "of a model of your own"
    )


def test_beside_the_pinned_revision_others_are_not_spoken_of(here: Parts) -> None:
    cached(here, revision=OTHER)
    cached(here)
    install_model(here.installer, here.model)
    assert asked(here) == []
    assert not any(OTHER in line for line in here.said)


def test_other_folders_of_a_cache_are_no_snapshots(tmp_path: Path) -> None:
    layout, said = Layout(tmp_path), []
    home = cache_model(layout.cached_models, REPOSITORY, FILES)
    (home / "snapshots" / "main").mkdir()
    (home / "snapshots" / f"{OTHER}.tmp").mkdir()
    assert snapshots_of(layout, REPOSITORY, said.append) == (Snapshot(home, REVISION),)
    assert snapshots_of(layout, "some/one", said.append) == ()
    (layout.cached_models / "models--some--one").touch()
    assert snapshots_of(layout, "some/one", said.append) == ()
    assert said == []


def test_a_cache_that_cannot_be_read_is_told_and_the_model_fetched(here: Parts) -> None:
    place = here.layout.cached_models
    place.parent.mkdir()
    place.symlink_to(place)  # too many levels: an error that root gets as well
    install_model(here.installer, here.model)
    assert sorted(asked(here)) == sorted(FILES)
    assert here.said[0].startswith(f"{REPOSITORY}: {place}")
    assert here.said[0].endswith("cannot be read (Too many levels of symbolic links): not used")


def test_what_an_interrupted_install_had_linked_is_looked_at_again(here: Parts) -> None:
    home = cached(here, {path: data for path, data in FILES.items() if path != WEIGHTS})
    here.programs.instead = lambda name, command: Outcome(1, "no network")
    with pytest.raises(DownloadError):
        install_model(here.installer, here.model)
    flip(blob_of(home, UNKNOWN))
    here.programs.instead = lambda name, command: None
    here.programs.ran.clear()
    folder = install_model(here.installer, here.model)
    assert asked(here) == [WEIGHTS, UNKNOWN]
    assert {path: (folder / path).read_bytes() for path in FILES} == FILES


# Later starts.


@pytest.fixture
def home(here: Parts) -> Path:
    """The cache of a model that has been installed from it."""
    home = cached(here)
    install_model(here.installer, here.model)
    here.said.clear()
    return home


def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are hashed from now on."""
    seen: list[str] = []
    real = cached_models.damaged_files

    def watched(folder: Path, files: list[FileEntry]) -> list[str]:
        seen.extend(file.path for file in files)
        return real(folder, files)

    monkeypatch.setattr(cached_models, "damaged_files", watched)
    return seen


def test_what_is_as_it_was_is_not_hashed_again(
    here: Parts, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = hashed(monkeypatch)
    install_model(here.installer, here.model)
    assert (seen, here.said) == ([], ["small: licence Apache-2.0"])


def test_a_copy_of_another_machine_is_hashed_once(
    here: Parts, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = hashed(monkeypatch)
    before = blob_of(home, WEIGHTS).stat()
    times = [(1, 1), (before.st_atime_ns, before.st_mtime_ns), (1, 1)]
    for ns in times:
        os.utime(blob_of(home, WEIGHTS), ns=ns)
        install_model(here.installer, here.model)
    assert sorted(seen) == sorted(FILES)
    assert asked(here) == []
    assert len(list((here.model_folder / IN_PLACE).iterdir())) == 2


@pytest.mark.parametrize("path", [WEIGHTS, UNKNOWN])
@pytest.mark.parametrize("change", [flip, Path.unlink])
def test_what_is_gone_or_another_is_told_and_downloaded(
    here: Parts, home: Path, path: str, change: Callable[[Path], None]
) -> None:
    change(blob_of(home, path))
    install_model(here.installer, here.model)
    assert asked(here) == [path]
    assert f"small: the platform's cached files are gone or others: {path}" in here.said
    assert (here.model_folder / path).read_bytes() == FILES[path]
    assert links_below(here.model_folder) == sorted(FILES.keys() - {path})
    assert verify("small", here.model_folder, here.model.files).damaged == ()
    here.said.clear()
    install_model(here.installer, here.model)
    assert here.said == ["small: licence Apache-2.0"]


def test_when_all_of_it_has_gone_an_ordinary_model_is_left(here: Parts, home: Path) -> None:
    home.rename(home.with_name("elsewhere"))
    install_model(here.installer, here.model)
    assert sorted(asked(here)) == sorted(FILES)
    assert links_below(here.model_folder) == []
    assert not has_marks(here.model_folder)
    assert verify("small", here.model_folder, here.model.files).damaged == ()


def test_what_cannot_be_had_again_either_ends_the_start_in_words(here: Parts, home: Path) -> None:
    blob_of(home, WEIGHTS).unlink()
    here.programs.instead = lambda name, command: Outcome(1, "no network")
    with pytest.raises(DownloadError, match=r"LLM/model\.safetensors could not be had .*"):
        install_model(here.installer, here.model)


def test_of_two_workers_one_downloads(
    here: Parts, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second has seen the damage before the first had mended it."""
    blob_of(home, WEIGHTS).unlink()
    mend = cached_models.mend

    def first_another(*given: object, **named: object) -> None:
        monkeypatch.setattr(cached_models, "mend", mend)
        install_model(here.installer, here.model)
        mend(*given, **named)

    monkeypatch.setattr(cached_models, "mend", first_another)
    install_model(here.installer, here.model)
    assert asked(here) == [WEIGHTS]


def test_on_a_volume_that_cannot_be_written_it_is_hashed_and_served(
    here: Parts, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.utime(blob_of(home, WEIGHTS), ns=(1, 1))

    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(cached_models, "mark", refused)
    install_model(here.installer, here.model)
    assert "small: this cannot be noted on the volume: Read-only file system" in here.said
    monkeypatch.setattr("volume.mend.acquire", refused)
    blob_of(home, WEIGHTS).unlink()
    with pytest.raises(NotWritableError, match="cannot be written"):
        install_model(here.installer, here.model)


# verify, status.


def test_verify_names_it_and_a_repair_puts_a_file_in_its_place(here: Parts, home: Path) -> None:
    flip(blob_of(home, WEIGHTS))
    finding = verify("small", here.model_folder, here.model.files)
    assert finding.damaged == (WEIGHTS,)
    bad = blob_of(home, WEIGHTS).read_bytes()
    repair_model(here.installer, here.model, finding)
    assert asked(here) == [WEIGHTS]
    assert not (here.model_folder / WEIGHTS).is_symlink()
    assert blob_of(home, WEIGHTS).read_bytes() == bad
    assert verify("small", here.model_folder, here.model.files).damaged == ()


def test_a_repair_looks_into_the_cache_first_and_copies_nothing(here: Parts) -> None:
    install_model(here.installer, here.model)
    home = cached(here)
    flip(here.model_folder / WEIGHTS)
    here.programs.ran.clear()
    repair_model(here.installer, here.model, verify("small", here.model_folder, here.model.files))
    assert asked(here) == []
    assert (here.model_folder / WEIGHTS).resolve() == blob_of(home, WEIGHTS)
    assert not (here.model_folder / WEIGHTS).readlink().is_absolute()


def test_status_says_how_much_lies_elsewhere(here: Parts, home: Path) -> None:
    model = survey(here.layout, here.installer.pins)[1]
    assert model.in_place == model.bytes == sum(map(len, FILES.values()))
    assert "20.5 kB of it in the platform's cache, licence Apache-2.0" in table([model])
    blob_of(home, WEIGHTS).unlink()
    (here.model_folder / WEIGHTS).unlink()
    (here.model_folder / WEIGHTS).write_bytes(FILES[WEIGHTS])
    model = survey(here.layout, here.installer.pins)[1]
    assert model.in_place == model.bytes - len(FILES[WEIGHTS])
