"""OpenAI's audio API: how its request for speech is told in our own terms.

Source: the API reference of OpenAI, "Create speech". Every field of our own request may stand
beside OpenAI's; where two name one thing, OpenAI's meaning counts: `input` is our text, a number in
`speed` our speed_shift, and `voice` a saved or built-in voice.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from worker.api.model_names import MODEL, check_model
from worker.api.request import SpeechRequest, parse_request
from worker.api.speech import parse_live
from worker.api.turns import STYLE_FIELDS
from worker.audio.formats import StreamFormat
from worker.errors import RequestError, WorkerError
from worker.redaction import redact

StreamForm = Literal["audio", "sse"]

LEAST_SPEED, MOST_SPEED = 0.25, 4.0
DEFAULT_VOICE = "alloy"  # where a request chooses none, and the operator has not taken it out
_CHOOSES_VOICE = ("prompt_speech_url", "prompt_speech_path", "gender", *STYLE_FIELDS)


@dataclass(frozen=True)
class OpenAISpeech:
    """A request for speech at OpenAI's route."""

    request: SpeechRequest
    response_format: StreamFormat
    stream_format: StreamForm
    instructions: str | None  # which this model cannot follow


def parse_openai(
    body: object, model: str, is_builtin: Callable[[str], bool], *, stored: bool = False
) -> OpenAISpeech:
    """Check the body of a request to OpenAI's route, as JSON gave it.

    `model` is the served model's own name, and `is_builtin` says whether a name is that of a
    built-in voice: clients that cannot leave `voice` out may send one beside another field that
    chooses the voice. Where the audio is `stored`, its format is the field output_format, and
    response_format counts for nothing. Raises RequestError naming the field.
    """
    if not isinstance(body, dict):
        raise RequestError(
            f"the body: {redact(body)} is not allowed; it must be an object with at least the "
            "field input",
            field="input",
        )
    given = {name: value for name, value in body.items() if value is not None}
    check_model(given.pop("model", MODEL), model)
    response_format = _one_of(given, "response_format", get_args(StreamFormat), "mp3")
    stream_format = _one_of(given, "stream_format", get_args(StreamForm), "audio")
    instructions = given.pop("instructions", None)
    if instructions is not None and not isinstance(instructions, str):
        raise RequestError(
            f"instructions: {redact(instructions)} is not allowed; it must be a text",
            field="instructions",
        )
    job_input = _job_input(given, is_builtin)
    tempo = _tempo(given)
    try:
        request = parse_request(job_input) if stored else parse_live(job_input, response_format)
    except RequestError as error:
        raise in_openai_terms(error) from None
    if tempo is not None:  # whose range is wider than our own field's
        request = request.model_copy(update={"speed_shift": tempo})
    return OpenAISpeech(request, response_format, stream_format, instructions)


def _job_input(given: dict[str, Any], is_builtin: Callable[[str], bool]) -> dict[str, Any]:
    """OpenAI's fields as those of our request, beside ours, but for a number in speed."""
    if "text" in given:
        raise RequestError("text: at this route the text is the field input", field="text")
    if "turns" in given:
        raise RequestError(
            "turns: this route has one text, in the field input; turns are taken by /v1/speech",
            field="turns",
        )
    if "input" not in given:
        raise RequestError("input is required; it must be the text to speak", field="input")
    fields = {name: value for name, value in given.items() if name not in ("input", "speed")}
    fields["text"] = given["input"]
    if isinstance(given.get("speed"), str):  # of a designed voice
        fields["speed"] = given["speed"]
    voice = fields.pop("voice", None)
    if isinstance(voice, dict) and set(voice) == {"id"}:  # OpenAI's form of a voice of one's own
        voice = voice["id"]
    chosen = any(name in fields for name in _CHOOSES_VOICE)
    if voice is None and not chosen and is_builtin(DEFAULT_VOICE):
        voice = DEFAULT_VOICE
    if voice is not None and not (chosen and isinstance(voice, str) and is_builtin(voice)):
        fields["voice"] = voice
    return fields


def _tempo(given: Mapping[str, Any]) -> float | None:
    """OpenAI's speed, where it is a number, for our speed_shift."""
    speed = given.get("speed")
    if speed is None or isinstance(speed, str):
        return None
    if isinstance(speed, bool) or not isinstance(speed, int | float):
        raise _bad_speed(speed)
    if not LEAST_SPEED <= speed <= MOST_SPEED:
        raise _bad_speed(speed)
    if "speed_shift" in given:
        raise RequestError(
            "speed and speed_shift are two names of one thing here; give one of them",
            field="speed",
        )
    return float(speed)


def _bad_speed(speed: object) -> RequestError:
    return RequestError(
        f"speed: {redact(speed)} is not allowed; it must be a number from {LEAST_SPEED} to "
        f"{MOST_SPEED:g}, or the level of a designed voice",
        field="speed",
    )


def _one_of(given: dict[str, Any], name: str, choices: tuple[Any, ...], default: Any) -> Any:
    """Take a field out that must be one of the choices."""
    value = given.pop(name, default)
    if value not in choices:
        raise RequestError(
            f"{name}: {redact(value)} is not allowed; it must be one of {', '.join(choices)}",
            field=name,
        )
    return value


def in_openai_terms(error: WorkerError) -> WorkerError:
    """The error with our field for the text under the name that it has at this door."""
    if error.field != "text":
        return error
    return type(error)(re.sub(r"^text\b", "input", error.message), field="input")
