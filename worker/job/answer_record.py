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
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from worker.api.field_types import MAX_TEXT
from worker.api.request import SpeechRequest
from worker.api.response import Segment, SpeechResponse, WordTiming
from worker.bounded_json import check_json
from worker.cancellation import Cancellation
from worker.errors import NotFoundError, StorageError
from worker.job.result_keys import ResultKeys
from worker.logs import event
from worker.storage.base import Storage
from worker.storage.keys import Keys

# Of a text in which each character is a sentence and a word, and a fault too; four bytes each.
BYTES_MAX = 16 << 20
OBJECTS_MAX = 2 * MAX_TEXT + 16
VALUES_MAX = 20 * MAX_TEXT
UNSIGNED = ""  # in place of URLs, which expire


class AnswerRecord(BaseModel):
    """What the record holds: the answer without its URLs, and what it answers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    job: str
    request: str  # digest
    response: SpeechResponse


class _Response(SpeechResponse):
    """An answer as it is read back: no other fault is looked for where there is one."""

    segments: Annotated[tuple[Segment, ...], Field(fail_fast=True)]
    word_timings: Annotated[tuple[WordTiming, ...], Field(fail_fast=True)] | None = None


class _Read(AnswerRecord):
    response: _Response


class AnswerRecords:
    """Keeps and finds the records of one storage."""

    def __init__(self, storage: Storage, keys: Keys) -> None:
        self._storage = storage
        self._keys = keys

    def recall(
        self,
        request: SpeechRequest,
        job_id: str,
        folder: Path,
        url: Callable[[str], str],
        cancellation: Cancellation | None = None,
    ) -> SpeechResponse | None:
        """The answer that this job was given before, with fresh URLs; None where it is new.

        It counts only while all its results are there. `folder` is for temporary files.
        """
        asked = digest(request)
        keys = ResultKeys.of(request, job_id, self._keys)
        try:
            file = self._storage.get(
                keys.manifest(asked),
                folder / "manifest.json",
                max_bytes=BYTES_MAX,
                cancellation=cancellation,
            )
            content = check_json(file.read_bytes(), objects=OBJECTS_MAX, values=VALUES_MAX)
            found = _Read.model_validate_json(content)
            if (found.job, found.request) != (job_id, asked):
                return None
            results = keys.of_response(found.response)
            if not all(self._storage.exists(key, cancellation=cancellation) for key in results):
                return None
        except NotFoundError:
            return None
        except ValueError:  # of another version of the worker, or of nobody's
            return None
        except (StorageError, OSError) as error:
            # The same seed gives the same results again; nothing is lost but time.
            event(logging.WARNING, "record of the job cannot be read", error=_reason(error))
            return None
        return keys.sign(SpeechResponse.model_validate(dict(found.response)), url)

    def keep(
        self,
        request: SpeechRequest,
        job_id: str,
        response: SpeechResponse,
        folder: Path,
        cancellation: Cancellation | None = None,
    ) -> None:
        """Write down that the job was answered so.

        The answer counts even where this fails, or where nobody waits for it any more.
        """
        asked = digest(request)
        keys = ResultKeys.of(request, job_id, self._keys)
        file = folder / "manifest.json"
        try:
            bare = keys.sign(response, lambda _key: UNSIGNED)
            record = AnswerRecord(job=job_id, request=asked, response=bare).model_dump_json()
            file.write_bytes(record.encode())
            self._storage.put(
                file, keys.manifest(asked), "application/json", cancellation=cancellation
            )
        except Exception as error:  # whatever it is: the job is answered
            event(logging.WARNING, "record of the job cannot be written", error=_reason(error))


def digest(request: SpeechRequest) -> str:
    """Sha256 of what is asked, as canonical JSON: the same however it was written."""
    asked = request.model_dump(mode="json")
    text = json.dumps(asked, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _reason(error: Exception) -> str:
    """What is wrong, without a path of this machine."""
    if isinstance(error, StorageError):
        return error.message
    return getattr(error, "strerror", None) or repr(error)


def settled_seed(request: SpeechRequest, job_id: str) -> int:
    """The job's seed or, where it has none, one that is drawn but the same at each delivery.

    Two workers that do one job at the same time, each taking the other for dead, then write the
    same results under the same keys.
    """
    if request.seed is not None:
        return request.seed
    drawn = hashlib.sha256(f"{job_id} {digest(request)}".encode()).digest()
    return int.from_bytes(drawn[:8], "big") >> 11  # 53 bits, which every JSON reader keeps
