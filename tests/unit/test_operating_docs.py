"""docs/DEPLOY.md, OPERATIONS.md and SCALING.md against the code that they describe."""

from __future__ import annotations

import json
import re

from scripts.scaling.__main__ import MARKS, table
from scripts.scaling.inputs import HERE
from tests.support.worker_process import REPOSITORY
from worker import errors
from worker.audio.files import REFERENCE_SECONDS_MAX, REFERENCE_SECONDS_MIN
from worker.download import Limits
from worker.errors import WorkerError
from worker.response import Metrics
from worker.settings import Settings

DEPLOY, OPERATIONS, SCALING = (
    (REPOSITORY / "docs" / f"{name}.md").read_text() for name in ("DEPLOY", "OPERATIONS", "SCALING")
)


def test_every_error_code_has_its_row() -> None:
    kinds = [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, WorkerError)]
    codes = {kind.code for kind in kinds if kind is not WorkerError} | {"internal_error"}
    section = OPERATIONS[OPERATIONS.index("## Troubleshooting by error code") :]
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \| ([^|]+) \|$", section, re.MULTILINE)
    assert {code for code, _, _ in rows} == codes
    assert all(len(what.strip()) > 20 or code == "cancelled" for code, _, what in rows)


def test_every_metric_is_explained() -> None:
    section = OPERATIONS[OPERATIONS.index("## Metrics") : OPERATIONS.index("## The log")]
    named = set(re.findall(r"`([a-z_]+)`", section))
    assert set(Metrics.model_fields) - {"seconds"} <= named
    for stage in ("text", "voice", "speech", "codec", "audio", "timing", "subtitles", "storage"):
        assert f"`seconds.{stage}`" in section or f"`.{stage}`" in section


def test_the_limits_in_the_table_are_the_codes() -> None:
    limits = Limits()
    assert f"within {limits.seconds:g} s with at most {limits.max_bytes // 10**6} MB" in OPERATIONS
    assert f"{REFERENCE_SECONDS_MIN:g} to {REFERENCE_SECONDS_MAX:g} s of clear" in OPERATIONS


def test_the_policy_allows_what_the_storage_calls_and_nothing_else() -> None:
    (policy,) = re.findall(r"^```json\n(.*?)^```", DEPLOY, re.MULTILINE | re.DOTALL)
    allowed = {}
    for statement in json.loads(policy)["Statement"]:
        assert statement["Effect"] == "Allow"
        for action in statement["Action"]:
            allowed[action] = statement["Resource"]
    calls = {  # of boto3 in worker/storage/s3.py, and the right that each needs
        "get_object": "s3:GetObject",
        "head_object": "s3:GetObject",
        "put_object": "s3:PutObject",
        "upload_fileobj": "s3:PutObject",
        "list_objects_v2": "s3:ListBucket",
        "delete_object": "s3:DeleteObject",
    }
    source = (REPOSITORY / "worker" / "storage" / "s3.py").read_text()
    called = set(re.findall(r"self\._client\.(\w+)\(", source)) - {"generate_presigned_url"}
    # What is sent in parts is also given up, when the sending fails.
    assert {calls[call] for call in called} | {"s3:AbortMultipartUpload"} == set(allowed)
    prefixes = [Settings.model_fields[f"s3_{kind}_prefix"].default for kind in ("output", "voices")]
    bucket = "arn:aws:s3:::my-speech"
    assert allowed["s3:GetObject"] == [f"{bucket}/{prefix}*" for prefix in prefixes]
    assert allowed["s3:ListBucket"] == [bucket]


def test_the_variables_of_the_bucket_are_the_workers() -> None:
    known = {name.upper() for name in Settings.model_fields}
    named = set(re.findall(r"`((?:S3|AWS)_[A-Z_]+)`", DEPLOY))
    assert named <= known
    assert {"S3_BUCKET_NAME", "AWS_ENDPOINT_URL", "AWS_REGION"} <= named


def test_links_lead_somewhere() -> None:
    for page in (DEPLOY, OPERATIONS, SCALING):
        for target in re.findall(r"\]\(([^)#:]+)\)", page):
            assert (REPOSITORY / "docs" / target).exists(), target


def test_the_scaling_table_is_that_of_the_results() -> None:
    rows = json.loads((HERE / "results.json").read_text())["by_rate"]
    start, end = (SCALING.index(mark) for mark in MARKS)
    assert SCALING[start + len(MARKS[0]) : end] == table(rows)
    assert [row["per_minute"] for row in rows][:9] == [1, 3, 10, 30, 100, 300, 1000, 3000, 10_000]
