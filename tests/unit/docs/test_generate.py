"""docs/API.md and docs/CONFIGURATION.md say what the code does."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
import torch

from docs import generate, gpu_figures, memory
from tests.support.documents import tables, texts
from tests.support.random_checkpoint import FULL
from tests.support.worker_process import REPOSITORY
from worker.api.field_types import names
from worker.api.request import SpeechRequest, parse_request
from worker.api.response import SpeechResponse
from worker.api.turns import Turn
from worker.audio.formats import Format
from worker.audio.tags import Tags
from worker.errors import WorkerError
from worker.settings import Settings
from worker.speech import engine
from worker.speech.lm.config import LMConfig
from worker.speech.lm.fused_model import FusedLanguageModel
from worker.speech.lm.paged_cache import page_bytes
from worker.subtitles.style import SubtitleStyle

API = generate.FOLDER / "API.md"
CONFIGURATION = generate.FOLDER / "CONFIGURATION.md"


def test_the_files_are_what_the_code_would_write() -> None:
    assert API.read_text(encoding="utf-8") == generate.api(), "run: python -m docs.generate"
    assert CONFIGURATION.read_text(encoding="utf-8") == generate.configuration()
    assert generate.DEPLOY.read_text(encoding="utf-8") == generate.deploy()
    assert generate.PERFORMANCE.read_text(encoding="utf-8") == generate.performance()


def test_the_memory_figures_are_those_of_the_benchmark_and_of_the_published_model() -> None:
    bench = json.loads(memory.BENCH.read_text(encoding="utf-8"))
    found = memory.figures()
    assert f"needs {bench['memory']['ours']} MB at most" in found
    assert (FULL.layers, FULL.kv_heads) == (memory.LAYERS, memory.KEY_VALUE_HEADS)
    assert FULL.hidden // FULL.heads == memory.HEAD_DIM


class OnItsKernels(FusedLanguageModel):
    """The published sizes, and no weights."""

    device = torch.device("cuda")  # type: ignore[assignment]  # of no tensor here

    def __init__(self) -> None:
        layers, heads, channels = memory.LAYERS, memory.KEY_VALUE_HEADS, memory.HEAD_DIM
        hidden = 14 * channels
        self.config = LMConfig(1, hidden, 1, layers, 14, heads, 32_768, 1e-6, 1e6, True)


@pytest.mark.parametrize("free", [0, 1 << 30, 2 << 30, 7 << 30, 12 << 30, 40 << 30])
def test_the_estimate_for_a_gpu_is_the_engines_own_rule(
    monkeypatch: pytest.MonkeyPatch, free: int
) -> None:
    lm = OnItsKernels()
    row = page_bytes(lm.config) * engine.ORDINARY_PAGES
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (free, 80 << 30))
    monkeypatch.setattr(engine, "empty_cache", lambda: None)
    slots = engine._slots(lm)
    assert min(memory.MOST_FUSED_SLOTS, memory._held(free, row)) == slots
    assert lm.pages_of_row is not None
    assert lm.pages_of_row >= engine.ORDINARY_PAGES


@pytest.mark.parametrize("scale", ["full", "tiny"])
def test_what_the_last_check_saw_of_a_gpus_memory_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scale: str
) -> None:
    """Of runs in full on a GPU alone; reports of other forms are passed over."""
    monkeypatch.setattr(memory, "CHECKS", tmp_path)
    assert "**For GPUs nothing has been measured.**" in memory.figures()
    for date, card, megabytes in (
        ("2026-01-02", "NVIDIA L4", 9_000),
        ("2026-01-01", "NVIDIA H100", 12_314),
        ("2026-01-03", "cpu", 0),
    ):
        found = {"gpu_mb": [99, megabytes], "slots": 60}
        run = {
            "machine": {"card": card, "torch": "2.6.0", "date": date},
            "scale": scale,
            "stages": {"start": {"found": found}},
        }
        (tmp_path / f"{card}.json").write_text(json.dumps(run))
    (tmp_path / "older.json").write_text(json.dumps({"machine": {"card": "NVIDIA L4"}}))
    said = "on NVIDIA L4, torch 2.6.0: the engine takes 9,000 MiB with room for 60 sentences"
    assert (said in memory.figures()) is (scale == "full")


def test_a_gpu_that_was_measured_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = json.loads(memory.BENCH.read_text(encoding="utf-8"))
    for side, peak in (("ours", 4_100_000_000), ("theirs", 7_000_000_000)):
        bench["memory"]["processes"][side]["gpu_peak"] = peak
    (tmp_path / "bench.json").write_text(json.dumps(bench))
    monkeypatch.setattr(memory, "BENCH", tmp_path / "bench.json")
    assert "Of the GPU's memory: 4100 MB; upstream 7000 MB." in memory.figures()


def test_every_example_is_a_valid_job_and_the_answer_is_one() -> None:
    blocks = re.findall(r"```json\n(.*?)```", API.read_text(encoding="utf-8"), re.DOTALL)
    *jobs, answer = map(json.loads, blocks)
    assert len(jobs) == len(generate.EXAMPLES)
    for job in jobs:
        parse_request(job["input"])
    assert SpeechResponse.model_validate_json(json.dumps(answer)).to_json() == answer


PAGES = [*texts(), REPOSITORY / "volume" / "demo" / "README.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_row_of_each_table_has_as_many_cells_as_its_head(page: Path) -> None:
    for table in tables(page.read_text(encoding="utf-8")):
        for number, row in enumerate(table.rows, table.line + 1):
            assert len(row) == len(table.head), f"{page.name}, line {number}: {row}"


def test_the_generated_pages_have_their_tables() -> None:
    fields, turns, looks, tags, markup, said, *outputs, formats, errors = tables(generate.api())
    assert len(markup.rows) == 1 + 3
    assert len(said.rows) == 1 + len(generate.WRITTEN)
    assert len(tags.rows) == 1 + len(Tags.model_fields)
    assert len(formats.rows) == 1 + len(get_args(Format))
    assert len(fields.rows) == 1 + len(SpeechRequest.model_fields)
    assert len(looks.rows) == 1 + len(SubtitleStyle.model_fields)
    assert len(turns.rows) == 1 + len(Turn.model_fields)
    assert len(outputs) == 8
    assert len(errors.rows) == 1 + len(list(generate._subclasses(WorkerError)))
    (settings,) = tables(generate.configuration())
    assert len(settings.rows) == 1 + len(Settings.model_fields)
    assert len(tables(memory.figures())) == 2


def test_a_row_broken_by_a_line_of_the_code_is_seen() -> None:
    head = "| code | what | advice |\n| --- | --- | --- |\n"
    (table,) = tables(head + "| `a` | b | c\nd |\n")
    assert [len(row) for row in table.rows] == [3, 3]
    (table,) = tables(head + "| `a` | b \n c | d |\n")
    assert [len(row) for row in table.rows] == [3, 2]
    with pytest.raises(ValueError, match="line 5"):
        tables(f"{head}| `a` | b |\n\n| c | d | e |\n")


def test_a_gpus_figures_are_those_of_the_newest_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_figures, "REPORTS", tmp_path)
    assert "No report has these figures yet" in gpu_figures.figures()
    machine = {
        "card": "NVIDIA H100 80GB HBM3", "driver": "1", "torch": "2.11.0", "cuda": "13.0",
        "cudnn": 1, "flash_attn": "none", "python": "3.12", "cpus": 16, "commit": "abc",
        "changed": False, "date": "2026-01-02",
    }  # fmt: skip
    stages = {
        "rates": {"tokens_a_second": {"1": 512.3}, "rtf": 0.0976},
        "profile": {"1": {"kernels": 130, "longest": [["a|kernel", 24, 60.04]]}},
    }
    marks = [
        {"mark": f"mark of {stage}", "stage": stage, "value": 1.5, "bound": "≤ 2", "verdict": "met"}
        for stage in ("step", "nan")
    ]
    run = {
        "machine": machine,
        "scale": "full",
        "marks": marks,
        "stages": {name: {"found": found} for name, found in stages.items()},
    }
    (tmp_path / "h100.json").write_text(json.dumps(run))
    text = gpu_figures.figures()
    assert text.startswith("NVIDIA H100 80GB HBM3, driver 1, torch 2.11.0, ")
    figures, judged, kernels = tables(text)
    assert ("kernels a token: one row / the most rows", "-", "-", "130") in figures.rows
    assert judged.rows[1:] == (("mark of step", "1.5", "≤ 2", "met"),)
    assert kernels.rows[1:] == (("`a kernel`", "24", "60"),)


def test_a_document_without_a_place_for_figures_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "PAGE.md"
    file.write_text("before\n<!-- a -->\nold\n<!-- b -->\nafter\n")
    text = generate._with(file, "<!-- a -->\n", "new\n", "<!-- b -->")
    assert text == "before\n<!-- a -->\nnew\n<!-- b -->\nafter\n"
    for begin, end in (("<!-- c -->", "<!-- b -->"), ("<!-- a -->", "<!-- c -->")):
        with pytest.raises(ValueError, match=r"PAGE\.md has no place"):
            generate._with(file, begin, "new", end)


@pytest.mark.parametrize("page", [generate.api, generate.configuration])
def test_each_row_can_be_read_alone(page: Callable[[], str]) -> None:
    """One that speaks of the row above it says nothing to who looks a field up."""
    rows = [row for table in tables(page()) for row in table.rows[1:]]
    assert len(rows) > 10
    for row in rows:
        assert row[-1], row
        assert not re.match(r"(The same,|It|Its|Their|Those|They|Of|Under which)\b", row[-1]), row


def test_a_text_with_a_line_break_or_a_bar_stays_one_cell() -> None:
    (table,) = tables(generate._table(("a", "b"), [("one\n   two", "x|y\n\nz")]))
    assert table.rows[1:] == (("one two", r"x\|y z"),)


def test_every_name_variable_and_code_is_there() -> None:
    api, configuration = API.read_text("utf-8"), CONFIGURATION.read_text("utf-8")
    for field, info in SpeechRequest.model_fields.items():
        assert info.description
        assert all(f"`{name}`" in api for name in names(field, info))
    for field, info in Settings.model_fields.items():
        assert info.description
        assert f"| `{field.upper()}` |" in configuration
    for error in WorkerError.__subclasses__():
        if error.__module__ == WorkerError.__module__:  # the HTTP door's are in docs/HTTP.md
            assert f"| `{error.code}` |" in api


def test_check_fails_on_a_stale_file_and_writing_mends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generate, "FOLDER", tmp_path)
    monkeypatch.setattr(sys, "argv", ["generate", "--check"])
    assert generate.main() == 1
    monkeypatch.setattr(sys, "argv", ["generate"])
    assert generate.main() == 0
    monkeypatch.setattr(sys, "argv", ["generate", "--check"])
    assert generate.main() == 0
    (tmp_path / "API.md").write_text("stale")
    assert generate.main() == 1
