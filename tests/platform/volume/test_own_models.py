"""An operator's own checkpoint from a hub: by its client, checked by the worker, spoken with."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.support.faulty_http import FaultyServer, Refusal, sha256
from tests.support.hub_server import REVISION, hub_of
from tests.support.volume_world import ROOT, World, flip_a_bit, world
from volume.in_place import links_below
from volume.layout import PREPARED
from volume.manifest import intact_manifest
from volume.pins import EMBEDDED

REPOSITORY = "me/my-voice"
NAME = f"{REPOSITORY}@{REVISION}"
CHECKPOINT = EMBEDDED / "demo" / "checkpoint"
LM = "LLM/model.safetensors"


def demo() -> dict[str, bytes]:
    """The embedded model's files, with a model card and what else lies in a repository."""
    paths = [path for path in CHECKPOINT.rglob("*") if path.is_file()]
    files = {path.relative_to(CHECKPOINT).as_posix(): path.read_bytes() for path in paths}
    return files | {
        "README.md": b"---\nlicense: apache-2.0\n---\n",
        "training/optimizer.pt": b"-" * 20_000,
        "../../../escaped.json": b"-",
    }


@dataclass(frozen=True)
class Own:
    """A volume, and a hub that has the operator's repository."""

    world: World
    hub: FaultyServer
    files: dict[str, bytes]

    def run(self, *arguments: str, **variables: str) -> tuple[int, str]:
        process = subprocess.run(
            [
                *(sys.executable, "-m", "tests.support.volume_program", str(self.world.pins)),
                *("0.2", "3", "worker", "-", "--attempts", "2", *arguments),
            ],
            cwd=ROOT,
            env=self.world.variables | variables,
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=240,
        )
        return process.returncode, process.stdout

    def install(self, name: str = NAME, **variables: str) -> tuple[int, str]:
        return self.run("install", "--model", name, **variables)

    @property
    def folder(self) -> Path:
        return self.world.layout.model(NAME)

    @property
    def installed(self) -> list[str]:
        return [path.name for path in self.world.layout.models.glob("*")]

    @property
    def fetched(self) -> int:
        """How many bytes of weights were sent."""
        weights = {f"/cdn/{sha256(d)}" for p, d in self.files.items() if p.endswith("safetensors")}
        return sum(sent for path, sent in self.hub.sent.items() if path in weights)


@pytest.fixture
def serve(tmp_path: Path, gpu_kernels: Path) -> Iterator[Callable[[dict[str, bytes]], Own]]:
    """Serve a repository of these files, on a volume of its own."""
    with world(tmp_path) as here:
        running = []
        shutil.copytree(gpu_kernels, here.layout.cubins)

        def start(files: dict[str, bytes]) -> Own:
            manager = hub_of({REPOSITORY: files}).running()
            hub = manager.__enter__()
            running.append(manager)
            return Own(replace(here, hub=hub), hub, files)

        yield start
        for manager in running:
            manager.__exit__(None, None, None)


def test_an_own_model_is_installed_recorded_prepared_speaks_and_needs_no_hub_again(
    serve: Callable[[dict[str, bytes]], Own], tmp_path: Path
) -> None:
    own = serve(demo())
    status, output = own.install()
    assert status == 0, output
    lines = output.splitlines()
    assert lines[0].startswith(f"{NAME}: ")
    assert "licence mit; 2 other files are no part of a voice model" in lines[0]
    kept = own.files.keys() - {"training/optimizer.pt", "../../../escaped.json"}
    recorded = {file.path: file.sha256 for file in intact_manifest(own.folder) or ()}
    assert recorded == {path: sha256(own.files[path]) for path in kept}
    assert (own.folder / PREPARED / "LLM" / "model.safetensors").is_file()
    assert not list(own.world.layout.mount.rglob("escaped*"))
    own.hub.refusal = lambda path, headers: Refusal(503)
    assert own.install()[0] == 0
    assert own.run("verify")[1].splitlines() == [
        f"clean: {REPOSITORY}",
        f"clean: {REPOSITORY}, prepared",
    ]
    flip_a_bit(own.folder / "BiCodec" / "config.yaml", 0.5)
    assert own.run("verify")[0] == 6
    own.hub.refusal = lambda path, headers: None
    status, output = own.run("verify", "--repair")
    assert status == 0, output
    assert (own.folder / "BiCodec" / "config.yaml").read_bytes() == own.files["BiCodec/config.yaml"]
    variables = own.world.variables | {"SPARK_MODEL": NAME, "LOCAL_STORAGE_DIR": str(tmp_path)}
    job = {"input": {"text": "Good morning.", "seed": 1}}
    done = subprocess.run(
        [sys.executable, "-m", "worker", f"--test_input={json.dumps(job)}"],
        cwd=ROOT, env=variables, check=False, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert list(tmp_path.rglob("*.wav"))


def changed(files: dict[str, bytes], path: str, *, key: str, value: object) -> dict[str, bytes]:
    """With another value in one of the JSON files."""
    return files | {path: json.dumps(json.loads(files[path]) | {key: value}).encode()}


def misfit() -> dict[str, bytes]:
    """A model that is refused when it has been looked at: so an install ends early."""
    return changed(demo(), "LLM/config.json", key="model_type", value="llama")


def without_a_tensor(files: dict[str, bytes]) -> dict[str, bytes]:
    data = files[LM]
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header.pop("model.norm.weight")
    again = json.dumps(header).encode()
    return files | {LM: len(again).to_bytes(8, "little") + again + data[8 + length :]}


def without_a_token(files: dict[str, bytes]) -> dict[str, bytes]:
    path = "LLM/tokenizer.json"
    return files | {path: files[path].replace(b"<|bicodec_semantic_7|>", b"<|something_else|>")}


MISFITS: dict[str, tuple[Callable[[dict[str, bytes]], dict[str, bytes]], str]] = {
    "shapes": (
        lambda files: changed(files, "LLM/config.json", key="intermediate_size", value=64),
        "layers.0.mlp.gate_proj.weight is [",
    ),
    "architecture": (
        lambda files: changed(files, "LLM/config.json", key="model_type", value="llama"),
        "model_type is 'llama', not qwen2",
    ),
    "tensors": (without_a_tensor, "LLM/model.safetensors lacks norm.weight"),
    "tokens": (
        without_a_token,
        "LLM/tokenizer.json lacks 1 of the codec's 720 semantic tokens: <|bicodec_semantic_7|>",
    ),
    "vocabulary": (
        lambda files: changed(files, "LLM/config.json", key="vocab_size", value=100),
        "and LLM/config.json a vocabulary of 100",
    ),
    "codec": (
        lambda files: files | {"BiCodec/model.safetensors": files["aligner/model.safetensors"]},
        "BiCodec/model.safetensors does not fit its config",
    ),
    "no safetensors": (
        lambda files: files | {LM: b"\xff" * 20_000},
        "LLM/model.safetensors is no safetensors file",
    ),
}


# One of each file that is looked at; tests/unit/worker/speech/test_fit.py has every reason.
FEW = ("architecture", "tensors", "tokens", "no safetensors")


@pytest.mark.parametrize("what", MISFITS if os.environ.get("FULL") else FEW)
def test_what_does_not_fit_is_named_before_the_weights_are_downloaded(
    serve: Callable[[dict[str, bytes]], Own], what: str
) -> None:
    change, reason = MISFITS[what]
    own = serve(change(demo()))
    status, output = own.install()
    assert status == 8, output
    assert reason in output
    assert own.installed == []
    assert own.fetched < 100_000  # no more than the headers


def test_what_only_the_whole_file_tells_is_named_before_it_is_published(
    serve: Callable[[dict[str, bytes]], Own],
) -> None:
    """A pickle has no header to look at."""
    files = demo()
    files.pop("wav2vec2-large-xlsr-53/model.safetensors")
    own = serve(files | {"wav2vec2-large-xlsr-53/pytorch_model.bin": b"PK" + b"-" * 20_000})
    status, output = own.install()
    assert status == 8, output
    assert "wav2vec2-large-xlsr-53/pytorch_model.bin" in output
    assert own.installed == []


def test_a_branch_is_told_as_a_commit_and_not_installed(
    serve: Callable[[dict[str, bytes]], Own],
) -> None:
    own = serve(demo())
    for name in (REPOSITORY, f"{REPOSITORY}@main"):
        status, output = own.install(name)
        assert status == 2
        assert output.rstrip().endswith(f"today it is this one: {NAME}")
    assert own.installed == []


def gated(path: str, headers: Mapping[str, str]) -> Refusal | None:
    """As the hub does: it lists a gated repository for all, and gives its files to some."""
    if "/resolve/" not in path or headers["Authorization"] == "Bearer one-that-may":
        return None
    return Refusal(403 if headers["Authorization"] else 401, {"X-Error-Code": "GatedRepo"})


def private(path: str, headers: Mapping[str, str]) -> Refusal | None:
    """As the hub does: to those who may not see it, it is not there."""
    if path.startswith("/cdn/") or headers["Authorization"] == "Bearer one-that-may":
        return None
    return Refusal(404 if headers["Authorization"] else 401, {"X-Error-Code": "RepoNotFound"})


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        (gated, "Ask for access on the repository's page, and set HF_TOKEN"),
        (private, "it is private: then set HF_TOKEN to a token that may read it"),
    ],
)
def test_what_is_not_for_all_is_told_with_what_to_do_and_had_by_a_token(
    serve: Callable[[dict[str, bytes]], Own],
    refusal: Callable[[str, Mapping[str, str]], Refusal | None],
    words: str,
) -> None:
    own = serve(misfit())
    own.hub.refusal = refusal
    status, output = own.install()
    assert status == 7, output
    assert words in output
    status, output = own.install(HF_TOKEN="another")
    assert status == 7, output
    assert "HF_TOKEN" in output
    assert "another" not in output
    status, output = own.install(HF_TOKEN="one-that-may")
    assert (status, "not qwen2" in output) == (8, True), output
    assert "one-that-may" not in output


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        (Refusal(404, {"X-Error-Code": "RevisionNotFound"}), "has no such revision"),
        (Refusal(404), "there is no such repository or revision"),
        (Refusal(429), "asks for fewer requests"),
        (Refusal(503), "did not answer in 2 attempts: 503"),
    ],
)
def test_a_hub_that_refuses_is_told_in_words(
    serve: Callable[[dict[str, bytes]], Own], refusal: Refusal, words: str
) -> None:
    own = serve(demo())
    own.hub.refusal = lambda path, headers: refusal
    status, output = own.install()
    assert status == 7
    assert words in output
    assert "Traceback" not in output


def test_a_busy_hub_is_asked_again(serve: Callable[[dict[str, bytes]], Own]) -> None:
    own = serve(misfit())
    own.hub.fault = lambda path, times: "429" if times == 0 and path.startswith("/api/") else None
    assert own.install()[0] == 8


def test_a_hub_that_is_none_is_told(serve: Callable[[dict[str, bytes]], Own]) -> None:
    own = serve(demo())
    find = own.hub.find
    own.hub.find = lambda path: (
        replace(find(path), body=b"<html>") if path.startswith("/api/") else find(path)
    )
    status, output = own.install()
    assert status == 7
    assert "is HF_ENDPOINT a Hugging Face hub?" in output


def test_what_the_platform_has_cached_is_taken_without_a_word_from_the_hub(
    serve: Callable[[dict[str, bytes]], Own],
) -> None:
    """As a private repository's, for which the platform has the token."""
    files = {path: data for path, data in demo().items() if ".." not in path}
    own = serve(files)
    subprocess.run(
        [
            *(sys.executable, "-m", "huggingface_hub.cli.hf", "download", REPOSITORY),
            *("--revision", REVISION, "--cache-dir", str(own.world.layout.cached_models)),
        ],
        cwd=ROOT,
        env=own.world.variables | {"HF_HUB_DISABLE_XET": "1"},
        check=True,
        capture_output=True,
    )
    own.hub.refusal = private
    own.hub.sent.clear()
    status, output = own.install()
    assert status == 0, output
    assert "licence apache-2.0" in output
    assert links_below(own.folder) == sorted(own.files.keys() - {"training/optimizer.pt"})
    assert not own.hub.sent
    flip_a_bit((own.folder / LM).resolve(), 0.5)
    os.utime((own.folder / LM).resolve(), ns=(1, 1))
    status, output = own.install()
    assert status == 7
    assert f"gone or others: {LM}" in output
    status, output = own.install(HF_TOKEN="one-that-may")
    assert status == 0, output
    assert (own.folder / LM).read_bytes() == own.files[LM]
