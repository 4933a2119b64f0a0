"""The record that a job was answered: what it is found by, and when it counts."""

from __future__ import annotations

import hashlib
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from docs.generate import ANSWER
from worker.api.field_types import MAX_TEXT
from worker.api.request import SpeechRequest, parse_request
from worker.api.response import SpeechResponse, WordTiming
from worker.cancellation import Cancellation
from worker.errors import JobCancelledError, StorageError
from worker.job import answer_record
from worker.job.answer_record import AnswerRecords, digest, settled_seed
from worker.job.result_keys import ResultKeys
from worker.logs import log
from worker.storage.keys import Keys
from worker.storage.local import LocalStorage

KEYS = Keys(voices="voices/", output="output/", bucket=None)
ASKED = {"text": "Hello.", "output_name": "hi", "enable_subtitles": True}


class Bucket(LocalStorage):
    """Refuses the calls that are named."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.refused: set[str] = set()
        self.types: dict[str, str] = {}

    def put(
        self, path: Path, key: str, content_type: str, *, cancellation: Cancellation | None = None
    ) -> None:
        self._check("put", cancellation)
        self.types[key] = content_type
        super().put(path, key, content_type)

    def get(
        self,
        key: str,
        into: Path,
        *,
        max_bytes: int | None = None,
        cancellation: Cancellation | None = None,
    ) -> Path:
        self._check("get", cancellation)
        return super().get(key, into, max_bytes=max_bytes)

    def exists(self, key: str, *, cancellation: Cancellation | None = None) -> bool:
        self._check("exists", cancellation)
        return super().exists(key)

    def _check(self, call: str, cancellation: Cancellation | None = None) -> None:
        if cancellation is not None:
            cancellation.check()
        if call in self.refused:
            raise StorageError("access is denied")


class World:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.storage = Bucket(folder / "storage")
        self.manifests = AnswerRecords(self.storage, KEYS)
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
        self,
        request: SpeechRequest | None = None,
        job: str = "job-1",
        cancellation: Cancellation | None = None,
    ) -> SpeechResponse | None:
        return self.manifests.recall(
            request or self.request, job, self.folder, lambda key: f"new:{key}", cancellation
        )


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    """The events that an operator is warned with."""
    seen: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: seen.append(record.getMessage())
    log.addHandler(handler)
    yield seen
    log.removeHandler(handler)


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


def test_a_job_that_is_cancelled_meanwhile_is_not_looked_for_any_longer(world: World) -> None:
    world.store()
    world.keep()
    cancellation = Cancellation()
    assert world.recall(cancellation=cancellation) is not None
    cancellation.cancel()
    with pytest.raises(JobCancelledError):
        world.recall(cancellation=cancellation)


def test_the_record_of_a_job_that_nobody_waits_for_is_given_up_and_no_error(world: World) -> None:
    """The worker is about to end: it waits for no bucket."""
    world.store()
    cancellation = Cancellation()
    cancellation.cancel()
    world.manifests.keep(world.request, "job-1", ANSWER, world.folder, cancellation)
    assert world.recall() is None


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


def test_the_answer_comes_back_as_it_was_but_for_its_urls(world: World) -> None:
    world.store()
    world.keep()
    segment = ANSWER.segments[0].model_copy(update={"audio_url": "new:output/hi_job-1.0000.wav"})
    assert world.recall() == ANSWER.model_copy(
        update={
            "audio_url": "new:output/hi_job-1.wav",
            "subtitles_url": "new:output/hi_job-1.ass",
            "segments": (segment,),
        }
    )


def test_the_record_lies_beside_the_audio_and_is_json(world: World) -> None:
    world.keep()
    key = f"output/hi_job-1.{digest(world.request)[:16]}.json"
    assert world.storage.types == {key: "application/json"}
    assert json.loads(world.storage.read_bytes(key))["job"] == "job-1"


def test_requests_under_one_job_id_have_a_record_each(world: World) -> None:
    world.store()
    world.keep()
    other = parse_request({**ASKED, "text": "Hello!"})
    world.manifests.keep(other, "job-1", ANSWER, world.folder)
    assert world.recall() is not None
    assert world.recall(other) is not None


@pytest.mark.parametrize("change", [{"job": "job-2"}, {"request": "0" * 64}])
def test_a_record_of_another_job_or_request_under_this_ones_key_does_not_count(
    world: World, change: dict[str, str]
) -> None:
    world.store()
    world.keep()
    key = world.keys.manifest(digest(world.request))
    record = json.loads(world.storage.read_bytes(key)) | change
    world.storage.write_bytes(key, json.dumps(record).encode(), "application/json")
    assert world.recall() is None


def test_no_url_is_made_for_a_job_that_is_not_known(world: World) -> None:
    def url(key: str) -> str:
        pytest.fail(f"a URL was made of {key}")

    assert world.manifests.recall(world.request, "job-1", world.folder, url) is None
    world.keep()  # and no results
    assert world.manifests.recall(world.request, "job-1", world.folder, url) is None


@pytest.mark.parametrize("refused", ["get", "exists"])
def test_a_record_that_cannot_be_read_does_not_count_and_the_operator_is_warned(
    world: World, warnings: list[str], refused: str
) -> None:
    world.store()
    world.keep()
    world.storage.refused = {refused}
    assert world.recall() is None
    assert warnings == ["record of the job cannot be read"]


def test_a_record_that_cannot_be_written_fails_nothing_and_the_operator_is_warned(
    world: World, warnings: list[str]
) -> None:
    world.store()
    world.storage.refused = {"put"}
    world.keep()
    assert warnings == ["record of the job cannot be written"]
    assert world.recall() is None


def test_a_scratch_disk_that_fails_costs_the_record_and_not_the_job(
    world: World, warnings: list[str]
) -> None:
    folder = world.folder
    world.folder = folder / "gone"
    world.keep()
    assert warnings == ["record of the job cannot be written"]
    world.folder = folder
    world.store()
    world.keep()
    world.folder = folder / "gone"
    assert world.recall() is None
    assert warnings[1:] == ["record of the job cannot be read"]


def test_a_new_job_and_a_foreign_record_are_nothing_to_warn_of(
    world: World, warnings: list[str]
) -> None:
    assert world.recall() is None
    key = world.keys.manifest(digest(world.request))
    world.storage.write_bytes(key, b'{"format": 2}', "application/json")
    assert world.recall() is None
    assert warnings == []


def test_the_record_of_the_longest_text_is_read(world: World) -> None:
    """20,000 characters are at most some 10,000 words."""
    word = WordTiming(
        word="extraordinary", start=1234.567, end=1235.678, score=0.98765, estimated=False
    )
    long = ANSWER.model_copy(update={"word_timings": (word,) * 10_000})
    world.store()
    world.manifests.keep(world.request, "job-1", long, world.folder)
    known = world.recall()
    assert known is not None
    assert known.word_timings == long.word_timings


def test_a_record_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.store()
    world.keep()
    size = len(world.storage.read_bytes(world.keys.manifest(digest(world.request))))
    monkeypatch.setattr(answer_record, "BYTES_MAX", size)
    assert world.recall() is not None
    monkeypatch.setattr(answer_record, "BYTES_MAX", size - 1)
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


def test_a_default_that_is_spelled_out_is_the_same_request() -> None:
    spelled = {"text": "Hello.", "top_k": 50, "output_format": "wav", "max_retries": 1}
    assert digest(parse_request(spelled)) == digest(parse_request({"text": "Hello."}))


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 0},
        {"temperature": 0.7},
        {"top_k": 49},
        {"top_p": 0.9},
        {"max_length": 2_999},
        {"pitch_shift": 1},
        {"speed_shift": 1.1},
        {"multi_sentence_gap": 0},
        {"pitch_value": 0},
        {"speed_value": 0},
        {"voice": "alice"},
        {"prompt_speech_url": "alice.wav"},
        {"save_voice": "alice"},
        {"output_name": "other"},
        {"output_format": "mp3"},
        {"enable_whisperx": True},
        {"enable_subtitles": True},
        {"subtitle_style": "karaoke"},
        {"subtitle_format": "srt"},
        {"max_retries": 0},
        {"stream": False},
        {"stream": True},
        {"url_expiry": 60},
    ],
    ids=str,
)
def test_each_field_makes_another_request(change: dict[str, object]) -> None:
    other = digest(parse_request({"text": "Hello.", **change}))
    assert other != digest(parse_request({"text": "Hello."}))
    assert len(other) == 64


def test_seed_zero_is_a_seed() -> None:
    assert settled_seed(parse_request({"text": "Hello.", "seed": 0}), "a") == 0


def test_a_drawn_seed_is_53_bits_of_the_job_and_of_what_it_asks() -> None:
    request = parse_request({"text": "Hello."})
    drawn = hashlib.sha256(f"a {digest(request)}".encode()).hexdigest()
    assert settled_seed(request, "a") == int(drawn[:16], 16) // 2**11
    assert settled_seed(request, "a") != settled_seed(parse_request({"text": "Bye."}), "a")
    seeds = {settled_seed(request, str(job)) for job in range(60)}
    assert len(seeds) == 60
    assert 2**52 < max(seeds) < 2**53


def test_the_largest_record_that_can_be_is_known_again(world: World) -> None:
    """Of a text whose every character is a sentence, a word, and three faults; none is in ASCII."""
    sign = "\U0001f600"
    word = WordTiming(word=f'{sign}"', start=7199.123, end=7199.456, score=1 / 3, estimated=False)
    segment = ANSWER.segments[0].model_copy(update={"text": sign, "audio_url": "x" * 200})
    faults = tuple([f"7199.4: {sign!r} seems not to be said"] * 3 * MAX_TEXT)
    answer = ANSWER.model_copy(
        update={
            "segments": (segment.model_copy(update={"audio_url": None}),) * MAX_TEXT,
            "word_timings": (word,) * MAX_TEXT,
            "metrics": ANSWER.metrics.model_copy(update={"faults": faults}),
        }
    )
    world.store()
    world.manifests.keep(world.request, "job-1", answer, world.folder)
    known = world.recall()
    assert known is not None
    assert (known.segments, known.word_timings) == (answer.segments, answer.word_timings)
    assert known.metrics == answer.metrics
    assert type(known) is SpeechResponse


@pytest.mark.parametrize("error", [RecursionError("deep"), ValueError("odd"), OSError(28, "full")])
def test_an_answer_counts_whatever_keeps_its_record_from_being_kept(
    world: World, warnings: list[str], error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def put(*_: object) -> None:
        raise error

    monkeypatch.setattr(world.storage, "put", put)
    world.keep()
    assert warnings == ["record of the job cannot be written"]


HOSTILE = """
import resource, sys
from pathlib import Path
from tests.unit.worker.job.test_answer_record import World
from worker.job.answer_record import digest

world = World(Path(sys.argv[1]))
world.store()
world.keep()
key = world.keys.manifest(digest(world.request))
kept = world.storage.read_bytes(key).decode()
head, _, _ = kept.partition('"segments":')
segment = '{"text":"","start":0,"end":0}'
word = '{"word":"","start":0,"end":0,"estimated":false}'
size = 16_000_000


def many(part):
    return "[" + ",".join([part] * (size // (len(part) + 1))) + "]"


world.recall()  # what is imported and set up at a first time
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
tail = ',"voice":{"source":"style"},"seed":1,"metrics":{}}}'
records = [
    lambda part=part: f"{head}\\"segments\\":{many(part)}{tail}"
    for part in ("{}", segment)
]
records += [
    lambda: f"{head}\\"segments\\":[],\\"word_timings\\":{many(word)}{tail}",
    lambda: "[" * size,
    lambda: '"' + '\\\\"' * (size // 2),
]
for record in records:
    world.storage.write_bytes(key, record().encode(), "application/json")
    assert world.recall() is None
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.slow("starts a process")
def test_no_record_of_16_megabytes_costs_160_megabytes(tmp_path: Path) -> None:
    """By what the kernel says of a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", HOSTILE, str(tmp_path)], check=True, capture_output=True, text=True
    )
    assert int(done.stdout) < 160
