"""The measurement of many who listen runs, and says what it heard."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import streams


def test_many_who_listen_are_measured(
    demo_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    streams.main(
        ["--model", str(demo_checkpoint), "--streams", "1,2", "--sentences", "1", "--rounds", "1",
         "--beside", "1"]
    )  # fmt: skip
    _head, _line, *rows = (
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in capsys.readouterr().out.splitlines()
    )
    assert [row[0] for row in rows] == ["1", "2"]
    for row in rows:
        first, last, share, gap, audio = map(float, row[1:6])
        assert 0 < first <= last
        assert 0 <= share <= 100
        assert gap >= 0
        assert audio > 0
