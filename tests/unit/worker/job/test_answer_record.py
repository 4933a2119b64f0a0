"""The record that a job was answered: what it is found by, and when it counts."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from docs.generate import ANSWER
from tests.support.events import Events
from tests.support.small_components import KEYS, small_components
from worker.api.field_types import MAX_SPEAKER, MAX_TEXT
from worker.api.request import SpeechRequest, parse_request
from worker.api.response import SpeechResponse, TimedWord
from worker.cancellation import Cancellation
from worker.errors import JobCancelledError, StorageError
from worker.job import answer_record
from worker.job.answer_record import AnswerRecords, digest
from worker.job.context import Job
from worker.job.result_keys import ResultKeys
from worker.storage.local import LocalStorage

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

    def url(self, key: str, _expiry_seconds: int) -> str:
        self._check("url")
        return f"new:{key}"

    def _check(self, call: str, cancellation: Cancellation | None = None) -> None:
        if cancellation is not None:
            cancellation.check()
        if call in self.refused:
            raise StorageError("access is denied")


class RecordedJob:
    """A job whose answer is recorded in a bucket that may refuse."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.storage = Bucket(folder / "storage")
        self.records = AnswerRecords(self.storage, KEYS)
        self.components = replace(small_components(folder).components, storage=self.storage)
        self.request = parse_request(ASKED)
        self.keys = ResultKeys.of(self.request, "job-1", KEYS)

    def job(self, job_id: str = "job-1", cancellation: Cancellation | None = None) -> Job:
        return Job(job_id, self.components, self.folder, cancellation or Cancellation())

    def keep(self) -> None:
        segment = ANSWER.segments[0].model_copy(update={"audio_url": "old"})
        answer = ANSWER.model_copy(update={"segments": (segment,), "subtitles_url": "old?signed"})
        self.records.keep(self.request, answer, self.job())

    def store(self) -> None:
        for key in (self.keys.audio, str(self.keys.subtitles), self.keys.segment(0)):
            self.storage.write_bytes(key, b"x", "audio/wav")

    def recall(
        self,
        request: SpeechRequest | None = None,
        job: str = "job-1",
        cancellation: Cancellation | None = None,
    ) -> SpeechResponse | None:
        return self.records.recall(request or self.request, self.job(job, cancellation))


@pytest.fixture
def recorded(tmp_path: Path) -> RecordedJob:
    return RecordedJob(tmp_path)


def test_the_same_job_is_known_again_with_fresh_urls(recorded: RecordedJob) -> None:
    assert recorded.recall() is None
    recorded.store()
    recorded.keep()
    known = recorded.recall()
    assert known is not None
    assert known.audio_url == "new:output/hi_job-1.wav"
    assert known.subtitles_url == "new:output/hi_job-1.ass"
    assert known.segments[0].audio_url == "new:output/hi_job-1.0000.wav"
    assert known.metrics == ANSWER.metrics


def test_no_url_is_kept(recorded: RecordedJob) -> None:
    recorded.keep()
    kept = recorded.storage.read_bytes(recorded.keys.record(digest(recorded.request)))
    assert b"old" not in kept
    assert b"example.com" not in kept


def test_a_job_that_is_cancelled_meanwhile_is_not_looked_for_any_longer(
    recorded: RecordedJob,
) -> None:
    recorded.store()
    recorded.keep()
    cancellation = Cancellation()
    assert recorded.recall(cancellation=cancellation) is not None
    cancellation.cancel()
    with pytest.raises(JobCancelledError):
        recorded.recall(cancellation=cancellation)


def test_the_record_of_a_job_that_nobody_waits_for_is_given_up_and_no_error(
    recorded: RecordedJob,
) -> None:
    """The worker is about to end: it waits for no bucket."""
    recorded.store()
    cancellation = Cancellation()
    cancellation.cancel()
    recorded.records.keep(recorded.request, ANSWER, recorded.job(cancellation=cancellation))
    assert recorded.recall() is None


def test_another_job_or_request_is_not_it(recorded: RecordedJob) -> None:
    recorded.store()
    recorded.keep()
    assert recorded.recall(job="job-2") is None
    assert recorded.recall(parse_request({**ASKED, "text": "Hello!"})) is None


@pytest.mark.parametrize("missing", ["hi_job-1.wav", "hi_job-1.ass", "hi_job-1.0000.wav"])
def test_it_does_not_count_without_each_result(recorded: RecordedJob, missing: str) -> None:
    recorded.store()
    recorded.keep()
    (recorded.folder / "storage" / "output" / missing).unlink()
    assert recorded.recall() is None


@pytest.mark.parametrize("content", [b"", b"{", b'{"format": 2}', b"\xff\xfe"])
def test_half_a_record_or_a_foreign_one_does_not_count(
    recorded: RecordedJob, content: bytes
) -> None:
    recorded.store()
    key = recorded.keys.record(digest(recorded.request))
    recorded.storage.write_bytes(key, content, "application/json")
    assert recorded.recall() is None


def test_the_answer_comes_back_as_it_was_but_for_its_urls(recorded: RecordedJob) -> None:
    recorded.store()
    recorded.keep()
    segment = ANSWER.segments[0].model_copy(update={"audio_url": "new:output/hi_job-1.0000.wav"})
    assert recorded.recall() == ANSWER.model_copy(
        update={
            "audio_url": "new:output/hi_job-1.wav",
            "subtitles_url": "new:output/hi_job-1.ass",
            "segments": (segment,),
        }
    )


def test_the_record_lies_beside_the_audio_and_is_json(recorded: RecordedJob) -> None:
    recorded.keep()
    key = f"output/hi_job-1.{digest(recorded.request)[:16]}.json"
    assert recorded.storage.types == {key: "application/json"}
    assert json.loads(recorded.storage.read_bytes(key))["job"] == "job-1"


def test_requests_under_one_job_id_have_a_record_each(recorded: RecordedJob) -> None:
    recorded.store()
    recorded.keep()
    other = parse_request({**ASKED, "text": "Hello!"})
    recorded.records.keep(other, ANSWER, recorded.job())
    assert recorded.recall() is not None
    assert recorded.recall(other) is not None


@pytest.mark.parametrize("change", [{"job": "job-2"}, {"request": "0" * 64}])
def test_a_record_of_another_job_or_request_under_this_ones_key_does_not_count(
    recorded: RecordedJob, change: dict[str, str]
) -> None:
    recorded.store()
    recorded.keep()
    key = recorded.keys.record(digest(recorded.request))
    record = json.loads(recorded.storage.read_bytes(key)) | change
    recorded.storage.write_bytes(key, json.dumps(record).encode(), "application/json")
    assert recorded.recall() is None


def test_no_url_is_made_for_a_job_that_is_not_known(recorded: RecordedJob) -> None:
    recorded.storage.refused = {"url"}
    assert recorded.recall() is None
    recorded.keep()  # and no results
    assert recorded.recall() is None


@pytest.mark.parametrize("refused", ["get", "exists"])
def test_a_record_that_cannot_be_read_does_not_count_and_the_operator_is_warned(
    recorded: RecordedJob, events: Events, refused: str
) -> None:
    recorded.store()
    recorded.keep()
    recorded.storage.refused = {refused}
    assert recorded.recall() is None
    assert events.warnings() == ["record of the job cannot be read"]


def test_a_record_that_cannot_be_written_fails_nothing_and_the_operator_is_warned(
    recorded: RecordedJob, events: Events
) -> None:
    recorded.store()
    recorded.storage.refused = {"put"}
    recorded.keep()
    assert events.warnings() == ["record of the job cannot be written"]
    assert recorded.recall() is None


def test_a_scratch_disk_that_fails_costs_the_record_and_not_the_job(
    recorded: RecordedJob, events: Events
) -> None:
    folder = recorded.folder
    recorded.folder = folder / "gone"
    recorded.keep()
    assert events.warnings() == ["record of the job cannot be written"]
    recorded.folder = folder
    recorded.store()
    recorded.keep()
    recorded.folder = folder / "gone"
    assert recorded.recall() is None
    assert events.warnings()[1:] == ["record of the job cannot be read"]


def test_a_new_job_and_a_foreign_record_are_nothing_to_warn_of(
    recorded: RecordedJob, events: Events
) -> None:
    assert recorded.recall() is None
    key = recorded.keys.record(digest(recorded.request))
    recorded.storage.write_bytes(key, b'{"format": 2}', "application/json")
    assert recorded.recall() is None
    assert events.warnings() == []


def test_the_record_of_the_longest_text_is_read(recorded: RecordedJob) -> None:
    """20,000 characters are at most some 10,000 words."""
    word = TimedWord(
        word="extraordinary", start=1234.567, end=1235.678, score=0.98765, estimated=False
    )
    long = ANSWER.model_copy(update={"word_timings": (word,) * 10_000})
    recorded.store()
    recorded.records.keep(recorded.request, long, recorded.job())
    known = recorded.recall()
    assert known is not None
    assert known.word_timings == long.word_timings


def test_a_record_is_bounded(recorded: RecordedJob, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded.store()
    recorded.keep()
    size = len(recorded.storage.read_bytes(recorded.keys.record(digest(recorded.request))))
    monkeypatch.setattr(answer_record, "BYTES_MAX", size)
    assert recorded.recall() is not None
    monkeypatch.setattr(answer_record, "BYTES_MAX", size - 1)
    assert recorded.recall() is None


def test_a_request_has_one_digest_however_it_is_written() -> None:
    one = parse_request({"text": "Hello.", "gender": "male", "temperature": 1})
    same = parse_request({"temperature": 1.0, "speaker_gender": "male", "text": " Hello. "})
    assert digest(one) == digest(same)
    assert digest(one) != digest(parse_request({"text": "Hello.", "gender": "female"}))


def test_each_turn_makes_another_request() -> None:
    turns: list[dict[str, object]] = [{"text": "Hi."}, {"text": "Ho.", "voice": "ash"}]
    changed = [
        [*turns, *turns],
        turns[::-1],
        [{"text": "Hi. Ho.", "voice": "ash"}],
        *(
            [{**turns[0], **more}, turns[1]]
            for more in (
                {"text": "Hi!"},
                {"speaker": "A"},
                {"voice": "ash"},
                {"prompt_speech_url": "a.wav"},
                {"speaker_gender": "male"},
                {"pitch": "low"},
                {"pause": 0},
                {"pitch_shift": 0},
                {"speed_shift": 1.0},
            )
        ),
    ]
    digests = {digest(parse_request({"turns": given})) for given in [turns, *changed]}
    assert len(digests) == 1 + len(changed)


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
        {"normalize": "off"},
        {"multi_sentence_gap": 0},
        {"pitch_value": 0},
        {"speed_value": 0},
        {"voice": "alice"},
        {"prompt_speech_url": "alice.wav"},
        {"save_voice": "alice"},
        {"output_name": "other"},
        {"output_format": "mp3"},
        {"sample_rate": 8_000},
        {"loudness": -19},
        {"true_peak": -3},
        {"tags": {"title": "x"}},
        {"enable_whisperx": True},
        {"enable_subtitles": True},
        {"subtitle_style": "karaoke"},
        {"subtitle_format": "srt"},
        {"max_retries": 0},
        {"stream": False},
        {"stream": True},
        {"url_expiry": 60},
        {"markup": True},
        {"pronunciations": {}},
        {"pronunciations": {"a": "b"}},
    ],
    ids=str,
)
def test_each_field_makes_another_request(change: dict[str, object]) -> None:
    other = digest(parse_request({"text": "Hello.", **change}))
    assert other != digest(parse_request({"text": "Hello."}))
    assert len(other) == 64


def test_the_largest_record_that_can_be_is_known_again(recorded: RecordedJob) -> None:
    """Of a text whose every character is a sentence, a word, and three faults; none is in ASCII."""
    sign = "\U0001f600"
    word = TimedWord(word=f'{sign}"', start=7199.123, end=7199.456, score=1 / 3, estimated=False)
    word = word.model_copy(update={"speaker": "\U00020000" * MAX_SPEAKER})
    update = {"text": sign, "audio_url": "x" * 200, "speaker": word.speaker}
    segment = ANSWER.segments[0].model_copy(update=update)
    faults = tuple([f"7199.4: {sign!r} seems not to be said"] * 3 * MAX_TEXT)
    answer = ANSWER.model_copy(
        update={
            "segments": (segment.model_copy(update={"audio_url": None}),) * MAX_TEXT,
            "word_timings": (word,) * MAX_TEXT,
            "metrics": ANSWER.metrics.model_copy(update={"faults": faults}),
        }
    )
    recorded.store()
    recorded.records.keep(recorded.request, answer, recorded.job())
    known = recorded.recall()
    assert known is not None
    assert (known.segments, known.word_timings) == (answer.segments, answer.word_timings)
    assert known.metrics == answer.metrics
    assert type(known) is SpeechResponse


@pytest.mark.parametrize("error", [RecursionError("deep"), ValueError("odd"), OSError(28, "full")])
def test_an_answer_counts_whatever_keeps_its_record_from_being_kept(
    recorded: RecordedJob, events: Events, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def put(*_: object) -> None:
        raise error

    monkeypatch.setattr(recorded.storage, "put", put)
    recorded.keep()
    assert events.warnings() == ["record of the job cannot be written"]


HOSTILE = """
import resource, sys
from pathlib import Path
from tests.unit.worker.job.test_answer_record import RecordedJob
from worker.job.answer_record import digest

recorded = RecordedJob(Path(sys.argv[1]))
recorded.store()
recorded.keep()
key = recorded.keys.record(digest(recorded.request))
kept = recorded.storage.read_bytes(key).decode()
head, _, _ = kept.partition('"segments":')
segment = '{"text":"","start":0,"end":0}'
word = '{"word":"","start":0,"end":0,"estimated":false}'
size = 16_000_000


def repeated(part):
    return "[" + ",".join([part] * (size // (len(part) + 1))) + "]"


recorded.recall()  # what is imported and set up at a first time
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
tail = ',"voice":{"source":"style"},"seed":1,"metrics":{}}}'
records = [
    lambda part=part: f"{head}\\"segments\\":{repeated(part)}{tail}"
    for part in ("{}", segment)
]
records += [
    lambda: f"{head}\\"segments\\":[],\\"word_timings\\":{repeated(word)}{tail}",
    lambda: "[" * size,
    lambda: '"' + '\\\\"' * (size // 2),
]
for record in records:
    recorded.storage.write_bytes(key, record().encode(), "application/json")
    assert recorded.recall() is None
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.slow("starts a process")
def test_no_record_of_16_megabytes_costs_160_megabytes(tmp_path: Path) -> None:
    """By what the kernel says of a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", HOSTILE, str(tmp_path)], check=True, capture_output=True, text=True
    )
    assert int(done.stdout) < 160
