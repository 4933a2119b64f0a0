"""The HTTP door's life as its users start it: `python -m worker --http`, signals, exit statuses."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.first_process import AS_FIRST, first_process
from tests.support.http_worker import HttpWorker, http_serving, starting
from tests.support.waiting import until
from tests.support.worker_process import NO_ALIGNER, REPOSITORY, environment, free_port

LONG_TEXT = "The old man went to the sea and looked at the water for a long time. " * 40


def begun(worker: HttpWorker) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    """A stream whose first bytes have come."""
    connection = http.client.HTTPConnection("127.0.0.1", worker.port, timeout=60)
    body = {"input": LONG_TEXT, "response_format": "pcm"}
    headers = {"Content-Type": "application/json"}
    connection.request("POST", "/v1/audio/speech", json.dumps(body), headers)
    answer = connection.getresponse()
    assert answer.status == 200
    assert answer.read(100)
    return connection, answer


def test_it_answers_before_torch_is_there(demo_volume: Path, tmp_path: Path) -> None:
    """The imports are on `sys.modules` of a process that has just begun to listen."""
    code = (
        "import sys, worker.serve.startup, worker.serve.http.server;"
        "print(sorted({'torch', 'fastapi', 'boto3', 'aiohttp', 'av'} & {*sys.modules}))"
    )
    env = environment(demo_volume)
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
    with starting(env, tmp_path) as worker:
        until(lambda: worker.health() is not None, 60)
        assert not worker.events("check passed")
        assert worker.health() == 204


def test_a_stop_while_it_loads_ends_it_at_once(demo_volume: Path, tmp_path: Path) -> None:
    with starting(environment(demo_volume), tmp_path) as worker:
        until(lambda: worker.health() == 204, 60)
        assert worker.stop() == -signal.SIGTERM
        assert "Traceback" not in worker.written()


def test_a_stop_lets_a_stream_go_on_and_then_ends_it_with_status_0(
    demo_volume: Path, tmp_path: Path
) -> None:
    env = environment(demo_volume, DRAIN_SECONDS="3", **NO_ALIGNER)
    with http_serving(env, tmp_path) as worker:
        connection, answer = begun(worker)
        with socket.create_connection(("127.0.0.1", worker.port)):  # says nothing
            worker.process.send_signal(signal.SIGTERM)
            until(lambda: worker.health() == 503, 10)
            worker.process.send_signal(signal.SIGTERM)  # changes nothing
            assert answer.read(1000)
            # The rest is not read: the client does not hold the worker up.
            assert worker.process.wait(20) == 0
        connection.close()
        events = [line["event"] for line in worker.events()]
        assert "worker ends" in events[-2:]  # the job's own thread may be the last to tell
        assert "ended by force" not in events
        assert events.count("draining") == 1
        assert "Traceback" not in worker.written()


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_one_ends_with_status_0(
    demo_volume: Path, tmp_path: Path, stop: signal.Signals
) -> None:
    with http_serving(environment(demo_volume, **NO_ALIGNER), tmp_path) as worker:
        worker.process.send_signal(stop)
        assert worker.process.wait(20) == 0
        assert worker.events("worker ends")[0]["reason"] == stop.name


def test_a_failed_start_says_why_and_ends_with_status_1(demo_volume: Path, tmp_path: Path) -> None:
    env = environment(demo_volume, LOCAL_STORAGE_DIR="/proc/nowhere", **NO_ALIGNER)
    with starting(env, tmp_path) as worker:
        assert worker.process.wait(120) == 1
        assert len(worker.events("setup failed")) == 1
        assert worker.events()[-1]["event"] == "setup failed"
        assert "Traceback" not in worker.written()


def test_a_port_that_is_taken_is_said_before_anything_is_loaded(
    demo_volume: Path, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        env = environment(demo_volume, PORT=str(taken.getsockname()[1]))
        with starting(env, tmp_path) as worker:
            assert worker.process.wait(60) == 1
            (line,) = worker.events()
    assert line["event"] == "setup failed"
    assert line["error"].startswith("PORT: ")


def test_a_containers_first_process_drains_too(demo_volume: Path, tmp_path: Path) -> None:
    """As the image starts it: the installer becomes the worker, and PID 1 passes stops on."""
    port = free_port()
    env = environment(demo_volume, PORT=str(port), HTTP_HOST="127.0.0.1", **NO_ALIGNER)
    log = tmp_path / "worker.log"
    with log.open("wb") as out:
        around = subprocess.Popen(
            [*AS_FIRST, sys.executable, "-m", "worker", "--http"],
            env=env,
            cwd=REPOSITORY,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        worker = HttpWorker(around, port, log)
        worker.wait_until_ready()
        import os

        os.kill(first_process(around.pid), signal.SIGTERM)
        assert around.wait(30) == 0
        assert worker.events()[-1]["event"] == "worker ends"
    finally:
        around.kill()
        around.wait()
