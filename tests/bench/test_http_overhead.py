"""`python -m bench.http_overhead`, reduced: one round on the embedded model."""

from __future__ import annotations

import re

import pytest

from bench.http_overhead import main


def test_both_ways_are_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--rounds", "1", "--format", "wav"]) == 0
    told = capsys.readouterr().out
    found = re.fullmatch(r"alone (\S+) ms, over HTTP (\S+) ms, .* \(1 rounds, wav\)\n", told)
    assert found is not None, told
    assert all(float(value) > 0 for value in found.groups())
