"""A real worker's jobs, from the queue to the bytes behind their URLs, on real S3 servers."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import soundfile

from tests.conftest import DEMO_VOICE
from tests.platform.queue.server import API_KEY, Queue
from tests.platform.queue.workers import WorkerProcess, worker
from tests.platform.s3.asking import ask
from tests.support.s3_servers import BUCKET, REGION, S3Server
from tests.support.worker_process import environment

SERVERS = pytest.mark.servers("seaweedfs", "radosgw", "swift")
JOB = {
    "text": "My sister bought a green car last year. Please read this book to the children.",
    "prompt_speech_url": "people/my-sister.wav",
    "save_voice": "sister",
    "stream": True,
    "enable_subtitles": True,
    "seed": 2,
}


@pytest.fixture(scope="session")
def queue() -> Iterator[Queue]:
    with Queue(hold_seconds=1.0).running() as running:
        yield running


@pytest.fixture(scope="session")
def process(
    server: S3Server,
    queue: Queue,
    demo_volume: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[WorkerProcess]:
    """A worker with the key of DEPLOY.md's policy, and a reference voice for it."""
    client = server.client()
    client.upload_file(str(DEMO_VOICE), BUCKET, f"voices/{JOB['prompt_speech_url']}")
    folder = tmp_path_factory.mktemp("worker")
    env = environment(
        demo_volume,
        S3_BUCKET_NAME=BUCKET,
        AWS_ACCESS_KEY_ID=server.worker.access,
        AWS_SECRET_ACCESS_KEY=server.worker.secret,
        AWS_REGION=REGION,
        AWS_ENDPOINT_URL=server.url,
        TMPDIR=str(folder),
    )
    with worker(queue, f"on-{server.name}", env, folder) as running:
        yield running
        written = running.log.read_text()
        for secret in (server.worker.secret, API_KEY, "X-Amz-Signature", "Traceback"):
            assert secret not in written


@SERVERS
def test_a_job_ends_in_urls_that_give_its_speech_and_is_done_once(
    server: S3Server, queue: Queue, process: WorkerProcess
) -> None:
    job = queue.wait(queue.put(JOB, f"once-{server.name}"))
    assert job.status == "COMPLETED", job.error
    first: dict[str, Any] = job.output
    assert seconds(first["audio_url"]) == pytest.approx(first["duration"], abs=0.01)
    assert len(first["segments"]) == 2
    for segment in first["segments"]:
        spoken = segment["end"] - segment["start"]
        assert seconds(segment["audio_url"]) == pytest.approx(spoken, abs=0.01)
    assert b"green car" in ask(first["subtitles_url"]).body
    assert first["voice"] == {"source": "reference", "name": "sister"}
    before = stored(server)
    assert {"voices/sister.json", f"output/speech_{job.id}.wav"} <= set(before)

    queue.requeue(job.id)
    again = queue.wait(job.id)
    assert again.status == "COMPLETED", again.error
    assert [url.partition("?")[0] for url in urls(again.output)] == [
        url.partition("?")[0] for url in urls(first)
    ]
    assert all(ask(url).status == 200 for url in urls(again.output))
    assert again.output["metrics"] == first["metrics"]
    assert stored(server) == before  # nothing was written again
    done = [event["event"] for event in process.events() if event.get("job") == job.id]
    assert (done.count("job answered"), done.count("job answered again")) == (1, 1)


@SERVERS
def test_a_saved_voice_speaks(server: S3Server, queue: Queue, process: WorkerProcess) -> None:
    queue.wait(queue.put({**JOB, "stream": False, "save_voice": "brother"}))
    job = queue.wait(queue.put({"text": "The end.", "voice": "brother", "output_format": "mp3"}))
    assert job.status == "COMPLETED", job.error
    assert ask(job.output["audio_url"]).content_type == "audio/mpeg"
    assert seconds(job.output["audio_url"]) == pytest.approx(job.output["duration"], abs=0.1)
    missing = queue.wait(queue.put({"text": "The end.", "voice": "nobody"}))
    assert missing.status == "FAILED"
    assert "invalid_voice" in (missing.error or "")


def urls(answer: dict[str, Any]) -> list[str]:
    """All that it has."""
    sentences = [segment["audio_url"] for segment in answer["segments"]]
    return [answer["audio_url"], answer["subtitles_url"], *sentences]


def seconds(url: str) -> float:
    """How long the audio is that a plain client gets there."""
    samples, rate = soundfile.read(io.BytesIO(ask(url).body))
    return len(samples) / rate


def stored(server: S3Server) -> dict[str, tuple[str, str]]:
    """What is in the bucket, each with its digest and when it was written."""
    pages = server.client().get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
    listed = [o for page in pages for o in page.get("Contents", ())]
    return {o["Key"]: (o["ETag"], str(o["LastModified"])) for o in listed}
