"""docs/DEPLOY.md, OPERATIONS.md and SCALING.md against the code that they describe."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import dataclass, field

import pytest

from scripts.scaling.__main__ import CHECKED, MARKS, checked, table
from scripts.scaling.inputs import HERE, MEASURED
from tests.support.documents import tables
from tests.support.s3 import s3_client, s3_server
from tests.support.worker_process import REPOSITORY
from worker import errors
from worker.api.request import parse_request
from worker.api.response import Metrics
from worker.audio.recordings.reading import REFERENCE_SECONDS_MAX, REFERENCE_SECONDS_MIN
from worker.errors import WorkerError
from worker.job.answer_record import digest
from worker.job.result_keys import ResultKeys
from worker.net.download import Limits
from worker.serve import concurrency, shutdown
from worker.settings import Settings
from worker.speech import device_checks
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


def test_the_gpus_that_are_refused_are_those_of_the_check() -> None:
    section = DEPLOY[DEPLOY.index("## 4. Which GPU") :]
    assert f"below {device_checks.CAPABILITY[0]}.{device_checks.CAPABILITY[1]} | refused" in section
    assert f"any with less than {device_checks.LOAD_BYTES >> 30} GiB free" in section
    assert f"After the load {device_checks.FREE_BYTES >> 30} GiB must be left" in section
    # What the locked torch, that of CUDA 12.6, has kernels for.
    kernels = ["sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90"]
    for capability, taken in (((8, 0), True), ((8, 9), True), ((9, 0), True), ((10, 0), False)):
        assert device_checks.has_kernels(capability, kernels) is taken
    assert "8.0 to 9.0 | taken" in section
    assert "10.0 and above | refused" in section


def test_the_memory_and_the_seconds_of_a_workers_end_are_those_of_the_code() -> None:
    architecture = " ".join((REPOSITORY / "docs" / "ARCHITECTURE.md").read_text().split())
    assert (concurrency.SHORT, concurrency.PLENTY) == (0.1, 0.25)
    assert "less than a tenth of the memory is free" in architecture
    assert "when nothing runs and a quarter is free" in architecture
    assert shutdown.FORCED_END_SECONDS == 10
    assert "ended by force ten seconds after the drain" in architecture
    assert "did not listen 10 s after the drain" in OPERATIONS


def test_the_policy_allows_what_the_storage_calls_and_nothing_else() -> None:
    policy, _, _ = re.findall(r"^```json\n(.*?)^```", DEPLOY, re.MULTILINE | re.DOTALL)
    allowed = {}
    for statement in json.loads(policy)["Statement"]:
        assert statement["Effect"] == "Allow"
        for action in statement["Action"]:
            allowed[action] = statement["Resource"]
    calls = {  # of boto3 in worker/storage/, and the right that each needs
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
    files = sorted((REPOSITORY / "worker" / "storage").glob("s3*.py"))
    source = "\n".join(file.read_text() for file in files)
    called = set(re.findall(r"\bclient\.(\w+)\(|\b_client\.(\w+)\(", source))
    called = {one or other for one, other in called} - {"generate_presigned_url"}
    assert len(called) > 6
    # ListBucket is also what a missing key is told from a forbidden one by.
    assert {calls[call] for call in called} == set(allowed)
    prefixes = [Settings.model_fields[f"s3_{kind}_prefix"].default for kind in ("output", "voices")]
    bucket = "arn:aws:s3:::my-speech"
    assert allowed["s3:GetObject"] == [f"{bucket}/{prefix}*" for prefix in prefixes]
    assert allowed["s3:ListBucket"] == [bucket]
    assert allowed["s3:DeleteObject"] == [f"{bucket}/{prefixes[1]}*"]


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


METHODS = frozenset({"debug", "info", "warning", "error", "critical", "exception", "log"})


def either(given: ast.expr) -> tuple[ast.expr, ...]:
    """The two of `a if c else b`, or the one that there is."""
    return (given.body, given.orelse) if isinstance(given, ast.IfExp) else (given,)


@dataclass
class Written:
    """What modules write into the log."""

    events: dict[str, set[str]] = field(default_factory=dict)  # the levels of each
    free: list[str] = field(default_factory=list)  # where a text is logged that no row could name

    def add(self, source: str, name: str) -> None:
        """Look through a module: for event(), and for texts that are logged without it."""
        for node in ast.walk(ast.parse(source)):
            if not isinstance(node, ast.Call):
                continue
            owner, _, called = ast.unparse(node.func).rpartition(".")
            if called == "event" and owner in {"", "logs"}:
                level, given = node.args[:2]
                levels = {ast.unparse(one).removeprefix("logging.") for one in either(level)}
            else:
                if called in METHODS and owner.rpartition(".")[2] in {"log", "logger", "logging"}:
                    self.free.append(f"{name}:{node.lineno}")
                continue
            for one in either(given):
                assert isinstance(one, ast.Constant), f"{name}:{node.lineno}: {ast.unparse(one)}"
                self.events.setdefault(one.value, set()).update(levels)


def written() -> Written:
    """What the modules of worker/ write, but for the one that defines event()."""
    found = Written()
    for path in sorted((REPOSITORY / "worker").rglob("*.py")):
        name = path.relative_to(REPOSITORY).as_posix()
        source = path.read_text()
        if "\ndef event(" not in source:
            found.add(source, name)
    return found


def test_every_event_of_the_log_has_its_row_with_its_levels() -> None:
    section = OPERATIONS[OPERATIONS.index("## The log") : OPERATIONS.index("## Stops")]
    (table,) = tables(section)
    rows = {
        name.strip("`"): (set(levels.split(", ")), what) for name, levels, what, _ in table.rows[1:]
    }
    assert len(rows) == len(table.rows) - 1
    found = written()
    assert {name: levels for name, (levels, _) in rows.items()} == found.events
    assert found.free == []
    assert all(len(what) > 20 for _, what in rows.values())


def test_an_event_is_found_however_it_is_written_and_free_text_is_refused() -> None:
    source = """
event(logging.INFO, "one" if x else "two", jobs=1)
logs.event(logging.WARNING if x else logging.ERROR, "two")
event(logging.ERROR, "three", cause=error)
signal.event(1, 2)
math.log(2)
"""
    found = Written()
    found.add(source, "a.py")
    assert found.events == {
        "one": {"INFO"}, "two": {"INFO", "WARNING", "ERROR"}, "three": {"ERROR"},
    }  # fmt: skip
    assert found.free == []
    for free in (
        'log.warning("no")',
        'self.log.info("x")',
        'logging.error("x")',
        'log.exception("x")',
    ):
        found.add(free, "b.py")
    assert found.free == ["b.py:1"] * 4
    with pytest.raises(AssertionError, match=r"c\.py:1: name"):
        found.add("event(logging.INFO, name)", "c.py")


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
    assert {keys.words, keys.segments} < shown
    assert len(shown) == 7


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
