"""`make gpu-check` at the tiny scale on a CPU, and what its runner, marks and report promise."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from bench.gpu import __main__ as check
from bench.gpu import beside, report
from bench.gpu.bench import Bench, Found
from bench.gpu.marks import FULL, GPU, MARKS, MET, MISSED, NOT_JUDGED, Mark
from bench.gpu.scale import SCALES
from bench.ours import Ours, load
from tests.support.worker_process import REPOSITORY, environment
from worker.serve.startup import SWITCH_SECONDS
from worker.speech.engine import Engine

# A Python that has neither, as a machine with torch alone.
WITHOUT = """\
import runpy, sys

class Refuses:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"boto3", "botocore", "transformers"}:
            raise ModuleNotFoundError(f"{name} is refused", name=name)

sys.meta_path.insert(0, Refuses())
assert sys.argv[1] == "-m", sys.argv
sys.argv = sys.argv[2:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


# Marks that the worker misses: its bfloat16 logits tie, and a row of NaN fails the whole batch.
def test_every_stage_runs_on_a_cpu_without_transformers_and_boto3(tmp_path: Path) -> None:
    (tmp_path / "without.py").write_text(WITHOUT)
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{tmp_path}/without.py" "$@"\n')
    python.chmod(0o755)
    done = subprocess.run(
        ["make", "gpu-check", f"PYTHON={python}", "SCALE=tiny", "DEVICE=cpu",
         f"OUT={tmp_path}/out"],
        cwd=REPOSITORY, env=environment(tmp_path), capture_output=True, text=True, check=False,
    )  # fmt: skip
    (file,) = (tmp_path / "out").glob("cpu-torch*-tiny.json")
    results = json.loads(file.read_text())
    outcomes = {name: stage["outcome"] for name, stage in results["stages"].items()}
    assert outcomes == dict.fromkeys(check.STAGES, check.DONE), done.stderr
    verdicts = {mark["mark"]: mark["verdict"] for mark in results["marks"]}
    assert {name for name, verdict in verdicts.items() if verdict == MISSED} == set(), done.stdout
    assert done.returncode == 0
    judged = {mark.name for mark in MARKS if not mark.needs}
    assert {name for name, verdict in verdicts.items() if verdict != NOT_JUDGED} == judged
    text = file.with_suffix(".md").read_text()
    assert text in done.stdout
    assert all(f"| {name} |" in text for name in [*outcomes, *verdicts])


# The runner


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench("cpu", SCALES["tiny"], tmp_path / "made")


def fails(_bench: Bench) -> Found:
    raise ValueError("of | this stage\nalone")


def test_threads_give_way_soon_as_in_a_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, seen = sys.getswitchinterval(), []
    stage = {"speed": lambda _bench: seen.append(sys.getswitchinterval()) or {}}
    monkeypatch.setattr(check, "STAGES", stage)
    late = ["--deadline", "1e9"]  # counted from the import, which may be long ago
    check.main(["--device", "cpu", "--scale", "tiny", "--out", str(tmp_path), *late])
    assert seen == [pytest.approx(SWITCH_SECONDS)]
    assert sys.getswitchinterval() == before


def test_a_stage_that_fails_is_told_of_and_the_next_goes_on(bench: Bench, tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []  # the file as it stands when the last stage begins

    def last(_bench: Bench) -> Found:
        (file,) = tmp_path.glob("*.json")
        seen.append(json.loads(file.read_text()))
        return {"same": [True, False]}

    stages = {"graphs": fails, "seeds": last}
    results = check.run(bench, stages, list(stages), 1e9, tmp_path)
    assert results["stages"]["graphs"]["outcome"] == "ValueError: of | this stage\nalone"
    assert seen[0]["stages"] == {"graphs": results["stages"]["graphs"]}
    mark, _wide = [mark for mark in results["marks"] if mark["stage"] == "seeds"]
    assert (mark["value"], mark["verdict"]) == (0.5, MISSED)
    assert {m["verdict"] for m in results["marks"] if m["stage"] == "graphs"} == {NOT_JUDGED}
    (table,) = tmp_path.glob("*.md")
    assert "| ValueError: of \\| this stage alone |" in table.read_text()


def test_what_takes_no_time_on_a_coarse_clock_still_has_a_time(bench: Bench) -> None:
    """Figures are divided by it: a copy of a few bytes took 0.0 s on a fast machine."""
    with patch("time.perf_counter_ns", return_value=1):
        assert bench.seconds(lambda: None) > 0
        assert bench.median(lambda: None) > 0


def test_after_the_deadline_no_stage_is_begun(bench: Bench, tmp_path: Path) -> None:
    results = check.run(bench, {"graphs": fails, "seeds": fails}, ["graphs", "seeds"], 0, tmp_path)
    assert [stage["outcome"] for stage in results["stages"].values()] == [check.LATE] * 2


def test_stages_by_name_join_the_report_that_is_there(bench: Bench, tmp_path: Path) -> None:
    def again(_bench: Bench) -> Found:
        return {"same": [True]}

    stages = {"seeds": again, "start": fails, "speed": fails}
    check.run(bench, stages, ["seeds", "start"], 1e9, tmp_path)
    stages["start"] = again
    stages["seeds"] = fails
    joined = check.run(bench, stages, ["speed", "start"], 1e9, tmp_path, merged=True)
    outcomes = {name: stage["outcome"] == check.DONE for name, stage in joined["stages"].items()}
    assert list(outcomes.items()) == [("seeds", True), ("start", True), ("speed", False)]
    mark, _wide = [mark for mark in joined["marks"] if mark["stage"] == "seeds"]
    assert mark["verdict"] == MET
    late = check.run(bench, stages, ["start", "speed"], 0, tmp_path, merged=True)
    assert late["stages"]["start"]["outcome"] == check.DONE  # kept: it was not begun again
    assert late["stages"]["speed"]["outcome"] == check.LATE
    (file,) = tmp_path.glob("*.json")
    assert json.loads(file.read_text()) == late


@pytest.mark.parametrize("other", ["card", "commit", "changed", "torch", "driver"])
def test_a_report_of_another_machine_or_commit_is_not_joined(tmp_path: Path, other: str) -> None:
    about = report.machine("cpu")
    there = {"machine": about, "scale": "full", "marks": [], "stages": {"seeds": {}}}
    file = report.write(there | {"stages": {}}, tmp_path)
    file.write_text(json.dumps(there))
    mine = {"machine": about, "scale": "full"}
    assert report.stages_there(mine, tmp_path) == {"seeds": {}}
    mine["machine"] = about | {other: f"not {about[other]}"}
    assert report.stages_there(mine, tmp_path) == {}
    file.write_text(json.dumps(there | mine))  # as if its name were the same
    mine["machine"] = about
    assert report.stages_there(mine, tmp_path) == {}


# What stands beside ours


def test_ours_unfused_is_measured_where_there_is_such_a_thing(
    monkeypatch: pytest.MonkeyPatch, bench: Bench
) -> None:
    asked: list[bool] = []

    class Noted(Ours):
        def __init__(self, *arguments: Any, fused: bool = True) -> None:
            asked.append(fused)
            super().__init__(*arguments)

    monkeypatch.setattr("bench.gpu.bench.Ours", Noted)
    assert set(beside.unfused(bench)) == {"missing"}
    found = beside.without_fused(bench)
    assert asked == [False]
    assert found["rates"]["tokens_a_second"]["1"] > 0
    assert found["streams"]["together"]["1"]["streams"] == bench.scale.less().stream_rounds(1)
    assert bench.ours
    assert asked == [False, True]  # the others have theirs again


def test_int8_is_measured_where_the_worker_has_it_on_a_gpu(kernel: object, bench: Bench) -> None:
    """Here by the CPU's int8, which has the same name."""
    assert set(beside.int8(bench)) == {"missing"}
    found = beside.with_int8(bench)
    rows = {str(count) for count in beside.ROWS if count <= bench.ours.engine.slots}
    for dtype in ("bfloat16", "int8"):
        assert found[dtype]["kind"] == dtype
        assert found[dtype]["tokens_a_second"].keys() == found[dtype]["step_ms"].keys() == rows
    assert found["faster"].keys() == rows
    assert 0 < found["rms_beside_bfloat16"] < 0.1
    assert found["same_favourite"] > 0.5


def test_the_engine_is_told_whether_to_be_fused_where_it_can_be(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told: list[Any] = []

    def old(folder: Path, dtype: str, device: str | None) -> None:
        told.append((folder, dtype, device))

    def new(folder: Path, dtype: str, device: str | None, fused: bool = True) -> None:
        told.append(fused)

    for way in (old, new):
        monkeypatch.setattr(Engine, "load", way)
        load(tmp_path, "bfloat16", "cuda", fused=False)
    assert told == [(tmp_path, "bfloat16", "cuda"), False]


@pytest.mark.parametrize(
    ("stage", "status"),
    [
        (lambda _bench: {"same": [True]}, 0),
        (lambda _bench: {"same": [True, False]}, 1),  # a mark is missed
        (fails, 1),
    ],
)
def test_the_exit_status_says_whether_all_is_well(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stage: check.Stage, status: int
) -> None:
    monkeypatch.setattr(check, "STAGES", {"seeds": stage, "graphs": fails})
    asked = ["--scale", "tiny", "--device", "cpu", "--deadline", "1e9", "--out", str(tmp_path)]
    assert check.main([*asked, "--only", "seeds"]) == status


def test_a_stage_that_there_is_not_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        check.main(["--device", "cpu", "--only", "step,nothing"])
    assert "no such stage: nothing" in capsys.readouterr().err


# Marks


@pytest.mark.parametrize(
    ("value", "at_most", "verdict"),
    [(2.9, True, MET), (3, True, MET), (3.1, True, MISSED), (3, False, MET), (2.9, False, MISSED)],
)
def test_a_mark_is_met_up_to_its_bound(value: float, at_most: bool, verdict: str) -> None:
    mark = Mark("m", "s", lambda found: found["x"], 3, at_most=at_most)
    assert mark.judge({"x": value}, [])["verdict"] == verdict


def test_a_mark_is_judged_only_where_it_can_be() -> None:
    mark = Mark("m", "s", lambda found: found["x"], 3, needs=(GPU, FULL))
    assert mark.judge({"x": 9}, [GPU])["verdict"] == NOT_JUDGED
    assert mark.judge({"x": 9}, [FULL, GPU])["verdict"] == MISSED
    assert mark.judge({"x": 9}, [GPU])["value"] == 9  # told all the same
    for nothing in (None, {"missing": "flash-attn"}, {"x": None}):
        assert mark.judge(nothing, [GPU, FULL])["verdict"] == NOT_JUDGED


def judged(stage: str, found: Found) -> dict[str, str]:
    return {
        mark.name.partition(",")[0]: mark.judge(found, [GPU, FULL])["verdict"]
        for mark in MARKS
        if mark.stage == stage
    }


def graph(captured: bool, share: float, repeats: bool = True) -> Found:
    return {"captured": captured, "replay_is_as_written": share, "repeats": repeats}


def test_a_size_that_is_not_captured_may_differ_from_the_step_as_written() -> None:
    found = {"1 greedy": graph(True, 1.0), "3 greedy": graph(False, 0.9)}
    assert set(judged("graphs", found).values()) == {MET}
    found["8 sampled"] = graph(True, 0.999, repeats=False)
    assert set(judged("graphs", found).values()) == {MISSED}


def test_wide_draws_are_judged_where_torch_does_not_make_them_all() -> None:
    name, found = "draws from more than 64 tokens are torch's", {"same": [True]}
    nothing = found | {"wide_draws_are_torchs": {"65": None, "0": None}}
    assert judged("seeds", nothing)[name] == NOT_JUDGED
    some = found | {"wide_draws_are_torchs": {"65": 1.0, "0": 0.9}}
    assert judged("seeds", some)[name] == MISSED


def test_float32_is_judged_without_tf32() -> None:
    found = {
        "embedded, float32": {"greedy_same": [True]},
        "embedded, float32, TF32": {"greedy_same": [False]},
        "embedded, bfloat16": {"greedy_same": [False]},
    }
    assert set(judged("small", found).values()) == {MET}
    found["random, float32"] = {"greedy_same": [True, False]}
    assert set(judged("small", found).values()) == {MISSED}


@pytest.mark.parametrize("spoilt", [{"fails": False}, {"others_the_same": [True, False]},
                                    {"afterwards_the_same": [False]}])  # fmt: skip
def test_a_row_of_nan_must_fail_alone(spoilt: Found) -> None:
    good = {"fails": True, "others_the_same": [True, True], "afterwards_the_same": [True]}
    assert set(judged("nan", good).values()) == {MET}
    assert MISSED in judged("nan", good | spoilt).values()


# The report


def test_every_stage_is_told_of_in_the_document() -> None:
    document = (REPOSITORY / "docs" / "GPU.md").read_text()
    section = document.partition("## What is measured")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    assert [name for row in rows for name in re.findall("`(.+?)`", row)] == list(check.STAGES)


@pytest.mark.parametrize(
    ("card", "torch", "scale", "name"),
    [
        ("NVIDIA H100 80GB HBM3", "2.11.0+cu130", "full", "h100-torch2.11-abc"),
        ("NVIDIA GeForce RTX 4090", "2.6.0+cu126", "full", "rtx-4090-torch2.6-abc"),
        ("NVIDIA A100-SXM4-80GB", "2.6.0", "full", "a100-sxm4-torch2.6-abc"),
        ("NVIDIA RTX 4000 Ada Generation", "2.6.0", "full", "rtx-4000-ada-torch2.6-abc"),
        ("NVIDIA L4", "2.6.0", "tiny", "l4-torch2.6-abc-tiny"),
    ],
)
def test_a_file_is_named_after_card_torch_and_commit(
    card: str, torch: str, scale: str, name: str
) -> None:
    assert report.file_name({"card": card, "torch": torch, "commit": "abc"}, scale) == name


def test_where_git_is_missing_the_commit_is_unknown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("COMMIT", raising=False)
    assert report.commit() != "unknown"
    monkeypatch.setattr(report, "REPOSITORY", tmp_path)  # no repository
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert report.commit() == "unknown"
    monkeypatch.setenv("COMMIT", "1a2b3c4")  # as told, where the files were carried
    assert report.commit() == "1a2b3c4"
    monkeypatch.setattr(report, "REPOSITORY", REPOSITORY)
    assert report.commit() == "1a2b3c4"  # before what git says
    assert not report.machine("cpu")["changed"]
    monkeypatch.delenv("COMMIT")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert report.machine("cpu")["commit"] == "unknown"
    assert report.machine("cpu")["driver"] == "none"


# What a machine with torch alone is brought


def test_wheels_are_those_of_the_development_environment_by_hash_and_from_nowhere() -> None:
    wanted = _pinned("gpu-check.txt")
    there = _pinned("dev.txt")
    assert set(wanted) == {
        line.split()[0]
        for line in (REPOSITORY / "requirements" / "gpu-check.in").read_text().splitlines()
        if line and not line.startswith("#")
    }
    assert wanted.items() <= there.items()
    assert "://" not in (REPOSITORY / "requirements" / "gpu-check.txt").read_text()


def _pinned(name: str) -> dict[str, str]:
    text = (REPOSITORY / "requirements" / name).read_text().replace("\\\n", " ")
    pins = [line.split() for line in text.splitlines() if line and line[0].isalnum()]
    assert all(pin[1].startswith("--hash=sha256:") for pin in pins)
    return dict(pin[0].split("==") for pin in pins)
