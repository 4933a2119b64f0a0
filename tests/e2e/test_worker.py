"""The worker as its users start it: the real SDK, a real S3 protocol, real files, real speech."""

from __future__ import annotations

import ast
import io
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
import pytest
import soundfile
from faster_whisper import WhisperModel

from tests.conftest import DEMO_VOICE, REPOSITORY
from tests.support.in_process import in_process
from tests.support.judge import hear, word_error_rate
from tests.support.s3 import ACCESS_KEY, SECRET_KEY, s3_client, s3_server
from tests.support.worker_process import NO_ALIGNER, environment, post, run, serving
from worker import __main__ as worker_main
from worker import speak

BUCKET = "speech-bucket"
SAID = "My sister bought a green car last year. Please read this book to the children."
CLONE = {"text": SAID, "prompt_speech_url": "demo.wav", "seed": 2}
UNDERSTOOD = 0.3  # word error rate; noise, or another text, has 0.9 and more


def pad(samples: np.ndarray) -> np.ndarray:
    return np.pad(samples, 8000)


def test_test_input_speaks_and_is_understood(
    demo_volume: Path, tmp_path: Path, judge: WhisperModel
) -> None:
    env = environment(demo_volume, TMPDIR=str(tmp_path))
    done = run("-m", "worker", "--test_input", json.dumps({"input": CLONE}), env=env)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if "Job result: " in line]
    answer = ast.literal_eval(line.split("Job result: ", 1)[1])["output"]
    samples, rate = soundfile.read(unquote(urlsplit(answer["audio_url"]).path))
    assert rate == 16000
    assert word_error_rate(SAID, hear(judge, pad(samples))) <= UNDERSTOOD
    assert not list(tmp_path.iterdir())


def test_test_input_with_a_bad_job_fails_in_words(demo_volume: Path) -> None:
    asked = {"input": {**CLONE, "speed_shift": "fast"}}
    env = environment(demo_volume, **NO_ALIGNER)
    done = run("-m", "worker", "--test_input", json.dumps(asked), env=env)
    assert done.returncode == 1
    assert "speed_shift" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"SPARK_MODEL": "nothing"}, "volume install --model nothing"),
        ({"S3_URL_EXPIRY": "soon"}, "S3_URL_EXPIRY"),
        ({"S3_BUCKET_NAME": "b", "AWS_ACCESS_KEY_ID": "k"}, "AWS_SECRET_ACCESS_KEY"),
    ],
)
def test_a_worker_that_is_not_complete_says_why(
    demo_volume: Path, more: dict[str, str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with in_process(environment(demo_volume, **more), "worker"):
        assert worker_main.main() == 1
    written = capsys.readouterr().err
    assert said in written
    assert "Traceback" not in written


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with s3_server(BUCKET) as url:
        yield url


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch")


@pytest.fixture(scope="module")
def worker(
    demo_volume: Path, endpoint: str, scratch: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The SDK's local API server on the demo model, with a bucket that holds a reference."""
    s3_client(endpoint).upload_file(str(DEMO_VOICE), BUCKET, "voices/demo.wav")
    env = environment(
        demo_volume,
        S3_BUCKET_NAME=BUCKET,
        AWS_ACCESS_KEY_ID=ACCESS_KEY,
        AWS_SECRET_ACCESS_KEY=SECRET_KEY,
        AWS_REGION="us-east-1",
        AWS_ENDPOINT_URL=endpoint,
        TMPDIR=str(scratch),
    )
    log = tmp_path_factory.mktemp("log") / "worker.log"
    with serving(env, log) as url:
        yield url
    written = log.read_text()
    assert "job " in written
    assert "X-Amz-Signature" not in written
    assert SECRET_KEY not in written


def fetch(url: str) -> tuple[bytes, str]:
    """The body and the content type, by plain HTTP."""
    with urllib.request.urlopen(url, timeout=30) as answer:
        return answer.read(), answer.headers["Content-Type"]


@pytest.mark.parametrize(
    ("kind", "content_type"),
    [("wav", "audio/wav"), ("mp3", "audio/mpeg")],
)
def test_a_job_over_http_ends_in_a_signed_url(
    worker: str, judge: WhisperModel, scratch: Path, kind: str, content_type: str
) -> None:
    answer = post(f"{worker}/runsync", {"input": {**CLONE, "output_format": kind}})
    assert answer["status"] == "COMPLETED", answer
    output = answer["output"]
    url = output["audio_url"]
    assert parse_qs(urlsplit(url).query)["X-Amz-Expires"] == ["3600"]
    body, given = fetch(url)
    assert given == content_type
    samples, rate = soundfile.read(io.BytesIO(body))
    assert rate == output["sample_rate"]
    assert len(samples) / rate == pytest.approx(output["duration"], abs=0.1)
    assert word_error_rate(SAID, hear(judge, pad(samples))) <= UNDERSTOOD
    assert not list(scratch.glob("spark-tts-*"))


def test_curl_does_the_same(worker: str) -> None:
    body = json.dumps({"input": {**CLONE, "url_expiry": 120}})
    command = ["curl", "-sS", f"{worker}/runsync", "-H", "Content-Type: application/json", "-d"]
    done = subprocess.run([*command, body], capture_output=True, text=True, check=True)
    url = json.loads(done.stdout)["output"]["audio_url"]
    assert parse_qs(urlsplit(url).query)["X-Amz-Expires"] == ["120"]
    audio = subprocess.run(["curl", "-sS", url], capture_output=True, check=True).stdout
    assert len(soundfile.read(io.BytesIO(audio))[0]) > 16000


def test_subtitles_and_timings_come_with_the_audio(worker: str) -> None:
    asked = {**CLONE, "enable_whisperx": True, "enable_subtitles": True, "url_expiry": 90}
    output = post(f"{worker}/runsync", {"input": asked})["output"]
    assert [timing["word"] for timing in output["word_timings"]] == SAID.split()
    assert output["word_timings"][-1]["end"] <= output["duration"]
    url = output["subtitles_url"]
    assert parse_qs(urlsplit(url).query)["X-Amz-Expires"] == ["90"]
    body, given = fetch(url)
    assert given == "text/x-ssa"
    assert "green car" in body.decode()


def test_a_voice_is_saved_in_the_bucket_and_used_again(worker: str) -> None:
    saved = post(f"{worker}/runsync", {"input": {**CLONE, "save_voice": "sister"}})
    assert saved["output"]["voice"] == {"source": "reference", "name": "sister"}
    again = post(f"{worker}/runsync", {"input": {"text": "The end.", "voice": "sister"}})
    assert again["status"] == "COMPLETED", again


def test_a_reference_by_s3_url(worker: str) -> None:
    asked = {**CLONE, "prompt_speech_url": f"s3://{BUCKET}/voices/demo.wav"}
    assert post(f"{worker}/runsync", {"input": asked})["status"] == "COMPLETED"


@pytest.mark.parametrize(
    ("change", "code", "field"),
    [
        ({"top_p": 0}, "invalid_request", "top_p"),
        ({"prompt_speech_url": "missing.wav"}, "invalid_voice", "prompt_speech_url"),
        ({"prompt_speech_url": "s3://elsewhere/x.wav"}, "invalid_request", "prompt_speech_url"),
        (
            {"prompt_speech_url": "https://169.254.169.254/latest/meta-data"},
            "download_failed",
            "prompt_speech_url",
        ),
        (
            {"prompt_speech_url": "https://localhost:9/x.wav"},
            "download_failed",
            "prompt_speech_url",
        ),
        ({"text": "你好"}, "invalid_request", "text"),
    ],
)
def test_errors_over_http(
    worker: str, scratch: Path, change: dict[str, object], code: str, field: str | None
) -> None:
    answer = post(f"{worker}/runsync", {"input": {**CLONE, **change}})
    assert answer["status"] == "FAILED"
    error = json.loads(answer["error"])
    assert (error["code"], error["field"]) == (code, field)
    assert SECRET_KEY not in answer["error"]
    assert not list(scratch.glob("spark-tts-*"))


def test_jobs_at_once(worker: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        jobs = [{"input": {**CLONE, "seed": seed}} for seed in range(4)]
        answers = list(pool.map(lambda job: post(f"{worker}/runsync", job), jobs))
    assert [answer["status"] for answer in answers] == ["COMPLETED"] * 4
    bodies = [fetch(answer["output"]["audio_url"])[0] for answer in answers]
    assert len(set(bodies)) == 4


def test_the_command_line_speaks(demo_volume: Path, tmp_path: Path, judge: WhisperModel) -> None:
    done = run(
        *("-m", "worker.speak", SAID, "--out", str(tmp_path / "new" / "hello.flac")),
        *("--voice-from", str(DEMO_VOICE), "--seed", "2", "--multi-sentence-gap", "0.5"),
        env=environment(demo_volume),
    )
    assert done.returncode == 0, done.stderr
    assert "times real time" in done.stdout
    assert "seed 2" in done.stdout
    samples, _ = soundfile.read(tmp_path / "new" / "hello.flac")
    assert word_error_rate(SAID, hear(judge, pad(samples))) <= UNDERSTOOD


def test_the_embedded_model_speaks_without_a_reference(demo_volume: Path, tmp_path: Path) -> None:
    """As the flake's command starts it: by default, and in a style that the user names."""
    for more in ([], ["--gender", "male"]):
        subprocess.run(
            ["bash", "-eu", str(REPOSITORY / "nix" / "speak.sh"), SAID, "--out", "a.wav", *more],
            env={**environment(demo_volume), "python": sys.executable},
            cwd=tmp_path, check=True,
        )  # fmt: skip
        assert soundfile.info(tmp_path / "a.wav").duration > 1
        (tmp_path / "a.wav").unlink()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["Hi.", "--out", "hello.txt"], "--out"),
        (["Hi.", "--voice-from", "nothing.wav"], "nothing.wav"),
        (["Hi.", "--top-k", "many"], "top_k"),
        (["", "--voice-from", str(DEMO_VOICE)], "text"),
    ],
)
def test_the_command_line_refuses_in_words(
    demo_volume: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with in_process(environment(demo_volume), "worker.speak", *arguments):
        assert speak.main() == 1
    written = capsys.readouterr().err
    assert said in written
    assert "Traceback" not in written


def test_make_speak_leaves_speech_on_the_disk(tmp_path: Path, judge: WhisperModel) -> None:
    env = environment(tmp_path)
    done = subprocess.run(
        ["make", "--no-print-directory", "speak", f"TEXT={SAID}", "SEED=2"],
        cwd=REPOSITORY,
        env=env,
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *_, path = done.stdout.splitlines()
    assert Path(path).is_relative_to(tmp_path)
    response = json.loads(done.stdout[done.stdout.index("\n{\n") :].rsplit("\n", 2)[0])
    assert response["audio_url"] == Path(path).as_uri()
    samples, _ = soundfile.read(path)
    assert word_error_rate(SAID, hear(judge, pad(samples))) <= UNDERSTOOD
    assert list(Path(path).parent.iterdir()) == [Path(path)]
