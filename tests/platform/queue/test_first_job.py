"""The curl command of docs/DEPLOY.md, as it is written: a client's job, and a worker's answer."""

from __future__ import annotations

import json
import ssl
import subprocess
from pathlib import Path

import pytest
import soundfile
import trustme

from tests.platform.queue.server import CLIENT_KEY, ENDPOINT, Queue
from tests.platform.queue.workers import worker
from tests.support.documents import commands
from tests.support.worker_process import environment
from volume.layout import Layout

API = "api.runpod.ai"


@pytest.fixture
def tls(tmp_path: Path) -> ssl.SSLContext:
    """The platform's certificate; authority.pem, by which curl knows it."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(API).configure_cert(context)
    return context


def test_the_first_job(tiny_checkpoint: Path, tmp_path: Path, tls: ssl.SSLContext) -> None:
    (command,) = commands("curl")
    models = Layout(tmp_path).models
    models.mkdir(parents=True)
    (models / "tiny@1").symlink_to(tiny_checkpoint)  # it babbles, in every voice
    # One at a time, so that the SDK takes jobs singly and not in batches.
    env = environment(tmp_path, SPARK_MODEL="tiny", MAX_CONCURRENCY="1")
    with Queue(hold_seconds=1.0, tls=tls).running() as queue, worker(queue, "one", env, tmp_path):
        (tmp_path / ".curlrc").write_text(
            f'connect-to = "{API}:443:127.0.0.1:{queue.tls_port}"\n'
            f'cacert = "{tmp_path}/authority.pem"\nfail-with-body\nsilent\nshow-error\n'
        )
        typed = {"ENDPOINT": ENDPOINT, "RUNPOD_API_KEY": CLIENT_KEY, "CURL_HOME": str(tmp_path)}
        done = subprocess.run(
            ["bash", "-euc", command], env={**env, **typed}, text=True, capture_output=True,
            timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        answer = json.loads(done.stdout)
        assert answer["status"] == "COMPLETED", answer
        assert queue.counts["take: single"]
        assert not queue.counts["take: batch"]
        (job,) = queue.jobs.values()
        assert answer["id"] == job.id
        assert answer["output"] == job.output
        file = job.output["audio_url"].removeprefix("file://")
        assert soundfile.info(file).duration == pytest.approx(job.output["duration"], abs=0.01)
