"""python -m volume: what each command does, and the exit status that says how it went."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.volume_parts import FILES, UNKNOWN, Parts, parts, with_free_bytes
from volume import __main__ as cli
from volume import mount
from volume import run as running
from volume.cleanup import Removal
from volume.errors import DamagedError, PinError
from volume.installer import Installer
from volume.layout import PREPARED, Layout
from volume.lease import Timing
from volume.pins import PINS
from volume.start_pack.key import pack_key


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Parts:
    made = parts(tmp_path, monkeypatch)
    monkeypatch.setenv("RUNPOD_VOLUME", str(made.layout.mount))
    monkeypatch.setenv("SPARK_MODEL", "small")
    monkeypatch.setattr(cli, "find_uv", lambda: sys.executable)
    return made


def volume(here: Parts, *arguments: str, **constants: Any) -> int:
    return cli.main([*arguments], pins=here.installer.pins, **constants)


def spoil(path: Path) -> None:
    path.write_bytes(b"?" + path.read_bytes()[1:])


# install.


def test_install_alone_installs_the_environment_and_the_model(
    here: Parts, capsys: pytest.CaptureFixture[str]
) -> None:
    assert volume(here, "install") == 0
    out = capsys.readouterr().out.splitlines()
    assert out == [str(here.environment_folder), str(here.model_folder)]
    assert here.environment_folder.is_dir()
    assert here.model_folder.is_dir()


@pytest.mark.parametrize(
    ("arguments", "there"),
    [
        (["--model", "small"], [False, True]),
        (["--environment"], [True, False]),
        (["--environment", "--model", "small"], [True, True]),
    ],
)
def test_install_of_one_thing_installs_no_other(
    here: Parts, arguments: list[str], there: list[bool]
) -> None:
    assert volume(here, "install", *arguments) == 0
    assert [here.environment_folder.is_dir(), here.model_folder.is_dir()] == there


def test_the_options_reach_the_installer(here: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(cli, "install_environment", lambda installer, lock: seen.append(installer))
    options = ["--attempts", "4", "install", "--environment", "--wheelhouse", "house"]
    times = Timing(heartbeat=2.0, takeover=7.0)
    assert volume(here, *options, timing=times) == 0
    assert cli.main(["install", "--environment"]) == 0
    told, default = seen
    assert told.timing == times
    assert told.attempts == 4
    assert told.wheelhouse == Path("house")
    assert told.pins == here.installer.pins
    assert default.timing == Timing(heartbeat=5.0, takeover=60.0, poll=1.0)
    assert default.attempts == 5
    assert default.wheelhouse is None
    assert default.pins == PINS
    assert default.layout == Layout(here.layout.mount)


@pytest.mark.parametrize("attempts", ["0", "-1", "some", "1.5"])
def test_fewer_attempts_than_one_are_refused_in_words(
    here: Parts, capsys: pytest.CaptureFixture[str], attempts: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        volume(here, "--attempts", attempts, "install")
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert f"--attempts: it must be a whole number of 1 or more, not '{attempts}'" in told
    assert here.programs.ran == []


@pytest.fixture
def three(here: Parts) -> Installer:
    """A lock of a model whose words two others time."""
    small = {"source": "hub", "revision": "1", "licence": "MIT", "files": []}
    big = small | {"aligners": {"en": "ear-en", "zh": "ear-zh"}}
    models = {"Spark-TTS-0.5B": big, "ear-en": small, "ear-zh": small, "small": small}
    (here.installer.pins / "models.json").write_text(json.dumps({"models": models}))
    return here.installer


@pytest.mark.parametrize(
    ("model", "languages", "names"),
    [
        ("", "", ["Spark-TTS-0.5B", "ear-en", "ear-zh"]),
        (None, None, ["Spark-TTS-0.5B", "ear-en", "ear-zh"]),
        (None, " zh , fr", ["Spark-TTS-0.5B", "ear-zh"]),
        (None, "fr", ["Spark-TTS-0.5B"]),
        ("small", "en", ["small"]),
        (" small\n", "en", ["small"]),
    ],
)
def test_without_a_name_the_settings_say_which_models(
    three: Installer,
    monkeypatch: pytest.MonkeyPatch,
    model: str | None,
    languages: str | None,
    names: list[str],
) -> None:
    for name, value in (("SPARK_MODEL", model), ("WHISPERX_LANGUAGES", languages)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    assert [lock.name for lock in cli.models_to_install(None, three)] == names
    assert [lock.name for lock in cli.models_to_install(["ear-zh"], three)] == ["ear-zh"]


# run.


def test_run_becomes_the_worker_with_its_arguments(
    here: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def heard(
        installer: object, environment: object, models: list, *, module: str, arguments: list
    ) -> None:
        seen.append((environment, [model.name for model in models], module, arguments))

    monkeypatch.setattr(cli, "run", heard)
    assert volume(here, "run") == 0
    assert volume(here, "run", "--model", "small", "--", "--x", "1", module="it") == 0
    assert seen == [
        (here.environment, ["small"], "worker", []),
        (here.environment, ["small"], "it", ["--x", "1"]),
    ]
    assert not here.environment_folder.exists()


# status.


def test_status_is_for_people_or_for_programs(
    here: Parts, capsys: pytest.CaptureFixture[str]
) -> None:
    assert volume(here, "status") == 0
    assert "not installed" in capsys.readouterr().out
    assert volume(here, "status", "--json") == 0
    assert [item["kind"] for item in json.loads(capsys.readouterr().out)["items"]] == [
        "environment",
        "model",
        "start pack",
    ]


# verify.


def test_verify_names_each_bad_file_and_ends_with_6_whatever_comes_last(
    here: Parts, capsys: pytest.CaptureFixture[str]
) -> None:
    assert volume(here, "install") == 0
    capsys.readouterr()
    assert volume(here, "verify") == 0
    assert capsys.readouterr().out == "clean: environment\nclean: small\n"
    spoil(here.environment_folder / "site-packages" / "fast.py")
    assert volume(here, "verify") == 6
    told = capsys.readouterr()
    assert told.out == "damaged: environment: site-packages/fast.py\nclean: small\n"
    assert "1 damaged files; mend them with: python -m volume verify --repair" in told.err
    spoil(here.model_folder / "config.json")
    spoil(here.model_folder / UNKNOWN)
    assert volume(here, "verify") == 6
    assert "3 damaged files" in capsys.readouterr().err
    assert len(here.programs.ran) == 2


def test_what_is_mended_is_looked_at_again_and_clean(
    here: Parts, capsys: pytest.CaptureFixture[str]
) -> None:
    here.change_pins(prepared=True)
    assert volume(here, "install") == 0
    spoil(here.environment_folder / "site-packages" / "fast.py")
    spoil(here.model_folder / "config.json")
    spoil(here.model_folder / PREPARED / "fast.bin")
    capsys.readouterr()
    assert volume(here, "verify", "--repair") == 0
    assert capsys.readouterr().out.splitlines() == [
        "clean: environment",
        "clean: small",
        "clean: small, prepared",
    ]
    assert (here.model_folder / "config.json").read_bytes() == FILES["config.json"]


def test_damaged_cubins_are_named_and_removed_by_a_repair(
    here: Parts, capsys: pytest.CaptureFixture[str]
) -> None:
    here.change_pins(prepared=True)
    assert volume(here, "install", "--model", "small") == 0
    (cubin,) = here.layout.cubins.iterdir()
    assert volume(here, "verify") == 0
    spoil(cubin)
    capsys.readouterr()
    assert volume(here, "verify") == 6
    assert f"damaged: cubins: {cubin.name}\n" in capsys.readouterr().out
    assert volume(here, "verify", "--repair") == 0
    assert cubin.name in capsys.readouterr().out
    assert not cubin.exists()


def test_what_could_not_be_mended_is_named_still(
    here: Parts, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert volume(here, "install", "--model", "small") == 0
    spoil(here.model_folder / "config.json")
    monkeypatch.setattr(cli, "repair_model", lambda installer, lock, finding: None)
    assert volume(here, "verify", "--repair") == 6
    assert "damaged: small: config.json\n" in capsys.readouterr().out


def test_what_is_clean_is_not_mended(here: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    assert volume(here, "install") == 0
    monkeypatch.setattr(cli, "repair_model", lambda *_: pytest.fail("mended"))
    monkeypatch.setattr(cli, "repair_environment", lambda *_: pytest.fail("mended"))
    assert volume(here, "verify", "--repair") == 0


def test_what_is_not_installed_is_no_damage(
    here: Parts, capsys: pytest.CaptureFixture[str]
) -> None:
    assert volume(here, "verify") == 0
    assert capsys.readouterr().out == ""


# gc.


def test_gc_keeps_what_the_locks_name_and_tells_what_goes(
    here: Parts, capsys: pytest.CaptureFixture[str]
) -> None:
    assert volume(here, "install") == 0
    old = here.layout.environments / "old"
    old.mkdir()
    (old / "file").write_bytes(bytes(1500))
    capsys.readouterr()
    assert volume(here, "gc", "--dry-run") == 0
    assert capsys.readouterr().out == "would remove old, 1.5 kB\n"
    assert old.exists()
    assert volume(here, "gc") == 0
    assert capsys.readouterr().out == "removed old, 1.5 kB\n"
    assert not old.exists()
    assert here.environment_folder.is_dir()
    assert here.model_folder.is_dir()


def test_gc_watches_as_long_as_it_is_told(here: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def collected(layout: Layout, keep: set, *, dry_run: bool, timing: Timing) -> list[Removal]:
        seen.append((keep, dry_run, timing.takeover))
        return []

    monkeypatch.setattr(cli, "collect", collected)
    assert volume(here, "gc", timing=Timing(takeover=9.0)) == 0
    start = here.layout.starts / pack_key(here.environment.digest)
    assert seen == [({here.environment_folder, here.model_folder, start}, False, 9.0)]


# How it ends.


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (DamagedError("why"), 6),
        (PinError("why"), 2),
        (OSError(errno.ENOSPC, "No space left"), 5),
        (OSError(errno.EROFS, "Read-only"), 4),
        (OSError(errno.EIO, "I/O error"), 1),
    ],
)
def test_every_error_is_told_and_has_its_status(
    here: Parts,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    status: int,
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(cli, "command", fail)
    assert volume(here, "status") == status
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.slow("starts a process")
def test_the_programs_exit_status_is_the_commands(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = subprocess.run(
        [sys.executable, "-m", "volume", "status"],
        env={**os.environ, "RUNPOD_VOLUME": str(tmp_path / "file")},
        cwd=Path(cli.__file__).parents[1], capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 3


# Where there is no volume, and where the environment is in the image.


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No volume is mounted; gives the folder on the container's disk that may stand in for one."""
    monkeypatch.setattr(mount, "DEFAULT_MOUNT", tmp_path / "mount")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    monkeypatch.delenv("RUNPOD_VOLUME")
    monkeypatch.delenv("ALLOW_CONTAINER_DISK", raising=False)
    monkeypatch.setenv("RUNPOD_SKIP_AUTO_SYSTEM_CHECKS", "true")  # this machine may be full
    return tmp_path / "tmp" / "without-volume" / "SparkTTS-serverless"


def test_without_a_volume_it_ends_with_3_and_names_the_variable(
    here: Parts, nowhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert volume(here, "run") == 3
    assert "ALLOW_CONTAINER_DISK=true" in capsys.readouterr().err
    assert not (nowhere.parents[2] / "mount").exists()


def test_where_it_is_allowed_the_worker_gets_the_containers_disk_for_its_volume(
    here: Parts,
    nowhere: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("ALLOW_CONTAINER_DISK", "true")
    became: list[dict[str, str]] = []
    monkeypatch.setattr(running, "keep_announcing", lambda files, interval: None)
    monkeypatch.setattr(os, "execve", lambda program, command, variables: became.append(variables))
    assert volume(here, "run") == 0
    assert (nowhere / "models" / here.model.resource / "config.json").is_file()
    (variables,) = became
    assert variables["RUNPOD_VOLUME"] == str(nowhere.parent)
    assert variables["PYTHONPATH"].split(os.pathsep)[0].startswith(str(nowhere / "envs"))
    assert f"installs for itself, in {nowhere.parent}" in capsys.readouterr().err


def test_nothing_is_made_for_later_starts_on_a_disk_that_goes_with_the_container(
    here: Parts, nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str | None, bool]] = []

    def heard(installer: Installer, *_: object, **__: object) -> None:
        seen.append((installer.rehearsal, installer.lasting))

    monkeypatch.setattr(cli, "run", heard)
    monkeypatch.setenv("ALLOW_CONTAINER_DISK", "true")
    assert volume(here, "run", rehearsal="it") == 0
    monkeypatch.setenv("RUNPOD_VOLUME", str(here.layout.mount))
    assert volume(here, "run", rehearsal="it") == 0
    assert seen == [(None, False), ("it", True)]


@pytest.mark.parametrize("words", [["run"], ["install"], ["install", "--model", "small"]])
def test_a_containers_disk_that_is_too_small_is_told_before_any_download(
    here: Parts,
    nowhere: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
) -> None:
    monkeypatch.setenv("ALLOW_CONTAINER_DISK", "1")
    with_free_bytes(monkeypatch, 1000)
    assert volume(here, *words) == 5
    said = capsys.readouterr().err
    assert "bytes" in said
    assert "it is the container's disk, which the endpoint's settings make larger" in said
    assert here.programs.ran == []


def test_an_environment_of_the_image_is_used_and_none_is_installed(
    here: Parts,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    image = tmp_path / "store" / "lib" / "python3.11"
    monkeypatch.setenv("SPARK_ENVIRONMENT", str(image))
    assert volume(here, "install") == 6
    assert f"the image's environment is not at {image}" in capsys.readouterr().err
    (image / "site-packages").mkdir(parents=True)
    assert volume(here, "install") == 0
    assert capsys.readouterr().out.splitlines() == [str(image), str(here.model_folder)]
    assert here.programs.names == ["hub"]
    assert here.programs.environments[0]["PYTHONPATH"].startswith(f"{image}/site-packages:")
    assert not here.environment_folder.exists()
    assert volume(here, "status") == 0
    assert "in the image" in capsys.readouterr().out


# Where uv is.


def test_the_uv_beside_the_interpreter_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "sys", SimpleNamespace(executable=str(tmp_path / "python")))
    monkeypatch.setenv("PATH", str(tmp_path / "elsewhere"))
    assert cli.find_uv() == "uv"
    program = tmp_path / "elsewhere" / "uv"
    program.parent.mkdir()
    program.touch(mode=0o755)
    assert cli.find_uv() == str(program)
    (tmp_path / "uv").touch()
    assert cli.find_uv() == str(tmp_path / "uv")


def test_what_is_said_goes_to_the_log_and_not_to_the_output(
    capsys: pytest.CaptureFixture[str],
) -> None:
    cli.say("it")
    assert capsys.readouterr() == ("", "it\n")
