"""The demo model, prepared for fast loading by the installer, and mended like all else."""

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.support.volume_world import World, flip_a_bit
from volume.layout import MODEL_PINS, PREPARED

DAMAGED = "clean: demo\ndamaged: demo, prepared: LLM/model.safetensors\n"
# A repair prepares the model once more, some 15 s of work: in full alone.
ENDS = ("found", "found and repaired") if os.environ.get("FULL") else ("found",)


@pytest.mark.parametrize("end", ENDS)
def test_a_model_is_prepared_after_its_installation_and_verified_with_it(
    small_world: World, gpu_kernels: Path, end: str
) -> None:
    here = small_world
    shutil.copytree(gpu_kernels, here.layout.cubins)
    models = json.loads(MODEL_PINS.read_text())["models"]
    demo = models["demo"] | {"prepared": True}
    (here.pins / "models.json").write_text(json.dumps({"models": {"demo": demo}}))
    output = here.installed("--model", "demo")
    assert "demo: preparing: done in " in output
    folder = here.layout.models / f"demo@{demo['revision']}" / PREPARED
    assert (folder / "wav2vec2-large-xlsr-53" / "model.safetensors").is_file()
    assert "preparing" not in here.installed("--model", "demo")
    assert here.volume("verify") == (0, "clean: demo\nclean: demo, prepared\n")
    flip_a_bit(folder / "LLM" / "model.safetensors", 0.5)
    status, output = here.volume("verify")
    assert status == 6
    assert output.startswith(DAMAGED)
    if end == "found and repaired":
        status, output = here.volume("verify", "--repair")
        assert status == 0, output
        assert here.volume("verify") == (0, "clean: demo\nclean: demo, prepared\n")
