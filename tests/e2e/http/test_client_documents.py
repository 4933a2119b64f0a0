"""The programs of docs/CLIENTS.md, docs/HTTP.md and README.md, as they are written, by both doors.

The queue is the stand-in, with real workers; HTTP is a worker's process too. All have a bucket.
"""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.platform.queue.server import CLIENT_KEY, ENDPOINT, Queue
from tests.platform.queue.workers import worker
from tests.support.documents import Program, programs
from tests.support.http_worker import HttpWorker, http_serving
from tests.support.node import node_command
from tests.support.s3 import ACCESS_KEY, SECRET_KEY, s3_server
from tests.support.waiting import until
from tests.support.worker_process import NO_ALIGNER, REPOSITORY, environment, free_port
from worker.audio.formats import PCM_RATE

BUCKET = "clients-bucket"
HOME = "http://localhost:8000"  # where `make serve` is
WEBHOOK = "By webhook"
STREAMED = "Streamed, by the queue"
# What the programs below a heading print, by language where that is not the same for all.
TOLD = {
    "At once, by the queue": {"python": r"[\d.]+ seconds, seed \d+", "javascript": r"seed \d+"},
    "In the background": {
        "python": "^COMPLETED .*audio_url",
        "javascript": "(?s)^COMPLETED .*audio_url",
    },
    STREAMED: r"(?s)^0 They bought .+ http.+\n1 The children .+\nthe whole: http",
    "As events": {
        "python": r"^They bought a new car last year\. \['They', 'bought'.+\nThe children",
        "javascript": r"(?s)^They bought a new car last year\. \[.*'They',.+\nThe children",
    },
    "Text that comes piece by piece": r"(?s)^session\.started.+\n"
    r"speech\.sentence They bought a new car last year\.\n.*"
    r"speech\.sentence The children read a book\.\n.*speech\.done",
    "Delivered again": r"^(True True|\d+ bytes)$",
    "Errors": {
        "sh": r'"param": ?"speed"',
        "python": "^(invalid_request temperature .+|400 invalid_request speed .+)$",
        "javascript": "^(invalid_request temperature .+|400 invalid_request speed .+)$",
    },
}
Variables = Callable[[Program], dict[str, str]]
ALL = programs()
RECEIVERS = [one for one in ALL if one.heading == WEBHOOK and one.language != "sh"]


@pytest.fixture(scope="module")
def env(demo_volume: Path) -> Iterator[dict[str, str]]:
    """What all workers of this file run with."""
    with s3_server(BUCKET) as s3:
        yield environment(
            demo_volume,
            S3_BUCKET_NAME=BUCKET,
            AWS_ACCESS_KEY_ID=ACCESS_KEY,
            AWS_SECRET_ACCESS_KEY=SECRET_KEY,
            AWS_ENDPOINT_URL=s3,
        )


@pytest.fixture(scope="module")
def queue(env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A queue's address, as its clients know it."""
    with endpoint({**env, **NO_ALIGNER}, tmp_path_factory.mktemp("queue")) as url:
        yield url


@pytest.fixture(scope="module")
def streaming(env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One whose worker streams."""
    own = {**env, **NO_ALIGNER, "STREAM": "true"}
    with endpoint(own, tmp_path_factory.mktemp("streaming")) as url:
        yield url


@contextmanager
def endpoint(env: Mapping[str, str], folder: Path) -> Iterator[str]:
    queue = Queue(hold_seconds=1.0, webhook_pause=0.1)
    with queue.running(), worker(queue, "one", env, folder):
        yield f"{queue.url}/v2/{ENDPOINT}"


@pytest.fixture(scope="module")
def http(env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a worker that asks for a key."""
    with http_serving({**env, "API_KEY": CLIENT_KEY}, tmp_path_factory.mktemp("http")) as served:
        yield served.url


@pytest.fixture
def variables(request: pytest.FixtureRequest, demo_volume: Path) -> Variables:
    """What a program finds in its environment; the servers that it names are started."""

    def given(program: Program) -> dict[str, str]:
        env = environment(demo_volume, RUNPOD_API_KEY=CLIENT_KEY, WORKER_KEY=CLIENT_KEY)
        if "WORKER" in program.text:
            env["WORKER"] = request.getfixturevalue("http")
        if "QUEUE" in program.text:
            streams = program.heading == STREAMED
            env["QUEUE"] = request.getfixturevalue("streaming" if streams else "queue")
        return env

    return given


@pytest.fixture
def at_home(request: pytest.FixtureRequest) -> Callable[[Program], Program]:
    """Has the programs that speak to `make serve` speak to a worker at another port."""

    def moved(program: Program) -> Program:
        if HOME not in program.text:
            return program
        url = request.getfixturevalue("http_worker").url
        return replace(program, text=program.text.replace(HOME, url))

    return moved


def command_of(program: Program, folder: Path) -> list[str]:
    if program.language == "javascript":
        return node_command(program.text, folder)
    if program.language == "python":
        return [sys.executable, "-c", program.text]
    return ["bash", "-euo", "pipefail", "-c", program.text]


def run(program: Program, folder: Path, env: Mapping[str, str]) -> str:
    """Run it to its end in this folder; what it prints."""
    done = subprocess.run(
        command_of(program, folder), cwd=folder, env=dict(env), text=True, capture_output=True,
        timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "program", [p for p in ALL if p.heading != WEBHOOK], ids=lambda program: program.name
)
def test_a_program_does_what_it_says(
    program: Program,
    variables: Variables,
    at_home: Callable[[Program], Program],
    tmp_path: Path,
) -> None:
    for name in program.needs:
        (tmp_path / name).write_bytes((REPOSITORY / "volume/demo/voices/demo.wav").read_bytes())
    printed = run(at_home(program), tmp_path, variables(program))
    told = TOLD.get(program.heading, "")
    pattern = told if isinstance(told, str) else told.get(program.language, "")
    assert re.search(pattern, printed, re.MULTILINE), printed
    written = check_files(tmp_path, {*program.needs, "program.mjs", "node_modules"})
    assert written or printed.strip()


def check_files(folder: Path, besides: set[str]) -> int:
    """All that a program has written is whole; how many files that are."""
    files = [file for file in folder.iterdir() if file.name not in besides]
    for file in files:
        content = file.read_bytes()
        if file.suffix == ".json":
            check_answer(json.loads(content))
        elif file.suffix == ".txt":
            check_events(content.decode())
        else:
            assert duration(content, file.suffix) > 0.5, file.name
    return len(files)


def check_answer(answer: Any) -> None:
    """An answer of the queue, or of a route of ours."""
    assert "error" not in answer, answer
    if answer.get("status") == "COMPLETED" or "audio_url" in answer:
        speech = answer.get("output", answer)
        with urllib.request.urlopen(speech["audio_url"], timeout=30) as audio:
            assert duration(audio.read(), "") == pytest.approx(speech["duration"], abs=0.2)


def check_events(text: str) -> None:
    """Server-sent events of ours: audio, sentences with words, the end."""
    events = [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line]
    assert [e["type"] for e in events if e["type"] != "speech.audio.delta"] == [
        "speech.sentence",
        "speech.done",
    ]
    (sentence,) = (e for e in events if e["type"] == "speech.sentence")
    assert [word["word"] for word in sentence["words"]] == sentence["text"].split()


def duration(content: bytes, suffix: str) -> float:
    if suffix == ".pcm":
        return len(content) / 2 / PCM_RATE
    with av.open(io.BytesIO(content)) as file:
        (stream,) = file.streams
        return sum(frame.samples for frame in file.decode(stream)) / stream.rate


@pytest.mark.parametrize("receiver", RECEIVERS, ids=lambda program: program.name)
def test_a_webhook_is_told_of_the_job_s_end(
    receiver: Program, variables: Variables, tmp_path: Path
) -> None:
    (sender,) = (one for one in ALL if one.heading == WEBHOOK and one.language == "sh")
    port = str(free_port())
    printed = tmp_path / "printed"
    with printed.open("wb") as out:
        process = subprocess.Popen(
            command_of(receiver, tmp_path), cwd=tmp_path, env={**variables(receiver), "PORT": port},
            stdout=out, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        until(lambda: listens(int(port)), 30, said=printed.read_text)
        hook = {"WEBHOOK": f"http://127.0.0.1:{port}/speech"}
        answer = json.loads(run(sender, tmp_path, {**variables(sender), **hook}))
        assert answer["status"] == "IN_QUEUE"
        until(lambda: answer["id"] in printed.read_text(), 60, said=printed.read_text)
        assert re.search(f"(?m)^{answer['id']} COMPLETED .*audio_url", printed.read_text())
        told = {"id": answer["id"], "status": "COMPLETED", "output": {}}
        again = urllib.request.Request(hook["WEBHOOK"], json.dumps(told).encode())
        assert urllib.request.urlopen(again, timeout=10).status == 200  # told again: seen once
        assert len(re.findall(f"^{answer['id']} ", printed.read_text(), re.MULTILINE)) == 1
    finally:
        process.kill()
        process.wait()


def listens(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_every_way_has_its_languages() -> None:
    """What is done by the queue's door or ours alone may be shown in one."""
    languages: dict[str, set[str]] = {}
    for program in ALL:
        if program.file.name == "CLIENTS.md":
            languages.setdefault(program.heading, set()).add(program.language)
    assert len(languages) >= 9
    assert sum(have == {"sh", "python", "javascript"} for have in languages.values()) >= 7
    assert TOLD.keys() | {WEBHOOK} <= languages.keys()


def test_the_document_has_every_route_and_every_metric(http_worker: HttpWorker) -> None:
    text = (REPOSITORY / "docs" / "HTTP.md").read_text()
    with urllib.request.urlopen(f"{http_worker.url}/openapi.json", timeout=10) as answer:
        paths = json.load(answer)["paths"]
    routes, _, rest = text[text.index("| route |") :].partition("\n\n")
    for path, methods in paths.items():
        (line,) = (one for one in routes.splitlines() if re.search(rf"[ `]{re.escape(path)}`", one))
        assert all(method.upper() in line for method in methods)
    with urllib.request.urlopen(f"{http_worker.url}/metrics", timeout=10) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    names = {
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in families
        if not re.search("^spark_tts_process_|_created$", family.name)
    }
    assert names == {*re.findall(r"`(spark_tts_\w+)`", rest)}
