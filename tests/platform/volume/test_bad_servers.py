"""An index and a hub that misbehave: the install completes, and what it installs is right."""

from collections.abc import Callable
from pathlib import Path

from tests.support.faulty_http import Fault, sha256
from tests.support.volume_world import Mounting, World, world

FAULTS: tuple[Fault, ...] = ("cut", "wrong", "stall", "429", "500", "503")
DOWNLOADS = ("/files/", "/cdn/", "/outside/")
HUB_CHUNK = 10 * 1024 * 1024


def test_a_fault_in_the_first_download_of_every_file_is_survived(
    tmp_path: Path, mounting: Mounting, times: Callable[[int, int], int]
):
    """In full every fault hits every file; reduced, each file meets one of them."""
    for turn in range(times(1, len(FAULTS))):
        folder = tmp_path / str(turn)
        folder.mkdir()
        with world(folder, mounting) as here:
            met: dict[str, Fault] = {}

            def fault(path: str, asked: int, turn: int = turn, met: dict = met) -> Fault | None:
                if asked > 0 or not path.startswith(DOWNLOADS):
                    return None
                return met.setdefault(path, FAULTS[(len(met) + turn) % len(FAULTS)])

            here.index.fault = here.hub.fault = fault
            here.installed()
            assert here.volume("verify") == (0, "clean: environment\nclean: small\n")
            assert set(met.values()) == set(FAULTS)


def test_a_cut_download_goes_on_where_it_stopped(tmp_path: Path, mounting: Mounting):
    """The hub's client keeps whole chunks: no more than one is fetched again."""
    with world(tmp_path, mounting, size=3_000_000) as here:
        (large,) = [name for name in here.model_files if name == "LLM/model.safetensors"]
        place = f"/cdn/{sha256(here.model_files[large])}"
        here.hub.fault = lambda path, times: "cut" if path == place and times == 0 else None
        here.installed("--model", "small")
        size = len(here.model_files[large])
        assert here.hub.started[place] == 2
        assert size < here.hub.sent[place] < size + HUB_CHUNK


def test_an_index_that_serves_other_bytes_for_ever_is_refused(small_world: World):
    here = small_world
    here.index.fault = lambda path, times: "wrong" if path.startswith("/files/") else None
    status, output = here.volume("install", "--environment")
    assert status == 7
    assert "could not be installed" in output
    assert not here.environment_folder.exists()


def test_a_hub_that_serves_other_bytes_for_a_file_without_a_locked_hash_is_refused(
    small_world: World,
):
    here = small_world
    here.hub.fault = lambda path, times: "wrong" if path.endswith("tokenizer.json") else None
    status, output = here.volume("install", "--model", "small")
    assert status == 7
    assert "LLM/tokenizer.json could not be had" in output
    assert not here.model_folder.exists()


def test_from_a_wheelhouse_no_index_is_asked(small_world: World, tmp_path: Path):
    here = small_world
    house = tmp_path / "wheelhouse"
    house.mkdir()
    for wheel in here.wheels:
        (house / wheel.file).write_bytes(wheel.data)
    here.installed("--environment", "--wheelhouse", str(house))
    assert not here.index.started
    assert here.volume("verify") == (0, "clean: environment\n")
