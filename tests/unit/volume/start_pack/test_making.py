"""The pack on the volume: made once, never waited for by a start, and told where it fails."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import _cffi_backend
import pytest

from tests.support.packed_site import EXTENSION, MODULES, recording_of
from tests.support.volume_parts import Parts, claim_of, elsewhere, held, parts
from volume import __main__ as cli
from volume import run as running
from volume.cleanup import collect
from volume.errors import PreparationError
from volume.lease import Timing
from volume.process import Outcome
from volume.start_pack import making
from volume.start_pack.key import pack_key
from volume.start_pack.making import failure_of, install_pack, offer_pack, pack_folder, resource_of
from volume.start_pack.pack import NAME, read_index
from volume.start_pack.runtime import PACK, SITE
from volume.verify import repair_pack, verify


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Parts:
    """An installed environment, and a rehearsal that is none but records one of it."""
    made = parts(tmp_path, monkeypatch)
    site = made.layout.site_packages(made.environment.digest)
    for path, text in MODULES.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_text(text)
    object.__setattr__(made.installer, "rehearsal", "worker.serve.rehearsal")
    ran: list[list[str]] = []

    def rehearse(command: list[str], *, environment: dict, watch: Callable[[int], None]) -> Outcome:
        ran.append(command)
        watch(0)
        shutil.copyfile(_cffi_backend.__file__, site / EXTENSION)
        recording_of(site).write(Path(command[3]))
        return Outcome(0, "")

    monkeypatch.setattr(making, "run_child", rehearse)
    monkeypatch.setattr(making, "RAN", ran, raising=False)
    return made


def rehearsals() -> list[list[str]]:
    return making.RAN  # type: ignore[attr-defined]


def failing(monkeypatch: pytest.MonkeyPatch, reason: str = "no GPU") -> None:
    monkeypatch.setattr(making, "run_child", lambda *_, **__: Outcome(1, reason))


def test_a_pack_is_made_once(here: Parts) -> None:
    made = install_pack(here.installer, here.environment)
    assert made == here.layout.starts / pack_key(here.environment.digest)
    assert read_index(made / NAME).key == made.name
    assert verify("start pack", made).damaged == ()
    assert install_pack(here.installer, here.environment) == made
    assert offer_pack(here.installer, here.environment) == made
    (command,) = rehearsals()
    assert command[1:3] == ["-m", "volume.start_pack.recording"]
    assert command[4:] == ["worker.serve.rehearsal"]


def test_a_start_makes_what_nobody_makes(here: Parts) -> None:
    made = offer_pack(here.installer, here.environment)
    assert made is not None
    assert (made / NAME).is_file()


def test_a_start_does_not_wait_for_who_makes_it(here: Parts) -> None:
    resource = resource_of(pack_folder(here.installer, here.environment))
    with held(here.layout.leases / resource):
        assert offer_pack(here.installer, here.environment) is None
    assert "another worker makes it" in here.said[-1]
    assert rehearsals() == []


def test_who_has_been_silent_for_long_is_not_waited_for(here: Parts) -> None:
    object.__setattr__(here.installer, "timing", Timing(takeover=30.0, poll=0.01))
    leases = here.layout.leases / resource_of(pack_folder(here.installer, here.environment))
    claim_of(leases, 1, elsewhere())
    assert offer_pack(here.installer, here.environment) is None
    os.utime(leases / "00000001.heartbeat", (1, 1))
    assert offer_pack(here.installer, here.environment) is not None
    assert max(path.name for path in leases.glob("*.claim")) == "00000002.claim"
    assert not list(leases.glob("*.look"))


def test_a_rehearsal_that_fails_is_told_and_not_tried_at_each_start(
    here: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch)
    final = pack_folder(here.installer, here.environment)
    assert offer_pack(here.installer, here.environment) is None
    assert "this worker starts without" in here.said[-1]
    assert "no GPU" in here.said[-1]
    assert "no GPU" in failure_of(final).read_text()
    assert not final.exists()
    said = len(here.said)
    assert offer_pack(here.installer, here.environment) is None
    assert len(here.said) == said


def test_an_install_tries_again(here: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    final = pack_folder(here.installer, here.environment)
    with monkeypatch.context() as patched:
        failing(patched)
        with pytest.raises(PreparationError, match="no GPU"):
            install_pack(here.installer, here.environment)
    install_pack(here.installer, here.environment)
    assert not failure_of(final).exists()


def test_a_rehearsal_has_its_time(here: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(making, "SECONDS", -1.0)
    with pytest.raises(PreparationError, match="took longer than"):
        install_pack(here.installer, here.environment)


def test_where_the_environment_is_in_the_image_there_is_none(here: Parts, tmp_path: Path) -> None:
    object.__setattr__(here.installer, "in_image", tmp_path)
    assert offer_pack(here.installer, here.environment) is None
    assert rehearsals() == []


def test_without_an_environment_or_a_rehearsal_there_is_none(here: Parts) -> None:
    object.__setattr__(here.installer, "rehearsal", None)
    assert offer_pack(here.installer, here.environment) is None
    object.__setattr__(here.installer, "rehearsal", "it")
    here.environment_folder.rename(here.environment_folder.with_name("other"))
    assert offer_pack(here.installer, here.environment) is None
    assert rehearsals() == []


def test_the_worker_gets_the_place_of_its_pack(
    here: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    became: list[dict[str, str]] = []
    monkeypatch.setattr(running, "keep_announcing", lambda *_: None)
    monkeypatch.setattr(running, "install_environment", lambda *_: None)
    monkeypatch.setattr(running, "install_model", lambda *_: None)
    monkeypatch.setattr(os, "execve", lambda _p, _c, variables: became.append(variables))
    running.run(here.installer, here.environment, [here.model], module="it", arguments=[])
    (variables,) = became
    final = pack_folder(here.installer, here.environment)
    assert variables[PACK] == str(final)
    assert variables[SITE] == str(here.layout.site_packages(here.environment.digest))
    assert (here.layout.uses / final.name).is_dir()


def test_a_damaged_pack_is_named_and_made_again(here: Parts) -> None:
    made = install_pack(here.installer, here.environment)
    data = bytearray((made / NAME).read_bytes())
    data[-1] ^= 1
    (made / NAME).write_bytes(data)
    finding = verify("start pack", made)
    assert finding.damaged == (NAME,)
    repair_pack(here.installer, here.environment, finding)
    assert verify("start pack", made).damaged == ()
    assert read_index(made / NAME).key == made.name


def test_the_command_line_knows_it(
    here: Parts, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RUNPOD_VOLUME", str(here.layout.mount))
    monkeypatch.setenv("SPARK_MODEL", "small")
    install_pack(here.installer, here.environment)
    assert cli.main(["status", "--json"], pins=here.installer.pins) == 0
    items = json.loads(capsys.readouterr().out)["items"]
    (item,) = [item for item in items if item["kind"] == "start pack"]
    assert (item["complete"], item["files"]) == (True, 1)


def test_gc_removes_what_another_worker_was_packed_for(here: Parts) -> None:
    made = install_pack(here.installer, here.environment)
    old = here.layout.starts / "old"
    old.mkdir()
    failure_of(old).write_text("why")
    quick = Timing(takeover=0.01, poll=0.01, heartbeat=0.01)
    keep = {made, here.environment_folder}
    removed = collect(here.layout, keep, dry_run=False, timing=quick)
    assert [gone.name for gone in removed] == ["old"]
    assert made.is_dir()
    assert not old.exists()


def test_a_key_is_of_all_that_a_pack_is_made_of(tmp_path: Path) -> None:
    (tmp_path / "worker/serve").mkdir(parents=True)
    (tmp_path / "volume/start_pack").mkdir(parents=True)
    for path in ("worker/a.py", "worker/serve/b.py", "volume/start_pack/c.py", "volume/d.py"):
        (tmp_path / path).write_text("A = 1\n")
    keys = [pack_key("e", tmp_path), pack_key("f", tmp_path)]
    for path in ("worker/a.py", "worker/serve/b.py", "volume/start_pack/c.py"):
        (tmp_path / path).write_text("A = 2\n")
        keys.append(pack_key("e", tmp_path))
    (tmp_path / "worker/a.py").rename(tmp_path / "worker/z.py")
    keys.append(pack_key("e", tmp_path))
    assert len(set(keys)) == len(keys)
    (tmp_path / "volume/d.py").write_text("A = 2\n")
    assert pack_key("e", tmp_path) == keys[-1]
