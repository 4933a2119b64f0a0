"""Makes redelivery idempotent: the record of an answered job, beside its audio.

RunPod delivers a job at least once, and its SDK loses an answer when the connection breaks. The
record is written last, after all results. So where it is, they are whole, and a job that is
delivered again is answered from it; where it is not, whatever a killed worker left is written over.
"""

from __future__ import annotations

import hashlib
import json
import logging
from functools import partial
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from worker.api.field_types import MAX_TEXT
from worker.api.request import SpeechRequest
from worker.api.response import Segment, SpeechResponse, TimedWord
from worker.bounded_json import check_json
from worker.errors import NotFoundError, StorageError
from worker.job.context import Job
from worker.job.result_keys import ResultKeys
from worker.logs import event
from worker.storage.base import Storage
from worker.storage.keys import Keys

# Bounds of a record: of a text in which each character is a sentence and a word, and a fault too,
# four bytes each.
BYTES_MAX = 16 << 20
OBJECTS_MAX = 2 * MAX_TEXT + 16
VALUES_MAX = 20 * MAX_TEXT
UNSIGNED = ""  # in place of URLs, which expire


class AnswerRecord(BaseModel):
    """The answer without its URLs, and which job and request it answers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    job: str
    request: str  # digest
    response: SpeechResponse


class _Response(SpeechResponse):
    """An answer as it is read back: reading ends at the first fault."""

    segments: Annotated[tuple[Segment, ...], Field(fail_fast=True)]
    word_timings: Annotated[tuple[TimedWord, ...], Field(fail_fast=True)] | None = None


class _Read(AnswerRecord):
    response: _Response


class AnswerRecords:
    """Writes and finds the records of one storage."""

    def __init__(self, storage: Storage, keys: Keys) -> None:
        self._storage = storage
        self._keys = keys

    def recall(self, request: SpeechRequest, job: Job) -> SpeechResponse | None:
        """The answer that this job was given before, with fresh URLs; None for a new job.

        It counts only while all its results are there.
        """
        request_digest = digest(request)
        keys = ResultKeys.of(request, job.id, self._keys)
        try:
            file = self._storage.get(
                keys.record(request_digest),
                job.folder / "record.json",
                max_bytes=BYTES_MAX,
                cancellation=job.cancellation,
            )
            content = check_json(file.read_bytes(), objects=OBJECTS_MAX, values=VALUES_MAX)
            found = _Read.model_validate_json(content)
            if (found.job, found.request) != (job.id, request_digest):
                return None
            results = keys.of_response(found.response)
            if not all(self._storage.exists(key, cancellation=job.cancellation) for key in results):
                return None
        except NotFoundError:
            return None
        except ValueError:  # of another version of the worker, or of nobody's
            return None
        except (StorageError, OSError) as error:
            # The same seed gives the same results again; nothing is lost but time.
            event(logging.WARNING, "record of the job cannot be read", error=_reason(error))
            return None
        answer = SpeechResponse.model_validate(dict(found.response))
        return keys.sign(answer, partial(job.url, request))

    def keep(self, request: SpeechRequest, response: SpeechResponse, job: Job) -> None:
        """Write the record that the job was answered so.

        The answer counts even where this fails, or where nobody waits for it any more.
        """
        request_digest = digest(request)
        keys = ResultKeys.of(request, job.id, self._keys)
        file = job.folder / "record.json"
        try:
            bare = keys.sign(response, lambda _key: UNSIGNED)
            record = AnswerRecord(job=job.id, request=request_digest, response=bare)
            file.write_bytes(record.model_dump_json().encode())
            self._storage.put(
                file, keys.record(request_digest), "application/json", cancellation=job.cancellation
            )
        except Exception as error:  # whatever it is: the job is answered
            event(logging.WARNING, "record of the job cannot be written", error=_reason(error))


def digest(request: SpeechRequest) -> str:
    """Sha256 of the request as canonical JSON: the same however it was written."""
    fields = request.model_dump(mode="json")
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _reason(error: Exception) -> str:
    """The reason of an error, without a path of this machine."""
    if isinstance(error, StorageError):
        return error.message
    return getattr(error, "strerror", None) or repr(error)
