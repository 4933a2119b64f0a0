"""One JSON line an event, whatever is in it, and nothing secret."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from worker.observe import TEXT_MAX, JsonLines, Stopwatch, event, lines_of, log, set_up_logging

SECRET = "wJalrXUtnFEMI-secret"
URL = "https://b.example/output/a.wav?X-Amz-Signature=abc&X-Amz-Credential=k"


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    written = io.StringIO()
    handlers, level, propagate = log.handlers[:], log.level, log.propagate
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", written)
        set_up_logging("INFO", [SECRET, ""])
    yield lambda: [json.loads(line) for line in written.getvalue().splitlines()]
    log.handlers[:], log.propagate = handlers, propagate
    log.setLevel(level)


def test_a_line_has_what_the_event_says_and_the_job(lines) -> None:
    with lines_of("job-1"):
        event(logging.INFO, "job answered", seconds=1.23456789, stages={"speech": 1.0})
    event(logging.INFO, "worker ends")
    event(logging.DEBUG, "not shown")
    first, second = lines()
    assert (first["event"], first["job"], first["level"]) == ("job answered", "job-1", "INFO")
    assert (first["seconds"], first["stages"]) == (1.2346, {"speech": 1.0})
    assert "job" not in second


def test_what_a_stranger_sent_stays_in_its_line(lines) -> None:
    with lines_of('x"\n{"event": "forged"}'):
        event(logging.WARNING, "job failed", error='a\r\n{"event": "forged"}\x1b[31m\u2028')
    (line,) = lines()
    assert line["event"] == "job failed"


def test_neither_signatures_nor_passwords_nor_secrets(lines) -> None:
    event(logging.INFO, "stored", url=URL, nested=[{"at": f"see {URL}, and {SECRET}"}])
    log.warning("it lies at %s", "https://user:pass@host/path?token=1")
    log.error("job failed", exc_info=ValueError(f"{SECRET} {URL}"))
    shown = json.dumps(lines())
    assert "https://b.example/output/a.wav?..." in shown
    for hidden in ("X-Amz", "Signature", SECRET, "pass@", "token=1"):
        assert hidden not in shown


def test_a_line_is_bounded() -> None:
    record = logging.LogRecord("worker", logging.INFO, "", 0, "x" * 1_000_000, None, None)
    assert len(JsonLines().format(record)) < TEXT_MAX + 300


def test_a_stage_is_reached_once_and_its_time_adds_up() -> None:
    watch = Stopwatch()
    watch.mark("first")
    first = watch.seconds["first"]
    watch.mark("first")
    for _ in range(2):
        watch.add("audio", 1.5)
    assert watch.seconds == {"first": first, "audio": 3.0}
