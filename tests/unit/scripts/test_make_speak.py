"""`make speak`: what job it runs, and what it makes of the SDK's output. No worker is started."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scripts import speak
from tests.support.worker_process import REPOSITORY

VARIABLES = ("TEXT", "VOICE", "FORMAT", "SEED", "SUBTITLES", "JOB_ID")


class Process:
    """A worker that prints these lines and ends with this status."""

    lines: list[str]
    status: int
    command: list[str]

    def __init__(self, command: list[str], **_: Any) -> None:
        type(self).command = command
        self.stdout = iter(self.lines)
        self.returncode = self.status

    def wait(self) -> int:
        return self.status


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> type[Process]:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)

    class This(Process):
        lines: list[str] = []  # noqa: RUF012 - set by each test
        status = 0

    monkeypatch.setattr(speak.subprocess, "Popen", This)
    return This


def asked(process: type[Process]) -> dict[str, Any]:
    assert process.command[:4] == [sys.executable, "-m", "worker", "--test_input"]
    return dict(json.loads(process.command[4]))


def result(folder: Path, **more: Any) -> str:
    output = {"audio_url": (folder / "a b.wav").as_uri(), **more}
    return f"INFO   | job | Job result: {{'output': {output!r}}}\n"


def test_without_variables_it_is_the_demo(process: type[Process], tmp_path: Path) -> None:
    process.lines = [result(tmp_path)]
    assert speak.main() == 0
    assert asked(process) == {
        "id": "make-speak",
        "input": {
            "text": speak.TEXT,
            "prompt_speech_url": "demo.wav",
            "output_format": "wav",
            "seed": None,
        },
    }


def test_the_variables_are_the_job(
    process: type[Process], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in zip(VARIABLES, ("Hi.", "v.wav", "mp3", "0", "1", "me"), strict=True):
        monkeypatch.setenv(name, value)
    process.lines = [result(tmp_path)]
    assert speak.main() == 0
    assert asked(process) == {
        "id": "me",
        "input": {
            "text": "Hi.",
            "prompt_speech_url": "v.wav",
            "output_format": "mp3",
            "seed": 0,
            "enable_whisperx": True,
            "enable_subtitles": True,
            "subtitle_style": "line",
        },
    }
    monkeypatch.setenv("SUBTITLES", "karaoke")
    assert speak.main() == 0
    assert asked(process)["input"]["subtitle_style"] == "karaoke"


def test_the_answer_and_its_files_are_printed(
    process: type[Process], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    process.lines = ["begins\n", result(tmp_path, seed=4), "ends\n"]
    assert speak.main() == 0
    written = capsys.readouterr().out
    assert written.splitlines()[1:3] == ["begins", "ends"]  # what the worker says goes on
    assert '"seed": 4' in written
    assert "Job result" not in written
    assert written.splitlines()[-1] == str(tmp_path / "a b.wav")
    assert not (tmp_path / "a b.words.json").exists()


def test_with_subtitles_the_timings_are_kept_beside_the_audio(
    process: type[Process], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [{"word": "café", "start": 0}]
    url = (tmp_path / "a b.ass").as_uri()
    process.lines = [result(tmp_path, subtitles_url=url, word_timings=words)]
    assert speak.main() == 0
    timings = tmp_path / "a b.words.json"
    assert json.loads(timings.read_text(encoding="utf-8")) == words
    assert "café" in timings.read_text(encoding="utf-8")
    expected = [str(tmp_path / name) for name in ("a b.wav", "a b.ass", "a b.words.json")]
    assert capsys.readouterr().out.splitlines()[-3:] == expected


@pytest.mark.slow("starts a process")
@pytest.mark.parametrize("text", ["It's $5 and $43,000, $(shell false) really.", "100 % `sure`"])
def test_make_passes_the_text_on_as_it_is(text: str) -> None:
    """To make a dollar sign begins a variable."""
    asked = subprocess.run(
        ["make", "-n", "speak", f"TEXT={text}"],
        cwd=REPOSITORY, capture_output=True, text=True, check=True,
    )  # fmt: skip
    (line,) = (line for line in asked.stdout.splitlines() if "scripts/speak.py" in line)
    given = shlex.split(line.partition("TEXT=")[2])[0]
    assert given == text


@pytest.mark.parametrize(
    ("status", "answered", "expected"),
    [(3, False, 3), (3, True, 3), (0, False, 1), (-9, False, -9)],
)
def test_a_worker_that_fails_or_says_nothing_is_a_failure(
    process: type[Process], tmp_path: Path, status: int, answered: bool, expected: int
) -> None:
    process.status = status
    process.lines = [result(tmp_path)] if answered else ["setup failed\n"]
    assert speak.main() == expected
