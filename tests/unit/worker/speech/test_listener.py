"""When a listener needs more: as a player in real time does."""

from __future__ import annotations

import pytest

from worker.speech import listener
from worker.speech.listener import AHEAD, FIRST_DUE, Listener


def test_a_listener_needs_more_before_all_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(listener.time, "perf_counter", lambda: now[0])
    one = Listener(sample_rate=10)
    now[0] = 107.0
    assert one.due == 100 + FIRST_DUE  # since it was asked
    one.hear(0)
    assert one.due == 100 + FIRST_DUE  # nothing is nothing
    one.hear(20)
    assert one.due == pytest.approx(109 - AHEAD)
    now[0] = 108.0
    one.hear(5)
    assert one.due == pytest.approx(109.5 - AHEAD)
    now[0] = 120.0  # after a gap a player goes on from where it is
    one.hear(10)
    assert one.due == pytest.approx(121 - AHEAD)
