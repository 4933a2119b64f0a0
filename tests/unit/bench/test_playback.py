"""What a player in real time hears of pieces, from the times at which they came."""

from __future__ import annotations

import pytest

from bench.playback import AUDIBLE, Heard, continuity, gaps, summary


def heard(*arrivals: tuple[float, float], asked: float = 0.0) -> Heard:
    stream = Heard(asked)
    for when, seconds in arrivals:
        stream.add(when, seconds)
    return stream


@pytest.mark.parametrize(
    ("arrivals", "expected"),
    [
        ([], []),
        ([(5.0, 1.0)], []),  # the wait for the first piece is no gap
        ([(5.0, 1.0), (5.5, 1.0), (6.9, 1.0)], [0, 0]),  # all came while something was playing
        ([(5.0, 1.0), (6.0, 1.0)], [0]),  # at the last moment
        ([(5.0, 1.0), (6.25, 1.0)], [0.25]),
        # The player goes on from the gap: what comes as late again is not a gap again.
        ([(5.0, 1.0), (6.25, 1.0), (7.25, 1.0)], [0.25, 0]),
        ([(5.0, 1.0), (6.25, 1.0), (7.5, 1.0)], [0.25, 0.25]),
        ([(5.0, 1.0), (5.0, 3.0), (9.5, 1.0)], [0, 0.5]),  # what came early plays on
    ],
)
def test_gaps_are_what_a_player_waits_for(
    arrivals: list[tuple[float, float]], expected: list[float]
) -> None:
    assert gaps(arrivals) == pytest.approx(expected)


def test_a_piece_without_samples_starts_no_player() -> None:
    stream = heard((1.0, 0.0), (2.0, 0.5), (2.4, 0.0), (2.5, 0.5), asked=0.5)
    assert stream.first_audio == pytest.approx(1.5)
    assert stream.audio == pytest.approx(1.0)
    assert stream.worst_gap == 0


def test_a_stream_without_samples_is_an_error() -> None:
    with pytest.raises(ValueError, match="no samples"):
        _ = heard((1.0, 0.0)).first_audio


def test_a_stream_counts_as_whole_below_the_bound_alone() -> None:
    assert continuity([0, AUDIBLE / 2, AUDIBLE, 2]) == 0.5
    assert continuity([AUDIBLE], audible=2 * AUDIBLE) == 1


def test_the_summary_is_of_all_streams() -> None:
    streams = [heard((0.1 * i, 1.0), (0.1 * i + 1 + (i == 9), 1.0)) for i in range(10)]
    found = summary(streams)
    assert found["streams"] == 10
    assert found["first_audio_p50"] == pytest.approx(0.45)
    assert found["first_audio_p95"] == pytest.approx(0.855)
    assert found["continuity"] == 0.9
    assert found["worst_gap"] == 1
