"""A desk for hostile jobs: whatever is asked, each answer keeps what every answer must keep."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.conftest import DEMO_VOICE
from tests.platform.hostile.watch import Seen, Watch
from tests.support.desk import Desk
from worker import errors
from worker.components import Components
from worker.errors import WorkerError
from worker.net.download import Limits
from worker.serve.runpod_handler import make_handler
from worker.speech.engine import Engine

CODES = {
    kind.code
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, WorkerError) and kind is not WorkerError
}
MESSAGE_LENGTH = 4_000  # ten faults, each with a value and what is allowed
FIELD_LENGTH = 80


@dataclass(frozen=True)
class Refused:
    """An error as the platform shows it."""

    code: str
    message: str
    field: str | None


@dataclass(frozen=True)
class Outcome:
    """What came of a job: an answer or an error, what it cost and what it touched."""

    answer: dict[str, Any] | None
    refused: Refused | None
    seconds: float
    seen: Seen


class HostileDesk(Desk):
    """Hands jobs in as the platform does: JSON, one object each; watches what they touch.

    Around the folders that belong to the worker lies one that does not, with a voice in it that
    path tricks would find.
    """

    def __init__(self, engine: Engine, folder: Path, watch: Watch) -> None:
        super().__init__(engine, folder)
        self.folder = folder
        self.scratch = folder / "scratch"
        self.scratch.mkdir()
        self.private = folder / "private"
        self.private.mkdir()
        (self.private / "secret.wav").write_bytes(DEMO_VOICE.read_bytes())
        self._watch = watch
        self._runner = asyncio.Runner()
        self.serve_with(self.components)

    def serve_with(self, components: Components) -> None:
        """Answer the next jobs with these parts."""
        self.components = components
        self._handle = make_handler(components)

    def close(self) -> None:
        """End the event loop."""
        self._runner.close()

    def download_with(self, limits: Limits) -> None:
        """Let references be fetched with these limits, which name the test's own servers."""
        self.serve_with(replace(self.components, fetch_reference=self.fetching(limits)))

    def submit(self, asked: Any, job_id: Any = "job-1") -> Outcome:
        """Do the job; assert what every answer must keep, whatever was asked."""
        job = json.loads(json.dumps({"id": job_id, "input": asked}))
        started = time.monotonic()
        with self._watch.on() as seen:
            answer = self._runner.run(self._handle(job))
        seconds = time.monotonic() - started
        assert list(self.scratch.iterdir()) == [], "temporary files are left"
        written = self.folder / "storage", self.folder / "cache", self.scratch
        outside = seen.outside(*written)
        assert not outside, outside
        assert not seen.programs, seen.programs
        json.dumps(answer, allow_nan=False)
        if "error" in answer:
            return Outcome(None, self._check(answer), seconds, seen)
        assert answer["status"] == "success"
        place = (self.folder / "storage" / "output").as_uri()
        urls = [answer["audio_url"], answer.get("subtitles_url") or answer["audio_url"]]
        assert all(url.startswith(f"{place}/") and "/.." not in url for url in urls), urls
        return Outcome(answer, None, seconds, seen)

    def refuse(self, asked: Any, job_id: Any = "job-1") -> tuple[Refused, Seen]:
        """Do a job that must not succeed."""
        outcome = self.submit(asked, job_id)
        assert outcome.refused is not None, outcome.answer
        return outcome.refused, outcome.seen

    def _check(self, answer: dict[str, Any]) -> Refused:
        assert set(answer) <= {"error", "refresh_worker"}, answer
        refused = check_error(answer["error"])
        assert str(self.folder) not in refused.message
        return refused


def check_error(text: str) -> Refused:
    """An error's text as code, message and field, each of its kind; one readable line."""
    error = json.loads(text)
    assert set(error) == {"code", "message", "field"}
    refused = Refused(**error)
    assert refused.code in CODES, refused
    assert 10 < len(refused.message) <= MESSAGE_LENGTH, refused
    assert refused.message.isprintable(), ascii(refused.message)
    assert "Traceback" not in refused.message
    assert refused.field is None or (
        0 < len(refused.field) <= FIELD_LENGTH and refused.field.isprintable()
    ), refused
    return refused
