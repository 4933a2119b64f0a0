"""The record that a job was answered: what it is found by, and when it counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from docs.generate import ANSWER
from worker.keys import Keys
from worker.manifest import Manifests, digest, settled_seed
from worker.request import SpeechRequest, parse_request
from worker.response import SpeechResponse
from worker.results import ResultKeys
from worker.storage import LocalStorage

KEYS = Keys(voices="voices/", output="output/", bucket=None)
ASKED = {"text": "Hello.", "output_name": "hi", "enable_subtitles": True}


class World:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.storage = LocalStorage(folder / "storage")
        self.manifests = Manifests(self.storage, KEYS)
        self.request = parse_request(ASKED)
        self.keys = ResultKeys.of(self.request, "job-1", KEYS)

    def keep(self) -> None:
        segment = ANSWER.segments[0].model_copy(update={"audio_url": "old"})
        answer = ANSWER.model_copy(update={"segments": (segment,), "subtitles_url": "old?signed"})
        self.manifests.keep(self.request, "job-1", answer, self.folder)

    def store(self) -> None:
        for key in (self.keys.audio, str(self.keys.subtitles), self.keys.segment(0)):
            self.storage.write_bytes(key, b"x", "audio/wav")

    def recall(
        self, request: SpeechRequest | None = None, job: str = "job-1"
    ) -> SpeechResponse | None:
        return self.manifests.recall(
            request or self.request, job, self.folder, lambda key: f"new:{key}"
        )


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_the_same_job_is_known_again_with_fresh_urls(world: World) -> None:
    assert world.recall() is None
    world.store()
    world.keep()
    known = world.recall()
    assert known is not None
    assert known.audio_url == "new:output/hi_job-1.wav"
    assert known.subtitles_url == "new:output/hi_job-1.ass"
    assert known.segments[0].audio_url == "new:output/hi_job-1.0000.wav"
    assert known.metrics == ANSWER.metrics


def test_no_url_is_kept(world: World) -> None:
    world.keep()
    kept = world.storage.read_bytes(world.keys.manifest(digest(world.request)))
    assert b"old" not in kept
    assert b"example.com" not in kept


def test_another_job_or_request_is_not_it(world: World) -> None:
    world.store()
    world.keep()
    assert world.recall(job="job-2") is None
    assert world.recall(parse_request({**ASKED, "text": "Hello!"})) is None


@pytest.mark.parametrize("missing", ["hi_job-1.wav", "hi_job-1.ass", "hi_job-1.0000.wav"])
def test_it_does_not_count_without_each_result(world: World, missing: str) -> None:
    world.store()
    world.keep()
    (world.folder / "storage" / "output" / missing).unlink()
    assert world.recall() is None


@pytest.mark.parametrize("content", [b"", b"{", b'{"format": 2}', b"\xff\xfe"])
def test_half_a_record_or_a_foreign_one_does_not_count(world: World, content: bytes) -> None:
    world.store()
    key = world.keys.manifest(digest(world.request))
    world.storage.write_bytes(key, content, "application/json")
    assert world.recall() is None


def test_a_request_has_one_digest_however_it_is_written() -> None:
    one = parse_request({"text": "Hello.", "gender": "male", "temperature": 1})
    same = parse_request({"temperature": 1.0, "speaker_gender": "male", "text": " Hello. "})
    assert digest(one) == digest(same)
    assert digest(one) != digest(parse_request({"text": "Hello.", "gender": "female"}))


def test_a_job_without_a_seed_has_the_same_at_each_delivery() -> None:
    request = parse_request({"text": "Hello."})
    assert settled_seed(request, "a") == settled_seed(request, "a") < 2**53
    assert settled_seed(request, "a") != settled_seed(request, "b")
    assert settled_seed(parse_request({"text": "Hello.", "seed": 7}), "a") == 7
