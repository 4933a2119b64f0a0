"""One JSON line an event, whatever is in it, and nothing secret."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from worker.logs import TEXT_MAX, JsonLines, event, lines_of, log, set_up_logging

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


def test_the_line_says_when(lines) -> None:
    before = datetime.now(UTC)
    event(logging.INFO, "now")
    (line,) = lines()
    when = datetime.fromisoformat(line["time"])
    assert when.utcoffset() == timedelta(0)
    assert before - timedelta(milliseconds=1) <= when <= datetime.now(UTC)


def test_jobs_within_jobs_and_jobs_that_fail_leave_no_name(lines) -> None:
    def fail() -> None:
        with lines_of("inner"):
            event(logging.INFO, "a")
            raise ValueError("x")

    with lines_of("outer"):
        with pytest.raises(ValueError, match="x"):
            fail()
        event(logging.INFO, "b")
    event(logging.INFO, "c")
    assert [line.get("job") for line in lines()] == ["inner", "outer", None]


@pytest.mark.parametrize("level", ["DEBUG", "INFO", "WARNING", "ERROR"])
def test_lines_below_the_level_are_not_written(lines, level: str) -> None:
    names = ["DEBUG", "INFO", "WARNING", "ERROR"]
    log.setLevel(level)
    for name in names:
        event(getattr(logging, name), name)
    assert [line["level"] for line in lines()] == names[names.index(level) :]


def test_set_up_again_a_line_is_still_written_once(
    lines, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As the worker does: first without its settings, then with them."""
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    set_up_logging("WARNING", [SECRET])
    event(logging.INFO, "not shown")
    event(logging.WARNING, f"with {SECRET}")
    assert [json.loads(line)["event"] for line in written.getvalue().splitlines()] == ["with ..."]
    assert not lines()
    assert not caplog.records  # nor by another logger's handler


def test_every_url_of_a_text_is_bared() -> None:
    shown = shown_of(f"first {URL} then <https://u:p@c.example?sig=2> and 's3://k/x?y=1'.")
    assert shown == (
        "first https://b.example/output/a.wav?... then <https://...@c.example?...> "
        "and 's3://k/x?...'."
    )


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("https://host/a@b/c", "https://host/a@b/c"),  # an @ of the path is no password
        ("https://a@b@host", "https://...@host"),
        ("what? no URL", "what? no URL"),
        ('{"url": "https://h/x?k=1"}', '{"url": "https://h/x?..."}'),
        ("https://h/x?k=1\nnext?", "https://h/x?...\nnext?"),
        ("", ""),
    ],
)
def test_what_is_shown_of_a_url(given: str, shown: str) -> None:
    assert shown_of(given) == shown


def shown_of(text: str, *secrets: str) -> str:
    record = logging.LogRecord("worker", logging.INFO, "", 0, "e", None, None)
    record.fields = {"text": text}
    return str(json.loads(JsonLines(secrets).format(record))["text"])


def test_secrets_go_wherever_they_stand_and_each_of_them() -> None:
    assert shown_of("a1 b2 a1", "a1", "", "b2") == "... ... ..."
    record = logging.LogRecord("worker", logging.INFO, "", 0, "a1", None, None)
    record.fields = {"many": ["a1", {"deep": "a1"}], "pair": ("a1",), "n": 1, "no": None, "y": True}
    line = json.loads(JsonLines(["a1"]).format(record))
    assert line["event"] == "..."
    assert (line["many"], line["pair"]) == (["...", {"deep": "..."}], ["..."])
    assert (line["n"], line["no"], line["y"]) == (1, None, True)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_json_lacks_is_null(lines, number: float) -> None:
    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} is not JSON")

    record = logging.LogRecord("worker", logging.INFO, "", 0, "e", None, None)
    record.fields = {"free": number, "stages": {"speech": [number, 0.5]}}
    line = json.loads(JsonLines().format(record), parse_constant=refuse)
    assert (line["free"], line["stages"]) == (None, {"speech": [None, 0.5]})


def test_of_a_long_text_the_end_is_kept() -> None:
    assert shown_of("x" * TEXT_MAX) == "x" * TEXT_MAX
    assert shown_of("y" + "x" * TEXT_MAX) == "..." + "x" * TEXT_MAX
    # A secret that the cut would have split is gone before it.
    assert "secret" not in shown_of("a secret" + "x" * (TEXT_MAX - 3), "a secret")
    assert TEXT_MAX == 4096


def test_a_traceback_is_shown_with_its_error(lines) -> None:
    try:
        int("what went wrong")
    except ValueError as error:
        event(logging.ERROR, "job failed", cause=error, code="internal_error")
    (line,) = lines()
    assert line["code"] == "internal_error"
    assert line["traceback"].splitlines()[-1] == (
        "ValueError: invalid literal for int() with base 10: 'what went wrong'"
    )


UNREAD = """
import io, os, sys
from worker.logs import event, set_up_logging

how = sys.argv[1]
if how == "full":
    sys.stderr = open("/dev/full", "w")
elif how == "closed":
    sys.stderr.close()
elif how == "no descriptor":
    os.close(2)
elif how == "nobody reads":
    read, write = os.pipe()
    os.close(read)
    sys.stderr = os.fdopen(write, "w")
set_up_logging("INFO")
for number in range(2000):
    event(20, "job answered", number=number, text="x" * 100)
print("went on", flush=True)
os._exit(0)
"""


@pytest.mark.slow("starts a process")
@pytest.mark.parametrize("how", ["full", "closed", "no descriptor", "nobody reads", "read"])
def test_a_line_that_cannot_be_written_costs_no_job(how: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", UNREAD, how], capture_output=True, text=True, check=False
    )
    assert done.stdout == "went on\n"
    assert done.returncode == 0
    assert done.stderr.count("job answered") == (2000 if how == "read" else 0)
    assert "Traceback" not in done.stderr
