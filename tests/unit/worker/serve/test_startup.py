"""How the worker is put together and handed to RunPod's SDK, which is a small one here."""

from __future__ import annotations

import asyncio
import gc
import inspect
import json
import logging
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.support.small_components import TEXT, SmallParts, small_components
from volume.layout import pinned_wheel
from volume.start_pack import runtime
from volume.start_pack.read_ahead import ReadAhead, Reading
from volume.stops import STOPS
from worker.components import Components
from worker.errors import SetupError, StorageError
from worker.logs import log
from worker.serve import fitness_checks, shutdown, startup
from worker.serve.start_stages import StartStages
from worker.settings import Settings, load_settings


class Sdk:
    """RunPod's SDK as far as the worker calls it."""

    def __init__(self) -> None:
        self.checks: list[Callable[[], None]] = []
        self.config: dict[str, Any] = {}
        self.sent: list[Any] = []
        self.log_level: str | None = None
        self.serve: Callable[[dict[str, Any]], None] = lambda _config: None

    def start(self, config: dict[str, Any]) -> None:
        self.config = config
        self.log_level = os.environ.get("RUNPOD_LOG_LEVEL")
        self.serve(config)

    def modules(self) -> dict[str, ModuleType]:
        runpod, serverless = ModuleType("runpod"), ModuleType("runpod.serverless")
        http = ModuleType("runpod.http_client")
        modules = ModuleType("runpod.serverless.modules")
        results = ModuleType("runpod.serverless.modules.rp_http")
        sdk = self

        class Session:
            async def __aenter__(self) -> str:
                return "session"

            async def __aexit__(self, *_: object) -> None:
                sdk.sent.append("closed")

        async def send_result(session: str, data: Any, job: Any) -> None:
            sdk.sent.append((session, data, job))

        serverless.start, serverless.register_fitness_check = self.start, self.checks.append
        runpod.serverless = serverless
        http.AsyncClientSession = Session
        results.send_result = send_result
        return {m.__name__: m for m in (runpod, serverless, http, modules, results)}


class Start:
    """A start of the worker, with small components and the SDK above."""

    def __init__(self, small: SmallParts, sdk: Sdk) -> None:
        self.small, self.sdk = small, sdk
        self.loaded: list[Settings] = []
        self.swept: list[bool] = []  # the folders of killed workers

    def serve(self) -> int:
        return startup.serve(load_settings(), StartStages(), runtime.Start())


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    for name in (*(n.upper() for n in Settings.model_fields), "RUNPOD_WEBHOOK_GET_JOB",
                 "RUNPOD_LOG_LEVEL", "RUNPOD_AI_API_KEY"):  # fmt: skip
        monkeypatch.setenv(name, "")  # so that what is set meanwhile is taken back
        monkeypatch.delenv(name)
    (tmp_path / "SparkTTS-serverless" / "models" / "mine@1").mkdir(parents=True)
    monkeypatch.setenv("RUNPOD_VOLUME", str(tmp_path))
    monkeypatch.setenv("SPARK_MODEL", "mine@1")
    monkeypatch.setattr(sys, "argv", ["worker"])
    small, sdk = small_components(tmp_path), Sdk()
    for name, module in sdk.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    start = Start(small, sdk)

    def load(settings: Settings, loading: Callable[[], Any], _stage: object) -> Components:
        start.loaded.append(settings)
        assert loading() is small.engine
        return small.components

    monkeypatch.setattr(Components, "load", load)
    monkeypatch.setattr(startup, "_load_engine", lambda *_given: small.engine)
    monkeypatch.setattr(startup.gc, "freeze", lambda: None)  # not for all tests after this
    monkeypatch.setattr(startup, "remove_abandoned_folders", lambda: start.swept.append(True))
    monkeypatch.setattr(startup, "host_memory_free", lambda: 0.5)
    monkeypatch.setattr(sys, "meta_path", sys.meta_path[:])
    interval = sys.getswitchinterval()
    stops = {stop: signal.getsignal(stop) for stop in STOPS}
    yield start
    for stop, handler in stops.items():
        signal.signal(stop, handler)
    sys.setswitchinterval(interval)
    gc.enable()


# --- secrets and the log


def test_every_secret_is_kept_out_of_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(aws_secret_access_key="secret", aws_session_token="token")
    monkeypatch.setenv("RUNPOD_AI_API_KEY", "key")
    assert set(startup.secrets_of(settings)) == {"secret", "token", "key"}
    monkeypatch.delenv("RUNPOD_AI_API_KEY")
    assert set(startup.secrets_of(Settings())) <= {""}


def test_the_log_is_set_up_with_the_secrets_and_the_level(
    start: Start, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "RUNPOD_AI_API_KEY"):
        monkeypatch.setenv(name, f"hidden-{name}")
    monkeypatch.setenv("LOG_LEVEL", "WARNING")

    def serve(_config: dict[str, Any]) -> None:
        log.warning("%s", " and ".join(v for n, v in os.environ.items() if "hidden" in v))
        log.info("not shown")

    start.sdk.serve = serve
    assert startup.main() == 0
    written = capsys.readouterr().err
    assert "... and ... and ..." in written
    assert "hidden" not in written
    assert "not shown" not in written


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("DEBUG", "INFO"), ("INFO", "INFO"), ("WARNING", "WARN"), ("ERROR", "ERROR")],
)
def test_the_sdk_never_logs_whole_answers(
    start: Start, monkeypatch: pytest.MonkeyPatch, ours: str, theirs: str
) -> None:
    """At its DEBUG, which is its default, it prints URLs that anyone may open."""
    monkeypatch.setenv("LOG_LEVEL", ours)
    start.serve()
    assert start.sdk.log_level == theirs


def test_an_operator_may_choose_the_sdks_level(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNPOD_LOG_LEVEL", "TRACE")
    start.serve()
    assert start.sdk.log_level == "TRACE"


# --- a bad start


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("SPARK_MODEL", "nothing", "volume install --model nothing"),
        ("S3_URL_EXPIRY", "soon", "S3_URL_EXPIRY"),
    ],
)
def test_a_bad_start_is_told_and_nothing_is_loaded(
    start: Start,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    value: str,
    said: str,
) -> None:
    monkeypatch.setenv(name, value)
    assert startup.main() == 1
    written = capsys.readouterr().err
    assert '"event": "setup failed"' in written
    assert said in written
    assert not start.loaded
    assert not start.sdk.config


def test_parts_that_cannot_be_loaded_are_told(
    start: Start, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise SetupError("the weights are damaged")

    monkeypatch.setattr(Components, "load", fail)
    assert startup.main() == 1
    assert "the weights are damaged" in capsys.readouterr().err
    assert not start.sdk.config


def test_an_error_that_nobody_expected_is_told_in_one_line_with_its_traceback(
    start: Start, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise RecursionError("too deep\nand more")

    monkeypatch.setattr(Components, "load", fail)
    assert startup.main() == 1
    (line,) = capsys.readouterr().err.splitlines()
    told = json.loads(line)
    assert (told["event"], told["level"]) == ("setup failed", "ERROR")
    assert told["error"] == "RecursionError: too deep"
    assert "in fail" in told["traceback"]
    assert not start.sdk.config


def test_libraries_that_cannot_be_imported_are_told_and_not_imported_again(
    start: Start, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    def fail(name: str) -> object:
        asked.append(name)
        if name == "worker.speech.engine":
            raise OSError("the volume is gone")
        return import_module(name)

    monkeypatch.setattr(startup, "import_module", fail)
    assert startup.main() == 1
    assert '"error": "OSError: the volume is gone"' in capsys.readouterr().err
    assert sorted(asked) == ["runpod", "worker.speech.engine"]


def test_hardware_that_cannot_be_used_is_told_before_anything_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def refuse(wheel: str | None) -> None:
        asked.append(wheel)
        raise SetupError("the GPU is too old")

    monkeypatch.setattr("worker.speech.device_checks.check_hardware", refuse)
    monkeypatch.setattr("worker.speech.engine.Engine.load", lambda *_, **__: pytest.fail("loaded"))
    with pytest.raises(SetupError, match="too old"):
        startup._load_engine(tmp_path, Settings(), done("torch"), done(None), StartStages())
    assert asked == [pinned_wheel("flash-attn")]


def test_a_start_that_fails_is_told_while_other_threads_are_not_through(
    start: Start, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = threading.Event()

    def fail(*_: object) -> None:
        raise SetupError("the weights are damaged")

    monkeypatch.setattr(startup, "_load_engine", lambda *_given: told.wait(60))
    monkeypatch.setattr(Components, "load", fail)
    assert startup.main() == 1
    assert not told.is_set()
    told.set()
    assert "the weights are damaged" in capsys.readouterr().err


# --- what the SDK is given


def test_threads_give_way_soon(start: Start) -> None:
    """A thread that computes in Python holds up each call of torch for this long."""
    seen: list[float] = []
    start.sdk.serve = lambda _config: seen.append(sys.getswitchinterval())
    assert startup.main() == 0
    assert seen == [pytest.approx(0.0003)]


@pytest.mark.parametrize(
    ("asked", "slots", "jobs"),
    [(None, 16, 8), (None, 64, 8), (None, 8, 8), (None, 3, 3), ("1", 16, 1), ("20", 16, 20)],
)
def test_as_many_jobs_as_the_operator_says_and_else_eight_or_the_slots(
    start: Start, monkeypatch: pytest.MonkeyPatch, asked: str | None, slots: int, jobs: int
) -> None:
    if asked is not None:
        monkeypatch.setenv("MAX_CONCURRENCY", asked)
    monkeypatch.setattr(start.small.engine, "slots", slots)
    seen: list[int] = []

    async def first() -> None:
        monkeypatch.setattr(shutdown.RunningJobs, "listen_for_the_end", lambda _self: None)
        seen.append(start.sdk.config["concurrency_modifier"](1))

    start.sdk.serve = lambda _config: asyncio.run(first())
    start.serve()
    assert seen == [jobs]


def test_a_worker_of_a_queue_remembers_its_jobs_and_tells_of_them(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNPOD_WEBHOOK_GET_JOB", "http://queue")
    given = {"id": "job-1", "input": {"text": TEXT, "stream": True}}
    answers: list[dict[str, Any]] = []

    def serve(config: dict[str, Any]) -> None:
        answers.extend(asyncio.run(config["handler"](given)) for _ in range(2))

    start.sdk.serve = serve
    start.serve()
    assert answers[0]["status"] == "success"
    assert answers[1] == answers[0]
    assert len(start.small.engine.asked) == 1
    sent = [part for part in start.sdk.sent if part != "closed"]
    assert start.sdk.sent.count("closed") == len(sent) >= 2
    session, data, job = sent[-1]
    assert (session, data["status"], job) == ("session", "IN_PROGRESS", given)
    assert data["output"]["done"] == 3


def test_the_first_job_of_a_queue_is_told_how_the_worker_started(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("RUNPOD_WEBHOOK_GET_JOB", "http://queue")
    monkeypatch.setattr(shutdown.RunningJobs, "listen_for_the_end", lambda _self: None)
    monkeypatch.setattr(fitness_checks, "check_speech", lambda _components: None)
    caplog.set_level(logging.INFO, "worker")
    answers: list[dict[str, Any]] = []

    def told() -> list[Any]:
        return [record.fields for record in caplog.records if record.message == "worker started"]

    def serve(config: dict[str, Any]) -> None:
        for check in start.sdk.checks:
            check()
        assert not told()
        for name in ("a", "b", "a"):  # the first once more: its answer is its record's
            config["concurrency_modifier"](1)
            given = {"id": name, "input": {"text": TEXT}}
            answers.append(asyncio.run(config["handler"](given)))

    start.sdk.serve = serve
    start.serve()
    (line,) = told()
    metrics = [answer["metrics"].get("start") for answer in answers]
    assert set(metrics[0]) == {*line["stages"], "ready", "accepted", "answered"}
    assert "checks" in line["stages"]
    assert 0 < metrics[0]["ready"] <= metrics[0]["accepted"] <= metrics[0]["answered"]
    assert metrics[1:] == [None, metrics[0]]
    answered = [record.fields for record in caplog.records if record.message == "job answered"]
    assert [fields["metrics"].get("start") for fields in answered] == metrics[:2]


def test_a_worker_without_a_queue_does_neither(start: Start) -> None:
    given = {"id": "job-1", "input": {"text": TEXT, "stream": True}}

    def serve(config: dict[str, Any]) -> None:
        for _ in range(2):
            assert asyncio.run(config["handler"](given))["status"] == "success"

    start.sdk.serve = serve
    start.serve()
    assert len(start.small.engine.asked) == 2
    assert not start.sdk.sent


@pytest.mark.parametrize(
    ("stream", "arguments", "generator"),
    [
        ("true", [], True),
        ("false", [], False),
        ("true", ["--rp_serve_api"], True),
        ("true", ["--test_input", "{}"], False),  # the SDK does not listen to a generator there
        ("true", ["--test_input={}"], False),
    ],
)
def test_a_streaming_worker_is_a_generator(
    start: Start,
    monkeypatch: pytest.MonkeyPatch,
    stream: str,
    arguments: list[str],
    generator: bool,
) -> None:
    monkeypatch.setenv("STREAM", stream)
    monkeypatch.setattr(sys, "argv", ["worker", *arguments])
    start.serve()
    assert inspect.isasyncgenfunction(start.sdk.config["handler"]) is generator
    # RunPod's /run then gives all of it, and not nothing.
    assert start.sdk.config["return_aggregate_stream"] is True
    assert "refresh_worker" not in start.sdk.config
    assert len(start.small.storage.put_keys) == 0


@pytest.mark.parametrize("stream", ["true", "false"])
def test_the_workers_stream_is_the_jobs_default(
    start: Start, monkeypatch: pytest.MonkeyPatch, stream: str
) -> None:
    monkeypatch.setenv("STREAM", stream)
    monkeypatch.setattr(sys, "argv", ["worker", "--test_input", "{}"])  # an ordinary handler
    given = {"id": "job-1", "input": {"text": TEXT}}
    start.sdk.serve = lambda config: asyncio.run(config["handler"](given))
    start.serve()
    assert len(start.small.storage.put_keys) == (4 if stream == "true" else 1)


def test_without_a_platform_the_storage_alone_is_asked_and_a_bad_one_ends_the_start(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDK checks nothing then, and a job would fail when all is spoken."""

    def refuse() -> None:
        raise StorageError("the bucket does not exist")

    monkeypatch.setattr(start.small.storage, "check", refuse)
    served: list[bool] = []
    start.sdk.serve = lambda _config: served.append(True)
    assert startup.main() == 1
    assert served == start.sdk.checks == []


@pytest.mark.parametrize(("bucket", "told"), [("", ["no bucket is set"]), ("speech", [])])
def test_a_worker_of_the_platform_without_a_bucket_says_so(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    bucket: str, told: list[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("RUNPOD_WEBHOOK_GET_JOB", "http://queue")
    monkeypatch.setenv("S3_BUCKET_NAME", bucket)
    start.serve()
    assert [r.message for r in caplog.records if r.levelname == "WARNING"] == told


@pytest.mark.parametrize("place", ["missing", "a file", "read-only"])
def test_a_tmpdir_that_is_no_use_is_refused_and_not_passed_over(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    folder = tmp_path / place
    if place == "a file":
        folder.write_text("x")
    elif place == "read-only":
        folder = Path("/proc")
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", str(folder))
    assert startup.main() == 1
    assert start.loaded == []
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", f"{tmp_path}/.")
    assert startup.main() == 0


def test_all_is_checked_before_the_first_job(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNPOD_WEBHOOK_GET_JOB", "http://queue")
    start.serve()
    assert [check.__name__ for check in start.sdk.checks] == [
        "leave_stops_to_the_kernel", "gpu_memory", "model", "storage", "speech", "weights",
    ]  # fmt: skip
    by_name = {check.__name__: check for check in start.sdk.checks}
    by_name["storage"]()
    by_name["model"]()
    (tmp_path / "SparkTTS-serverless" / "models" / "mine@1" / "weights").symlink_to("gone")
    with pytest.raises(SetupError, match="short synthesis"):  # the small engine has none
        by_name["speech"]()


# --- memory


@pytest.mark.parametrize(
    ("host", "gpu", "expected"), [(0.5, None, 8), (0.05, None, 4), (0.5, 0.05, 4), (0.05, 0.5, 4)]
)
def test_the_shorter_of_both_memories_counts(
    start: Start,
    monkeypatch: pytest.MonkeyPatch,
    host: float,
    gpu: float | None,
    expected: int,
) -> None:
    monkeypatch.setattr(startup, "host_memory_free", lambda: host)
    monkeypatch.setattr(shutdown.RunningJobs, "listen_for_the_end", lambda _self: None)
    start.small.engine.free = gpu
    start.serve()
    assert start.sdk.config["concurrency_modifier"](8) == expected


def test_a_gpu_that_is_found_broken_between_jobs_ends_the_worker(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    reasons: list[str] = []
    monkeypatch.setattr(shutdown.RunningJobs, "listen_for_the_end", lambda _self: None)
    monkeypatch.setattr(shutdown.RunningJobs, "give_up", lambda _s, why: reasons.append(why))
    start.small.engine.broken = RuntimeError("CUDA error: device-side assert triggered")
    start.serve()
    assert start.sdk.config["concurrency_modifier"](8) == 4
    assert reasons == [
        "device_failed: the GPU failed and this worker is being replaced; send the job again"
    ]
    start.small.engine.broken = RuntimeError("another fault")
    with pytest.raises(RuntimeError, match="another fault"):
        start.sdk.config["concurrency_modifier"](8)
    assert len(reasons) == 1


# --- the end


def running(config: dict[str, Any]) -> shutdown.RunningJobs:
    return config["concurrency_modifier"]._running


def test_an_sdk_that_comes_back_is_a_good_end(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "worker")
    assert start.serve() == 0
    *fit, begins, started, ends = caplog.records
    assert [(one.message, one.fields["check"]) for one in fit] == [
        ("check passed", "storage"), ("check passed", "weights"),
    ]  # fmt: skip
    assert begins.fields == {"model": "mine@1", "jobs": 8, "slots": 16}
    assert (started.message, *started.fields["stages"]) == (
        *("worker started", "interpreter", "sdk", "imports", "checks"),
    )
    assert (ends.message, ends.fields) == ("worker ends", {"reason": None})
    assert gc.isenabled()
    assert start.swept == [True]


@pytest.mark.parametrize(("broken", "status"), [(False, 0), (True, 1)])
def test_a_drained_worker_ends_well_and_a_broken_one_with_status_1(
    start: Start, broken: bool, status: int
) -> None:
    def serve(config: dict[str, Any]) -> None:
        running(config).reason, running(config).broken = "SIGTERM", broken
        raise asyncio.CancelledError

    start.sdk.serve = serve
    assert start.serve() == status


def test_a_cancellation_that_no_drain_made_is_an_error(start: Start) -> None:
    def serve(_config: dict[str, Any]) -> None:
        raise asyncio.CancelledError

    start.sdk.serve = serve
    with pytest.raises(asyncio.CancelledError):
        start.serve()


def test_a_broken_gpu_asks_for_a_fresh_worker_in_every_answer(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRAIN_SECONDS", "7")

    async def run(config: dict[str, Any]) -> None:
        jobs = running(config)
        assert jobs._drain_seconds == 7
        monkeypatch.setattr(jobs, "_end", lambda _reason: None)
        jobs._loop = asyncio.get_running_loop()
        jobs.give_up("device_failed")

    start.sdk.serve = lambda config: asyncio.run(run(config))
    assert start.serve() == 1
    assert start.sdk.config["refresh_worker"] is True


def test_a_job_that_breaks_the_gpu_gives_up_the_same_worker(start: Start) -> None:
    def fail(_sentence: str) -> None:
        raise RuntimeError("CUDA error: an illegal memory access")

    start.small.engine.before = fail
    reasons: list[str] = []

    def serve(config: dict[str, Any]) -> None:
        running(config).give_up = reasons.append
        answer = asyncio.run(config["handler"]({"id": "a", "input": {"text": TEXT}}))
        assert answer["refresh_worker"] is True

    start.sdk.serve = serve
    start.serve()
    assert len(reasons) == 1


def done(value: Any) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(value)
    return future


def test_the_engine_is_loaded_with_the_weights_that_were_read_ahead(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPARK_DTYPE", "int8")
    model = tmp_path / "SparkTTS-serverless" / "models" / "mine@1"
    seen: list[Any] = []
    monkeypatch.setattr(startup, "read_ahead", lambda *given: seen.append(given) or "weights")

    def load_engine(*given: Any) -> Any:
        folder, settings, libraries, weights, _stages = given
        assert libraries.result().__name__ == "worker.speech.engine"
        seen.append((folder, settings.spark_dtype, weights.result()))
        return start.small.engine

    monkeypatch.setattr(startup, "_load_engine", load_engine)
    start.serve()
    assert seen == [(model / "LLM", "int8"), (model, "int8", "weights")]


class Waited(threading.Event):
    """What nobody sets: whoever waits for it goes on."""

    waited = False

    def wait(self, timeout: float | None = None) -> bool:
        self.waited = True
        return True


def test_no_job_is_taken_before_all_weights_have_been_read(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = [(tmp_path / "packed", None), (tmp_path / "weights", ((8, 80),))]
    monkeypatch.setattr(startup, "weights_in_order", lambda _settings, _model: iter(parts))
    added: list[Reading] = []

    class Ahead(ReadAhead):
        def add(self, path: Path, ranges: Any = None) -> Reading:
            added.append(Reading(path, ranges, done=Waited()))
            return added[-1]

    def serve(_config: dict[str, Any]) -> None:
        assert all(reading.done.waited for reading in added)

    start.sdk.serve = serve
    given = runtime.Start(read_ahead=Ahead(1))
    assert startup.serve(load_settings(), StartStages(), given) == 0
    assert [(reading.path, reading.ranges) for reading in added] == parts


def test_the_engine_waits_for_its_libraries_and_takes_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(folder: Path, dtype: str, int8_weights: Callable[[], Any], look_ahead: int) -> Any:
        return folder, dtype, int8_weights(), look_ahead

    monkeypatch.setattr("worker.speech.engine.Engine.load", load)
    settings = Settings(spark_dtype="int8", stream_look_ahead=11)
    loaded = startup._load_engine(tmp_path, settings, done("torch"), done("weights"), StartStages())
    assert loaded == (tmp_path, "int8", "weights", 11)
    broken: Future[Any] = Future()
    broken.set_exception(OSError("the volume is gone"))
    with pytest.raises(OSError, match="gone"):
        startup._load_engine(tmp_path, settings, broken, done("weights"), StartStages())
