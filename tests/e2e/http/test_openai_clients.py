"""OpenAI's own clients, of Python and of Node.js, against a worker's process."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import av
import openai
import pytest
from openai import OpenAI

from tests.support.http_worker import HttpWorker, http_serving
from tests.support.node import run_node
from tests.support.waiting import until
from tests.support.worker_process import NO_ALIGNER, environment
from worker.audio.encoders import AAC_PADDING, MP3_PADDING
from worker.audio.formats import PCM_RATE, StreamFormat

FORMATS = get_args(StreamFormat)
TEXT = "They bought a new car last year. The children read a book in the garden."
ASKED: dict[str, Any] = {"model": "tts-1", "voice": "alloy", "input": TEXT}
SEED = {"seed": 3}  # the same speech each time
KEY = "the-key"
MODEL_SECOND = 16_000  # samples of the model's second
# What a decoder may give beside the sound, in seconds; the others are exact.
PADDING = {"mp3": MP3_PADDING / MODEL_SECOND, "aac": AAC_PADDING / 48_000}


@pytest.fixture(scope="module")
def client(http_worker: HttpWorker) -> OpenAI:
    return OpenAI(base_url=f"{http_worker.url}/v1", api_key="none is asked for", max_retries=0)


@pytest.fixture(scope="module")
def whole(client: OpenAI) -> float:
    """The seconds of the speech that all tests below ask for."""
    return duration(speak(client, response_format="wav"))


def speak(client: OpenAI, **asked: Any) -> bytes:
    more = {**SEED, **asked.pop("extra_body", {})}
    return client.audio.speech.create(**{**ASKED, **asked}, extra_body=more).read()


def duration(content: bytes, kind: str = "wav") -> float:
    """The seconds that ffmpeg's decoders give; pcm has no header to read."""
    if kind == "pcm":
        assert len(content) % 2 == 0
        return len(content) / 2 / PCM_RATE
    with av.open(io.BytesIO(content)) as file:
        (stream,) = file.streams
        return sum(frame.samples for frame in file.decode(stream)) / stream.rate


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_decodes_to_the_length_of_the_whole(
    client: OpenAI, whole: float, kind: StreamFormat
) -> None:
    spoken = duration(speak(client, response_format=kind), kind)
    assert whole - 0.001 <= spoken <= whole + PADDING.get(kind, 0) + 0.001


def test_mp3_is_what_comes_where_no_format_is_named(client: OpenAI) -> None:
    answer = client.audio.speech.with_raw_response.create(**ASKED, extra_body=SEED)
    assert answer.headers["Content-Type"] == "audio/mpeg"
    assert answer.content == speak(client, response_format="mp3")


@pytest.mark.parametrize("speed", [0.25, 0.5, 1.5, 2.0, 4.0])
def test_speed_changes_the_duration_as_said(client: OpenAI, whole: float, speed: float) -> None:
    gap = {"multi_sentence_gap": 0}
    at_one = duration(speak(client, response_format="wav", extra_body=gap))
    spoken = duration(speak(client, response_format="wav", speed=speed, extra_body=gap))
    assert spoken == pytest.approx(at_one / speed, rel=0.02, abs=0.02)
    assert at_one < whole


@pytest.mark.parametrize("kind", FORMATS)
def test_the_chunks_of_a_stream_are_the_file(client: OpenAI, kind: StreamFormat) -> None:
    streaming = client.audio.speech.with_streaming_response
    with streaming.create(**ASKED, response_format=kind, extra_body=SEED) as answer:
        chunks = list(answer.iter_bytes())
    assert len(chunks) > 1
    assert b"".join(chunks) == speak(client, response_format=kind)


def test_the_events_of_a_stream_are_the_file(client: OpenAI) -> None:
    events = list(events_of(client, **ASKED, response_format="opus", extra_body=SEED))
    *deltas, done = events
    assert {event["type"] for event in deltas} == {"speech.audio.delta"}
    audio = b"".join(base64.b64decode(event["audio"]) for event in deltas)
    assert audio == speak(client, response_format="opus")
    assert done["type"] == "speech.audio.done"
    usage = done["usage"]
    assert usage["output_tokens"] > 0
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]


def events_of(client: OpenAI, **asked: Any) -> Iterator[dict[str, Any]]:
    streaming = client.audio.speech.with_streaming_response
    with streaming.create(**asked, stream_format="sse") as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            if line:
                yield json.loads(line.removeprefix("data: "))


def test_the_first_chunk_comes_before_the_last_token_is_drawn(
    client: OpenAI, http_worker: HttpWorker
) -> None:
    """When it is there, sentences of the text are still being spoken; who leaves ends them."""
    long = {**ASKED, "input": " ".join([TEXT] * 150)}
    with client.audio.speech.with_streaming_response.create(**long) as answer:
        chunks = answer.iter_bytes(1)  # dropped, it would close the connection
        assert next(chunks)
        health = health_of(client)
        assert health["requests"] == 1
        assert health["speaking"] > 0
    until(lambda: health_of(client)["speaking"] + health_of(client)["waiting"] == 0)
    asked = answer.headers["X-Request-Id"]
    until(lambda: asked in {e.get("job") for e in http_worker.events("job cancelled")})


def health_of(client: OpenAI) -> dict[str, Any]:
    return client.get("/../health", cast_to=dict[str, Any])


def test_the_models_are_listed_and_each_is_known(client: OpenAI) -> None:
    listed = client.models.list().data
    assert {"tts-1", "tts-1-hd", "gpt-4o-mini-tts"} <= {model.id for model in listed}
    for model in listed:
        assert client.models.retrieve(model.id) == model
        assert model.object == "model"
    with pytest.raises(openai.NotFoundError) as failed:
        client.models.retrieve("whisper-1")
    assert failed.value.code == "model_not_found"


def test_instructions_are_taken_and_named_as_unsupported(client: OpenAI) -> None:
    answer = client.audio.speech.with_raw_response.create(
        **ASKED, instructions="Whisper it.", extra_body=SEED
    )
    assert answer.headers["X-Unsupported"] == "instructions"
    assert answer.content == speak(client)


def test_each_of_openai_s_voices_speaks(client: OpenAI) -> None:
    spoken = {}
    for voice in ("alloy", "onyx", "nova"):
        spoken[voice] = speak(client, voice=voice, input="Good morning.", response_format="wav")
        assert duration(spoken[voice]) > 0.3
    assert spoken["onyx"] != spoken["nova"]


def test_a_voice_of_one_s_own_is_an_object_with_an_id(client: OpenAI) -> None:
    speak(client, extra_body={"speaker_gender": "male", "save_voice": "of-the-clients"})
    by_id = speak(client, voice={"id": "of-the-clients"})
    assert by_id == speak(client, voice="of-the-clients")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("input", ""),
        ("input", "x" * 20_001),
        ("speed", 5),
        ("speed", 0),
        ("response_format", "ogg"),
        ("stream_format", "both"),
        ("voice", "../voices"),
    ],
)
def test_what_is_not_allowed_is_a_bad_request_that_names_its_field(
    client: OpenAI, field: str, value: object
) -> None:
    with pytest.raises(openai.APIStatusError) as failed:
        client.audio.speech.create(**{**ASKED, field: value})
    error = failed.value
    too_large = isinstance(value, str) and len(value) > 20_000
    assert error.status_code == (413 if too_large else 400)
    assert isinstance(error, openai.BadRequestError) or too_large
    assert error.param == field
    assert error.code == ("too_large" if too_large else "invalid_request")
    assert isinstance(error.body, dict)
    assert error.body["message"] in error.message
    assert error.type == "invalid_request_error"


def test_a_voice_that_is_not_there_is_named(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as failed:
        speak(client, voice="nobody-of-this-name")
    assert (failed.value.code, failed.value.param) == ("invalid_voice", "voice")


def test_our_own_fields_are_checked_too(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as failed:
        speak(client, extra_body={"temperature": 3})
    assert failed.value.param == "temperature"


@pytest.fixture(scope="module")
def strict(demo_volume: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpWorker]:
    """A worker that asks for a key and answers one request at a time."""
    env = environment(demo_volume, API_KEY=KEY, HTTP_MAX_REQUESTS="1", **NO_ALIGNER)
    with http_serving(env, tmp_path_factory.mktemp("strict")) as worker:
        yield worker


def test_a_wrong_key_is_an_authentication_error(strict: HttpWorker) -> None:
    stranger = OpenAI(base_url=f"{strict.url}/v1", api_key="another-key", max_retries=0)
    for call in (stranger.models.list, lambda: speak(stranger)):
        with pytest.raises(openai.AuthenticationError) as failed:
            call()
        assert failed.value.code == "invalid_api_key"
    assert OpenAI(base_url=f"{strict.url}/v1", api_key=KEY).models.list().data
    # As behind RunPod's load balancer, whose own key is the bearer's.
    behind = {"X-API-Key": KEY}
    assert OpenAI(base_url=stranger.base_url, api_key="x", default_headers=behind).models.list()


def test_one_request_too_many_is_a_rate_limit_error_and_is_tried_again(strict: HttpWorker) -> None:
    client = OpenAI(base_url=f"{strict.url}/v1", api_key=KEY, max_retries=0)
    streaming = client.audio.speech.with_streaming_response
    long = {**ASKED, "input": " ".join([TEXT] * 50), "response_format": "wav"}
    with streaming.create(**long) as first:
        chunks = first.iter_bytes(1)  # dropped, it would close the connection
        next(chunks)
        with pytest.raises(openai.RateLimitError) as failed:
            speak(client)
        assert failed.value.code == "busy"
        assert int(failed.value.response.headers["Retry-After"]) >= 1
    # The client itself tries again, after Retry-After, until the first has left.
    assert speak(client.with_options(max_retries=10))


NODE = """
import OpenAI from "openai"
import { createHash } from "node:crypto"

const client = new OpenAI({ baseURL: process.env.WORKER + "/v1", apiKey: "x", maxRetries: 0 })
const asked = JSON.parse(process.env.ASKED)
const digest = (bytes) => createHash("sha256").update(bytes).digest("hex")
const told = { files: {}, streams: {}, chunks: {}, errors: {} }

for (const response_format of JSON.parse(process.env.FORMATS)) {
  const file = await client.audio.speech.create({ ...asked, response_format })
  told.files[response_format] = digest(Buffer.from(await file.arrayBuffer()))
  const stream = await client.audio.speech.create({ ...asked, response_format })
  const chunks = []
  for await (const chunk of stream.body) chunks.push(chunk)
  told.chunks[response_format] = chunks.length
  told.streams[response_format] = digest(Buffer.concat(chunks))
}
told.models = (await client.models.list()).data.map((model) => model.id)
told.model = await client.models.retrieve("tts-1")
for (const wrong of [{ speed: 5 }, { input: "" }, { voice: "nobody-of-this-name" }]) {
  try {
    await client.audio.speech.create({ ...asked, ...wrong })
  } catch (error) {
    const { status, code, param, type } = error
    told.errors[Object.keys(wrong)[0]] = { name: error.constructor.name, status, code, param, type }
  }
}
console.log(JSON.stringify(told))
"""


def test_node_s_client_hears_what_python_s_hears(
    client: OpenAI, http_worker: HttpWorker, tmp_path: Path
) -> None:
    kinds = ("mp3", "pcm")  # to a client they are all bytes; Python's hears the others above
    env = {
        "WORKER": http_worker.url,
        "ASKED": json.dumps({**ASKED, **SEED}),
        "FORMATS": json.dumps(kinds),
        "PATH": os.environ["PATH"],
    }
    done = run_node(NODE, tmp_path, env)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    heard = {
        kind: hashlib.sha256(speak(client, response_format=kind)).hexdigest() for kind in kinds
    }
    assert told["files"] == told["streams"] == heard
    assert all(count > 1 for count in told["chunks"].values())
    assert told["models"] == [model.id for model in client.models.list()]
    assert told["model"]["id"] == "tts-1"
    bad = {"name": "BadRequestError", "status": 400, "type": "invalid_request_error"}
    assert told["errors"]["speed"].items() >= {**bad, "param": "speed"}.items()
    assert told["errors"]["input"].items() >= {**bad, "param": "input"}.items()
    assert told["errors"]["voice"].items() >= {**bad, "param": "voice"}.items()
