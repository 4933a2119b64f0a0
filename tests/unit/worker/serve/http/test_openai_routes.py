"""OpenAI's routes: what they answer, and how they fail."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import av
import httpx
import pytest
import soundfile

from tests.support.http_door import SPEECH, DoorServer, serving_door
from tests.support.small_components import RATE, TEXT, SmallParts, small_components
from worker.audio.formats import STREAM_CONTENT_TYPES, StreamFormat
from worker.errors import BusyError, RequestError, SynthesisError, WorkerError
from worker.serve.http.live_response import EVENT_STREAM


@pytest.fixture
def parts(tmp_path: Path) -> SmallParts:
    return small_components(tmp_path)


@pytest.fixture
def server(parts: SmallParts) -> Iterator[DoorServer]:
    with serving_door(parts) as door:
        yield door


@pytest.fixture
def client(server: DoorServer) -> Iterator[httpx.Client]:
    with server.client() as one:
        yield one


def events_of(answer: httpx.Response) -> list[dict[str, Any]]:
    """The data of server-sent events."""
    blocks = answer.text.split("\n\n")
    assert blocks.pop() == ""
    assert all(block.startswith("data: ") for block in blocks)
    return [json.loads(block.removeprefix("data: ")) for block in blocks]


class TestSpeech:
    @pytest.mark.parametrize("kind", get_args(StreamFormat))
    def test_each_format_is_answered_under_its_type(self, client: httpx.Client, kind: str) -> None:
        answer = client.post(SPEECH, json={"input": TEXT, "response_format": kind})
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == STREAM_CONTENT_TYPES[kind]
        assert answer.headers["Transfer-Encoding"] == "chunked"
        assert answer.headers["X-Request-Id"].startswith("http-")
        assert len(answer.content) > 1000

    def test_raw_samples_of_another_rate_say_it(self, client: httpx.Client) -> None:
        body = {"input": TEXT, "response_format": "pcm"}
        plain = client.post(SPEECH, json=body)
        other = client.post(SPEECH, json={**body, "sample_rate": 8_000})
        assert plain.headers["Content-Type"] == "audio/pcm"
        assert other.headers["Content-Type"] == "audio/pcm; rate=8000"
        assert len(other.content) == pytest.approx(len(plain.content) / 3, abs=4)

    def test_a_bit_rate_and_tags_are_those_that_were_asked_for(self, client: httpx.Client) -> None:
        body = {"input": TEXT, "bit_rate": 128, "sample_rate": 24_000, "tags": {"title": "A fox"}}
        content = client.post(SPEECH, json=body).content
        assert content.startswith(b"ID3")
        with av.open(io.BytesIO(content)) as container:
            assert container.metadata["title"] == "A fox"
            assert container.metadata["comment"].startswith("Synthetic speech")
            (stream,) = container.streams
            assert (stream.rate, stream.bit_rate) == (24_000, 128_000)

    def test_mp3_is_what_comes_where_nothing_is_said(self, client: httpx.Client) -> None:
        answer = client.post(SPEECH, json={"model": "tts-1", "voice": None, "input": TEXT})
        assert answer.headers["Content-Type"] == "audio/mpeg"

    @pytest.mark.parametrize("speed", [0.25, 0.5, 2, 4])
    def test_speed_changes_the_duration(
        self, client: httpx.Client, parts: SmallParts, speed: float
    ) -> None:
        parts.engine.word = 2.0
        body = {"input": "One two.", "response_format": "wav", "speed": speed}
        samples, rate = soundfile.read(io.BytesIO(client.post(SPEECH, json=body).content))
        assert rate == RATE
        assert len(samples) / rate == pytest.approx(4.0 / speed, rel=0.1)

    def test_instructions_are_said_to_be_unsupported(self, client: httpx.Client) -> None:
        plain = client.post(SPEECH, json={"input": TEXT})
        told = client.post(SPEECH, json={"input": TEXT, "instructions": "Speak like a pirate."})
        assert (plain.status_code, told.status_code) == (200, 200)
        assert "X-Unsupported" not in plain.headers
        assert told.headers["X-Unsupported"] == "instructions"

    def test_events_hold_the_same_bytes_and_the_usage(self, client: httpx.Client) -> None:
        body = {"input": TEXT, "response_format": "pcm"}
        whole = client.post(SPEECH, json=body).content
        answer = client.post(SPEECH, json={**body, "stream_format": "sse"})
        assert answer.headers["Content-Type"].startswith(EVENT_STREAM)
        *deltas, done = events_of(answer)
        assert {delta["type"] for delta in deltas} == {"speech.audio.delta"}
        assert b"".join(base64.b64decode(delta["audio"]) for delta in deltas) == whole
        usage = done["usage"]
        assert done["type"] == "speech.audio.done"
        assert usage["input_tokens"] == len(TEXT)
        assert usage["output_tokens"] >= 10 * len(TEXT.split())
        assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]

    def test_our_own_fields_stand_beside_openais(
        self, client: httpx.Client, parts: SmallParts
    ) -> None:
        body = {"input": TEXT, "seed": 5, "temperature": 0.5, "multi_sentence_gap": 0}
        assert client.post(SPEECH, json=body).status_code == 200
        (asked,) = parts.engine.asked
        assert (asked.sampling.seed, asked.sampling.temperature) == (5, 0.5)

    def test_bytes_come_before_the_last_sentence_is_spoken(
        self, client: httpx.Client, parts: SmallParts
    ) -> None:
        spoken: list[tuple[int, int]] = []
        parts.engine.before_piece = lambda sentence, piece: spoken.append((sentence, piece))
        parts.engine.word = 20.0  # more than a connection's buffers hold
        body = {"input": TEXT, "response_format": "pcm"}
        with client.stream("POST", SPEECH, json=body) as answer:
            next(answer.iter_bytes())
            assert (2, 3) not in spoken

    def test_the_log_has_a_line_like_the_queues(
        self, client: httpx.Client, capsys: pytest.CaptureFixture[str]
    ) -> None:
        from worker.logs import set_up_logging

        set_up_logging("INFO")
        answer = client.post(SPEECH, json={"input": TEXT})
        lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
        (line,) = [line for line in lines if line["event"] == "job answered"]
        assert line["job"] == answer.headers["X-Request-Id"]
        assert line["audio_seconds"] > 1
        assert {"queue", "text", "voice", "speech", "first_audio", "first_byte"} <= {
            *line["stages"]
        }
        assert 0 <= line["overhead"] < line["seconds"]
        assert TEXT not in json.dumps(lines)

    def test_no_temporary_file_is_left(
        self, client: httpx.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        scratch = tmp_path / "scratch"
        scratch.mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(scratch))
        assert client.post(SPEECH, json={"input": TEXT}).status_code == 200
        assert not list(scratch.iterdir())


class TestFailures:
    @pytest.mark.parametrize(
        ("body", "status", "param", "code"),
        [
            ([], 400, "input", "invalid_request"),
            ({}, 400, "input", "invalid_request"),
            ({"input": "  "}, 400, "input", "invalid_request"),
            ({"input": 5}, 400, "input", "invalid_request"),
            ({"input": "a", "speed": 5}, 400, "speed", "invalid_request"),
            ({"input": "a", "speed": True}, 400, "speed", "invalid_request"),
            ({"input": "a", "response_format": "ogg"}, 400, "response_format", "invalid_request"),
            ({"input": "a", "response_format": ["mp3"]}, 400, "response_format", "invalid_request"),
            ({"input": "a", "stream_format": {}}, 400, "stream_format", "invalid_request"),
            ({"input": "a", "instructions": 1}, 400, "instructions", "invalid_request"),
            ({"input": "a", "model": "gpt-5"}, 404, "model", "model_not_found"),
            ({"input": "a", "model": []}, 404, "model", "model_not_found"),
            ({"input": "a", "voice": "nobody"}, 400, "voice", "invalid_voice"),
            ({"input": "a", "voice": "../x"}, 400, "voice", "invalid_request"),
            ({"input": "a", "voice": {"id": ["x"]}}, 400, "voice", "invalid_request"),
            ({"input": "a", "seeds": 1}, 400, "seeds", "invalid_request"),
            ({"input": "a", "turns": []}, 400, "turns", "invalid_request"),
            ({"input": "[pause:x] a", "markup": True}, 400, "input", "invalid_request"),
            ({"input": "[voice:nobody] a", "markup": True}, 400, "input", "invalid_voice"),
        ],
    )
    def test_a_wrong_field_is_named(
        self, client: httpx.Client, body: object, status: int, param: str, code: str
    ) -> None:
        answer = client.post(SPEECH, json=body)
        assert answer.status_code == status
        error = answer.json()["error"]
        assert (error["param"], error["code"]) == (param, code)
        assert error["message"].startswith(param) or param == "input"
        kinds = {400: "invalid_request_error", 404: "not_found_error"}
        assert error["type"] == kinds[status]

    @pytest.mark.parametrize(
        "content",
        [b"", b"{", b"\xff", b'{"input": NaN}', b"[" * 16, b"[" * 100_000],
    )
    def test_what_is_no_json_is_said_to_be_none(self, client: httpx.Client, content: bytes) -> None:
        answer = client.post(SPEECH, content=content, headers={"Content-Type": "application/json"})
        assert answer.status_code in (400, 413)
        assert answer.json()["error"]["param"] == "body"

    def test_half_a_surrogate_pair_is_shown_as_json_shows_it(self, client: httpx.Client) -> None:
        content = b'{"input": "a\\ud800", "\\ud800": 1}'
        answer = client.post(SPEECH, content=content, headers={"Content-Type": "application/json"})
        assert answer.status_code == 400
        assert "U+D800" in answer.json()["error"]["message"]

    @pytest.mark.parametrize("declared", ["text/plain", "application/x-www-form-urlencoded", ""])
    def test_another_content_type_is_refused(self, client: httpx.Client, declared: str) -> None:
        headers = {"Content-Type": declared}
        answer = client.post(SPEECH, content=b'{"input": "a"}', headers=headers)
        assert answer.status_code == 415
        assert "application/json" in answer.json()["error"]["message"]

    @pytest.mark.parametrize("declared", [None, "application/json; charset=utf-8"])
    def test_json_may_be_declared_or_not(self, client: httpx.Client, declared: str | None) -> None:
        headers = {} if declared is None else {"Content-Type": declared}
        answer = client.post(SPEECH, content=json.dumps({"input": "a"}).encode(), headers=headers)
        assert answer.status_code == 200

    @pytest.mark.parametrize(
        ("error", "status", "retries"),
        [
            (BusyError("4096 sentences wait already; try again in a moment"), 429, True),
            (SynthesisError("nothing was said"), 422, False),
            (RuntimeError("a fault"), 500, False),
            (OSError(28, "No space left on device"), 503, True),
        ],
    )
    def test_what_fails_before_the_first_byte_has_its_status(
        self,
        client: httpx.Client,
        parts: SmallParts,
        error: Exception,
        status: int,
        retries: bool,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        from worker.logs import set_up_logging

        def fails(_sentence: str) -> None:
            raise error

        set_up_logging("INFO")
        parts.engine.before = fails
        answer = client.post(SPEECH, json={"input": TEXT})
        assert answer.status_code == status
        assert ("Retry-After" in answer.headers) == retries
        if not isinstance(error, WorkerError):
            assert "fault" not in answer.json()["error"]["message"]
        lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
        assert [line["event"] for line in lines] == ["job failed"]
        assert lines[0]["job"] == answer.headers["X-Request-Id"]

    @pytest.mark.parametrize(
        ("said", "told"),
        [
            ("text: it has no vowel", "input: it has no vowel"),
            ("no token", "no token"),
        ],
    )
    def test_what_only_the_engine_can_tell_names_openais_field(
        self, client: httpx.Client, parts: SmallParts, said: str, told: str
    ) -> None:
        def fails(_sentence: str) -> None:
            raise RequestError(said, field="text")

        parts.engine.before = fails
        answer = client.post(SPEECH, json={"input": TEXT})
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert (error["param"], error["message"]) == ("input", told)

    def test_what_fails_later_ends_the_connection_and_is_logged_once(
        self, client: httpx.Client, parts: SmallParts, capfd: pytest.CaptureFixture[str]
    ) -> None:
        from worker.logs import set_up_logging

        def fails(sentence: str) -> None:
            if sentence.startswith("Three"):
                raise RuntimeError("a fault")

        set_up_logging("INFO")
        parts.engine.before = fails
        got: list[bytes] = []
        body = {"input": TEXT, "response_format": "pcm"}
        with (
            client.stream("POST", SPEECH, json=body) as answer,
            pytest.raises(httpx.RemoteProtocolError),
        ):
            got.extend(answer.iter_raw())
        assert answer.status_code == 200
        assert sum(map(len, got)) > 20_000  # what was spoken before came
        written = capfd.readouterr().err
        lines = [json.loads(line) for line in written.splitlines()]
        assert [line["event"] for line in lines] == ["job failed"]
        assert "RuntimeError: a fault" in lines[0]["traceback"]

    def test_what_fails_later_is_an_event_of_a_stream_of_events(
        self, client: httpx.Client, parts: SmallParts
    ) -> None:
        def fails(sentence: str) -> None:
            if sentence.startswith("Three"):
                raise SynthesisError("nothing was said")

        parts.engine.before = fails
        answer = client.post(SPEECH, json={"input": TEXT, "stream_format": "sse"})
        *deltas, last = events_of(answer)
        assert deltas
        assert last == {
            "type": "error",
            "error": {
                "message": "nothing was said",
                "type": "invalid_request_error",
                "param": None,
                "code": "synthesis_failed",
            },
        }


class TestModels:
    def test_the_served_model_is_listed_under_all_its_names(self, client: httpx.Client) -> None:
        listed = client.get("/v1/models").json()
        assert listed["object"] == "list"
        names = [model["id"] for model in listed["data"]]
        assert {"spark-tts", "tts-1", "tts-1-hd", "gpt-4o-mini-tts", "demo"} == {*names}
        for name in names:
            assert client.get(f"/v1/models/{name}").json() in listed["data"]
            assert client.post(SPEECH, json={"input": "a", "model": name}).status_code == 200

    @pytest.mark.parametrize("name", ["gpt-5", "%2e%2e", "a%0d%0aX-Evil: 1", "%ff"])
    def test_any_other_is_not_found_in_openais_form(self, client: httpx.Client, name: str) -> None:
        answer = client.get(f"/v1/models/{name}")
        assert answer.status_code == 404
        error = answer.json()["error"]
        assert error["code"] in ("model_not_found", "invalid_request")
        assert error["type"] == "not_found_error"
        assert "X-Evil" not in answer.headers

    def test_head_has_no_body(self, client: httpx.Client) -> None:
        answer = client.head("/v1/models")
        assert answer.status_code == 200
        assert answer.content == b""

    def test_another_method_is_told_which_there_are(self, client: httpx.Client) -> None:
        for method, path in (("GET", SPEECH), ("OPTIONS", SPEECH), ("DELETE", "/v1/models")):
            answer = client.request(method, path)
            assert answer.status_code == 405
            assert answer.headers["Allow"] in ("POST", "GET")
            assert answer.json()["error"]["type"] == "invalid_request_error"


def test_the_openapi_document_has_every_field_and_status(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    speech = document["paths"][SPEECH]["post"]
    fields = speech["requestBody"]["content"]["application/json"]["schema"]["properties"]
    assert {"model", "input", "voice", "response_format", "speed", "stream_format"} <= {*fields}
    assert {"seed", "prompt_speech_url", "enable_subtitles", "pitch_shift"} <= {*fields}
    assert "text" not in fields
    assert all(schema.get("description") for schema in fields.values())
    assert {"200", "400", "401", "404", "408", "413", "415", "422", "429", "500", "503"} <= {
        *speech["responses"]
    }
    kinds = {kind.partition(";")[0] for kind in STREAM_CONTENT_TYPES.values()}
    assert {*kinds, "text/event-stream"} == {*speech["responses"]["200"]["content"]}
    page = client.get("/docs")
    assert page.headers["Content-Type"].startswith("text/html")
    for path in document["paths"]:
        assert path in page.text
    for name in fields:
        assert f"<code>{name}</code>" in page.text
    assert "http" not in page.text.replace("http-", "")  # nothing from elsewhere
