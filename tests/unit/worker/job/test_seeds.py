"""The seeds of a job: settled by its id, drawn by chance, and another one for each attempt."""

from __future__ import annotations

import hashlib

import pytest

from worker.api.request import parse_request
from worker.job.answer_record import digest
from worker.job.seeds import job_seed, random_seed, retake_seed


def test_a_job_without_a_seed_has_the_same_at_each_delivery() -> None:
    request = parse_request({"text": "Hello."})
    assert job_seed(request, "a") == job_seed(request, "a") < 2**53
    assert job_seed(request, "a") != job_seed(request, "b")
    assert job_seed(parse_request({"text": "Hello.", "seed": 7}), "a") == 7


def test_seed_zero_is_a_seed() -> None:
    assert job_seed(parse_request({"text": "Hello.", "seed": 0}), "a") == 0
    assert random_seed(parse_request({"text": "Hello.", "seed": 0})) == 0


def test_a_drawn_seed_is_53_bits_of_the_job_and_of_what_it_asks() -> None:
    request = parse_request({"text": "Hello."})
    drawn = hashlib.sha256(f"a {digest(request)}".encode()).hexdigest()
    assert job_seed(request, "a") == int(drawn[:16], 16) // 2**11
    assert job_seed(request, "a") != job_seed(parse_request({"text": "Bye."}), "a")
    seeds = {job_seed(request, str(job)) for job in range(60)}
    assert len(seeds) == 60
    assert 2**52 < max(seeds) < 2**53


def test_a_seed_that_is_drawn_by_chance_has_53_bits() -> None:
    request = parse_request({"text": "Hello."})
    seeds = {random_seed(request) for _ in range(60)}
    assert len(seeds) == 60
    assert 2**52 < max(seeds) < 2**53


@pytest.mark.parametrize(("seed", "attempt", "again"), [(5, 1, 6), (5, 3, 8), (2**63 - 1, 1, 0)])
def test_each_attempt_has_a_seed_of_its_own(seed: int, attempt: int, again: int) -> None:
    assert retake_seed(seed, attempt) == again
