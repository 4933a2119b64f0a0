"""Once, not twice: the record of a job that was answered, beside its audio.

RunPod delivers a job at least once, and its SDK loses an answer when the connection breaks. The
record is written last, after all results. So where it is, they are whole, and a job that is
delivered again is answered from it; where it is not, whatever a killed worker left is written over.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from worker.errors import NotFoundError, StorageError
from worker.keys import Keys
from worker.observe import event
from worker.request import SpeechRequest
from worker.response import SpeechResponse
from worker.results import ResultKeys
from worker.storage import Storage

BYTES_MAX = 64 << 20  # the timings of 20,000 characters have some 2 MB
UNSIGNED = ""  # in place of URLs, which expire


class Manifest(BaseModel):
    """What the record holds: the answer without its URLs, and what it answers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    job: str
    request: str  # digest
    response: SpeechResponse


class Manifests:
    """Keeps and finds the records of one storage."""

    def __init__(self, storage: Storage, keys: Keys) -> None:
        self._storage = storage
        self._keys = keys

    def recall(
        self, request: SpeechRequest, job_id: str, folder: Path, url: Callable[[str], str]
    ) -> SpeechResponse | None:
        """The answer that this job was given before, with fresh URLs; None where it is new.

        It counts only while all its results are there. `folder` is for temporary files.
        """
        asked = digest(request)
        keys = ResultKeys.of(request, job_id, self._keys)
        try:
            file = self._storage.get(
                keys.manifest(asked), folder / "manifest.json", max_bytes=BYTES_MAX
            )
            found = Manifest.model_validate_json(file.read_bytes())
            if (found.job, found.request) != (job_id, asked):
                return None
            if not all(self._storage.exists(key) for key in keys.of_response(found.response)):
                return None
        except NotFoundError:
            return None
        except ValidationError:  # of another version of the worker
            return None
        except (StorageError, OSError) as error:
            # The same seed gives the same results again; nothing is lost but time.
            event(logging.WARNING, "record of the job cannot be read", error=_reason(error))
            return None
        return keys.sign(found.response, url)

    def keep(
        self, request: SpeechRequest, job_id: str, response: SpeechResponse, folder: Path
    ) -> None:
        """Write down that the job was answered so. The answer counts even where this fails."""
        asked = digest(request)
        keys = ResultKeys.of(request, job_id, self._keys)
        bare = keys.sign(response, lambda _key: UNSIGNED)
        record = Manifest(job=job_id, request=asked, response=bare).model_dump_json()
        file = folder / "manifest.json"
        try:
            file.write_bytes(record.encode())
            self._storage.put(file, keys.manifest(asked), "application/json")
        except (StorageError, OSError) as error:
            event(logging.WARNING, "record of the job cannot be written", error=_reason(error))


def digest(request: SpeechRequest) -> str:
    """Sha256 of what is asked, as canonical JSON: the same however it was written."""
    asked = request.model_dump(mode="json")
    text = json.dumps(asked, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _reason(error: StorageError | OSError) -> str | None:
    return error.message if isinstance(error, StorageError) else error.strerror


def settled_seed(request: SpeechRequest, job_id: str) -> int:
    """The job's seed or, where it has none, one that is drawn but the same at each delivery.

    Two workers that do one job at the same time, each taking the other for dead, then write the
    same results under the same keys.
    """
    if request.seed is not None:
        return request.seed
    drawn = hashlib.sha256(f"{job_id} {digest(request)}".encode()).digest()
    return int.from_bytes(drawn[:8], "big") >> 11  # 53 bits, which every JSON reader keeps
