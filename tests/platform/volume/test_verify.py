"""One flipped bit anywhere: `verify` names the file, `verify --repair` mends it."""

import random
from collections.abc import Callable

from tests.support.volume_world import World, flip_a_bit
from volume.manifest import MANIFEST, TWIN, files_below


def test_every_file_flipped_by_one_bit_in_turn_is_named_and_mended(
    small_world: World, times: Callable[[int, int], int]
):
    here = small_world
    here.installed()
    chance = random.Random(4)
    targets = [
        (name, folder, path)
        for name, folder in (("environment", here.environment_folder), ("small", here.model_folder))
        for path in [*files_below(folder), MANIFEST, TWIN]
        if (folder / path).stat().st_size
    ]
    assert len(targets) > 40
    # Reduced: one of each kind, for each is mended in another way.
    kinds = ("part_0/code.py", ".pyc", "1.0.dist-info/RECORD", "LLM/tokenizer.json", MANIFEST)
    chosen = [next(t for t in targets if t[2].endswith(kind)) for kind in kinds]
    for name, folder, path in chosen[: times(5, 0)] or targets:
        flip_a_bit(folder / path, chance.random())
        status, output = here.volume("verify")
        assert status == 6
        named = [line for line in output.splitlines() if line.startswith("damaged: ")]
        assert named == [f"damaged: {name}: {path}"]
        status, output = here.volume("verify", "--repair")
        assert status == 0, output
        assert here.volume("verify") == (0, "clean: environment\nclean: small\n")


def test_both_manifests_lost_and_a_file_damaged_are_mended_together(small_world: World):
    here = small_world
    here.installed()
    module = here.environment_folder / "site-packages" / "part_1" / "code.py"
    wanted = module.read_bytes()
    weights = here.model_folder / "LLM" / "tokenizer.json"
    for path in (module, weights):
        flip_a_bit(path, 0.5)
    for folder in (here.environment_folder, here.model_folder):
        (folder / MANIFEST).unlink()
        (folder / TWIN).write_text("{}")
    assert here.volume("verify")[0] == 6
    status, output = here.volume("verify", "--repair")
    assert status == 0, output
    assert module.read_bytes() == wanted
    assert weights.read_bytes() == here.model_files["LLM/tokenizer.json"]


def test_a_missing_file_is_fetched_alone(small_world: World):
    here = small_world
    here.installed("--model", "small")
    (here.model_folder / "BiCodec" / "model.safetensors").unlink()
    before = dict(here.hub.started)
    assert here.volume("verify", "--repair")[0] == 0
    fetched = [
        path
        for path, count in here.hub.started.items()
        if count > before.get(path, 0) and path.startswith("/cdn/")
    ]
    assert len(fetched) == 1
    assert here.volume("verify")[0] == 0
