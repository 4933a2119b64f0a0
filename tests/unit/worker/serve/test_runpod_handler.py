"""RunPod's handlers: what a job is answered, its progress, and what is left behind."""

from __future__ import annotations

import asyncio
import io
import json
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from tests.support.small_components import (
    KEYS,
    TEXT,
    EvenAligner,
    SmallParts,
    small_components,
)
from tests.support.waiting import until_async
from worker.api.request import parse_request
from worker.errors import (
    BusyError,
    DeviceError,
    DownloadError,
    JobCancelledError,
    NotAvailableError,
    NotFoundError,
    RequestError,
    StorageError,
    SynthesisError,
    VoiceError,
)
from worker.job import answer_size
from worker.job.answer_size import AnswerLimit
from worker.job.seeds import job_seed
from worker.logs import log, set_up_logging
from worker.serve import runpod_handler
from worker.serve.runpod_handler import Service, make_handler, make_stream_handler
from worker.serve.shutdown import RunningJobs
from worker.temp_folders import temp_prefix
from worker.timing.word_timing import SentenceSpan, WordTiming

LONG = 20.0  # seconds after which a test that waits has failed


@pytest.fixture
def small(tmp_path: Path) -> SmallParts:
    return small_components(tmp_path)


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    written = io.StringIO()
    handlers, level, propagate = log.handlers[:], log.level, log.propagate
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", written)
        set_up_logging("DEBUG")
    yield lambda: [json.loads(line) for line in written.getvalue().splitlines()]
    log.handlers[:], log.propagate = handlers, propagate
    log.setLevel(level)


def job(asked: Any = None, job_id: Any = "job-1", **more: Any) -> dict[str, Any]:
    return {"id": job_id, "input": {"text": TEXT, **more} if asked is None else asked}


def answer(small: SmallParts, given: dict[str, Any], service: Service | None = None) -> Any:
    return asyncio.run(make_handler(small.components, service)(given))


def code_of(answered: dict[str, Any]) -> str:
    return str(json.loads(answered["error"])["code"])


class Updates:
    """What was sent as progress; the job's thread may wait for them."""

    def __init__(self, before: Callable[[int], None] = lambda _count: None) -> None:
        self.sent: list[dict[str, Any]] = []
        self._before = before
        self._changed = threading.Condition()

    async def __call__(self, given: dict[str, Any], progress: dict[str, Any]) -> None:
        assert given["id"] == "job-1"
        with self._changed:
            self.sent.append(progress)
            self._changed.notify_all()
        self._before(len(self.sent))

    def wait_for(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.sent) >= count, LONG)

    def one_by_one(self, small: SmallParts) -> None:
        """Have each sentence spoken only when the one before it has been told of."""
        spoken = iter(range(100))
        small.engine.before = lambda _sentence: self.wait_for(next(spoken))


async def left_over() -> set[asyncio.Task[Any]]:
    """Tasks beside this one, after those that are cancelled have had their turn."""
    for _ in range(5):
        await asyncio.sleep(0)
    return asyncio.all_tasks() - {asyncio.current_task()}


# --- progress


def test_each_update_has_what_is_new_and_the_last_comes_before_the_answer(small) -> None:
    updates = Updates()
    updates.one_by_one(small)
    answered = answer(small, job(stream=True), Service(send=updates))
    assert [update["done"] for update in updates.sent] == [1, 2, 3]
    assert [update["total"] for update in updates.sent] == [3, 3, 3]
    told = [said for update in updates.sent for said in update["segments"]]
    assert [said["index"] for said in told] == [0, 1, 2]
    assert [said["audio_url"] for said in told] == [
        said["audio_url"] for said in answered["segments"]
    ]
    assert [(said["text"], said["start"], said["end"]) for said in told] == [
        (said["text"], said["start"], said["end"]) for said in answered["segments"]
    ]


@pytest.mark.parametrize("count", [19, 20, 21, 100])
def test_an_update_is_bounded_and_what_is_over_goes_into_the_next(small, count: int) -> None:
    """All are ready while the first is being sent."""
    stored = threading.Event()
    audio = KEYS.output_key("speech", "job-1", "wav")
    small.storage.before_put = lambda key: key == audio and stored.set()
    sent: list[dict[str, Any]] = []

    async def send(_job: dict[str, Any], progress: dict[str, Any]) -> None:
        sent.append(progress)
        await until_async(stored.is_set)

    asked = job(stream=True, text="A long word.\n" * count)
    assert answer(small, asked, Service(send=send))["status"] == "success"
    told = [said["index"] for update in sent for said in update["segments"]]
    assert told == list(range(count))
    assert [update["done"] for update in sent][-1] == count
    assert max(len(update["segments"]) for update in sent) <= 20
    assert len(sent) <= 2 + count / 20


def test_what_is_ready_while_one_is_sent_goes_into_the_next(small) -> None:
    stored = threading.Event()
    small.storage.before_put = lambda key: (
        key == KEYS.output_key("speech", "job-1", "wav")
        and (
            stored.set()  # by then all sentences have been told of
        )
    )
    sent: list[int] = []

    async def send(_job: dict[str, Any], progress: dict[str, Any]) -> None:
        sent.append(progress["done"])
        await until_async(stored.is_set)

    answer(small, job(stream=True), Service(send=send))
    assert sent[-1] == 3
    assert len(sent) <= 2


@pytest.mark.parametrize("error", [OSError("refused"), ValueError("no"), TimeoutError("late")])
def test_an_update_that_fails_neither_fails_the_job_nor_stops_the_next(
    small, lines, error: Exception
) -> None:
    def refuse(count: int) -> None:
        if count == 1:
            raise error

    updates = Updates(refuse)
    updates.one_by_one(small)
    answered = answer(small, job(stream=True), Service(send=updates))
    assert answered["status"] == "success"
    assert [update["done"] for update in updates.sent] == [1, 2, 3]
    told = [line for line in lines() if line["event"] == "progress cannot be sent"]
    assert [line["level"] for line in told] == ["WARNING"]


def test_an_update_that_hangs_does_not_hold_the_answer(
    small, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runpod_handler, "ANNOUNCING_SECONDS", 0.01)
    begun: list[int] = []

    async def send(_job: dict[str, Any], progress: dict[str, Any]) -> None:
        begun.append(progress["done"])
        await asyncio.sleep(60)

    async def run() -> tuple[dict[str, Any], set[asyncio.Task[Any]]]:
        answered = await make_handler(small.components, Service(send=send))(job(stream=True))
        return answered, await left_over()

    answered, left = asyncio.run(run())
    assert answered["status"] == "success"
    assert begun
    assert not left


def test_the_answer_waits_for_an_update_under_way(small, lines) -> None:
    order: list[str] = []

    async def send(_job: dict[str, Any], progress: dict[str, Any]) -> None:
        # Until the job's thread has nothing more to do, and then some.
        await until_async(lambda: any(line["event"] == "job answered" for line in lines()))
        await asyncio.sleep(0.05)
        order.append(f"told of {progress['done']}")

    async def run() -> None:
        await make_handler(small.components, Service(send=send))(job(stream=True))
        order.append("answered")
        await left_over()

    asyncio.run(run())
    assert order[-2:] == ["told of 3", "answered"]
    assert runpod_handler.ANNOUNCING_SECONDS == 5  # and for so long at most


@pytest.mark.parametrize(
    ("worker", "asked", "told"),
    [
        (True, False, False),
        (True, None, True),
        (True, True, True),
        (False, None, False),
        (False, True, True),
        (False, False, False),
    ],
)
def test_the_job_says_whether_it_is_streamed_and_else_the_worker(
    small, worker: bool, asked: bool | None, told: bool
) -> None:
    updates = Updates()
    answered = answer(small, job(stream=asked), Service(streams=worker, send=updates))
    assert bool(updates.sent) is told
    assert all(("audio_url" in said) is told for said in answered["segments"])
    assert len(small.storage.put_keys) == (4 if told else 1)


def test_without_a_platform_there_is_nobody_to_tell(small) -> None:
    assert answer(small, job(stream=True))["status"] == "success"
    assert Service().max_jobs == 8
    assert (Service().streams, Service().remembers) == (False, False)


# --- the stream of sentences


def streamed(small: SmallParts, given: dict[str, Any]) -> list[dict[str, Any]]:
    async def run() -> list[dict[str, Any]]:
        stream = make_stream_handler(small.components, Service(streams=True))
        return [part async for part in stream(given)]

    return asyncio.run(run())


def test_a_stream_gives_the_sentences_in_order_and_then_the_answer(small) -> None:
    *told, answered = streamed(small, job())
    assert [(said["status"], said["index"], said["total"]) for said in told] == [
        ("segment", 0, 3),
        ("segment", 1, 3),
        ("segment", 2, 3),
    ]
    assert answered["status"] == "success"


def test_a_stream_of_a_job_that_wants_none_gives_the_answer_alone(small) -> None:
    (answered,) = streamed(small, job(stream=False))
    assert answered["status"] == "success"


def test_a_stream_that_fails_gives_what_was_ready_and_then_the_error(small) -> None:
    def fail(sentence: str) -> None:
        if sentence.startswith("Three"):
            raise SynthesisError("nothing can be heard")

    small.engine.before = fail
    *_, answered = streamed(small, job())
    assert code_of(answered) == "synthesis_failed"
    assert set(answered) == {"error"}


def test_a_stream_that_is_closed_cancels_its_job(small, lines) -> None:
    release = threading.Event()

    def wait(sentence: str) -> None:
        if sentence.startswith("Two"):
            assert release.wait(LONG)

    small.engine.before = wait

    async def run() -> set[asyncio.Task[Any]]:
        stream = make_stream_handler(small.components, Service(streams=True))(job())
        assert (await anext(stream))["index"] == 0
        assert not small.engine.asked[0].cancellation.cancelled
        await stream.aclose()
        assert small.engine.asked[0].cancellation.cancelled
        left = await left_over()
        release.set()
        await until_async(lambda: said_to_be_cancelled(lines()))
        return left

    assert not asyncio.run(run())
    assert KEYS.output_key("speech", "job-1", "wav") not in dict(small.storage.put_keys)


# --- cancellation


class Held:
    """Keeps the engine before its first sentence until let go."""

    def __init__(self, small: SmallParts) -> None:
        self._small = small
        self._begun, self._release = threading.Event(), threading.Event()
        small.engine.before = self._wait

    def _wait(self, _sentence: str) -> None:
        if not self._release.is_set():
            self._begun.set()
            assert self._release.wait(LONG)

    async def begun(self) -> None:
        await until_async(self._begun.is_set)

    def let_go(self) -> None:
        self._release.set()


def said_to_be_cancelled(lines: list[dict[str, Any]]) -> bool:
    """Whether the job's thread has come to its end."""
    return any(line["event"] == "job cancelled" for line in lines)


def test_a_cancelled_task_cancels_its_job_and_leaves_nothing(small, scratch: Path, lines) -> None:
    held = Held(small)
    seen: list[bool] = []

    async def as_the_sdk_does() -> None:
        try:
            await make_handler(small.components)(job())
        except asyncio.CancelledError:
            seen.append(small.engine.asked[0].cancellation.cancelled)  # at once
            raise

    async def run() -> set[asyncio.Task[Any]]:
        task = asyncio.create_task(as_the_sdk_does())
        await held.begun()
        assert len(list(scratch.iterdir())) == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        left = await left_over()
        held.let_go()
        await until_async(lambda: said_to_be_cancelled(lines()))
        return left

    assert not asyncio.run(run())
    assert seen == [True]
    assert not list(scratch.iterdir())
    assert not small.storage.put_keys
    told = [line for line in lines() if line["event"] == "job cancelled"]
    assert [(line["level"], line["job"]) for line in told] == [("INFO", "job-1")]


def test_a_job_need_not_wait_for_one_that_was_cancelled(small, lines) -> None:
    """With one job at a time: the other's thread may still be on its way out."""
    held = Held(small)

    async def run() -> dict[str, Any]:
        handle = make_handler(small.components, Service(max_jobs=1))
        first = asyncio.create_task(handle(job()))
        await held.begun()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        small.engine.before = lambda _sentence: None
        try:
            async with asyncio.timeout(20):
                return await handle(job(job_id="job-2"))
        finally:
            held.let_go()
            await until_async(lambda: said_to_be_cancelled(lines()))

    assert asyncio.run(run())["status"] == "success"


def test_a_job_is_counted_while_it_runs(small) -> None:
    held = Held(small)
    running = RunningJobs()

    async def run() -> None:
        for stream in (False, True):
            service = Service(running=running)

            async def one(stream: bool = stream, service: Service = service) -> None:
                if stream:
                    async for _ in make_stream_handler(small.components, service)(job()):
                        pass
                else:
                    await make_handler(small.components, service)(job())

            assert running.idle
            task = asyncio.create_task(one())
            await until_async(lambda: not running.idle)
            held.let_go()
            await task
            await asyncio.sleep(0)
        assert running.idle

    asyncio.run(run())


# --- errors


class Broken(RunningJobs):
    """Notes why the worker is given up."""

    def __init__(self) -> None:
        super().__init__()
        self.reasons: list[str] = []

    def give_up(self, reason: str) -> None:
        self.reasons.append(reason)


@pytest.mark.parametrize("job_id", [5, None])
def test_an_id_that_is_no_text_ends_the_worker_which_could_send_no_answer(
    small, job_id: object
) -> None:
    """The SDK puts it into a header of all its requests from then on."""
    broken = Broken()
    answered = answer(small, {**job(), "id": job_id}, Service(running=broken))
    assert json.loads(answered["error"])["code"] == "invalid_request"
    assert broken.reasons == ["the platform gave a job whose id is no text"]


@pytest.mark.parametrize(
    ("error", "code", "field"),
    [
        (RequestError("it cannot be", field="text"), "invalid_request", "text"),
        (NotAvailableError("not here", field="gender"), "not_available", "gender"),
        (VoiceError("no voice", field="voice"), "invalid_voice", "voice"),
        (DownloadError("not to be had"), "download_failed", None),
        (SynthesisError("no sound"), "synthesis_failed", None),
        (StorageError("full"), "storage_failed", None),
        (NotFoundError("gone"), "not_found", None),
        (BusyError("later"), "busy", None),
        (JobCancelledError("given up"), "cancelled", None),
    ],
)
def test_an_error_is_answered_with_code_message_and_field(
    small, scratch: Path, lines, error: Exception, code: str, field: str | None
) -> None:
    def fail(_sentence: str) -> None:
        raise error

    small.engine.before = fail
    broken = Broken()
    answered = answer(small, job(), Service(running=broken))
    assert set(answered) == {"error"}
    assert json.loads(answered["error"]) == {"code": code, "message": str(error), "field": field}
    assert not broken.reasons
    assert not list(scratch.iterdir())
    assert not small.storage.put_keys
    assert small.engine.closed == 1
    (line,) = [line for line in lines() if line["event"] in {"job failed", "job cancelled"}]
    assert line["job"] == "job-1"
    if code != "cancelled":
        assert (line["level"], line["code"], line["field"]) == ("WARNING", code, field)
        assert line["error"] == str(error)
        assert "traceback" not in line


class OutOfMemoryError(RuntimeError):
    """Named as torch's own."""


@pytest.mark.parametrize(
    "error",
    [MemoryError(), OutOfMemoryError(), RuntimeError("CUDA error: out of memory"),
     RuntimeError("cuBLAS: CUBLAS_STATUS_ALLOC_FAILED")],
)  # fmt: skip
def test_short_memory_is_the_jobs_failure_and_the_worker_goes_on(
    small, error: BaseException
) -> None:
    def fail(_sentence: str) -> None:
        raise error

    small.engine.before = fail
    broken = Broken()
    answered = answer(small, job(), Service(running=broken))
    assert set(answered) == {"error"}
    assert json.loads(answered["error"]) == {
        "code": "out_of_memory",
        "message": "not enough memory for this job; send it again",
        "field": None,
    }
    assert not broken.reasons


@pytest.mark.parametrize(
    "error", [DeviceError("the GPU failed"), RuntimeError("CUDA error: device-side assert")]
)
def test_a_broken_device_ends_the_worker_and_asks_for_another(
    small, scratch: Path, lines, error: Exception
) -> None:
    def fail(_sentence: str) -> None:
        raise error

    small.engine.before = fail
    broken = Broken()
    answered = answer(small, job(), Service(running=broken))
    assert set(answered) == {"error", "refresh_worker"}
    assert answered["refresh_worker"] is True
    assert code_of(answered) == "device_failed"
    (reason,) = broken.reasons
    assert reason.startswith("device_failed: the GPU failed")
    assert not list(scratch.iterdir())
    (line,) = [line for line in lines() if line["event"] == "job failed"]
    assert (line["level"], line["code"]) == ("ERROR", "device_failed")


def test_an_unforeseen_error_tells_the_client_nothing_and_the_log_all(
    small, scratch: Path, lines
) -> None:
    def fail(_sentence: str) -> None:
        raise ValueError("/srv/secret-place")

    small.engine.before = fail
    broken = Broken()
    answered = answer(small, job(), Service(running=broken))
    assert set(answered) == {"error"}
    error = json.loads(answered["error"])
    assert error == {
        "code": "internal_error",
        "message": "internal error; the worker's log has the traceback under job job-1",
        "field": None,
    }
    assert not broken.reasons
    assert not list(scratch.iterdir())
    (line,) = [line for line in lines() if line["event"] == "job failed"]
    assert (line["level"], line["code"], line["job"]) == ("ERROR", "internal_error", "job-1")
    assert "ValueError: /srv/secret-place" in line["traceback"]


def test_a_folder_that_cannot_be_made_is_answered_too(
    small, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    assert code_of(answer(small, job())) == "internal_error"


@pytest.mark.parametrize("job_id", [None, 7, "", "../up", "a/b", "x" * 129])
def test_an_id_that_is_none_is_refused_before_anything_is_spoken(small, job_id: Any) -> None:
    answered = answer(small, job(job_id=job_id))
    error = json.loads(answered["error"])
    assert (error["code"], error["field"]) == ("invalid_request", "id")
    assert not small.engine.designed
    assert not small.engine.asked


@pytest.mark.parametrize("asked", [None, [], {"text": TEXT, "sped": 1}])
def test_a_bad_input_is_refused_before_anything_is_spoken(small, asked: Any) -> None:
    answered = answer(small, {"id": "job-1", "input": asked})
    assert code_of(answered) == "invalid_request"
    assert code_of(answer(small, {"id": "job-1"})) == "invalid_request"
    assert not small.engine.designed


# --- what is left, and what is told of a good job


def test_the_temporary_folder_is_the_workers_and_gone_afterwards(small, scratch: Path) -> None:
    seen: list[str] = []
    small.engine.before = lambda _s: seen.extend(path.name for path in scratch.iterdir())
    assert answer(small, job())["status"] == "success"
    assert len(set(seen)) == 1
    assert seen[0].startswith(temp_prefix())
    assert not list(scratch.iterdir())


def test_a_good_job_is_one_line_of_the_log(small, lines) -> None:
    answered = answer(small, job(seed=4))
    begun, line = lines()
    assert (begun["event"], begun["level"], begun["job"]) == ("job begun", "DEBUG", "job-1")
    assert (line["event"], line["level"], line["job"]) == ("job answered", "INFO", "job-1")
    assert line["audio_seconds"] == answered["duration"]
    assert line["seconds"] >= line["stages"]["speech"] >= 0
    assert line["overhead"] >= 0
    assert line["metrics"]["sentences"] == 3
    assert not {"seconds", "faults"} & set(line["metrics"])


def test_the_wait_for_a_thread_is_queueing(small) -> None:
    """One job at a time has two threads; a third job waits for one of them."""
    held = Held(small)

    async def run() -> dict[str, Any]:
        handle = make_handler(small.components, Service(max_jobs=1))
        others = [asyncio.create_task(handle(job(job_id=f"other-{i}"))) for i in range(2)]
        await until_async(lambda: len(small.engine.asked) == 2)
        third = asyncio.create_task(handle(job()))
        await asyncio.sleep(0.03)
        held.let_go()
        await asyncio.gather(*others)
        return await third

    assert asyncio.run(run())["metrics"]["seconds"]["queue"] >= 0.025


# --- delivered again


REMEMBERS = Service(remembers=True)


def test_a_job_that_is_delivered_again_is_answered_from_its_record(small, lines) -> None:
    first = answer(small, job(), REMEMBERS)
    again = answer(small, job(), REMEMBERS)
    assert again == first
    assert len(small.engine.asked) == 1
    said = [line["event"] for line in lines()]
    assert "storage" in lines()[-1]["stages"]
    assert said == ["job begun", "job answered", "job begun", "job answered again"]
    # Another job, or another request of the same id, is spoken.
    answer(small, job(job_id="job-2"), REMEMBERS)
    answer(small, job(temperature=0.5), REMEMBERS)
    assert len(small.engine.asked) == 3


def test_a_worker_without_a_queue_remembers_nothing(small) -> None:
    answer(small, job())
    answer(small, job())
    assert len(small.engine.asked) == 2
    assert not [key for key, _ in small.storage.put_keys if key.endswith(".json")]


def test_the_record_is_written_last(small) -> None:
    answer(small, job(stream=True), REMEMBERS)
    *results, (last, kind) = small.storage.put_keys
    assert len(results) == 4
    assert (Path(last).suffix, kind) == (".json", "application/json")


def test_a_failure_leaves_no_record(small) -> None:
    def fail(_sentence: str) -> None:
        raise BusyError("later")

    small.engine.before = fail
    assert code_of(answer(small, job(), REMEMBERS)) == "busy"
    small.engine.before = lambda _sentence: None
    assert answer(small, job(), REMEMBERS)["status"] == "success"


def test_each_delivery_has_the_same_seed_also_without_a_record(small) -> None:
    expected = job_seed(parse_request({"text": TEXT}), "job-1")
    for _ in range(2):
        assert answer(small, job(), REMEMBERS)["seed"] == expected
        for key, _ in small.storage.put_keys:
            if key.endswith(".json"):
                (small.storage._folder / key).unlink(missing_ok=True)
    assert [asked.sampling.seed for asked in small.engine.asked] == [expected] * 2
    assert answer(small, job(seed=9), REMEMBERS)["seed"] == 9


def test_a_streamed_job_that_is_delivered_again_tells_of_its_sentences_again(small) -> None:
    first, again = Updates(), Updates()
    answer(small, job(stream=True), Service(remembers=True, send=first))
    answer(small, job(stream=True), Service(remembers=True, send=again))
    assert len(small.engine.asked) == 1
    told, repeated = (
        [said for update in updates.sent for said in update["segments"]]
        for updates in (first, again)
    )
    assert repeated == told
    assert again.sent[-1]["done"] == 3


def test_sentences_without_a_url_are_not_told_of_again(small) -> None:
    """The worker began to stream between the two deliveries."""
    updates = Updates()
    first = answer(small, job(), REMEMBERS)
    service = Service(streams=True, remembers=True, send=updates)
    assert answer(small, job(), service) == first
    assert not updates.sent


def test_a_job_that_is_not_streamed_any_more_tells_nothing_again(small) -> None:
    updates = Updates()
    answer(small, job(), Service(streams=True, remembers=True))
    answer(small, job(), Service(remembers=True, send=updates))
    assert len(small.engine.asked) == 1
    assert not updates.sent


def test_the_urls_of_a_record_live_as_long_as_the_job_says(small) -> None:
    answer(small, job(url_expiry=77), REMEMBERS)
    small.storage.expiries.clear()
    answer(small, job(url_expiry=77), REMEMBERS)
    assert small.storage.expiries == {77}


# --- answers that are too large for the platform


class CharacterAligner(EvenAligner):
    """Takes each character for a word; its scores have as many digits as a float has."""

    def align(
        self,
        samples: np.ndarray,
        sample_rate: int,
        sentences: Sequence[SentenceSpan],
        *,
        default: str | None = None,
    ) -> list[WordTiming]:
        (sentence,) = sentences
        step = (sentence.end - sentence.start) / len(sentence.text)
        return [
            WordTiming(word, i * step, (i + 1) * step, 0.8123456789012345, 0, estimated=False)
            for i, word in enumerate(sentence.text)
        ]


def test_no_item_of_a_stream_is_larger_than_it_may_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tenth of the longest text, and of the limit; each URL has a session's token in it."""
    limit = AnswerLimit(answer_size.OF_STREAMED_ITEMS.bytes // 10, "an item of /stream")
    monkeypatch.setattr(answer_size, "OF_STREAMED_ITEMS", limit)
    small = small_components(tmp_path, CharacterAligner())
    small.engine.word = 12.0  # seconds that such a sentence takes
    given = small.storage.url
    small.storage.url = lambda key, seconds: f"{given(key, seconds)}&{3_000 * 'x'}"  # type: ignore[method-assign] # longer URLs
    text = ("今天的天气很好，我们一起去公园散步，" * 11 + "你呢？") * 10
    *told, answered = streamed(small, job(text=text, enable_whisperx=True, max_retries=0))
    sizes = [len(json.dumps({"output": item}, ensure_ascii=False).encode()) for item in told]
    assert max(sizes) < 10_000
    assert len(json.dumps({"output": answered}, ensure_ascii=False).encode()) <= limit.bytes
    assert answered["status"] == "success"
    assert "word_timings" not in answered
    words = stored_list(small, answered["word_timings_url"])
    assert "".join(word["word"] for word in words) == text
    assert {word["score"] for word in words} == {0.812}
    sentences = answered["segments"] or stored_list(small, answered["segments_url"])
    assert [said["text"] for said in sentences] == [said["text"] for said in told]
    assert [said["audio_url"] for said in sentences] == [said["audio_url"] for said in told]


def stored_list(small: SmallParts, url: str) -> list[dict[str, Any]]:
    """What lies under a URL of the small storage."""
    return json.loads(Path(urlsplit(url).path).read_bytes())


def test_a_large_answer_that_is_given_again_has_the_same_with_a_fresh_url(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = small_components(tmp_path, EvenAligner())
    whole = answer(small, job(enable_whisperx=True), REMEMBERS)
    assert len(whole["word_timings"]) == 6
    limit = AnswerLimit(len(json.dumps(whole)), "an answer")  # all but the words has room
    monkeypatch.setattr(answer_size, "OF_JOBS", limit)
    first = answer(small, job(job_id="job-2", enable_whisperx=True, stream=True), REMEMBERS)
    again = answer(small, job(job_id="job-2", enable_whisperx=True, stream=True), REMEMBERS)
    assert "word_timings" not in first
    assert again == first
    assert stored_list(small, first["word_timings_url"]) == whole["word_timings"]
    # What another door takes is whole there: the record has all.
    monkeypatch.setattr(answer_size, "OF_JOBS", AnswerLimit(10_000_000, "an answer"))
    known = answer(small, job(job_id="job-2", enable_whisperx=True, stream=True), REMEMBERS)
    assert known["word_timings"] == whole["word_timings"]
    assert known["warnings"] == []
    assert len(small.engine.asked) == 2


def test_a_large_answer_whose_file_cannot_be_stored_is_an_error_and_not_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = small_components(tmp_path, EvenAligner())

    def refuse(key: str) -> None:
        if key.endswith(".words.json"):
            raise StorageError("the bucket is full")

    small.storage.before_put = refuse
    monkeypatch.setattr(answer_size, "OF_JOBS", AnswerLimit(100, "an answer"))
    assert code_of(answer(small, job(enable_whisperx=True), REMEMBERS)) == "storage_failed"
    assert [key for key, _ in small.storage.put_keys if key.endswith(".json")] == []
