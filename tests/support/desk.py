"""A desk that hands jobs to the handler as the SDK does, with a worker's real parts behind it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.conftest import DEMO_VOICE
from worker.components import Components
from worker.net.download import Limits
from worker.serve.runpod_handler import make_handler
from worker.speech.engine import Engine
from worker.storage.keys import Keys
from worker.storage.local import LocalStorage
from worker.voices.reference import fetch_reference
from worker.voices.saved import Voices

KEYS = Keys(voices="voices/", output="output/", bucket=None)


class Desk:
    """The parts have folders of their own, below one, and the demo voice as a reference."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.storage = LocalStorage(folder / "storage")
        self.storage.put(DEMO_VOICE, "voices/demo.wav", "audio/wav")
        self.voices = Voices(engine, self.storage, KEYS, folder / "cache")
        self.components = Components(
            engine=engine,
            voices=self.voices,
            storage=self.storage,
            keys=KEYS,
            url_expiry=3600,
            max_job_seconds=7200,
            fetch_reference=self.fetching(Limits()),
        )

    def fetching(self, limits: Limits) -> Callable[..., Path]:
        """What fetches references, with these limits."""
        return lambda url, into, _: fetch_reference(url, self.storage, KEYS, into, limits)

    def answer(self, asked: Any, job_id: str = "job-1") -> dict[str, Any]:
        return asyncio.run(make_handler(self.components)({"id": job_id, "input": asked}))

    def succeed(self, asked: dict[str, Any], job_id: str = "job-1") -> dict[str, Any]:
        answer = self.answer(asked, job_id)
        assert "error" not in answer, answer
        return answer

    def fail(self, asked: Any) -> dict[str, Any]:
        answer = self.answer(asked)
        assert set(answer) == {"error"}
        error = json.loads(answer["error"])
        assert set(error) == {"code", "message", "field"}
        return dict(error)
