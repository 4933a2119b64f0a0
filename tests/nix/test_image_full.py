"""make image-test: packages.image-full on a small lock: what it brings, in which layers."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.nix.container import Container, answer
from tests.nix.image_files import Image, unpack
from tests.nix.own_wheels import installed, top_folders, wheel_of
from tests.nix.small_lock import WHEELS, small_tree
from tests.nix.workshop import REPOSITORY, Workshop
from tests.support.cached_models import cache_model
from tests.support.hub_server import REVISION, hub_pins
from tests.support.index_server import make_wheel
from tests.support.worker_process import LOOPBACK_ONLY
from volume.pins import pinned_environment

pytestmark = pytest.mark.image

# As the locked one: its version names the CUDA that it is built for. What it says of its size alone
# makes it a large one.
TORCH = replace(
    make_wheel("torch", "2.6.0+cu126", {"torch/__init__.py": b"KERNELS = {'a', 'b'}\n"}),
    unpacked=20_000_000,
)


@dataclass(frozen=True)
class Build:
    workshop: Workshop
    tree: Path
    archive: Path

    def conf(self, output: str) -> dict[str, Any]:
        """Return what an image is: its layers and how it is started."""
        path = self.workshop.build(f"packages.x86_64-linux.{output}.conf", self.tree)
        read = self.workshop.run("cat", path).stdout
        return dict(json.loads(read))


@pytest.fixture(scope="module")
def builds(
    tools: Workshop, wheelhouse: Path, tree: Path, place: Path, tmp_path_factory: Any
) -> list[Build]:
    """The image in two stores, from trees at different places."""
    (wheelhouse / TORCH.file).write_bytes(TORCH.data)
    made = []
    for name in ("here-too", "there-too"):
        shutil.copytree(tools.folder, place / f"store-{name}", symlinks=True)
        workshop = replace(tools, folder=place / f"store-{name}")
        own = small_tree(tree, tmp_path_factory.mktemp("full") / name, [*WHEELS, TORCH])
        streamed = workshop.run(workshop.build("image-full", own))
        assert streamed.returncode == 0, streamed.stderr.decode()
        archive = place / f"{name}.tar"
        archive.write_bytes(streamed.stdout)
        made.append(Build(workshop, own, archive))
    return made


@pytest.fixture(scope="module")
def build(builds: list[Build]) -> Build:
    return builds[0]


@pytest.fixture(scope="module")
def image(build: Build, place: Path) -> Image:
    return unpack(build.archive, place / "root-full")


@pytest.fixture(scope="module")
def confs(build: Build) -> dict[str, dict[str, Any]]:
    return {output: build.conf(output) for output in ("image", "image-full")}


def variables(conf: Mapping[str, Any]) -> dict[str, str]:
    return dict(variable.split("=", 1) for variable in conf["config"]["Env"])


def names(conf: Mapping[str, Any]) -> list[list[str]]:
    """The store paths of each layer, without their hashes."""
    return [[path.split("-", 1)[1] for path in layer] for layer in conf["store_layers"]]


def test_two_builds_give_the_same_bytes(builds: list[Build]) -> None:
    one, other = (build.archive.read_bytes() for build in builds)
    assert one == other


def test_it_is_the_small_image_and_an_environment(confs: dict[str, dict[str, Any]]) -> None:
    small, full = variables(confs["image"]), variables(confs["image-full"])
    assert {name: full[name] for name in small} == small
    (more,) = full.keys() - small.keys()
    assert more == "SPARK_ENVIRONMENT"
    assert re.fullmatch(r"/nix/store/\w{32}-spark-tts-environment/lib/python3\.11", full[more])
    without = [{k: v for k, v in conf["config"].items() if k != "Env"} for conf in confs.values()]
    assert without[0] == without[1]
    assert confs["image-full"]["repo_tag"] == confs["image"]["repo_tag"] + "-full"
    layers = {path for layer in names(confs["image"]) for path in layer}
    assert layers < {path for layer in names(confs["image-full"]) for path in layer}


def test_the_sdk_is_told_of_the_cuda_that_torch_needs(confs: dict[str, dict[str, Any]]) -> None:
    for conf in confs.values():
        assert variables(conf)["RUNPOD_MIN_CUDA_VERSION"] == "12.6"
    (torch,) = (wheel for wheel in pinned_environment().wheels if wheel.name == "torch")
    assert torch.version == TORCH.version, "the locked one, in the same words"


def test_large_wheels_have_a_layer_of_their_own(confs: dict[str, dict[str, Any]]) -> None:
    """So that a new worker, or a new small wheel, leaves them as they are: they are gigabytes."""
    added = [layer for layer in names(confs["image-full"]) if layer not in names(confs["image"])]
    assert sorted(added) == [["spark-tts-environment"], ["wheel-torch"], ["wheels-small"]]


def test_the_locks_layers_stay_below_what_nixpkgs_puts_into_one() -> None:
    """It joins what is beyond its 100 layers; besides the wheels there are some thirty paths."""
    source = (REPOSITORY / "nix" / "image-environment.nix").read_text()
    assert "wheel.unpacked >= 20 * 1000 * 1000" in source
    large = [wheel for wheel in pinned_environment().wheels if wheel.unpacked >= 20_000_000]
    assert 5 < len(large) < 60


@pytest.fixture(scope="module")
def container(image: Image) -> Container:
    """On a machine without a volume, as a user without a name."""
    sdk_off = {"RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true"}  # the machine's disk may be full
    return Container(image, user=1000, volume=[], variables=sdk_off)


def entry(container: Container, *words: str) -> Container:
    """The same container, for another command of the installer than `run`."""
    *python, run = container.image.entry
    assert run == "run"
    return replace(container, image=replace(container.image, entry=[*python, *words]))


def test_all_modules_of_the_lock_are_in_it(container: Container) -> None:
    program = (
        "import os, sys; sys.path.insert(0, os.environ['SPARK_ENVIRONMENT'] + '/site-packages')\n"
        "import fast, part_one, shared.one, shared.two, torch\n"
        "print(part_one.answer(), sorted(torch.KERNELS), torch.__spec__.cached)\n"
    )
    python = [container.image.entry[0], "-c", program]
    status, output = replace(container, image=replace(container.image, entry=python)).run()
    assert status == 0, output
    answer, cached = output.split("[")[0], output.split()[-1]
    assert answer.strip() == "42"
    assert (container.image.root / cached.lstrip("/")).is_symlink(), "compiled in the image"


def test_the_installer_finds_it_and_needs_no_volume(container: Container) -> None:
    status, output = entry(container, "install", "--model", "demo").run()
    assert status == 0, output
    assert "no volume is mounted: this worker installs for itself, in /tmp/without-vol" in output
    status, output = entry(container, "install", "--environment").run()
    assert status == 0, output
    assert container.image.variables["SPARK_ENVIRONMENT"] in output.splitlines()
    status, output = entry(container, "status").run()
    assert status == 0, output
    assert "in the image" in output


def test_a_cached_model_on_a_read_only_mount_is_used_where_it_lies(
    container: Container, tmp_path: Path
) -> None:
    """As RunPod shows cached models to a worker without a volume: below a volume's mount point."""
    files = {"config.json": b"{}", "LLM/model.safetensors": bytes(50_000)}
    cache_model(tmp_path / "cache" / "hub", "someone/small", files)
    pins = {"models": {"small": hub_pins("someone/small", files)}}
    (tmp_path / "models.json").write_text(json.dumps(pins))
    shown = replace(
        container,
        volume=["--ro-bind", str(tmp_path / "cache"), "/runpod-volume/huggingface-cache"],
        mounts={f"{container.image.app}/volume/pins/models.json": tmp_path / "models.json"},
    )
    program = (
        "import os, sys; from volume.__main__ import main\n"
        "assert main(['install', '--model', 'small']) == 0\n"
        "print(os.path.realpath('/tmp/without-volume/SparkTTS-serverless/models/small@'\n"
        f"  '{REVISION}/LLM/model.safetensors'))\n"
    )
    python = [container.image.entry[0], "-c", program]
    status, output = replace(shown, image=replace(shown.image, entry=python)).run()
    assert status == 0, output
    assert "2 of 2 files" in output
    assert "/runpod-volume/huggingface-cache/hub/models--someone--small/blobs/" in output
    strict = {**container.variables, "ALLOW_CONTAINER_DISK": "false"}
    status, output = replace(shown, variables=strict).run()
    assert status == 3, output
    assert "only RunPod's cached models" in output


def test_an_operator_who_wants_a_volume_is_told_that_there_is_none(container: Container) -> None:
    strict = {**container.variables, "ALLOW_CONTAINER_DISK": "false"}
    status, output = replace(container, variables=strict).run()
    assert status == 3, output
    assert "ALLOW_CONTAINER_DISK=true" in output


@pytest.fixture(scope="module")
def production(
    tools: Workshop, wheelhouse: Path, tree: Path, place: Path, tmp_path_factory: Any
) -> Container:
    """The image with this machine's packages; what is 5 GB of them is seen in a folder beside."""
    small, large = installed()
    wheels = [wheel_of(dist) for dist in small]
    for wheel in wheels:
        (wheelhouse / wheel.file).write_bytes(wheel.data)
    own = small_tree(tree, tmp_path_factory.mktemp("production") / "tree", wheels)
    streamed = tools.run(tools.build("image-full", own))
    assert streamed.returncode == 0, streamed.stderr.decode()
    archive = place / "production.tar"
    archive.write_bytes(streamed.stdout)
    image = unpack(archive, place / "root-production")
    archive.unlink()
    mounts = {f"/beside/{name}": path for name, path in top_folders(large).items()}
    return Container(
        image,
        user=1000,
        volume=[],
        mounts={"/loopback-only": LOOPBACK_ONLY, **mounts},
        variables={
            "PYTHONPATH": f"{image.app}:/beside:/loopback-only",
            "SPARK_MODEL": "demo",
            "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true",
            "RUNPOD_SKIP_GPU_CHECK": "true",
            "OMP_NUM_THREADS": "2",
        },
    )


def test_it_is_a_worker_without_a_volume(production: Container, tmp_path: Path) -> None:
    """Of its own lock's packages, on a machine that has nothing and a root that nobody writes."""
    done, _ = answer(production, tmp_path / "log")
    assert done["status"] == "COMPLETED", done
    assert done["output"]["duration"] > 0.5
    said = (tmp_path / "log").read_text()
    assert "this worker installs for itself, in /tmp/without-volume" in said
    assert "environment: installing" not in said


def test_its_bill_of_materials_names_its_layers(
    build: Build, confs: dict[str, dict[str, Any]]
) -> None:
    path = build.workshop.build("sbom-full", build.tree)
    bill = json.loads(build.workshop.run("cat", path).stdout)
    assert bill["metadata"]["component"]["version"].endswith("-full")
    components = {component["bom-ref"] for component in bill["components"]}
    stored = {path for layer in confs["image-full"]["store_layers"] for path in layer}
    assert stored == {name for name in components if name.startswith("/nix/store/")}
    assert "pkg:pypi/torch@2.6.0%2Bcu126" in components
