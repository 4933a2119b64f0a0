"""The environment: by hash, with room for it, checked on the disk, tried again with patience."""

from __future__ import annotations

import json
import os
import sys
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest

from tests.support.index_server import Wheel, make_wheel
from tests.support.volume_parts import (
    Parts,
    held,
    parts,
    take_over_the_lease,
    with_free_bytes,
    without_pauses,
)
from volume.environment import (
    can_link,
    check_records,
    install_environment,
    install_wheels,
    recorded,
)
from volume.errors import (
    DamagedError,
    DownloadError,
    FullError,
    LeaseLostError,
    PinError,
    VolumeError,
)
from volume.manifest import MANIFEST, TWIN, FileEntry, read_manifest
from volume.process import Outcome

REFUSED = Outcome(2, "error: Failed to fetch\n  503 Service Unavailable")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Parts:
    return parts(tmp_path, monkeypatch)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    return without_pauses(monkeypatch, "environment")


def install(here: Parts) -> Path:
    return install_environment(here.installer, here.environment)


def with_installer(here: Parts, **values: object) -> Parts:
    return Parts(type(here.installer)(**vars(here.installer) | values), here.said, here.programs)


def files_of(wheels: list[Wheel]) -> set[str]:
    return {name for wheel in wheels for name in zipfile.ZipFile(BytesIO(wheel.data)).namelist()}


def test_the_published_folder_holds_the_wheels_and_two_manifests(here: Parts) -> None:
    folder = install(here)
    assert folder == here.environment_folder
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    inside = {f"site-packages/{name}" for name in files_of(here.programs.wheels)}
    assert found == {MANIFEST, TWIN} | inside
    assert {file.path for file in read_manifest(folder) or ()} == inside
    assert list(here.layout.cache.iterdir()) == []


def test_what_is_installed_is_not_installed_again(here: Parts) -> None:
    install(here)
    install(here)
    assert here.programs.names == ["uv"]


def test_an_environment_that_the_image_lost_is_told_and_not_installed_into_it(
    here: Parts, tmp_path: Path
) -> None:
    image = tmp_path / "image"
    with pytest.raises(DamagedError, match=f"the image's environment is not at {image}: pull"):
        install(with_installer(here, in_image=image))
    assert here.programs.ran == []
    (image / "site-packages").mkdir(parents=True)
    assert install(with_installer(here, in_image=image)) == image
    assert here.programs.ran == []
    assert not here.layout.cache.exists()


def test_another_python_is_refused_with_both_versions(here: Parts) -> None:
    file = here.installer.pins / "environment.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"python": "3.10"}))
    running = f"{sys.version_info.major}.{sys.version_info.minor}"
    with pytest.raises(PinError, match=rf"pinned for Python 3\.10; this is {running}"):
        install(here)
    assert here.programs.ran == []


def test_a_missing_uv_is_told(here: Parts) -> None:
    with pytest.raises(VolumeError, match="uv, which is missing: put it on PATH"):
        install(with_installer(here, uv="no-such-uv"))
    assert here.programs.ran == []


def test_uv_may_take_nothing_but_the_locked_wheels(here: Parts) -> None:
    lines = []

    def read(name: str, command: list[str]) -> None:
        lines.extend(Path(command[command.index("-r") + 1]).read_text().splitlines())

    here.programs.after = read
    install(here)
    ((_, command),) = here.programs.ran
    assert {"--require-hashes", "--no-deps", "--no-build"} <= set(command)
    assert {"--compile-bytecode", "--no-color"} <= set(command)
    assert not {"--no-index", "--find-links"} & set(command)
    assert command[command.index("--python") + 1] == sys.executable
    assert lines == [
        f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}"
        for wheel in here.environment.wheels
    ]


def test_from_a_wheelhouse_uv_may_ask_no_index_and_no_url(here: Parts, tmp_path: Path) -> None:
    file = here.installer.pins / "environment.json"
    content = json.loads(file.read_text())
    content["wheels"][0]["url"] = "https://example.test/part.whl"
    file.write_text(json.dumps(content))
    lines = []

    def read(name: str, command: list[str]) -> None:
        lines.extend(Path(command[command.index("-r") + 1]).read_text().splitlines())

    here.programs.after = read
    install(with_installer(here, wheelhouse=tmp_path / "house"))
    ((_, command),) = here.programs.ran
    where = command.index("--find-links")
    assert command[where - 1 : where + 2] == ["--no-index", "--find-links", str(tmp_path / "house")]
    assert not any("example.test" in line for line in lines)


def test_uv_compiles_without_times_and_fetches_eight_at_once_unless_told(
    here: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UV_CONCURRENT_DOWNLOADS", raising=False)
    install(here)
    monkeypatch.setenv("UV_CONCURRENT_DOWNLOADS", "3")
    monkeypatch.setenv("UV_LINK_MODE", "symlink")
    with held(here.layout.leases / "x") as lease:
        install_wheels(here.installer, (), here.layout.root / "t", here.layout.root / "c", lease)
    first, second = here.programs.environments
    assert first["PYC_INVALIDATION_MODE"] == "UNCHECKED_HASH"
    assert first["UV_PYTHON_DOWNLOADS"] == "never"
    assert first["UV_SKIP_WHEEL_FILENAME_CHECK"] == "1"
    assert first["UV_CONCURRENT_DOWNLOADS"] == "8"
    assert second["UV_CONCURRENT_DOWNLOADS"] == "3"
    assert second["UV_NO_CONFIG"] == "1"
    assert "UV_LINK_MODE" not in second


# Room.


@pytest.mark.parametrize("copies", [1, 2])
def test_room_for_the_wheels_and_what_is_made_of_them_or_twice_that_without_links(
    here: Parts, monkeypatch: pytest.MonkeyPatch, copies: int
) -> None:
    if copies == 2:
        monkeypatch.setattr("volume.environment.can_link", lambda folder: False)
    needed = int(here.environment.size * 1.15) * copies
    listed = sum(
        len(f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}\n")
        for wheel in here.environment.wheels
    )  # the list of wheels lies there by then, and what is there counts
    with_free_bytes(monkeypatch, needed - listed - 1)
    with pytest.raises(FullError, match=r"the environment does not fit .* 1 bytes"):
        install(here)
    assert here.programs.ran == []
    with_free_bytes(monkeypatch, needed - listed)
    install(here)


def test_what_an_interrupted_install_has_left_counts(
    here: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = here.layout.cache / f"environment-{here.environment.digest}" / "00000000" / "uv"
    cache.mkdir(parents=True)
    (cache / "wheel").write_bytes(bytes(1000))
    with_free_bytes(monkeypatch, int(here.environment.size * 1.15) - 1000)
    install(here)


def test_whether_files_can_have_two_names_is_tried_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert can_link(tmp_path)
    assert list(tmp_path.iterdir()) == []

    def refuse(source: Path, target: Path) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "link", refuse)
    assert not can_link(tmp_path)
    assert list(tmp_path.iterdir()) == []


def failing(here: Parts, times: int, outcome: Outcome = REFUSED) -> None:
    here.programs.instead = lambda *_: outcome if len(here.programs.ran) <= times else None


def test_a_volume_that_is_full_after_a_failure_is_told_at_once(
    here: Parts, monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    failing(here, 9)
    with_free_bytes(monkeypatch, 10**9, 0)
    with pytest.raises(FullError, match="are missing"):
        install(here)
    assert len(here.programs.ran) == 1
    assert pauses == []


def test_a_full_volume_that_tells_no_free_space_is_tried_again(
    here: Parts, pauses: list[float]
) -> None:
    """Another program's files may be gone by then."""
    failing(here, 1, Outcome(2, "No space left on device (os error 28)"))
    install(here)
    assert len(here.programs.ran) == 2


# Failures.


def test_after_each_failure_it_waits_twice_as_long_and_says_why(
    here: Parts, pauses: list[float]
) -> None:
    failing(here, 2)
    install(here)
    assert pauses == [1.0, 2.0]
    assert here.said == [
        f"environment: attempt {number} failed:\n{REFUSED.output}" for number in (1, 2)
    ]


def test_after_the_last_attempt_the_error_holds_uvs_reason(
    here: Parts, pauses: list[float]
) -> None:
    failing(here, 9)
    with pytest.raises(DownloadError, match=r"after 3 attempts; uv says:\nerror: Failed"):
        install(here)
    assert len(here.programs.ran) == 3
    assert pauses == [1.0, 2.0]
    assert not here.environment_folder.exists()


def test_where_nothing_was_tried_the_error_says_so(here: Parts) -> None:
    with pytest.raises(DownloadError, match=r"after 0 attempts; uv says:\nnothing was tried"):
        install(with_installer(here, attempts=0))
    assert here.programs.ran == []


def test_a_uv_that_was_killed_has_not_installed(here: Parts, pauses: list[float]) -> None:
    failing(here, 1, Outcome(-9, ""))
    install(here)
    assert len(here.programs.ran) == 2


def test_each_attempt_begins_with_an_empty_folder(here: Parts, pauses: list[float]) -> None:
    def half(name: str, command: list[str]) -> Outcome | None:
        target = Path(command[command.index("--target") + 1])
        if len(here.programs.ran) > 1:
            return None
        target.mkdir(parents=True)
        (target / "ruin.py").touch()
        return REFUSED

    here.programs.instead = half
    assert not (install(here) / "site-packages" / "ruin.py").exists()


def test_what_a_killed_install_had_unpacked_is_not_published(here: Parts) -> None:
    left = here.layout.cache / f"environment-{here.environment.digest}" / "00000000"
    (left / "environment" / "site-packages").mkdir(parents=True)
    (left / "environment" / "ruin").touch()
    assert not (install(here) / "ruin").exists()


def test_a_lost_lease_ends_the_install(here: Parts, tmp_path: Path) -> None:
    leases = here.layout.leases / "x"
    with held(leases) as lease:
        take_over_the_lease(leases)
        with pytest.raises(LeaseLostError):
            install_wheels(
                here.installer,
                here.environment.wheels,
                tmp_path / "target",
                tmp_path / "cache",
                lease,
            )
    assert here.said == []


# What is checked before anything is published.


@pytest.mark.parametrize("folder", ["", "pkg/"])
def test_a_wheel_may_have_files_that_are_called_as_the_manifests_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    names = (f"{folder}{MANIFEST}", f"{folder}{TWIN}", f"{folder}code.py")
    wheel = make_wheel("fast", "2.0", dict.fromkeys(names, b"{}"))
    here = parts(tmp_path, monkeypatch, [wheel])
    listed = {file.path for file in read_manifest(install(here)) or ()}
    assert {f"site-packages/{name}" for name in names} <= listed


def changing(here: Parts, act: Callable[[Path], object]) -> None:
    here.programs.after = lambda name, command: act(Path(command[command.index("--target") + 1]))


def test_a_byte_that_changes_after_uv_wrote_it_is_found_by_its_record(here: Parts) -> None:
    changing(here, lambda site: (site / "part_1" / "data.bin").write_bytes(b"?" * 300))
    with pytest.raises(DamagedError, match=r"part_1/data\.bin is not what part_1-1\.0\.dist-info"):
        install(here)
    assert not here.environment_folder.exists()


def test_a_file_that_is_gone_after_uv_wrote_it_is_found_by_its_record(here: Parts) -> None:
    changing(here, lambda site: (site / "fast.py").unlink())
    with pytest.raises(DamagedError, match=r"fast\.py is not what"):
        install(here)


def test_what_a_record_gives_no_hash_for_is_not_asked_for(tmp_path: Path) -> None:
    site = tmp_path / "site-packages"
    (site / "it-1.dist-info").mkdir(parents=True)
    (site / "it-1.dist-info" / "RECORD").write_text("it.py,,3\nit.pyc,,\n")
    check_records(site, [FileEntry("site-packages/it.py", 3, "0" * 64)])


def test_a_record_gives_each_sha256_in_hexadecimal(tmp_path: Path) -> None:
    """The hash is that of the bytes "one", as sha256sum and base64 write it."""
    base64 = "dpLDrTVAu4A8Ags67mbNiIcSMjTqDG5xQ8Ct1z_0Me0"
    sha256 = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"
    record = tmp_path / "RECORD"
    record.write_text(f'a.py,sha256={base64},3\n"b,c.py",md5=abc,1\nRECORD,,\nshort\n')
    assert recorded(record) == {"a.py": sha256, "b,c.py": "", "RECORD": ""}


def test_a_wheel_for_another_abi_is_not_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = make_wheel("fast", "2.0", {"fast.py": b""}, local="+cxx11abiFALSE")
    here = parts(tmp_path, monkeypatch, [wheel])
    with pytest.raises(PinError, match="cxx11abiTRUE"):
        install(here)
    assert here.programs.names == ["uv", "torch"]
    assert not here.environment_folder.exists()
