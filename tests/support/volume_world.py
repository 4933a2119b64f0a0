"""A volume, the servers it installs from, and installers as real processes."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.support.faulty_http import FaultyServer
from tests.support.hub_server import hub_of, hub_pins
from tests.support.index_server import Wheel, index_of, make_wheel, write_pins
from tests.support.slow_volume import slow_volume
from volume.layout import Layout
from volume.pins import PinnedEnvironment, PinnedModel, pinned_environment, pinned_model

REPOSITORY = "someone/small"
ROOT = Path(__file__).parents[2]

# How a test has a folder as a volume.
Mounting = Callable[[Path], AbstractContextManager[Path]]


def as_it_is(folder: Path) -> AbstractContextManager[Path]:
    """The folder, on the machine's own disk."""
    return nullcontext(folder)


@contextmanager
def mounted_slowly(folder: Path) -> Iterator[Path]:
    """The folder behind a network: 1 ms a call, 300 MB a second."""
    with slow_volume(folder, 1) as mounted:
        yield mounted.path


@dataclass(frozen=True)
class World:
    """One volume with its pins, an index and a hub that run for as long as the test does."""

    layout: Layout
    pins: Path
    index: FaultyServer
    hub: FaultyServer
    wheels: list[Wheel]
    model_files: dict[str, bytes]
    takeover: float = 3.0  # seconds of silence after which an installer or worker counts as dead
    mounting: Mounting = as_it_is
    rehearsal: str | None = None  # the module that is recorded for the start pack
    operator: Mapping[str, str] = field(default_factory=dict)  # what the operator sets besides

    def on(self, mount: Path) -> World:
        """The same pins and servers, and another volume."""
        return replace(self, layout=Layout(mount))

    @contextmanager
    def with_volume(self, folder: Path) -> Iterator[World]:
        """The same, on an empty volume that is removed at the block's end."""
        folder.mkdir()
        with self.mounting(folder) as mount:
            yield self.on(mount)
        shutil.rmtree(folder)

    @property
    def environment(self) -> PinnedEnvironment:
        return pinned_environment(self.pins)

    @property
    def model(self) -> PinnedModel:
        return pinned_model("small", self.pins)

    @property
    def environment_folder(self) -> Path:
        return self.layout.environments / self.environment.digest

    @property
    def model_folder(self) -> Path:
        return self.layout.models / self.model.resource

    @property
    def variables(self) -> dict[str, str]:
        return os.environ | {
            "RUNPOD_VOLUME": str(self.layout.mount),
            "SPARK_MODEL": "small",
            "UV_DEFAULT_INDEX": f"{self.index.url}/simple/",
            "UV_NO_CONFIG": "1",
            "UV_HTTP_TIMEOUT": "1",
            "HF_ENDPOINT": self.hub.url,
            "HF_HUB_DOWNLOAD_TIMEOUT": "1",
            "NO_PROXY": "127.0.0.1",
            **self.operator,
        }

    def start(
        self,
        *arguments: str,
        pins: Path | None = None,
        around: Sequence[str] = (),
        module: str = "worker",
    ) -> subprocess.Popen[str]:
        """Start `python -m volume` with short lease times; `around` is a command that runs it.

        `module` is what its command `run` becomes.
        """
        command = [*around, sys.executable, "-m", "tests.support.volume_program"]
        command += [str(pins or self.pins), "0.2", str(self.takeover), module]
        command += [self.rehearsal or "-"]
        command += ["--attempts", "3", *arguments]
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=self.variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def volume(
        self, *arguments: str, pins: Path | None = None, module: str = "worker"
    ) -> tuple[int, str]:
        """Run `python -m volume` to its end: the exit status and what it printed."""
        process = self.start(*arguments, pins=pins, module=module)
        output, _ = process.communicate(timeout=240)
        return process.returncode, output

    def installed(self, *arguments: str) -> str:
        """Install, and insist that it went well."""
        status, output = self.volume("install", *arguments)
        assert status == 0, output
        return output


def flip_a_bit(path: Path, where: float) -> None:
    """Damage a file as a failing disk does; `where` is from 0, its begin, to 1, its end."""
    data = bytearray(path.read_bytes())
    place = int(where * (len(data) - 1))
    data[place] ^= 1 << place % 8
    path.write_bytes(data)


def some_wheels(seed: int = 0, size: int = 60_000) -> list[Wheel]:
    noise = random.Random(seed)
    return [
        make_wheel(
            f"part-{number}",
            "1.0",
            {
                f"part_{number}/__init__.py": f"NUMBER = {number}\n".encode(),
                f"part_{number}/code.py": b"def answer():\n    return 42\n",
                f"part_{number}/data.bin": noise.randbytes(size),
            },
        )
        for number in range(4)
    ]


@contextmanager
def world(folder: Path, mounting: Mounting = as_it_is, size: int = 60_000) -> Iterator[World]:
    """Serve a small environment and a small model, and give an empty volume."""
    wheels = some_wheels(size=size)
    # As flash-attn's: the file's version has a local part that the metadata lacks.
    outside = [make_wheel("fast", "2.0.post2", {"fast.py": b"FAST = True\n"}, local="+cu1torch2")]
    files = {
        "config.json": b'{"a": 1}',
        "LLM/tokenizer.json": b'{"b": 2}',
        "LLM/model.safetensors": random.Random(1).randbytes(8 * size),
        "BiCodec/model.safetensors": random.Random(2).randbytes(3 * size),
    }
    (folder / "volume").mkdir()
    index, hub = index_of(wheels, outside), hub_of({REPOSITORY: files})
    with index.running(), hub.running(), mounting(folder / "volume") as mount:
        models = {"small": hub_pins(REPOSITORY, files, unknown=("LLM/tokenizer.json",))}
        write_pins(folder / "pins", index, wheels, outside, models)
        parts = (folder / "pins", index, hub, [*wheels, *outside], files)
        yield World(Layout(mount), *parts, mounting=mounting)
