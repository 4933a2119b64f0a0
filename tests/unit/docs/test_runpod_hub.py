"""The Hub's files: of the form that RunPod's publishing guide gives, and true of this worker."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from math import ceil
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, model_validator

from tests.support.worker_process import REPOSITORY
from volume.__main__ import parser
from volume.container_disk import MIN_DISK_PERCENT, bytes_to_install
from volume.installer import Installer
from volume.layout import Layout
from volume.mount import container_disk_allowed
from volume.pins import PinnedModel, pinned_environment, pinned_model
from worker.api.request import parse_request
from worker.serve.startup import HTTP
from worker.settings import Settings

HUB = REPOSITORY / ".runpod"
LOAD_BALANCER = HUB / "load-balancer"  # what a fork puts in place of the listing
# Pools of GPUs in RunPod's documentation, of generations that flash-attn 2 runs on.
POOLS = {
    "AMPERE_16", "AMPERE_24", "AMPERE_48", "AMPERE_80", "ADA_24", "ADA_48_PRO", "ADA_80_PRO",
    "HOPPER_141",
}  # fmt: skip
# What RunPod itself reads of an endpoint's variables (docs.runpod.io, "Optimize your endpoints").
OF_THE_PLATFORM = {"RUNPOD_INIT_TIMEOUT"}
SLOW = 10_000_000  # bytes a second of a download that a first start must survive
CudaVersion = Annotated[str, Field(pattern=r"^1[2-9]\.\d$")]
Key = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$")]


class Form(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Option(Form):
    label: str
    value: str


class Input(Form):
    name: str
    type: Literal["string", "number", "boolean", "huggingface"]
    description: str
    default: str | int | float | bool
    options: list[Option] | None = None
    min: float | None = None
    max: float | None = None
    advanced: bool = False
    trueValue: str | None = None  # noqa: N815 - the Hub's name
    falseValue: str | None = None  # noqa: N815

    @model_validator(mode="after")
    def _default_fits(self) -> Input:
        kinds = {"number": (int, float), "boolean": bool}
        assert isinstance(self.default, kinds.get(self.type, str))
        assert self.options is None or self.default in [o.value for o in self.options]
        return self


class Variable(Form):
    key: Key
    value: str | None = None
    input: Input | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Variable:
        assert (self.value is None) != (self.input is None)
        return self


class Preset(Form):
    name: str
    defaults: dict[str, str | int | float | bool]


class Config(Form):
    runsOn: Literal["GPU", "CPU"]  # noqa: N815
    endpointType: Literal["LB"] | None = None  # noqa: N815
    containerDiskInGb: Annotated[int, Field(gt=0)]  # noqa: N815
    gpuCount: Annotated[int, Field(gt=0)]  # noqa: N815
    gpuIds: str  # noqa: N815
    allowedCudaVersions: list[CudaVersion]  # noqa: N815
    presets: list[Preset]
    env: list[Variable]


class Hub(Form):
    title: str
    description: str
    type: Literal["serverless"]
    category: Literal["audio", "embedding", "language", "video", "image"]
    iconUrl: str | None = None  # noqa: N815
    config: Config


class Case(Form):
    name: str
    input: dict[str, Any]
    timeout: Annotated[int, Field(ge=1000)]  # milliseconds


class Fixed(Form):
    key: Key
    value: str


class Machine(Form):
    gpuTypeId: str  # noqa: N815
    gpuCount: Annotated[int, Field(gt=0)]  # noqa: N815
    env: list[Fixed]
    allowedCudaVersions: list[CudaVersion]  # noqa: N815


class Cases(Form):
    tests: Annotated[list[Case], Field(min_length=1)]
    config: Machine


def listing(folder: Path) -> Hub:
    return Hub.model_validate_json((folder / "hub.json").read_text())


@pytest.fixture(scope="module", params=[HUB, LOAD_BALANCER], ids=["queue", "load-balancer"])
def hub(request: pytest.FixtureRequest) -> Hub:
    return listing(request.param)


@pytest.fixture(scope="module")
def tests() -> Cases:
    return Cases.model_validate_json((HUB / "tests.json").read_text())


def test_every_variable_is_one_that_somebody_reads(hub: Hub, tests: Cases) -> None:
    known = {name.upper() for name in Settings.model_fields} | OF_THE_PLATFORM
    offered = [variable.key for variable in hub.config.env]
    preset = [key for preset in hub.config.presets for key in preset.defaults]
    assert {*offered, *preset, *(v.key for v in tests.config.env)} <= known
    assert len(set(offered)) == len(offered)


def test_what_is_offered_is_allowed_and_by_default_what_the_worker_takes(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in hub.config.env:
        if variable.key in OF_THE_PLATFORM:
            continue
        assert variable.input is not None
        field = Settings.model_fields[variable.key.lower()]
        default = "" if field.default is None else str(field.default)
        assert str(variable.input.default) == default, variable.key
        limits = [variable.input.min, variable.input.max]
        values = [o.value for o in variable.input.options or []]
        values += [str(int(limit)) for limit in limits if limit is not None]
        for value in values:
            monkeypatch.setenv(variable.key, value)
            Settings()
            monkeypatch.delenv(variable.key)


def test_the_jobs_are_ones_that_the_worker_takes(tests: Cases) -> None:
    for case in tests.tests:
        parse_request(case.input)
    assert len({case.name for case in tests.tests}) == len(tests.tests)


def test_the_driver_runs_the_locked_torch(hub: Hub, tests: Cases) -> None:
    (torch,) = (w for w in pinned_environment().wheels if w.name == "torch")
    cuda = re.search(r"\+cu(\d\d)(\d)$", torch.version)
    assert cuda
    needed = (int(cuda[1]), int(cuda[2]))
    for version in hub.config.allowedCudaVersions + tests.config.allowedCudaVersions:
        major, minor = map(int, version.split("."))
        assert (major, minor) >= needed, version


def to_install(model: str) -> list[PinnedModel]:
    speech = pinned_model(model)
    return [speech, *(pinned_model(name) for _, name in speech.aligners)]


def test_the_platform_waits_as_long_as_a_first_start_may_take(hub: Hub, tests: Cases) -> None:
    """Longer than the download of everything; RunPod's own 420 s are not."""
    wheels = sum(wheel.size or wheel.unpacked for wheel in pinned_environment().wheels)
    for model in ("Spark-TTS-0.5B", "demo"):
        everything = wheels + sum(model.size for model in to_install(model))
        (offered,) = (v.input for v in hub.config.env if v.key == "RUNPOD_INIT_TIMEOUT")
        assert offered is not None
        assert int(offered.default) > everything / SLOW > 420
        (fixed,) = (v.value for v in tests.config.env if v.key == "RUNPOD_INIT_TIMEOUT")
        assert int(fixed) > everything / SLOW


def test_the_containers_disk_holds_everything_where_no_volume_is_mounted(hub: Hub) -> None:
    """With what RunPod's SDK wants free, and two hours of a job's audio."""
    disk = hub.config.containerDiskInGb * 1_000_000_000
    nothing = Installer(Layout(Path("/nowhere")), print)
    needed = bytes_to_install(nothing, pinned_environment(), to_install("Spark-TTS-0.5B"))
    assert needed + 500_000_000 < disk * (1 - MIN_DISK_PERCENT / 100)
    page = (REPOSITORY / "docs" / "DEPLOY.md").read_text()
    assert f"A worker needs a place for {ceil(needed / 1e9)} GB, and on a volume" in page
    assert "| 20 GB |\n| `:VERSION-full`" in page
    assert hub.config.containerDiskInGb == 20


def test_a_preset_without_a_volume_says_so(hub: Hub, tests: Cases) -> None:
    allowed = {p.name: p.defaults.get("ALLOW_CONTAINER_DISK") for p in hub.config.presets}
    assert allowed == {
        "Spark-TTS 0.5B": None,
        "Spark-TTS 0.5B, without a network volume": "true",
        "Embedded demonstration model": "true",
    }
    assert container_disk_allowed({"ALLOW_CONTAINER_DISK": "true"})
    assert {v.key: v.value for v in tests.config.env}["ALLOW_CONTAINER_DISK"] == "true"


def test_the_gpus_are_pools_of_the_documentation(hub: Hub) -> None:
    assert set(hub.config.gpuIds.split(",")) <= POOLS


def test_the_other_listing_is_of_the_same_worker_by_its_other_door() -> None:
    queue, balanced = listing(HUB), listing(LOAD_BALANCER)
    assert (queue.config.endpointType, balanced.config.endpointType) == (None, "LB")
    own = {"env": [], "endpointType": None}
    assert queue.config.model_copy(update=own) == balanced.config.model_copy(update=own)
    of_both = {v.key: v for v in queue.config.env}
    more = [v for v in balanced.config.env if of_both.get(v.key) != v]
    assert {v.key for v in more} == {"API_KEY", "CORS_ORIGINS", "HTTP_MAX_REQUESTS", "VOICE_NAMES"}
    lines = (LOAD_BALANCER / "Dockerfile").read_text().splitlines()
    assert lines[-2] == (HUB / "Dockerfile").read_text().splitlines()[-1]
    command = json.loads(lines[-1].removeprefix("CMD "))
    assert parser().parse_args(["run", *command]).arguments == [HTTP]


@pytest.mark.slow("starts a process")
def test_the_files_that_the_hub_looks_for_lead_to_the_image() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    image = re.search(r"^FROM (\S+):(\S+)$", (HUB / "Dockerfile").read_text(), re.MULTILINE)
    assert image
    assert image.groups() == (f"gemeneye/{project['name']}", project["version"])
    assert f"IMAGE: {image[1]}\n" in (REPOSITORY / ".github/workflows/image.yml").read_text()
    started = subprocess.run(
        [sys.executable, str(HUB / "handler.py"), "--help"],
        env={"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "volume run" in started.stdout.replace("__main__.py", "volume"), started.stdout
    json.dumps(json.loads((HUB / "hub.json").read_text()), allow_nan=False)
