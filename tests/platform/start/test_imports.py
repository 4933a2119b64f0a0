"""What a start may import, by either door: each module costs time, and files on a volume.

Real starts with aligners of two languages, as production has them, and a job with word timings: so
that nothing is left for later, either.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.platform.queue.server import Queue
from tests.support.http_worker import starting
from tests.support.tiny_wav2vec2 import save_aligner
from tests.support.worker_process import REPOSITORY, environment, post
from volume.layout import Layout, pinned_revision

# What a worker is made of, by what needs it; pyproject.toml says what for. `_private` modules and
# those that Cython makes belong to packages that stand here.
OURS = {"worker", "volume"}
MODEL = {"torch", "torchgen", "numpy", "safetensors", "tokenizers", "tqdm"}
UPSTREAM = {"spark_tts_lib", "sparktts", "einops", "packaging", "yaml"}
SOUND = {"soundfile", "soxr", "python_stretch"}
WORDS = {"whisperx", "num2words", "rjieba", "regex", "ass"}
VALUES = {
    *("pydantic", "pydantic_core", "pydantic_settings", "annotated_types", "dotenv"),
    *("typing_extensions", "typing_inspection"),
}
STORAGE = {"boto3", "botocore", "s3transfer", "jmespath", "dateutil", "six", "urllib3", "certifi"}
DOWNLOADS = {
    *("aiohttp", "aiohappyeyeballs", "aiosignal", "aiodns", "attr", "frozenlist", "multidict"),
    *("propcache", "yarl", "idna", "pycares", "brotli"),
}
BOTH = OURS | MODEL | UPSTREAM | SOUND | WORDS | VALUES | STORAGE | DOWNLOADS
SDK = {"runpod", "requests", "charset_normalizer", "backoff", "aiohttp_retry"}
HTTP = {
    *("fastapi", "starlette", "annotated_doc", "opentelemetry", "python_multipart", "av"),
    *("uvicorn", "click", "h11", "websockets", "anyio", "prometheus_client"),
}
# Of the tests and of other packages' optional imports, which production does not have.
DEVELOPMENT = {
    *("tests", "sitecustomize", "cython_runtime", "backports"),
    *("watchfiles", "sniffio", "email_validator", "pydantic_extra_types"),
}
TEXT = "The boy walked to the river. It was 42 miles."
ASKED = {"text": TEXT, "enable_subtitles": True}
PROGRAM = "tests.platform.start.imported"
SECONDS = 300.0  # that a start may take on a crowded machine


@pytest.fixture(scope="module")
def volume(demo_volume: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo volume, whose model brings the English aligner, with a Chinese one."""
    volume = tmp_path_factory.mktemp("imports") / "volume"
    shutil.copytree(demo_volume, volume)
    folder = Layout(volume).models / f"aligner-zh@{pinned_revision('aligner-zh')}"
    save_aligner(folder, "chinese", tuple("今天我们去看书"))
    return volume


def imported(told: Path) -> set[str]:
    """The packages that are not Python's own, of the modules that were told."""
    names = {name.partition(".")[0] for name in told.read_text().split()}
    public = {name for name in names if not name.startswith("_")}
    return public - sys.stdlib_module_names - DEVELOPMENT


def compare(found: set[str], allowed: set[str]) -> None:
    """A package more is a start that is slower; one less is a list that says too much."""
    assert found - allowed == set()
    assert allowed - found <= {"spark_tts_lib", "sparktts"}  # upstream's two sources: one of them


def test_a_worker_of_the_queue(volume: Path, tmp_path: Path) -> None:
    told, log = tmp_path / "modules", tmp_path / "log"
    with Queue().running() as queue, log.open("wb") as out:
        env = environment(volume) | queue.environment("first")
        command = [sys.executable, "-m", PROGRAM, str(told)]
        process = subprocess.Popen(command, env=env, cwd=REPOSITORY, stdout=out, stderr=out)
        try:
            queue.wait_for_worker("first", SECONDS)
            job = queue.wait(queue.put(ASKED), SECONDS)
            assert len(job.output["word_timings"]) == 10
            process.terminate()
            assert process.wait(SECONDS) == 0, log.read_text()
        finally:
            process.kill()
            process.wait()
    assert "words get estimated times only" not in log.read_text()
    compare(imported(told), BOTH | SDK)


def test_a_worker_of_the_http_door(volume: Path, tmp_path: Path) -> None:
    told = tmp_path / "modules"
    with starting(environment(volume), tmp_path, module=(PROGRAM, str(told))) as worker:
        worker.wait_until_ready(SECONDS)
        answer = post(f"{worker.url}/v1/speech", ASKED)
        assert len(answer["word_timings"]) == 10
        assert worker.stop() == 0
        assert not worker.events("words get estimated times only")
    compare(imported(told), BOTH | HTTP)
