"""A voice to be added from a recording: its name, transcript and consent, checked."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError
from pydantic_core import PydanticCustomError

from worker.allowed_values import Allowed, allowed
from worker.api.field_types import REASON, Name, Transcript, TranscriptMismatch
from worker.errors import RequestError
from worker.redaction import redact

MAX_CONSENT = 1_000  # characters
_REFUSALS = frozenset({"0", "false", "no", "none", "null", "off"})
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def _consent(text: str) -> str:
    """Check a statement of consent: any words but those that deny it."""
    text = text.strip()
    reason = None
    if not text:
        reason = "is empty"
    elif len(text) > MAX_CONSENT:
        reason = f"is {len(text)} characters long"
    elif _CONTROL.search(text):
        reason = "holds a line break or a control character"
    elif text.strip(".!").lower() in _REFUSALS:
        reason = "says that there is none"
    if reason is not None:
        raise PydanticCustomError(REASON, "{words}", {"words": reason})
    return text


Consent = Annotated[
    str,
    AfterValidator(_consent),
    Allowed(
        "a statement that the speaker consents to the use of this voice, of 1 to "
        f"{MAX_CONSENT:,} characters in one line"
    ),
]


class NewVoice(BaseModel):
    """What a voice is added with, beside its recording."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: Name
    transcript: Transcript | None = None
    consent: Consent
    transcript_mismatch: TranscriptMismatch = "drop"


class _Named(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)

    name: Name


def parse_new_voice(
    name: object, transcript: object, consent: object, mismatch: object = None
) -> NewVoice:
    """Check what came with a recording; a blank transcript counts as none, as forms send it.

    So does a blank `mismatch`, which is its transcript_mismatch.

    Raises RequestError naming every fault.
    """
    if isinstance(transcript, str) and not transcript.strip():
        transcript = None
    given = {"name": name, "transcript": transcript, "consent": consent}
    if mismatch not in (None, ""):
        given["transcript_mismatch"] = mismatch
    try:
        return NewVoice.model_validate(given)
    except ValidationError as error:
        raise _in_words(error, NewVoice, None) from None


def parse_name(name: object, field: str) -> str:
    """Check the name of a voice. Raises RequestError, which blames `field`."""
    try:
        return _Named.model_validate({"name": name}).name
    except ValidationError as error:
        raise _in_words(error, _Named, field) from None


def _in_words(error: ValidationError, model: type[BaseModel], field: str | None) -> RequestError:
    faults = {}
    for fault in error.errors():
        name = str(fault["loc"][0])
        reason = fault["msg"] if fault["type"] == REASON else "is not allowed"
        may_be = allowed(model.model_fields[name])
        faults[field or name] = f"{redact(fault['input'])} {reason}; it must be {may_be}"
    message = ". ".join(f"{name}: {words}" for name, words in faults.items())
    return RequestError(message, field=next(iter(faults)))
