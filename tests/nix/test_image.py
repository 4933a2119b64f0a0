"""make image-test: the image built from nothing, twice, and started on an empty volume."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import time
import wave
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.nix.conftest import NewWorkshop
from tests.nix.container import STOPPED, Container, answer
from tests.nix.host import tool
from tests.nix.image_files import Image, unpack
from tests.nix.own_wheels import installed, top_folders, wheel_of
from tests.nix.workshop import REPOSITORY, Workshop, copy_tree
from tests.support.index_server import index_of, write_pins
from tests.support.waiting import until
from tests.support.worker_process import LOOPBACK_ONLY
from volume.lease import is_free, newest_claim

pytestmark = pytest.mark.image

SIZE_MAX = 100_000_000  # bytes, compressed
Report = Callable[[str, object], None]


@dataclass(frozen=True)
class Build:
    archive: Path
    bill: bytes
    seconds: float

    @property
    def digest(self) -> str:
        with self.archive.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


@pytest.fixture(scope="module")
def report() -> Iterator[Report]:
    """Collects figures and prints them at the end."""
    figures: dict[str, object] = {}
    yield figures.__setitem__
    print("\n", *(f"{name:<32} {value}" for name, value in figures.items()), sep="\n")


def build_from_nothing(workshop: Workshop, tree: Path, archive: Path) -> Build:
    """Build the image and its bill of materials in a store that was empty before."""
    assert not list(workshop.folder.iterdir())
    started = time.monotonic()
    script = workshop.build("image", tree)
    streamed = workshop.run(script)
    assert streamed.returncode == 0, streamed.stderr.decode()
    archive.write_bytes(streamed.stdout)
    seconds = time.monotonic() - started
    bill = workshop.run("cat", workshop.build("sbom", tree)).stdout
    return Build(archive, bill, seconds)


@pytest.fixture(scope="module")
def builds(new_workshop: NewWorkshop, place: Path, report: Report) -> list[Build]:
    """The image, from two copies of the tree that have nothing in common but their content."""
    made = []
    for number, (name, day) in enumerate([("one", 1), ("another/place/further/down", 9_000)]):
        tree = copy_tree(place / name)
        for path in tree.rglob("*"):
            os.utime(path, (day * 86_400, day * 86_400))
        workshop = new_workshop(f"store-{number}")
        made.append(build_from_nothing(workshop, tree, place / f"image-{number}.tar"))
        report(f"build {number + 1}: seconds", f"{made[-1].seconds:.1f}")
        report(f"build {number + 1}: sha256", made[-1].digest)
    return made


@pytest.fixture(scope="module")
def image(builds: list[Build], place: Path, report: Report) -> Image:
    image = unpack(builds[0].archive, place / "root")
    report("layers", image.layers)
    return image


def test_two_builds_give_the_same_bytes(builds: list[Build]) -> None:
    assert builds[0].digest == builds[1].digest
    assert builds[0].bill == builds[1].bill


def test_skopeo_reads_it(builds: list[Build], place: Path) -> None:
    archive = f"docker-archive:{builds[0].archive}"
    command = [tool("skopeo"), "--tmpdir", str(place), "copy", "--quiet", "--insecure-policy"]
    subprocess.run([*command, archive, f"oci:{place / 'oci'}"], check=True, timeout=300)
    said = subprocess.run([tool("skopeo"), "inspect", archive], capture_output=True, check=True)
    seen = json.loads(said.stdout)
    assert seen["Architecture"] == "amd64"
    assert seen["Created"] == "1970-01-01T00:00:01Z"


def test_it_is_small(builds: list[Build], place: Path, report: Report) -> None:
    compressed = place / "image.tar.zst"
    command = [tool("zstd"), "-T0", "-12", "--quiet", str(builds[0].archive), "-o"]
    subprocess.run([*command, str(compressed)], check=True, timeout=300)
    report("bytes, raw", builds[0].archive.stat().st_size)
    report("bytes, zstd -12", compressed.stat().st_size)
    assert compressed.stat().st_size <= SIZE_MAX


def test_it_holds_no_heavy_package(image: Image) -> None:
    names = {path.name for path in image.root.rglob("*")}
    assert {"worker", "volume", "sparktts", "uv", "ca-bundle.crt"} <= names
    assert not {"torch", "nvidia", "transformers", "numpy", "pip", "pinning"} & names


def test_the_bill_of_materials_names_what_is_in_it(builds: list[Build], image: Image) -> None:
    bill = json.loads(builds[0].bill)
    components = {component["bom-ref"]: component for component in bill["components"]}
    stored = {f"/nix/store/{path.name}" for path in (image.root / "nix" / "store").iterdir()}
    assert stored == {name for name in components if name.startswith("/nix/store/")}
    lock = json.loads((REPOSITORY / "volume" / "pins" / "environment.json").read_text())
    hashes = {
        component["hashes"][0]["content"]
        for component in components.values()
        if component.get("purl", "").startswith("pkg:pypi/")
    }
    assert hashes == {wheel["sha256"] for wheel in lock["wheels"]}
    assert any(c["type"] == "machine-learning-model" for c in components.values())


@pytest.fixture(scope="module")
def container(image: Image, place: Path) -> Iterator[Container]:
    """The image, its index on this machine, an empty volume, and a user without a name."""
    small, large = installed()
    wheels = [wheel_of(dist) for dist in small]
    index = index_of(wheels, [])
    with index.running():
        write_pins(place / "locks", index, wheels, [], {})
        beside = "/beside"
        mounts = {
            f"{image.app}/volume/pins/environment.json": place / "locks" / "environment.json",
            "/loopback-only": LOOPBACK_ONLY,
            **{f"{beside}/{name}": path for name, path in top_folders(large).items()},
        }
        (place / "volume").mkdir()
        yield Container(
            image,
            user=1000,
            volume=place / "volume",
            mounts=mounts,
            variables={
                "PYTHONPATH": f"{image.app}:{beside}:/loopback-only",
                "SPARK_MODEL": "demo",
                "UV_DEFAULT_INDEX": f"{index.url}/simple/",
                "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true",
                "RUNPOD_SKIP_GPU_CHECK": "true",
                "OMP_NUM_THREADS": "2",
            },
        )


def spoken(done: dict[str, Any], container: Container) -> float:
    """Return the seconds of audio in the file that an answer names."""
    assert done["status"] == "COMPLETED", done
    path = Path(urlsplit(done["output"]["audio_url"]).path)
    assert isinstance(container.volume, Path)
    with wave.open(str(container.volume / path.relative_to("/runpod-volume"))) as audio:
        return audio.getnframes() / audio.getframerate()


def test_an_empty_volume_becomes_a_worker(
    container: Container, place: Path, report: Report
) -> None:
    """With a read-only root, as a user without a name; then again as root, on what is there."""
    done, first = answer(container, place / "first.log")
    assert spoken(done, container) > 0.5
    report("first start: seconds", f"{first:.1f}")
    assert "environment: installing" in (place / "first.log").read_text()
    files = {path: path.stat().st_mtime_ns for path in installed_files(container)}
    done, second = answer(replace(container, user=0), place / "second.log")
    assert spoken(done, container) > 0.5
    report("second start: seconds", f"{second:.1f}")
    assert "installing" not in (place / "second.log").read_text()
    assert files == {path: path.stat().st_mtime_ns for path in installed_files(container)}


@pytest.mark.parametrize("moment", ["", "environment: installing"])
def test_a_stop_during_the_install_is_heard(
    container: Container, tmp_path: Path, moment: str
) -> None:
    """At once after the start too; the lease is released, and nothing half is left in place."""
    started = replace(container, volume=tmp_path, user=0)
    log = tmp_path.with_suffix(".log")
    process = started.start(log=log)
    uses = tmp_path / "SparkTTS-serverless" / "uses"  # the first that it writes
    until(lambda: uses.exists() and moment in log.read_text(), 60, pause=0.02, said=log.read_text)
    assert started.stop(process, seconds=10) == STOPPED, log.read_text()
    assert "stopped by SIGTERM" in log.read_text()
    leases = tmp_path / "SparkTTS-serverless" / "locks"
    for lease in leases.glob("*"):
        held = f"{sorted(path.name for path in lease.iterdir())}: {log.read_text()}"
        assert is_free(lease, newest_claim(lease)), held
    assert not list(installed_files(started))


def installed_files(container: Container) -> list[Path]:
    assert isinstance(container.volume, Path)
    root = container.volume / "SparkTTS-serverless"
    return [*root.glob("envs/**/*"), *root.glob("models/**/*")]


@pytest.mark.parametrize(
    ("volume", "status", "said"),
    [
        ([], 3, "no volume is mounted at /runpod-volume"),
        (["--tmpfs", "/runpod-volume", "--remount-ro", "/runpod-volume"], 4, "cannot be written"),
        (["--size", "9000000", "--tmpfs", "/runpod-volume"], 5, "are missing"),
    ],
)
def test_a_volume_that_will_not_do(
    container: Container, volume: list[str], status: int, said: str
) -> None:
    """In words, and with an exit status of its own: RunPod restarts what ends, for money."""
    ended, output = replace(container, volume=volume).run()
    assert said in output
    assert ended == status
