"""Jobs that are refused."""

from __future__ import annotations

import pytest

from worker.api.request import parse_request
from worker.errors import RequestError


def refused(job: object) -> RequestError:
    """The error that answers this job."""
    with pytest.raises(RequestError) as caught:
        parse_request(job)
    assert caught.value.message == str(caught.value)
    return caught.value
