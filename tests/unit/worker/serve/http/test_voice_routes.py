"""The routes of voices: a recording in a form, a list, one voice, and the end of one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile

from tests.support.http_door import DoorServer, serving_door
from tests.support.small_components import RATE, SmallParts, small_components
from tests.support.sounds import tone
from worker.api.own_fields import NewVoiceAnswer, VoiceList
from worker.audio import files
from worker.audio.waveform import Audio
from worker.serve.http.upload import MAX_FIELD_BYTES

PATH = "/v1/audio/voices"
TEXTS = {"name": "anna", "transcript": "Some words.", "consent": "I agree."}


@pytest.fixture
def parts(tmp_path: Path) -> SmallParts:
    return small_components(tmp_path)


@pytest.fixture
def server(parts: SmallParts) -> Iterator[DoorServer]:
    with serving_door(parts, http_max_body=1_000_000) as door:
        yield door


@pytest.fixture
def client(server: DoorServer) -> Iterator[httpx.Client]:
    with server.client() as one:
        yield one


@pytest.fixture
def recording(tmp_path: Path) -> bytes:
    file = tmp_path / "recording.wav"
    files.write(Audio(tone(400.0, 2.0), RATE), file, "wav")
    return file.read_bytes()


def post(client: httpx.Client, recording: bytes, field: str = "audio", **texts: str | None) -> Any:
    data = {name: text for name, text in (TEXTS | texts).items() if text is not None}
    return client.post(PATH, data=data, files={field: ("../../x.wav", recording, "audio/wav")})


def fault(answer: httpx.Response) -> tuple[int, str | None]:
    return answer.status_code, answer.json()["error"]["param"]


@pytest.mark.parametrize("field", ["audio", "audio_sample"])
def test_a_voice_is_made_and_speaks_at_once(
    client: httpx.Client, recording: bytes, parts: SmallParts, field: str
) -> None:
    made = post(client, recording, field)
    assert made.status_code == 201
    assert made.headers["Location"] == f"{PATH}/anna"
    voice = NewVoiceAnswer.model_validate_json(made.content)
    assert (voice.id, voice.kind, voice.consent) == ("anna", "saved", "I agree.")
    assert voice.has_transcript
    assert voice.warnings == ()
    assert client.get(f"{PATH}/anna").json() | {"warnings": []} == made.json()
    spoken = client.post("/v1/speech", json={"text": "Hello.", "voice": "anna"})
    assert spoken.json()["voice"] == {"source": "saved", "name": "anna"}
    assert parts.engine.asked[-1].voice.transcript == "Some words."


def test_who_saves_a_voice_is_told_of_another_in_the_recording(
    client: httpx.Client, tmp_path: Path
) -> None:
    wait = np.zeros(RATE, np.float32)
    one, other = tone(400.0, 1.0), tone(300.0, 1.0)
    left, right = np.concatenate([one, wait, one]), np.concatenate([wait, other, wait])
    soundfile.write(tmp_path / "call.wav", np.stack([left, right], axis=1), RATE)
    made = post(client, (tmp_path / "call.wav").read_bytes())
    (warning,) = NewVoiceAnswer.model_validate_json(made.content).warnings
    assert "channel 1 (left) was heard, channel 2 (right) was not" in warning
    assert "warnings" not in client.get(f"{PATH}/anna").json()


def test_the_list_has_both_forms(client: httpx.Client, recording: bytes) -> None:
    post(client, recording)
    answer = client.get(PATH)
    voices = VoiceList.model_validate_json(answer.content)
    assert {voice.kind for voice in voices.data} == {"builtin", "saved"}
    assert voices.data[-1].id == "anna"
    assert [(one.id, one.name) for one in voices.voices] == [(v.id, v.name) for v in voices.data]
    assert client.head(PATH).status_code == 200


def test_a_voice_that_is_removed_is_gone(client: httpx.Client, recording: bytes) -> None:
    post(client, recording)
    removed = client.delete(f"{PATH}/anna")
    assert (removed.status_code, removed.content) == (204, b"")
    for answer in (client.get(f"{PATH}/anna"), client.delete(f"{PATH}/anna")):
        assert fault(answer) == (404, "name")
    spoken = client.post("/v1/speech", json={"text": "Hello.", "voice": "anna"})
    assert fault(spoken) == (400, "voice")


def test_a_built_in_voice_is_not_removed(client: httpx.Client) -> None:
    assert fault(client.delete(f"{PATH}/alloy")) == (400, "name")
    assert client.get(f"{PATH}/alloy").json()["kind"] == "builtin"


@pytest.mark.parametrize("name", ["%2e%2e", ".hidden", "a%00b", "a%0Ab", "x" * 65, "a..b"])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_what_is_no_name_is_refused(client: httpx.Client, name: str, method: str) -> None:
    target = httpx.URL(client.base_url).copy_with(raw_path=f"{PATH}/{name}".encode())
    assert fault(client.request(method, target)) == (400, "name")


@pytest.mark.parametrize("name", ["..%2F..%2Fetc", "a%2Fb", "%2Fetc%2Fpasswd"])
def test_a_path_leads_nowhere(client: httpx.Client, name: str) -> None:
    target = httpx.URL(client.base_url).copy_with(raw_path=f"{PATH}/{name}".encode())
    assert client.delete(target).status_code == 404


@pytest.mark.parametrize(
    ("texts", "field"),
    [
        ({"name": None}, "name"),
        ({"name": "../anna"}, "name"),
        ({"name": "alloy"}, "name"),
        ({"consent": None}, "consent"),
        ({"consent": "no"}, "consent"),
        ({"transcript": "\u0007"}, "transcript"),
        ({"transcript": "x" * (MAX_FIELD_BYTES + 1)}, "transcript"),
    ],
)
def test_what_is_wrong_names_the_field(
    client: httpx.Client, recording: bytes, texts: dict[str, str | None], field: str
) -> None:
    assert fault(post(client, recording, **texts)) == (400, field)


def test_a_transcript_may_be_left_out(client: httpx.Client, recording: bytes) -> None:
    for transcript in (None, " "):
        made = post(client, recording, transcript=transcript)
        assert made.status_code == 201
        assert made.json()["has_transcript"] is False


def test_what_is_no_recording_is_refused(client: httpx.Client) -> None:
    assert fault(post(client, b"no sound")) == (400, "audio")
    assert fault(client.post(PATH, data=TEXTS, files={})) == (415, "audio")


def test_the_place_of_a_request_is_free_again(client: httpx.Client, server: DoorServer) -> None:
    for _ in range(2 * server.door.limit):
        assert post(client, b"no sound").status_code == 400


BOUNDARY = b"xxBOUNDARYxx"


def part(name: bytes, content: bytes, *headers: bytes) -> bytes:
    disposition = b'Content-Disposition: form-data; name="' + name + b'"'
    head = b"\r\n".join([b"--" + BOUNDARY, disposition, *headers])
    return head + b"\r\n\r\n" + content + b"\r\n"


END = b"--" + BOUNDARY + b"--\r\n"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nothing of the kind",
        part(b"audio", b"x"),  # without an end
        part(b"audio", b"x") + part(b"audio_sample", b"x") + END,
        part(b"name", b"a") + part(b"name", b"b") + END,
        part(b"audio", b"x") + part(b"other", b"x") + END,
        part(b"", b"x") + END,
        part(b"name", b"\xff\xfe") + END,
        part(b"audio", b"x", *[b"X-Many: y"] * 100) + END,
        part(b"audio", b"x", b"X-Long: " + b"y" * 100_000) + END,
        part(b"audio", b"x", b"X-" + b"y" * 100_000 + b": y") + END,
        part(b"n" * 100_000, b"x") + END,
        b"".join(part(b"n%d" % i, b"x") for i in range(5_000)) + END,
        b"--" + BOUNDARY + b"\r\n\r\nno headers\r\n" + END,
    ],
)
def test_a_bomb_of_parts_is_refused(client: httpx.Client, body: bytes) -> None:
    kind = f"multipart/form-data; boundary={BOUNDARY.decode()}"
    answer = client.post(PATH, content=body, headers={"Content-Type": kind})
    assert answer.status_code == 400
    assert len(answer.content) < 1_000


@pytest.mark.parametrize(
    "kind",
    [
        "application/json",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/mixed; boundary=x",
        "multipart/form-data; boundary=" + "x" * 1_000,
    ],
)
def test_another_type_of_body_is_refused(client: httpx.Client, kind: str) -> None:
    answer = client.post(PATH, content=b"--x", headers={"Content-Type": kind})
    assert answer.status_code in (400, 415)


def test_a_body_that_is_too_large_is_refused(client: httpx.Client) -> None:
    assert post(client, bytes(1_100_000)).status_code == 413
