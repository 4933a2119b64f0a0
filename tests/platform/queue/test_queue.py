"""The real SDK in real worker processes, against the stand-in for RunPod's queue."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import soundfile

from tests.conftest import DEMO_VOICE
from tests.platform.queue.server import API_KEY, Faults, Job, Queue
from tests.platform.queue.workers import WorkerProcess, worker
from tests.support.s3 import ACCESS_KEY, SECRET_KEY, Door, s3_client, s3_server
from tests.support.worker_process import NO_ALIGNER, environment

SHORT = {"text": "Please read this book to the children.", "prompt_speech_url": "demo.wav"}
LONG = {
    **SHORT,
    "text": "My sister bought a green car last year. She opened the window and looked at the "
    "garden. Please read this book to the children. " * 3,
}
BUCKET = "speech-bucket"


@pytest.fixture(scope="module")
def queue() -> Iterator[Queue]:
    with Queue(hold_seconds=1.0).running() as running:
        yield running


@pytest.fixture(scope="module")
def door() -> Iterator[Door]:
    with s3_server(BUCKET) as endpoint, Door(endpoint).running() as opened:
        s3_client(endpoint).upload_file(str(DEMO_VOICE), BUCKET, "voices/demo.wav")
        yield opened


@pytest.fixture(scope="module")
def env(demo_volume: Path, door: Door, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return environment(
        demo_volume,
        S3_BUCKET_NAME=BUCKET,
        AWS_ACCESS_KEY_ID=ACCESS_KEY,
        AWS_SECRET_ACCESS_KEY=SECRET_KEY,
        AWS_ENDPOINT_URL=door.url,
        TMPDIR=str(tmp_path_factory.mktemp("scratch")),
        DRAIN_SECONDS="20",
        **NO_ALIGNER,
    )


@pytest.fixture(scope="module")
def one(queue: Queue, env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Any:
    with worker(queue, "one", env, tmp_path_factory.mktemp("log")) as process:
        yield process
        check_log(process)


@pytest.fixture(autouse=True)
def _well_behaved(queue: Queue) -> Iterator[None]:
    yield
    queue.faults = Faults()


def check_log(process: WorkerProcess) -> list[dict[str, Any]]:
    """Every line of the worker's own is JSON; nothing secret is in the log."""
    written = process.log.read_text()
    for secret in (SECRET_KEY, API_KEY, "X-Amz-Signature", "Traceback"):
        assert secret not in written
    return process.events()


def events(process: WorkerProcess, job: str, name: str) -> list[dict[str, Any]]:
    return [e for e in check_log(process) if e.get("job") == job and e["event"] == name]


def length(url: str) -> float:
    with urllib.request.urlopen(url, timeout=30) as answer:
        samples, rate = soundfile.read(io.BytesIO(answer.read()))
    return len(samples) / rate


def without_queries(answer: dict[str, Any]) -> dict[str, Any]:
    segments = [
        {**segment, "audio_url": segment.get("audio_url", "").split("?")[0]}
        for segment in answer["segments"]
    ]
    return {**answer, "audio_url": answer["audio_url"].split("?")[0], "segments": segments}


def what_it_says(answer: dict[str, Any]) -> str:
    """All of it but what it cost and which twin it was."""
    said = {name: told for name, told in without_queries(answer).items() if name != "metrics"}
    return re.sub(r"twin-\d", "twin", json.dumps(said, sort_keys=True))


def test_a_job_is_taken_and_answered(queue: Queue, one: WorkerProcess) -> None:
    job = queue.wait(queue.put(SHORT))
    assert job.status == "COMPLETED"
    assert len(job.answers) == 1
    assert length(job.output["audio_url"]) == pytest.approx(job.output["duration"], abs=0.01)
    (event,) = events(one, job.id, "job answered")
    assert event["stages"]["speech"] > 0
    metrics = job.output["metrics"]
    assert {"queue", "speech", "codec", "storage", "first_audio", "overhead"} <= set(
        metrics["seconds"]
    )
    assert metrics["batch_occupancy"] >= 1


def test_an_error_is_the_jobs_failure(queue: Queue, one: WorkerProcess) -> None:
    job = queue.wait(queue.put({"text": "Hello.", "speed": "fast"}))
    assert job.status == "FAILED"
    assert "speed" in (job.error or "")
    assert events(one, job.id, "job failed")[0]["code"] == "invalid_request"


def test_jobs_share_the_batch(queue: Queue, one: WorkerProcess) -> None:
    jobs = [queue.wait(job) for job in [queue.put({**LONG, "seed": n}) for n in range(6)]]
    assert [job.status for job in jobs] == ["COMPLETED"] * 6
    assert max(job.output["metrics"]["batch_occupancy"] for job in jobs) > 9  # its own sentences
    assert queue.counts["take: batch"] > 0


def test_sentences_are_told_of_as_they_come(queue: Queue, one: WorkerProcess) -> None:
    job = queue.wait(queue.put({**LONG, "task_token": "cross_lingual", "stream": True}))
    told = [segment for update in job.progress for segment in update["segments"]]
    assert [s["index"] for s in told] == list(range(9))
    assert job.progress[-1]["done"] == job.progress[-1]["total"] == 9
    assert len(job.progress) > 1
    assert job.late_progress == 0
    for segment, final in zip(told, job.output["segments"], strict=True):
        assert (segment["text"], segment["start"]) == (final["text"], final["start"])
        assert segment["audio_url"].split("?")[0] == final["audio_url"].split("?")[0]
        seconds = final["end"] - final["start"]
        assert length(segment["audio_url"]) == pytest.approx(seconds, abs=0.01)


def test_a_job_delivered_again_is_answered_from_the_bucket(
    queue: Queue, one: WorkerProcess, door: Door
) -> None:
    asked = {**LONG, "stream": True, "save_voice": "again"}
    first = queue.wait(queue.put(asked)).output
    job_id = next(name for name, job in queue.jobs.items() if job.output is first)
    puts = sum(method == "PUT" for method, *_ in door.seen)
    queue.requeue(job_id)
    again = queue.wait(job_id)
    assert without_queries(again.output) == without_queries(first)
    assert length(again.output["audio_url"]) == pytest.approx(first["duration"], abs=0.01)
    assert sum(method == "PUT" for method, *_ in door.seen) == puts
    assert len(events(one, job_id, "job answered")) == 1
    assert len(events(one, job_id, "job answered again")) == 1


def test_a_record_whose_audio_is_gone_does_not_count(
    queue: Queue, one: WorkerProcess, door: Door
) -> None:
    job = queue.wait(queue.put(SHORT))
    first = job.output
    client = s3_client(door.url)
    client.delete_object(Bucket=BUCKET, Key=f"output/speech_{job.id}.wav")
    queue.requeue(job.id)
    again = queue.wait(job.id)
    assert len(events(one, job.id, "job answered")) == 2
    assert again.output["seed"] == first["seed"]
    assert length(again.output["audio_url"]) == pytest.approx(first["duration"], abs=0.01)


@pytest.mark.parametrize("fault", ["done_lost", "done_reset", "done_refused"])
def test_a_lost_answer_is_given_again(queue: Queue, one: WorkerProcess, fault: str) -> None:
    queue.faults = replace(Faults(), **{fault: 1.0})
    job_id = queue.put(SHORT)
    if fault == "done_reset":
        assert queue.wait(job_id).status == "COMPLETED"
        return
    queue.wait_until(lambda: queue.counts[f"fault: {fault}"] > 0, 30, "the fault")
    queue.faults = Faults()
    job = queue.wait(job_id)
    assert job.status == "COMPLETED"
    assert len(job.deliveries) == 2
    assert len(events(one, job_id, "job answered")) == 1
    assert len(events(one, job_id, "job answered again")) == 1


def test_a_job_whose_storage_stalls_delays_no_other(
    queue: Queue, one: WorkerProcess, door: Door
) -> None:
    """The bucket keeps one job waiting; meanwhile others are answered, and the worker pings."""
    stalled, released = threading.Event(), threading.Event()

    def stall() -> None:
        method, path, _ = door.seen[-1]
        if method == "PUT" and "_stalled" in path:
            stalled.set()
            released.wait(50)  # the worker gives a call a minute

    door.chance = stall
    try:
        slow = queue.put({**SHORT, "seed": 1}, "stalled")
        assert stalled.wait(30)
        pings = queue.workers["one"].pings
        others = [queue.wait(queue.put({**SHORT, "seed": n})) for n in range(3)]
        assert not queue.jobs[slow].ended
        queue.wait_until(lambda: queue.workers["one"].pings > pings, 5, "a ping")
        released.set()
        assert queue.wait(slow).status == "COMPLETED"
        assert all(job.ended_at < queue.jobs[slow].ended_at for job in others)
    finally:
        released.set()
        door.chance = lambda: None


@pytest.mark.parametrize("asked", ["GET", "PUT"])
def test_a_cancelled_job_leaves_a_bucket_that_does_not_answer_at_once(
    queue: Queue, one: WorkerProcess, door: Door, asked: str
) -> None:
    """Of one that waits the answer would come after a minute, as an error of the storage."""
    hung = threading.Event()

    def chance() -> float | None:
        if door.seen[-1][0] != asked:
            return None
        hung.set()
        return 60.0

    door.chance = chance
    try:
        job_id = queue.put(SHORT)
        assert hung.wait(60)
        queue.cancel(job_id)
        queue.wait_until(lambda: bool(events(one, job_id, "job cancelled")), 20, "the end")
    finally:
        door.chance = lambda: None
    assert queue.wait(queue.put(SHORT)).status == "COMPLETED"


def test_a_cancelled_job_frees_its_rows(queue: Queue, one: WorkerProcess) -> None:
    endless = {**LONG, "text": LONG["text"] * 20, "stream": True}
    job_id = queue.put(endless)
    queue.wait_until(lambda: bool(queue.jobs[job_id].progress), 60, "its first sentence")
    queue.cancel(job_id)
    queue.wait_until(lambda: bool(events(one, job_id, "job cancelled")), 30, "the cancellation")
    assert queue.wait(queue.put(SHORT)).status == "COMPLETED"
    assert queue.jobs[job_id].answers == []


def test_a_worker_that_is_killed_is_replaced(
    queue: Queue, one: WorkerProcess, env: dict[str, str], tmp_path: Path
) -> None:
    """Its jobs are done by another, and what it had half written is written over."""
    with Queue(hold_seconds=1.0, dead_after=3.0).running() as own:
        with worker(own, "first", env, tmp_path) as first:
            job_id = own.put({**LONG, "stream": True}, "killed-1")
            own.wait_until(lambda: bool(own.jobs[job_id].progress), 60, "its first sentence")
            first.kill()
        # The drain is long enough for a busy machine: it ends with the job.
        streaming = {**env, "STREAM": "1", "DRAIN_SECONDS": "120"}
        with worker(own, "second", streaming, tmp_path) as second:
            job = own.wait(job_id, 120)
            assert job.answered_by == "second"
            check_streamed(job)
            # The same is asked of an ordinary endpoint: the stream's last part is its answer.
            twin = {**LONG, "seed": 5, "stream": True}
            streamed = own.wait(own.put(twin, "twin-1")).output[-1]
            plain = queue.wait(queue.put(twin, "twin-2")).output
            assert what_it_says(streamed) == what_it_says(plain)
            failed = own.wait(own.put({"text": "Hello.", "speed": "fast"}))
            assert failed.status == "FAILED"
            assert json.loads(failed.error or "")["field"] == "speed"
            # SIGTERM: what runs is finished, and nothing new is taken.
            running = own.put(LONG)
            own.wait_until(lambda: own.jobs[running].status == "IN_PROGRESS", 30, "the start")
            time.sleep(0.3)
            second.terminate()
            assert own.wait(running, 120).status == "COMPLETED"
            left = own.put(SHORT)
            assert second.process.wait(30) == 0
            assert own.jobs[left].answers == []
            names = [event["event"] for event in check_log(second)]
            assert names[-4:] == ["draining", "job answered", "drained", "worker ends"]
    assert not list(Path(env["TMPDIR"]).glob(f"spark-tts-{second.process.pid}-*"))


def test_jobs_come_back_of_a_worker_that_the_kernel_kills_alone(
    env: dict[str, str], tmp_path: Path
) -> None:
    """As it does where memory is short: the SDK's pings, a process of their own, end with it."""
    with (
        Queue(hold_seconds=1.0, dead_after=3.0).running() as own,
        worker(own, "killed", env, tmp_path) as killed,
    ):
        job_id = own.put({**LONG, "text": LONG["text"] * 20, "stream": True})
        own.wait_until(lambda: bool(own.jobs[job_id].progress), 60, "its first sentence")
        os.kill(killed.process.pid, signal.SIGKILL)
        own.wait_until(lambda: own.jobs[job_id].status == "IN_QUEUE", 20, "its return")


def check_streamed(job: Job) -> None:
    """The sentences one by one, then the answer; the job's output holds all of them."""
    *segments, answer = job.stream
    assert [segment["index"] for segment in segments] == list(range(len(answer["segments"])))
    assert answer["status"] == "success"
    assert job.output == [*segments, answer]
    assert length(answer["audio_url"]) == pytest.approx(answer["duration"], abs=0.01)


def test_running_jobs_are_left_to_the_platform_when_the_time_is_up(
    env: dict[str, str], tmp_path: Path
) -> None:
    with (
        Queue(hold_seconds=1.0).running() as own,
        worker(own, "hasty", {**env, "DRAIN_SECONDS": "1"}, tmp_path) as hasty,
    ):
        job_id = own.put({**LONG, "text": LONG["text"] * 20})
        own.wait_until(lambda: own.jobs[job_id].status == "IN_PROGRESS", 30, "the start")
        time.sleep(0.5)
        hasty.terminate()
        assert hasty.process.wait(30) == 0
        assert own.jobs[job_id].answers == []
        (drained,) = [e for e in check_log(hasty) if e["event"] == "drained"]
        assert drained["left_to_the_platform"] == 1


GARBAGE = {
    "a web page": (200, "text/html", b"<html>Bad gateway</html>"),
    "a web page as JSON": (200, "application/json", b"<html>"),
    "half of it": (200, "application/json", b'[{"id": "half", "inp'),
    "nothing": (200, "application/json", b""),
    "no text": (200, "application/json", b"\xff\xfe["),
    "a number": (200, "application/json", b"5"),
    "null": (200, "application/json", b"null"),
    "an empty job": (200, "application/json", b"{}"),
    "very deep": (200, "application/json", b"[" * 100_000),
    "unauthorized": (401, "application/json", b"{}"),
    "not found": (404, "text/html", b"?"),
    "bad gateway": (502, "text/html", b"?"),
    "overloaded": (503, "text/plain", b"?"),
}


def test_garbage_from_the_platform_is_survived(queue: Queue, one: WorkerProcess) -> None:
    queue.garbage.extend(GARBAGE.values())
    queue.wait_until(lambda: not queue.garbage, 60, "all of it to be taken")
    assert queue.wait(queue.put(SHORT)).status == "COMPLETED"


def test_strange_jobs_are_answered_and_those_beside_them_too(
    queue: Queue, one: WorkerProcess
) -> None:
    strange: dict[str, dict[str, Any]] = {
        "without-input": {},
        "null-input": {"input": None},
        "list-input": {"input": [1, 2]},
        "enormous-input": {"input": {"text": "a" * 20_000_000}},
        "more-keys": {"input": SHORT, "webhook": None, "policy": {"ttl": 5}, "status": "IN_QUEUE"},
        "beside": {"input": SHORT},
    }
    for name, job in strange.items():
        queue.hand_over(job.get("input"), name, ["one"])
    body = json.dumps([{"id": name, **job} for name, job in strange.items()]).encode()
    queue.garbage.append((200, "application/json", body))
    answered = {name: queue.wait(name) for name in strange}
    assert {name for name, job in answered.items() if job.status == "COMPLETED"} == {
        "more-keys", "beside",
    }  # fmt: skip
    for name in ("without-input", "null-input", "list-input", "enormous-input"):
        error = answered[name].error or ""
        assert json.loads(error)["code"] == "invalid_request"
        assert len(error) < 1_000


def test_one_job_twice_at_once_is_one_answer(queue: Queue, one: WorkerProcess, door: Door) -> None:
    """The platform takes a worker for dead and hands its job out again, here to the same one."""
    queue.hand_over(LONG, "both", ["one"])
    job = {"id": "both", "input": {**LONG, "stream": True}}
    queue.garbage.append((200, "application/json", json.dumps([job, job]).encode()))
    queue.wait_until(lambda: len(queue.jobs["both"].answers) == 2, 120, "both answers")
    first, second = (answer["output"] for answer in queue.jobs["both"].answers)
    assert what_it_says(first) == what_it_says(second)
    assert length(first["audio_url"]) == pytest.approx(first["duration"], abs=0.01)
    for segment in second["segments"]:
        seconds = segment["end"] - segment["start"]
        assert length(segment["audio_url"]) == pytest.approx(seconds, abs=0.01)
    listed = s3_client(door.url).list_objects_v2(Bucket=BUCKET, Prefix="output/speech_both")
    keys = [found["Key"] for found in listed["Contents"]]
    assert len([key for key in keys if key.endswith(".json")]) == 1
    assert len(keys) == 2 + len(first["segments"])
