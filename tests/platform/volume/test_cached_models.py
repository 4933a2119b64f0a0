"""A cache that Hugging Face's own client has filled, as the platform's: used, never copied."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.faulty_http import sha256
from tests.support.hub_server import REVISION
from tests.support.volume_world import REPOSITORY, ROOT, World, flip_a_bit
from volume.in_place import links_below
from volume.manifest import intact_manifest

if TYPE_CHECKING:
    from tests.platform.volume.conftest import Tmpfs

WEIGHTS = "LLM/model.safetensors"


def fill_cache(here: World, *paths: str) -> Path:
    """Have the client put the repository, or these files of it, into the volume's cache."""
    command = [sys.executable, "-m", "huggingface_hub.cli.hf", "download", REPOSITORY, *paths]
    command += ["--revision", here.model.revision, "--cache-dir", str(here.layout.cached_models)]
    subprocess.run(
        command, cwd=ROOT, env=here.variables, check=True, capture_output=True, timeout=120
    )
    here.hub.started.clear()
    return here.layout.cached_models / f"models--{REPOSITORY.replace('/', '--')}"


def blob(here: World, path: str) -> Path:
    return (here.model_folder / path).resolve()


def test_a_cached_model_is_used_where_it_lies_without_a_word_from_the_hub(small_world: World):
    here = small_world
    home = fill_cache(here)
    output = here.installed("--model", "small")
    assert "4 of 4 files" in output
    assert not here.hub.started
    assert links_below(here.model_folder) == sorted(here.model_files)
    assert all(blob(here, path).is_relative_to(home) for path in here.model_files)
    assert {p: (here.model_folder / p).read_bytes() for p in here.model_files} == here.model_files
    assert here.volume("verify") == (0, "clean: small\n")
    assert "in the platform's cache" in here.volume("status")[1]


def test_what_the_platform_has_not_cached_yet_is_downloaded_alone(small_world: World):
    here = small_world
    fill_cache(here, "config.json", WEIGHTS)
    here.installed("--model", "small")
    assert links_below(here.model_folder) == ["LLM/model.safetensors", "config.json"]
    codec = here.model_files["BiCodec/model.safetensors"]
    fetched = [path for path in here.hub.started if not path.startswith("/api/")]
    assert sorted(fetched) == sorted(
        [f"/{REPOSITORY}/resolve/{REVISION}/LLM/tokenizer.json", f"/cdn/{sha256(codec)}"]
    )
    assert here.volume("verify") == (0, "clean: small\n")


def remove(path: Path) -> None:
    path.unlink()


def flip(path: Path) -> None:
    flip_a_bit(path, 0.5)
    os.utime(path, ns=(1, 1))  # as soon as a test runs, a file system's clock may not have moved


@pytest.mark.parametrize("change", [remove, flip])
def test_what_is_gone_or_changed_is_downloaded_by_the_next_start(
    small_world: World, change: Callable[[Path], None]
):
    here = small_world
    fill_cache(here)
    here.installed("--model", "small")
    change(blob(here, WEIGHTS))
    output = here.installed("--model", "small")
    assert f"gone or others: {WEIGHTS}" in output
    assert links_below(here.model_folder) == sorted(here.model_files.keys() - {WEIGHTS})
    assert (here.model_folder / WEIGHTS).read_bytes() == here.model_files[WEIGHTS]
    assert here.volume("verify") == (0, "clean: small\n")


def test_many_workers_find_the_cache_gone_and_one_downloads(small_world: World):
    here = small_world
    home = fill_cache(here)
    here.installed("--model", "small")
    shutil.rmtree(home)
    workers = [here.start("install", "--model", "small") for _ in range(4)]
    outputs = [worker.communicate(timeout=240)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * 4, outputs
    assert links_below(here.model_folder) == []
    assert [count for path, count in here.hub.started.items() if "/cdn/" in path] == [1, 1]
    assert here.volume("verify") == (0, "clean: small\n")


def test_verify_names_what_has_changed_and_a_repair_leaves_the_cache_alone(small_world: World):
    here = small_world
    fill_cache(here)
    here.installed("--model", "small")
    bad = blob(here, WEIGHTS)
    flip(bad)
    damaged = bad.read_bytes()
    status, output = here.volume("verify")
    assert (status, output.splitlines()[0]) == (6, f"damaged: small: {WEIGHTS}")
    assert here.volume("verify", "--repair")[0] == 0
    assert (here.model_folder / WEIGHTS).read_bytes() == here.model_files[WEIGHTS]
    assert bad.read_bytes() == damaged


def test_gc_removes_links_and_never_what_they_lead_to(small_world: World):
    here = small_world
    home = fill_cache(here)
    here.installed("--model", "small")
    old = here.model_folder.rename(here.model_folder.with_name("small@old"))
    assert here.volume("gc")[0] == 0
    assert not old.exists()
    assert len(list((home / "blobs").iterdir())) == len(here.model_files)


def test_a_volume_that_cannot_be_written_serves_what_is_cached(small_world: World, tmpfs: Tmpfs):
    here = small_world.on(tmpfs.mount("size=64m"))
    fill_cache(here)
    here.installed("--model", "small")
    os.utime(blob(here, WEIGHTS), ns=(1, 1))
    tmpfs.change(here.layout.mount, "ro")
    status, output = here.volume("install", "--model", "small")
    assert status == 0, output
    assert "cannot be noted on the volume: Read-only file system" in output
    tmpfs.change(here.layout.mount, "rw")
    blob(here, WEIGHTS).unlink()
    tmpfs.change(here.layout.mount, "ro")
    status, output = here.volume("install", "--model", "small")
    assert status == 4
    assert "the volume is incomplete and cannot be written" in output


def test_a_cache_that_may_not_be_read_is_told_and_not_used(small_world: World):
    """Root may read all, but for what it has given up."""
    around = []
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("needs setpriv, for root may read all")
        around = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    here = small_world
    snapshots = fill_cache(here) / "snapshots"
    snapshots.chmod(0)
    process = here.start("install", "--model", "small", around=around)
    output, _ = process.communicate(timeout=120)
    snapshots.chmod(0o755)
    assert process.returncode == 0, output
    assert "cannot be read (Permission denied): not used" in output
    assert {file.path for file in intact_manifest(here.model_folder) or ()} == {*here.model_files}
    assert links_below(here.model_folder) == []
