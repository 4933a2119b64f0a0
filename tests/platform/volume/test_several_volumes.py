"""Workers of one endpoint in several data centers: a volume for each, one bucket for all.

Each is started as the image starts it, by `python -m volume run`, on a volume that is empty; one
has no volume. The environment is this machine's, as an image may bring it. A queue for each, so
that a test says who gets a job.
"""

from __future__ import annotations

import hashlib
import sysconfig
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.conftest import DEMO_VOICE
from tests.platform.queue.server import Queue
from tests.platform.queue.workers import WorkerProcess, worker
from tests.support.s3 import ACCESS_KEY, SECRET_KEY, s3_client, s3_server
from tests.support.worker_process import NO_ALIGNER, environment
from volume.layout import Layout
from volume.mount import DEFAULT_MOUNT

BUCKET = "speech-bucket"
TEXT = "They bought a new car."
CLONED = {"text": TEXT, "prompt_speech_url": "demo.wav", "output_name": "car", "seed": 2}
NAMED = {"text": TEXT, "voice": "anna", "output_name": "car", "seed": 2}
PLACES = ("europe", "america", "nowhere")


@dataclass(frozen=True)
class Center:
    """A worker with its queue, and the place that it installs in."""

    queue: Queue
    process: WorkerProcess
    layout: Layout

    def answer(self, asked: dict[str, Any], job_id: str) -> dict[str, Any]:
        """Give the worker a job; its answer."""
        self.queue.put(asked, job_id)
        job = self.queue.wait(job_id)
        assert job.status == "COMPLETED", job.error
        return dict(job.output)

    def told(self, job_id: str) -> list[str]:
        return [e["event"] for e in self.process.events() if e.get("job") == job_id]

    def files(self, folder: Path) -> dict[str, str]:
        """Every file below a folder, with its sha256."""
        return {
            str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in folder.rglob("*")
            if path.is_file()
        }


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with s3_server(BUCKET) as url:
        s3_client(url).upload_file(str(DEMO_VOICE), BUCKET, "voices/demo.wav")
        yield url


@pytest.fixture(scope="module")
def centers(endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Center]]:
    """Workers in two data centers with a volume each, and one without a volume."""
    assert not DEFAULT_MOUNT.exists(), f"{DEFAULT_MOUNT} is there: this machine has a volume"
    with ExitStack() as stack:
        made = {}
        for place in PLACES:
            folder = tmp_path_factory.mktemp(place)
            (folder / "tmp").mkdir()
            env = environment(
                folder / "volume",
                S3_BUCKET_NAME=BUCKET,
                AWS_ACCESS_KEY_ID=ACCESS_KEY,
                AWS_SECRET_ACCESS_KEY=SECRET_KEY,
                AWS_ENDPOINT_URL=endpoint,
                SPARK_ENVIRONMENT=str(Path(sysconfig.get_path("purelib")).parent),
                TMPDIR=str(folder / "tmp"),
                **NO_ALIGNER,
            )
            mount = folder / "volume"
            if place == "nowhere":
                del env["RUNPOD_VOLUME"]
                mount = folder / "tmp" / "without-volume"
            queue = stack.enter_context(Queue(hold_seconds=1.0).running())
            process = stack.enter_context(
                worker(queue, place, env, folder, module="volume", arguments=["run"])
            )
            made[place] = Center(queue, process, Layout(mount))
        yield made


def test_each_installs_for_itself_whoever_was_first(centers: dict[str, Center]) -> None:
    models = [center.files(center.layout.models) for center in centers.values()]
    assert any(name.endswith("LLM/model.safetensors") for name in models[0])
    assert models[0] == models[1] == models[2]
    for place, center in centers.items():
        said = center.process.log.read_text()
        assert ("no volume is mounted: this worker installs for itself" in said) == (
            place == "nowhere"
        )


def test_a_voice_saved_in_one_speaks_in_all_and_each_keeps_what_it_heard(
    centers: dict[str, Center], endpoint: str
) -> None:
    first, second, third = centers.values()
    saved = first.answer({**CLONED, "save_voice": "anna"}, "cloned-one")
    assert saved["voice"]["source"] == "reference"
    assert first.files(first.layout.voices)
    assert not second.files(second.layout.voices)
    heard = [center.answer(NAMED, f"named-{place}") for place, center in centers.items()]
    assert [answer["voice"]["source"] for answer in heard] == ["saved"] * 3
    keys = {urlsplit(answer["audio_url"]).path for answer in (saved, *heard)}
    assert len(keys) == 4, "of one output_name, and none over another"
    bodies = [
        s3_client(endpoint).get_object(Bucket=BUCKET, Key=f"output/car_named-{place}.wav")["Body"]
        for place in PLACES
    ]
    one, *others = (body.read() for body in bodies)
    assert others == [one, one], "the same voice, seed and text"
    # A recording is heard by each volume's first worker that needs it.
    second.answer(CLONED, "cloned-two")
    assert second.files(second.layout.voices).keys() == first.files(first.layout.voices).keys()
    assert not third.files(third.layout.voices)


def test_a_job_delivered_again_elsewhere_is_answered_from_the_bucket(
    centers: dict[str, Center],
) -> None:
    first, second, third = centers.values()
    answer = first.answer(CLONED, "delivered")
    for other in (second, third):
        again = other.answer(CLONED, "delivered")
        assert again["audio_url"].split("?")[0] == answer["audio_url"].split("?")[0]
        assert again["segments"] == answer["segments"]
        assert "job answered again" in other.told("delivered")
        assert "job answered" not in other.told("delivered")
