"""What a field may hold, in words: for the API's fields, the settings and their documents."""

from __future__ import annotations

import types
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le
from pydantic.fields import FieldInfo


@dataclass(frozen=True)
class Allowed:
    """What a field may hold, in words, where its type and limits do not say it."""

    words: str


def allowed(info: FieldInfo) -> str:
    """Say what a field may hold, for error messages and docs/API.md."""
    kind: Any = info.annotation
    marks = list(info.metadata)
    if get_origin(kind) in (Union, types.UnionType):  # X | None
        kind = next(part for part in get_args(kind) if part is not type(None))
    if get_origin(kind) is Annotated:
        kind, *more = get_args(kind)
        marks += more
    for mark in marks:
        if isinstance(mark, Allowed):
            return mark.words
    if get_origin(kind) is Literal:
        return f"one of {', '.join(get_args(kind))}"
    if kind is bool:
        return "true or false"
    if kind is str:
        return f"text such as {' or '.join(info.examples)}" if info.examples else "text"
    words = ["an integer" if kind is int else "a number"]
    words += [f"from {mark.ge}" for mark in marks if isinstance(mark, Ge)]
    words += [f"above {mark.gt} and up" for mark in marks if isinstance(mark, Gt)]
    words += [f"to {mark.le}" for mark in marks if isinstance(mark, Le)]
    return " ".join(words)
