"""What a field may hold, in words."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field

from worker.allowed_values import Allowed, allowed


class Rules(BaseModel):
    """A field of each kind."""

    whole: int = Field(default=1, ge=1, le=9)
    open_whole: int = 1
    above: float = Field(default=1.0, gt=0)
    from_on: float = Field(default=1.0, ge=0.5)
    up_to: float | None = Field(default=None, le=2)
    word: Literal["a", "b"] | None = None
    flag: bool | None = None
    told: str = Field(default="", examples=["#FFD700", "red"])
    own: Annotated[int, Allowed("a prime")] = 2
    maybe_own: Annotated[int, Allowed("a prime")] | None = None
    plain: str = ""


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("whole", "an integer from 1 to 9"),
        ("open_whole", "an integer"),
        ("above", "a number above 0 and up"),
        ("from_on", "a number from 0.5"),
        ("up_to", "a number to 2"),
        ("word", "one of a, b"),
        ("flag", "true or false"),
        ("told", "text such as #FFD700 or red"),
        ("plain", "text"),
        ("own", "a prime"),
        ("maybe_own", "a prime"),
    ],
)
def test_what_a_field_may_hold_is_said_in_words(field: str, words: str) -> None:
    assert allowed(Rules.model_fields[field]) == words
