"""What operators set and how they fill a volume: the install is the same, and speaks elsewhere."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.faulty_http import Answer, FaultyServer, Refusal
from tests.support.packed_world import SERVE, pack_of, packed_world
from tests.support.volume_world import World

# Each is somebody's advice or habit; together they stopped the install in a dozen ways.
SWITCHES = {
    "HF_HUB_ENABLE_HF_TRANSFER": "1",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_XET": "0",
    "HF_XET_HIGH_PERFORMANCE": "1",
    "HF_HOME": "/proc/nowhere",
    "HF_HUB_CACHE": "/proc/nowhere",
    "HUGGINGFACE_HUB_CACHE": "/proc/nowhere",
    "HUGGINGFACE_CO_STAGING": "1",
    "HF_HUB_LOCAL_DIR_AUTO_SYMLINK_THRESHOLD": "x",
    "HF_HUB_ETAG_TIMEOUT": "soon",
    "HF_DEBUG": "1",
    "REQUESTS_CA_BUNDLE": "/nowhere/ca.pem",
    "SSL_CERT_FILE": "/nowhere/ca.pem",
    "PYTHONWARNINGS": "error",
    "PYTHONOPTIMIZE": "2",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONSTARTUP": "/nowhere.py",
    "UV_OFFLINE": "1",
    "UV_NO_CACHE": "1",
    "UV_NO_INDEX": "1",
    "UV_NO_BINARY": "1",
    "UV_PYTHON": "3.9",
    "UV_PYTHON_PREFERENCE": "only-managed",
    "UV_EXCLUDE_NEWER": "2020-01-01",
    "UV_CONSTRAINT": "/nowhere.txt",
    "UV_OVERRIDE": "/nowhere.txt",
    "UV_LINK_MODE": "symlink",
    "UV_CONFIG_FILE": "/nowhere.toml",
    "UV_WORKING_DIRECTORY": "/nowhere",
    "UV_PROJECT": "/nowhere",
    "UV_HTTP_RETRIES": "x",
    "UV_CONCURRENT_DOWNLOADS": "many",
    "PIP_INDEX_URL": "http://127.0.0.1:9/",
    "PIP_REQUIRE_VIRTUALENV": "1",
    "VIRTUAL_ENV": "/nowhere",
}


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder; links are not followed, and fail."""
    found = [path for path in folder.rglob("*") if not path.is_dir() or path.is_symlink()]
    assert not [path for path in found if path.is_symlink()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def test_whatever_is_set_the_install_is_the_same(small_world: World, tmp_path: Path) -> None:
    small_world.installed()
    with small_world.with_volume(tmp_path / "other") as plain:
        here = replace(plain, operator=SWITCHES)
        output = here.installed()
        for name in ("HF_HUB_ETAG_TIMEOUT", "SSL_CERT_FILE", "UV_CONCURRENT_DOWNLOADS"):
            assert f"{name} is left out: " in output
        assert here.volume("verify")[0] == 0
        usual, set_up = (files_of(world.environment_folder) for world in (small_world, here))
        assert set(set_up) == set(usual)
        assert sum(path.endswith(".cpython-311.pyc") for path in set_up) == 9
        assert files_of(here.model_folder) == files_of(small_world.model_folder)


def test_a_token_that_the_hub_does_not_know_is_done_without(small_world: World) -> None:
    """A hub refuses one that has expired even where everybody may read."""
    tokens = []

    def refuse(path: str, headers: Mapping[str, str]) -> Refusal | None:
        tokens.append(headers.get("Authorization"))
        return Refusal(401) if headers.get("Authorization") else None

    small_world.hub.refusal = refuse
    here = replace(small_world, operator={"HF_TOKEN": "hf_expired"})
    output = here.installed("--model", "small")
    assert "small: the hub does not know the token; asked without it" in output
    assert "Bearer hf_expired" in tokens
    assert tokens[-1] is None


def test_a_mirror_a_proxy_and_a_token_are_the_operators_to_choose(small_world: World) -> None:
    """The proxy stands for both names, which no resolver knows."""
    hub, index, tokens = small_world.hub, small_world.index, []

    def forward(path: str) -> Answer | None:
        if path.startswith("http://index.test/"):
            return index.find(path.removeprefix("http://index.test"))
        return hub.find(path.removeprefix("http://hub.test"))  # or where the hub redirects to

    def note(path: str, headers: Mapping[str, str]) -> None:
        if "hub.test" in path:
            tokens.append(headers.get("Authorization"))

    proxy = FaultyServer(forward, refusal=note)
    with proxy.running():
        operator = {
            "HTTP_PROXY": proxy.url,
            "http_proxy": proxy.url,
            "HF_ENDPOINT": " http://hub.test/ ",
            "HF_TOKEN": "hf_mine\n",
            "UV_DEFAULT_INDEX": "http://index.test/simple/",
        }
        replace(small_world, operator=operator).installed()
    asked = {path.removeprefix("http://").partition("/")[0] for path in proxy.started}
    assert asked >= {"hub.test", "index.test"}
    assert "Bearer hf_mine" in tokens


def test_an_address_that_is_none_stops_the_install_in_words(small_world: World) -> None:
    here = replace(small_world, operator={"HF_ENDPOINT": "mirror.test"})
    status, output = here.volume("install", "--model", "small")
    assert status == 1
    assert output.splitlines()[-1] == (
        "error: HF_ENDPOINT must be the address of a hub, such as https://huggingface.co, not "
        "'mirror.test'"
    )


def mounted_at(place: str, volume: Path) -> list[str]:
    """A command's begin: this machine, and the volume mounted at a place of its root."""
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        pytest.skip("needs bwrap, to mount a volume at the root of a container")
    command = [bwrap, "--tmpfs", "/", "--die-with-parent"]
    for path in sorted(Path("/").iterdir()):
        if path.is_symlink():
            command += ["--symlink", str(path.readlink()), str(path)]
        else:
            command += ["--dev-bind", str(path), str(path)]
    command += ["--bind", str(volume), place]
    tried = subprocess.run([*command, "true"], check=False, capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"needs the right to mount: {tried.stderr.strip()}")
    return command


def test_a_volume_that_a_pod_filled_serves_an_endpoint(tmp_path: Path) -> None:
    """It lay at /workspace when all was installed, and lies at /runpod-volume when it is used."""
    with packed_world(tmp_path) as made:
        here = replace(made, operator={"RUNPOD_VOLUME": ""})
        pod = mounted_at("/workspace", made.layout.mount)
        endpoint = mounted_at("/runpod-volume", made.layout.mount)
        installer = here.start("install", around=pod)
        output, _ = installer.communicate(timeout=240)
        assert installer.returncode == 0, output
        assert output.startswith("nothing is mounted at /runpod-volume, and a volume at /workspace")
        assert str(made.layout.mount) not in output
        assert pack_of(made).is_file()
        worker = here.start("run", around=endpoint, module=SERVE)
        output, _ = worker.communicate(timeout=240)
        assert worker.returncode == 0, output
        assert output.endswith("up: version 1, 0 modules\nwhole: version 1, 0 modules\n")
        check = here.start("verify", around=endpoint)
        assert check.communicate(timeout=240)[0].count("clean: ") == 3
        # What Python compiled names its sources where they were, in tracebacks alone.
        told = [
            path
            for path, content in files_of(made.layout.root).items()
            if b"/workspace" in content and not path.endswith((".pyc", "start.pack"))
        ]
        assert told == []
