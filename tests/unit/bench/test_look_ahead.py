"""What is measured of a stream's seams, and which look-ahead is said to suffice."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bench import look_ahead
from bench.look_ahead import Row, least, seams

HOP = 4


def rows(*pairs: tuple[float, float]) -> list[Row]:
    return [Row(2 * place, *pair) for place, pair in enumerate(pairs)]


def test_the_error_is_that_around_each_seam() -> None:
    exact = np.full(40 * HOP, 0.5, np.float32)
    pieces = [exact[: 12 * HOP].copy(), exact[: 16 * HOP].copy(), exact[: 12 * HOP].copy()]
    pieces[0][: 4 * HOP] += 9  # ahead of what counts
    pieces[0][4 * HOP :] += 0.05  # a tenth of it, but for the half token of the crossfade behind it
    pieces[1][int(HOP / 2) :: 2] += 0  # exact
    first, second = seams(exact, pieces, HOP)
    assert first == pytest.approx(20 + 10 * np.log10(8.5 / 8), abs=1e-3)
    assert second == look_ahead.MOST


def test_the_crossfade_behind_a_seam_counts() -> None:
    exact = np.full(20 * HOP, 0.5, np.float32)
    pieces = [exact[: 10 * HOP].copy(), exact[: 10 * HOP].copy()]
    pieces[1][:2] += 0.5
    (found,) = seams(exact, pieces, HOP)
    assert found == pytest.approx(10 * np.log10(17), abs=1e-3)


def test_a_seam_in_silence_and_a_sentences_end_are_none() -> None:
    exact = np.concatenate([np.zeros(10 * HOP), np.ones(10 * HOP)]).astype(np.float32)
    noisy = exact + np.float32(0.1)
    assert list(seams(exact, [noisy[: 8 * HOP], noisy[8 * HOP :]], HOP)) == []
    assert list(seams(exact, [noisy], HOP)) == []


def test_the_least_is_the_first_from_which_on_all_are_good() -> None:
    assert least(rows((20, 5), (41, 29), (40, 30), (60, 50))) == 4
    assert least(rows((50, 40), (39, 38), (60, 50))) == 4  # no luck of one of them
    assert least(rows((50, 40), (50, 40))) == 0
    assert least(rows((50, 40), (50, 29))) is None


@pytest.mark.slow("makes a checkpoint")
def test_the_command_measures_prints_and_draws(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = {"mine": {"reach": 9, "least": 4, "rows": [{"tokens": 4, "median": 50, "worst": 40}]}}
    (tmp_path / "look_ahead.json").write_text(json.dumps(kept))
    asked = ["--random", "--sizes", "tiny", "--sentences", "2", "--out", str(tmp_path)]
    look_ahead.main(asked)
    printed = capsys.readouterr().out
    results = json.loads((tmp_path / "look_ahead.json").read_text())
    assert results.pop("mine") == kept["mine"]  # what another model gave stays
    ((name, about),) = results.items()
    assert name.startswith("random weights")
    medians = [row["median"] for row in about["rows"]]
    assert medians == sorted(medians)
    assert medians[0] < 40 < medians[-1]
    assert [row["tokens"] for row in about["rows"]][-1] == about["reach"]
    assert f"STREAM_LOOK_AHEAD={about['least']}" in printed
    assert printed.count("\n| ") == 1 + 1 + len(medians)
    assert "random weights" in (tmp_path / "look_ahead.svg").read_text()
