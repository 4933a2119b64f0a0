"""The faults of scripts/mutants can be made, and a sample of them is seen by the tests."""

from __future__ import annotations

import ast
import hashlib
import os
from collections import Counter
from pathlib import Path

import pytest

from scripts.mutants.mutant import MutantError, load
from scripts.mutants.nearest import nearest
from scripts.mutants.results import Result, missed, seen_by, table
from scripts.mutants.trial import Ledger, Outcome, TestGoneError, Trials, run_tests

ENTRY = """
[[mutant]]
name = "{name}"
file = "ours.py"
find = "a > b"
put = "a >= b"
harm = "one too many"
origin = "{origin}"
"""


class TestTheList:
    def test_each_fault_can_be_made_changes_the_code_and_has_unit_tests_near_it(self):
        mutants = load()
        for mutant in mutants:
            after = mutant.applied()
            if mutant.file.endswith(".py"):
                ast.parse(after, mutant.title)
        assert [one.title for one in mutants if one.find == one.put] == []
        made = Counter((one.file, one.applied()) for one in mutants)
        assert [file for (file, _), times in made.items() if times > 1] == []
        untested = {file for file in {one.file for one in mutants} if not nearest(file)}
        assert untested == set()

    def test_a_text_that_stands_twice_or_nowhere_is_refused(self, tmp_path):
        (tmp_path / "area.toml").write_text(ENTRY.format(name="edge", origin="authors"))
        (mutant,) = load(tmp_path)
        for text, times in (("a > b or a > b", 2), ("b < a", 0)):
            (tmp_path / "ours.py").write_text(text)
            with pytest.raises(MutantError, match=f"area/edge: `find` stands {times} times"):
                mutant.applied(tmp_path)
        (tmp_path / "ours.py").write_text("if a > b:")
        assert mutant.applied(tmp_path) == "if a >= b:"

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            (ENTRY.format(name="edge", origin="nobody"), "area/edge: origin is none of"),
            (ENTRY.format(name="edge", origin="authors") * 2, "twice: area/edge"),
            (ENTRY.format(name="edge", origin="authors") + 'colour = "red"', "colour"),
        ],
    )
    def test_a_list_that_is_wrong_is_refused_by_name(self, tmp_path, text, said):
        (tmp_path / "area.toml").write_text(text)
        with pytest.raises(MutantError, match=said):
            load(tmp_path)


class TestNearest:
    def test_the_tests_that_import_the_module_the_nearest_first(self):
        assert nearest("worker/subtitles/cues.py")[0] == "tests/unit/worker/subtitles/test_cues.py"
        assert "tests/unit/worker/text/test_sentences.py" not in nearest("worker/subtitles/cues.py")

    def test_what_a_helper_of_the_tests_imports_counts(self):
        # test_retakes makes its takes with tests.support.takes, which imports worker.audio.spool.
        assert "tests/unit/worker/job/test_retakes.py" in nearest("worker/audio/spool.py")

    def test_c_is_tested_by_who_imports_its_callers(self):
        assert {
            "tests/unit/worker/speech/lm/test_int8.py",
            "tests/unit/worker/speech/codec/test_cpu_vocoder.py",
        } <= {*nearest("worker/speech/native/lm.c")}


class TestATrial:
    """Of a tree of two files."""

    @pytest.fixture
    def tree(self, tmp_path: Path) -> Path:
        (tmp_path / "ours.py").write_text("def more(a, b):\n    return a > b\n")
        (tmp_path / "test_ours.py").write_text(
            "from ours import more\n"
            "def test_below():\n    assert not more(1, 2)\n"
            "def test_at():\n    assert not more(2, 2)\n"
        )
        return tmp_path

    @pytest.mark.slow("starts a process")
    @pytest.mark.parametrize(
        ("code", "by"),
        [
            ("def more(a, b):\n    return a > b\n", ""),
            ("def more(a, b):\n    return a >= b\n", "test_ours.py::test_at"),
            ("import nothing_of_this_name\n", "test_ours.py"),
            ("import os\ndef more(a, b):\n    os._exit(3)\n", "the process died"),
            ("raise SystemExit\n", "pytest ended with 3"),
        ],
    )
    def test_the_first_red_test_is_named(self, tree, code, by):
        (tree / "ours.py").write_text(code)
        assert run_tests(tree, ["test_ours.py"], 60).by == by

    @pytest.mark.slow("starts a process")
    def test_tests_that_do_not_end_have_seen_the_fault(self, tree):
        (tree / "ours.py").write_text("def more(a, b):\n    open('here', 'w')\n    while 1: pass\n")
        assert run_tests(tree, ["test_ours.py"], 3).by == "hang"
        assert (tree / "here").exists()

    @pytest.mark.slow("starts a process")
    def test_a_test_that_is_not_there_is_no_verdict(self, tree):
        with pytest.raises(TestGoneError, match="no such test"):
            run_tests(tree, ["test_ours.py::test_of_yesterday"], 60)


class TestTheLedger:
    def test_a_run_that_was_ended_goes_on(self, tmp_path):
        path = tmp_path / "below" / "outcomes.jsonl"
        Ledger.open(path).note("one", Outcome("test_a", 0.5))
        with path.open("a") as out:
            out.write('{"key": "two", "by"')  # cut off by a kill
        ledger = Ledger.open(path)
        assert ledger.known == {"one": Outcome("test_a", 0.5)}
        ledger.note("three", Outcome("", 1.0))
        assert set(Ledger.open(path).known) == {"one", "three"}


class TestTheTable:
    def test_what_survived_is_counted_and_equivalents_are_not(self, tmp_path):
        entries = [ENTRY.format(name=name, origin="authors") for name in ("a", "b", "c", "d")]
        entries[2] += 'equivalent = "no such input"\n'
        entries[3] += 'stays = "not worth it"\n'
        (tmp_path / "one_two.toml").write_text("".join(entries))
        results = [Result(m, "test_x" if m.name == "a" else "") for m in load(tmp_path)]
        assert [result.mutant.name for result in missed(results)] == ["b", "d"]
        assert "| one, two | 1 | 2 | 1 | 33% |" in table(results)
        assert "| **all** | 1 | 2 | 1 | 33% |" in table(results)


@pytest.mark.slow("starts a process")
def test_a_sample_of_the_faults_is_seen():
    """One of each area, by the test that saw it last."""
    seen = seen_by()
    known = [one for one in load() if "::" in seen.get(one.title, "") and not one.equivalent]
    known.sort(key=lambda mutant: hashlib.sha256(mutant.title.encode()).digest(), reverse=True)
    sample = list({one.area: one for one in known}.values())  # the first of each area by its hash
    assert len(sample) > 10
    trials = Trials(os.cpu_count() or 1, Ledger(Path(os.devnull)))
    with trials.copies():
        outcomes = dict(trials.sample(sample, seen))
    assert len(outcomes) == len(sample)
    assert [one.title for one, outcome in outcomes.items() if "::" not in outcome.by] == []
