"""Texts that would be commands: to a subtitle renderer, to a terminal, to whoever reads the log."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import ass
import pytest

from tests.conftest import DEMO
from tests.platform.hostile.desk import HostileDesk
from tests.platform.hostile.job_inputs import FIELD_NAMES, IDS, LENGTH, PLACES, STYLES, TEXTS
from worker.logs import TEXT_MAX, JsonLines, lines_of, log, set_up_logging
from worker.timing.aligner import Aligner

KARAOKE = re.compile(r"(?<!\\)\{\\k\d+\}")
BRACE = re.compile(r"(?<!\\)\{")
COMMAND = re.compile(r"\\[A-Za-z0-9]")
TIMES = re.compile(r"\d\d:\d\d:\d\d[.,]\d{3} --> \d\d:\d\d:\d\d[.,]\d{3}")

MADE_FOR_SUBTITLES = 18
INJECTIONS = [
    *[text for text in TEXTS if len(text) < 400],
    "{\\pos(0,0)}{\\fscx900}Over the whole picture",
    "a {unclosed and \\N a break",
    "closed} before it was opened {",
    "\\{escaped\\} already \\\\N twice",
    "{\\k50}{\\kf50}{\\ko50}karaoke of mine",
    "{\\clip(m 0 0 l 9 9)}{\\t(0,500,\\frz3600)}spin",
    "{comment} then text",
    "one\nDialogue: 9,0:00:00.00,0:00:09.00,Default,,0,0,0,,two",
    "Style: Default,Arial,400",
    "Comment: 0,0:00:00.00,0:00:05.00,Default,,0,0,0,,x",
    "[Events] Format: Text",
    "[Fonts]\nfontname: evil.ttf",
    "--> 00:00:00.000 --> 00:00:01.000",
    "a\n00:00:00,000 --> 09:00:00,000\nThis was never said by anybody.",
    "<c.red>cue</c> <v Owner>voice</v> <00:00:01.000>time",
    "WEBVTT\n\nSTYLE\n::cue { background: url(https://127.0.0.2/) }",
    "&lt;b&gt; &amp; &nbsp; entity",
    "<font color='red'>srt</font> {b}bold{/b}",
]


@pytest.fixture
def some(times: Callable[[int, int], int]) -> list[str]:
    """Every second of those that were made for subtitles; all under `make hostile`."""
    return INJECTIONS[-times(MADE_FOR_SUBTITLES, len(INJECTIONS)) :: times(2, 1)]


@pytest.fixture
def timing_door(desk: HostileDesk) -> HostileDesk:
    desk.serve_with(replace(desk.components, aligner=Aligner.load({"en": DEMO / "aligner"}, "cpu")))
    return desk


def subtitles(desk: HostileDesk, text: str, kind: str, mode: str) -> str | None:
    asked = {
        "text": text, "enable_subtitles": True, "subtitle_format": kind, "subtitle_style": mode,
        "max_retries": 0, "seed": 1, **LENGTH,
    }  # fmt: skip
    outcome = desk.submit(asked)
    if outcome.refused is not None:
        assert outcome.refused.field == "text", outcome.refused
        return None
    assert outcome.answer is not None
    path = Path(unquote(urlsplit(outcome.answer["subtitles_url"]).path))
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize("mode", ["line", "karaoke"])
def test_no_text_becomes_a_command_of_ass(
    timing_door: HostileDesk, mode: str, some: list[str]
) -> None:
    written = 0
    for text in some:
        dump = subtitles(timing_door, text, "ass", mode)
        if dump is None:
            continue
        written += 1
        sections = re.findall(r"^\[.*\]$", dump, re.MULTILINE)
        assert sections == ["[Script Info]", "[V4+ Styles]", "[Events]"], text
        script = ass.parse_string(dump)
        assert len(script.styles) == 1, text
        assert script.styles[0].fontname == "Arial"
        body = dump[dump.index("[Events]") :].splitlines()
        lines = [line for line in body[2:] if line]
        assert all(line.startswith("Dialogue: 0,0:") for line in lines), text
        assert len(lines) == len(script.events), text
        for event in script.events:
            shown = KARAOKE.sub("", event.text).replace("\\{{}", "\\{")
            assert not BRACE.search(shown), (text, shown)
            assert set(COMMAND.findall(shown)) <= {"\\N"}, (text, shown)
    assert written > len(some) // 2


@pytest.mark.parametrize("kind", ["srt", "vtt"])
def test_no_text_becomes_a_cue_or_tag_of_srt_and_vtt(
    timing_door: HostileDesk, kind: str, some: list[str]
) -> None:
    written = 0
    for text in some:
        dump = subtitles(timing_door, text, kind, "line")
        if dump is None:
            continue
        written += 1
        head, *blocks = dump.split("\n\n") if kind == "vtt" else ["WEBVTT", *dump.split("\n\n")]
        assert head == "WEBVTT"
        for block in blocks:
            lines = block.rstrip("\n").split("\n")
            times, *shown = lines[1:] if kind == "srt" else lines
            assert TIMES.fullmatch(times), (text, block)
            assert 1 <= len(shown) <= 2, (text, block)
            for line in shown:
                assert "-->" not in line, (text, line)
                assert not re.search(r"\d:\d\d?:\d\d?[.,]\d", line), (text, line)
                assert not re.search(r"<[/A-Za-z0-9]", line), (text, line)
                assert not re.search(r"\{\\?[A-Za-z]", line) or kind == "vtt", (text, line)
    assert written > len(some) // 2


class Kept(logging.Handler):
    """Keeps the records that the worker logs, beside the lines that the platform gets of them."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@dataclass
class Logged:
    """The log as the platform reads it, on standard error, and what the worker meant to write."""

    stream: io.StringIO
    kept: Kept

    def taken(self) -> tuple[str, list[logging.LogRecord]]:
        """What came since the last time."""
        written, records = self.stream.getvalue(), self.kept.records
        self.stream.seek(0)
        self.stream.truncate()
        self.kept.records = []
        return written, records


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Logged:
    stream, kept = io.StringIO(), Kept()
    monkeypatch.setattr(sys, "stderr", stream)
    set_up_logging("DEBUG")
    log.addHandler(kept)
    return Logged(stream, kept)


def check_log(written: str, records: list[logging.LogRecord], job_id: Any) -> None:
    """Each line is one record's, in its order: nobody but the worker begins, ends or names one."""
    lines = written.splitlines()
    assert len(lines) == len(records), ascii(written)
    for line, record in zip(lines, records, strict=True):
        assert line.isprintable(), ascii(line)
        event = json.loads(line)
        assert (event["event"], event["level"]) == (record.getMessage(), record.levelname)
        shown = job_id if isinstance(job_id, str) else ""
        # Of a text that is too long for a line the end is shown.
        assert event["job"] in {shown, f"...{shown[-TEXT_MAX:]}"}, ascii(event)[:300]
        assert len(line) < 10_000, line[:300]
        assert "hunter2" not in line


@pytest.mark.parametrize(
    "line",
    [
        "ERROR worker: forged",
        "2026-01-01 00:00:00,000 INFO worker: forged",
        '{"level": "forged"}',
        '{"time": "2026-01-01", "level": "INFO", "event": "job begun", "job": "job-1"}',
    ],
)
def test_a_forged_line_is_seen(line: str) -> None:
    record = logging.makeLogRecord({"msg": "job begun", "levelname": "INFO", "levelno": 20})
    with lines_of("job-1"):
        honest = JsonLines().format(record)
    check_log(f"{honest}\n", [record], "job-1")
    for written in (f"{honest}\n{line}\n", f"{line}\n{honest}\n"):
        with pytest.raises(AssertionError):
            check_log(written, [record], "job-1")
    with pytest.raises((AssertionError, ValueError, KeyError)):  # in the place of what it hides
        check_log(line.replace("job begun", "job answered"), [record], "job-1")


def hostile_lines() -> Iterator[tuple[Any, Any]]:
    """Jobs with the job's id, each with something that a log could be fooled by."""
    forged = [
        "a\nERROR worker: forged",
        "a\r\n2026-01-01 00:00:00,000 INFO worker: forged",
        '{"level": "forged"}\n{"job": "forged"}',
        "\x1b[2J\x1b[31mforged\x1b[0m\x07",
        "\u2028forged\u2029\u0085forged",
        "\u202edegrof",
        "%s%n%d {0} {job_id!r}",
        "https://user:hunter2@voice.example/x.wav?X-Amz-Signature=hunter2",
    ]
    for value in forged:
        for field in ("text", "output_name", "voice", "prompt_speech_url", "seed", "output_format"):
            yield {"text": "Hello.", **LENGTH, field: value}, "job-1"
        yield {"text": "Hello.", value: 1, **LENGTH}, "job-1"
        yield {"text": "Hello.", "subtitle_style": {value: value}}, "job-1"
        yield value, "job-1"
        if "hunter2" not in value:  # the platform makes the ids, which hold no secret
            yield {"text": "Hello.", **LENGTH}, value
            yield {"text": ""}, value
    for value in PLACES:
        yield {"text": "Hello.", "prompt_speech_url": value, **LENGTH}, "job-1"
    for value in FIELD_NAMES:
        yield {"text": "Hello.", "output_format": "x", value: 1}, "job-1"
    for value in STYLES:
        yield {"text": "Hello.", "subtitle_style": value, "enable_subtitles": True}, "job-1"
    for value in IDS:
        yield {"text": ""}, value


def test_no_job_writes_a_line_of_its_own_into_the_log(
    desk: HostileDesk, logged: Logged, times: Callable[[int, int], int]
) -> None:
    lines = 0
    jobs = list(hostile_lines())
    for asked, job_id in jobs[:: times(2, 1)]:
        desk.submit(asked, job_id)
        written, records = logged.taken()
        try:
            check_log(written, records, job_id)
        except Exception as error:
            error.add_note(ascii((asked, job_id)))
            raise
        assert records, ascii((asked, job_id))  # how it ended, at least
        lines += len(records)
    assert lines > 80
