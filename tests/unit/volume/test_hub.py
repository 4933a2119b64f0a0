"""Fetching from the hub: what is right stays, what is wrong goes first, and every bound is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.hub_server import REVISION, git_blob
from tests.support.volume_parts import (
    FILES,
    UNKNOWN,
    Parts,
    held,
    parts,
    take_over_the_lease,
    with_free_bytes,
    without_pauses,
)
from tests.support.volume_world import REPOSITORY
from volume import hub
from volume.errors import DownloadError, FullError, LeaseLostError
from volume.hub import METADATA, fetch_files, wrong_files
from volume.manifest import FileEntry
from volume.process import Outcome

REFUSED = Outcome(1, "Traceback\n503 Server Error: try again")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Parts:
    return parts(tmp_path, monkeypatch)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    return without_pauses(monkeypatch, "hub")


def fetch(here: Parts, folder: Path, files: tuple[FileEntry, ...] | None = None) -> None:
    with held(here.layout.leases / "small") as lease:
        fetch_files(here.installer, here.model, files or here.model.files, folder, lease)


def asked(command: list[str]) -> list[str]:
    first = command.index("download")
    return command[first + 2 : command.index("--revision")]


def test_every_locked_file_is_fetched_at_the_locked_revision(here: Parts, folder: Path) -> None:
    fetch(here, folder)
    assert {path: (folder / path).read_bytes() for path in FILES} == FILES
    ((_, command),) = here.programs.ran
    assert asked(command) == sorted(FILES)
    assert command[command.index("download") + 1] == REPOSITORY
    assert command[command.index("--revision") + 1] == REVISION
    assert command[command.index("--local-dir") + 1] == str(folder)
    assert here.said == []


def test_the_client_keeps_its_notes_beside_the_files_and_goes_on_within_a_file(
    here: Parts, folder: Path
) -> None:
    fetch(here, folder)
    (variables,) = here.programs.environments
    assert variables["HF_HOME"] == str(folder / ".cache" / "home")
    assert variables["HF_HUB_DISABLE_XET"] == "1"
    assert variables["HF_HUB_DISABLE_TELEMETRY"] == "1"
    assert variables["HF_HUB_DISABLE_PROGRESS_BARS"] == "1"


def test_the_client_hears_the_operators_hub_and_token_and_no_switch(
    here: Parts, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.test/")
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    for name in ("HF_HUB_OFFLINE", "HF_HUB_ENABLE_HF_TRANSFER", "PYTHONOPTIMIZE", "HF_DEBUG"):
        monkeypatch.setenv(name, "1")
    fetch(here, folder)
    (variables,) = here.programs.environments
    assert variables["HF_ENDPOINT"] == "https://mirror.test"
    assert variables["HF_TOKEN"] == "hf_x"
    assert not {"HF_HUB_OFFLINE", "HF_HUB_ENABLE_HF_TRANSFER", "PYTHONOPTIMIZE", "HF_DEBUG"} & set(
        variables
    )


def test_a_token_that_the_hub_does_not_know_is_left_out_of_the_next_attempt(
    here: Parts, folder: Path, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_expired")
    refused = Outcome(1, "requests.exceptions.HTTPError: 401 Client Error: Unauthorized for url")
    here.programs.instead = lambda *_: refused if len(here.programs.ran) < 2 else None
    fetch(here, folder)
    first, second = here.programs.environments
    assert first["HF_TOKEN"] == "hf_expired"
    assert "HF_TOKEN" not in second
    assert here.said[0] == "small: the hub does not know the token; asked without it"


def test_what_is_there_and_right_is_not_fetched_again(here: Parts, folder: Path) -> None:
    fetch(here, folder)
    (folder / "config.json").unlink()
    fetch(here, folder)
    assert [asked(command) for _, command in here.programs.ran[1:]] == [["config.json"]]
    fetch(here, folder)
    assert len(here.programs.ran) == 2


@pytest.mark.parametrize("path", ["LLM/model.safetensors", UNKNOWN])
def test_a_wrong_file_goes_before_the_client_can_take_it_for_its_own(
    here: Parts, folder: Path, path: str
) -> None:
    fetch(here, folder)
    (folder / path).write_bytes(FILES[path][:-1] + b"?")
    fetch(here, folder)
    assert (folder / path).read_bytes() == FILES[path]
    assert [asked(command) for _, command in here.programs.ran[1:]] == [[path]]


def test_half_a_download_stays_for_the_client_to_go_on_with(here: Parts, folder: Path) -> None:
    half = folder / METADATA / "abc.incomplete"
    half.parent.mkdir(parents=True)
    half.write_bytes(b"half")
    fetch(here, folder)
    assert half.read_bytes() == b"half"


def test_after_each_failure_it_waits_twice_as_long_and_says_why(
    here: Parts, folder: Path, pauses: list[float]
) -> None:
    here.programs.instead = lambda *_: REFUSED if len(here.programs.ran) < 3 else None
    fetch(here, folder)
    assert len(here.programs.ran) == 3
    assert pauses == [1.0, 2.0]
    assert here.said == [
        f"small: attempt {number} failed: Traceback\n503 Server Error: try again"
        for number in (1, 2)
    ]


def test_after_the_last_attempt_the_error_names_all_that_one_must_know(
    here: Parts, folder: Path, pauses: list[float]
) -> None:
    here.programs.instead = lambda *_: REFUSED
    with pytest.raises(DownloadError) as failed:
        fetch(here, folder)
    assert len(here.programs.ran) == 3
    assert pauses == [1.0, 2.0]
    text = str(failed.value)
    assert all(path in text for path in FILES)
    assert f"{REPOSITORY} at {REVISION} in 3 attempts" in text
    assert text.endswith("503 Server Error: try again")


def test_a_client_that_says_all_is_well_is_not_believed(
    here: Parts, folder: Path, pauses: list[float]
) -> None:
    here.programs.files["LLM/model.safetensors"] = b"other bytes"
    with pytest.raises(DownloadError, match=r"small: LLM/model\.safetensors could not be had"):
        fetch(here, folder)


def test_a_file_without_a_locked_hash_needs_the_hubs_word(here: Parts, folder: Path) -> None:
    lock = here.model
    fetch(here, folder)
    assert wrong_files(folder, lock.files, REVISION) == []
    note = folder / METADATA / f"{UNKNOWN}.metadata"
    note.write_text(f"{REVISION}\n{git_blob(b'other')}\n")
    assert wrong_files(folder, lock.files, REVISION) == [UNKNOWN]
    note.write_text(f"{REVISION}\n")
    assert wrong_files(folder, lock.files, REVISION) == [UNKNOWN]
    note.unlink()
    assert wrong_files(folder, lock.files, REVISION) == [UNKNOWN]


def test_room_is_asked_for_before_anything_is_fetched(
    here: Parts, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_free_bytes(monkeypatch, here.model.size - 1)
    with pytest.raises(FullError, match=r"small does not fit .* 1 bytes .* are missing"):
        fetch(here, folder)
    assert here.programs.ran == []
    with_free_bytes(monkeypatch, here.model.size)
    fetch(here, folder)


def test_what_is_there_already_needs_no_room(
    here: Parts, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "LLM").mkdir()
    (folder / "LLM" / "model.safetensors").write_bytes(FILES["LLM/model.safetensors"])
    with_free_bytes(monkeypatch, here.model.size - len(FILES["LLM/model.safetensors"]))
    fetch(here, folder)


def test_a_few_files_need_room_for_themselves_alone(
    here: Parts, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = tuple(file for file in here.model.files if file.path in {"config.json", UNKNOWN})
    with_free_bytes(monkeypatch, len(FILES["config.json"]) - 1)
    with pytest.raises(FullError):
        fetch(here, folder, small)
    with_free_bytes(monkeypatch, len(FILES["config.json"]))
    fetch(here, folder, small)
    assert [asked(command) for _, command in here.programs.ran] == [[UNKNOWN, "config.json"]]


def test_a_lost_lease_ends_the_download(here: Parts, folder: Path) -> None:
    leases = here.layout.leases / "small"
    with held(leases) as lease:
        take_over_the_lease(leases)
        with pytest.raises(LeaseLostError):
            fetch_files(here.installer, here.model, here.model.files, folder, lease)


def test_progress_counts_what_was_there_before(
    here: Parts, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = []

    class Heard:
        def __init__(self, label: str, total: int) -> None:
            shown.append((label, total))

        def show(self, done: int) -> None:
            shown.append(("show", done))

        def end(self) -> None:
            shown.append(("end", 0))

    monkeypatch.setattr(hub, "Progress", Heard)
    (folder / "config.json").write_bytes(FILES["config.json"])
    fetch(here, folder)
    size = here.model.size
    assert shown == [("small: downloading", size), ("show", 8 + 7), ("end", 0)]
    shown.clear()
    fetch(here, folder)
    assert shown == [("small: downloading", size), ("end", 0)]
