"""An installer on an empty volume whose programs run in this process: milliseconds, no network."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.support.hub_server import git_blob, hub_pins
from tests.support.index_server import Wheel, index_of, make_wheel, write_pins
from tests.support.volume_world import REPOSITORY, some_wheels
from volume.hub import METADATA
from volume.installer import Installer
from volume.layout import Layout
from volume.lease import Lease, Process, Timing, acquire
from volume.pins import PinnedEnvironment, PinnedModel, pinned_environment, pinned_model
from volume.process import Outcome

QUICK = Timing(heartbeat=0.01, takeover=0.2, poll=0.005)
FILES = {
    "config.json": b'{"a": 1}',
    "LLM/tokenizer.json": b'{"b": 2}',  # its hash is not in the lock
    "LLM/model.safetensors": bytes(range(256)) * 50,
    "BiCodec/model.safetensors": bytes(range(256)) * 30,
}
UNKNOWN = "LLM/tokenizer.json"
CUBIN = b"compiled"


@dataclass
class Programs:
    """Stands in for `run_child`: uv, the hub's client and the preparation, each doing its work.

    `instead` is asked first, with the program's name and its command; the outcome that it gives is
    that of the program, which then does nothing. `after` is called when one has done its work.
    """

    wheels: list[Wheel]
    files: dict[str, bytes]
    ran: list[tuple[str, list[str]]] = field(default_factory=list)
    environments: list[dict[str, str]] = field(default_factory=list)
    instead: Callable[[str, list[str]], Outcome | None] = lambda name, command: None
    after: Callable[[str, list[str]], None] = lambda name, command: None

    def __call__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        watch: Callable[[int], None] = lambda _: None,
        interval: float = 0.2,
    ) -> Outcome:
        words = list(command)
        name = next(
            name
            for name, word in (
                ("hub", "huggingface_hub.cli.hf"),
                ("prepare", "worker.prepare"),
                ("fit", "worker.speech.fit"),
                ("kernels", "worker.speech.cuda.cubins"),
                ("uv", "pip"),
                ("torch", "-c"),
            )
            if word in words
        )
        self.ran.append((name, words))
        self.environments.append(dict(environment))
        watch(7)
        outcome = self.instead(name, words)
        if outcome is None:
            getattr(self, name)(words)
            outcome = Outcome(0, "True" if name == "torch" else "")
        self.after(name, words)
        return outcome

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.ran]

    def uv(self, command: list[str]) -> None:
        target = Path(command[command.index("--target") + 1])
        asked = Path(command[command.index("-r") + 1]).read_text().split()
        for wheel in self.wheels:
            if any(word.split("==")[0] == wheel.name for word in asked):
                zipfile.ZipFile(BytesIO(wheel.data)).extractall(target)
        target.mkdir(parents=True, exist_ok=True)
        (target / ".lock").touch()

    def hub(self, command: list[str]) -> None:
        """As the client does: a file that is there, with its note, is not fetched again."""
        first = command.index("download") + 2
        folder = Path(command[command.index("--local-dir") + 1])
        revision = command[command.index("--revision") + 1]
        for path in command[first : command.index("--revision")]:
            note = folder / METADATA / f"{path}.metadata"
            if (folder / path).exists():
                continue
            for place in (note, folder / path):
                place.parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(self.files[path])
            note.write_text(f"{revision}\n{git_blob(self.files[path])}\n1.0\n")

    def prepare(self, command: list[str]) -> None:
        folder = Path(command[-1])
        folder.mkdir()
        (folder / "fast.bin").write_bytes(b"fast " * 20)

    def fit(self, command: list[str]) -> None:
        pass

    def kernels(self, command: list[str]) -> None:
        folder = Path(command[-1])
        folder.mkdir(parents=True)
        name = f"lm-sm_90-0123456789abcdef-{hashlib.sha256(CUBIN).hexdigest()}.cubin"
        (folder / name).write_bytes(CUBIN)

    def torch(self, command: list[str]) -> None:
        pass


@dataclass(frozen=True)
class Parts:
    """An installer, what it said, and the programs that it runs."""

    installer: Installer
    said: list[str]
    programs: Programs

    @property
    def layout(self) -> Layout:
        return self.installer.layout

    @property
    def environment(self) -> PinnedEnvironment:
        return pinned_environment(self.installer.pins)

    @property
    def model(self) -> PinnedModel:
        return pinned_model("small", self.installer.pins)

    @property
    def environment_folder(self) -> Path:
        return self.layout.environments / self.environment.digest

    @property
    def model_folder(self) -> Path:
        return self.layout.models / self.model.resource

    def change_pins(self, **values: object) -> None:
        """Change the entry of the model `small`."""
        file = self.installer.pins / "models.json"
        content = json.loads(file.read_text())
        content["models"]["small"] |= values
        file.write_text(json.dumps(content))


def parts(
    folder: Path, monkeypatch: pytest.MonkeyPatch, wheels: list[Wheel] | None = None
) -> Parts:
    """An installer on an empty volume, from a small environment and a small model."""
    if wheels is None:
        wheels = [*some_wheels(size=300), make_wheel("fast", "2.0.post2", {"fast.py": b"F = 1\n"})]
    models = {"small": hub_pins(REPOSITORY, FILES, unknown=(UNKNOWN,))}
    write_pins(folder / "pins", index_of(wheels, []), wheels, [], models)
    (folder / "volume").mkdir()
    programs = Programs(wheels, dict(FILES))
    for module in ("hub", "environment", "models", "fitness"):
        monkeypatch.setattr(f"volume.{module}.run_child", programs)
    said: list[str] = []
    installer = Installer(
        Layout(folder / "volume"),
        said.append,
        uv=sys.executable,
        pins=folder / "pins",
        timing=QUICK,
        attempts=3,
        pause=1.0,
    )
    return Parts(installer, said, programs)


def held(folder: Path, timing: Timing = QUICK) -> Lease:
    """A lease that nobody else wants."""
    lease = acquire(folder, is_done=lambda: False, timing=timing)
    assert lease is not None
    return lease


def elsewhere() -> Process:
    """A process of another machine, of which nothing can be known from here."""
    return replace(Process.current(), boot="another boot", host="elsewhere", pid=1)


def claim_of(folder: Path, generation: int, owner: Process) -> None:
    """Another's claim, with a heartbeat that stands still."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{generation:08d}.claim").write_text(json.dumps(asdict(owner)))
    (folder / f"{generation:08d}.heartbeat").write_bytes(b"%012d" % 7)


def take_over_the_lease(folder: Path) -> None:
    """Let another claim the lease, and wait until its holder here has seen it."""
    newest = max(int(path.stem) for path in folder.glob("*.claim"))
    claim_of(folder, newest + 1, elsewhere())
    for thread in threading.enumerate():
        if thread.name == "lease":
            thread.join(timeout=10)


def with_free_bytes(monkeypatch: pytest.MonkeyPatch, *free: int) -> None:
    """Let the volume say that so many bytes are free: these in turn, and the last for ever."""
    answers: Iterator[int] = iter(free)
    last = free[-1]
    monkeypatch.setattr(
        shutil, "disk_usage", lambda folder: SimpleNamespace(free=next(answers, last))
    )


def without_pauses(monkeypatch: pytest.MonkeyPatch, module: str) -> list[float]:
    """Note a module's pauses instead of waiting."""
    pauses: list[float] = []
    monkeypatch.setattr(f"volume.{module}.time", SimpleNamespace(sleep=pauses.append))
    return pauses
