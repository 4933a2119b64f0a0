"""docs/DEPLOY.md, OPERATIONS.md and SCALING.md against the code that they describe."""

from __future__ import annotations

import ast
import json
import re

from scripts.scaling.__main__ import CHECKED, MARKS, checked, table
from scripts.scaling.inputs import HERE, MEASURED
from tests.support.s3 import s3_client, s3_server
from tests.support.worker_process import REPOSITORY
from worker import errors
from worker.api.request import parse_request
from worker.api.response import Metrics
from worker.audio.files import REFERENCE_SECONDS_MAX, REFERENCE_SECONDS_MIN
from worker.errors import WorkerError
from worker.job.answer_record import digest
from worker.job.result_keys import ResultKeys
from worker.net.download import Limits
from worker.settings import Settings
from worker.storage.keys import Keys

DEPLOY, OPERATIONS, SCALING = (
    (REPOSITORY / "docs" / f"{name}.md").read_text() for name in ("DEPLOY", "OPERATIONS", "SCALING")
)


def between(page: str, marks: tuple[str, str]) -> str:
    start, end = (page.index(mark) for mark in marks)
    return page[start + len(marks[0]) : end]


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
    policy, _, _ = re.findall(r"^```json\n(.*?)^```", DEPLOY, re.MULTILINE | re.DOTALL)
    allowed = {}
    for statement in json.loads(policy)["Statement"]:
        assert statement["Effect"] == "Allow"
        for action in statement["Action"]:
            allowed[action] = statement["Resource"]
    calls = {  # of boto3 in worker/storage/s3.py, and the right that each needs
        "get_object": "s3:GetObject",
        "head_object": "s3:GetObject",
        "put_object": "s3:PutObject",
        "create_multipart_upload": "s3:PutObject",
        "upload_part": "s3:PutObject",
        "complete_multipart_upload": "s3:PutObject",
        "abort_multipart_upload": "s3:AbortMultipartUpload",
        "head_bucket": "s3:ListBucket",
        "list_objects_v2": "s3:ListBucket",
        "delete_object": "s3:DeleteObject",
    }
    source = (REPOSITORY / "worker" / "storage" / "s3.py").read_text()
    called = set(re.findall(r"\bclient\.(\w+)\(|\b_client\.(\w+)\(", source))
    called = {one or other for one, other in called} - {"generate_presigned_url"}
    assert len(called) > 6
    # ListBucket is also what a missing key is told from a forbidden one by.
    assert {calls[call] for call in called} == set(allowed)
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
    assert between(SCALING, MARKS) == table(rows)
    assert [row["per_minute"] for row in rows][:9] == [1, 3, 10, 30, 100, 300, 1000, 3000, 10_000]


def test_the_comparison_is_that_of_the_load_test() -> None:
    assert between(SCALING, CHECKED) == checked(json.loads(MEASURED.read_text()))


LOGS = {f"log.{kind}" for kind in ("debug", "info", "warning", "error", "critical", "exception")}


def written_events() -> set[str]:
    """The names that worker/ gives to event(), and to log.exception, which is one with a trace."""
    names = set()
    for path in sorted((REPOSITORY / "worker").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            if called == "event":
                given = node.args[1]
            elif called in LOGS and "speech" not in path.parts:
                assert called == "log.exception", f"{path.name}: {called}: use event()"
                given = node.args[0]
            else:
                continue
            either = (given.body, given.orelse) if isinstance(given, ast.IfExp) else (given,)
            for one in either:
                assert isinstance(one, ast.Constant), f"{path.name}: {ast.unparse(one)}"
                names.add(one.value)
    return names


def test_every_event_of_the_log_has_its_row() -> None:
    section = OPERATIONS[OPERATIONS.index("## The log") : OPERATIONS.index("## Settings while")]
    rows = re.findall(r"^\| `([^`]+)` \| ([A-Z, ]+) \| ([^|]+) \|([^|]*)\|$", section, re.MULTILINE)
    assert sorted(name for name, *_ in rows) == sorted(written_events())
    assert all(len(what.strip()) > 20 for _, _, what, _ in rows)


def test_the_settings_that_are_explained_are_the_workers() -> None:
    for page in (DEPLOY, OPERATIONS):
        for name in ("MAX_CONCURRENCY", "STREAM", "DRAIN_SECONDS"):
            assert name.lower() in Settings.model_fields
            assert f"| `{name}` |" in page
    drain = Settings.model_fields["drain_seconds"].default
    assert f"| `DRAIN_SECONDS` | {drain} |" in DEPLOY


def test_the_keys_in_the_bucket_are_the_workers() -> None:
    request = parse_request(
        {"text": "Hello.", "output_name": "NAME", "enable_subtitles": True, "stream": True}
    )
    keys = ResultKeys.of(request, "JOB", Keys(voices="voices/", output="", bucket=None))
    shown = set(re.findall(r"`(NAME_JOB\.[^`]+)`", DEPLOY))
    assert {keys.audio, keys.subtitles, keys.segment(0), keys.segment(1)} < shown
    assert {re.sub("[0-9a-f]{16}", "0123456789abcdef", keys.record(digest(request)))} < shown
    assert len(shown) == 5


def test_the_lifecycle_rule_is_taken_by_a_bucket_and_covers_the_results_alone() -> None:
    _, rule, _ = re.findall(r"^```json\n(.*?)^```", DEPLOY, re.MULTILINE | re.DOTALL)
    with s3_server("my-speech") as endpoint:
        client = s3_client(endpoint)
        client.put_bucket_lifecycle_configuration(
            Bucket="my-speech", LifecycleConfiguration=json.loads(rule)
        )
        (kept,) = client.get_bucket_lifecycle_configuration(Bucket="my-speech")["Rules"]
    assert kept["Filter"] == {"Prefix": Settings.model_fields["s3_output_prefix"].default}
    longest = max(m.le for m in Settings.model_fields["s3_url_expiry"].metadata if hasattr(m, "le"))
    assert kept["Expiration"]["Days"] * 86_400 > longest
