"""What WhisperX's `align` asks of pandas, for a text of one sentence, as lists.

pandas takes half a millisecond of Python for each word, and a second to import.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Column(list[Any]):
    """A table's column, or what holds of each of its values; None where there is no value."""

    __hash__ = None

    def __eq__(self, other: object) -> Column:  # type: ignore[override]
        return Column(value == other for value in self)

    def __ne__(self, other: object) -> Column:  # type: ignore[override]
        return Column(value != other for value in self)

    def min(self) -> Any:
        """The least of the values that are there."""
        return min(value for value in self if value is not None)

    def max(self) -> Any:
        """The greatest of the values that are there."""
        return max(value for value in self if value is not None)

    def mean(self) -> np.floating:
        """The mean, added up as pandas does; of numpy's type, which rounds as its own."""
        return np.mean(np.array(self, np.float64))

    def isna(self) -> NDArray[np.bool_]:
        """Where no value is."""
        return np.array([value is None or np.isnan(value) for value in self], bool)

    def unique(self) -> Iterable[Any]:
        """Each value once, in the order of appearance."""
        return dict.fromkeys(self)

    def tolist(self) -> list[Any]:
        """All values."""
        return list(self)


class Table:
    """Rows {name: value}, which all have the same names. It is its own `loc`."""

    def __init__(self, rows: Iterable[dict[str, Any]]) -> None:
        self.rows = list(rows)

    @property
    def loc(self) -> Table:
        """What gives and takes rows by a column of truth values."""
        return self

    @property
    def index(self) -> NDArray[np.intp]:
        """The number of each row."""
        return np.arange(len(self.rows))

    def __getitem__(self, asked: Any) -> Any:
        """A column by its name, or the rows for which something holds."""
        if isinstance(asked, str):
            return Column(row[asked] for row in self.rows)
        return Table(row for row, holds in zip(self.rows, asked, strict=True) if holds)

    def __setitem__(self, place: Any, value: Any) -> None:
        """Set the column of a name, (rows, name) in some rows; to one value or to a column."""
        rows, name = place if isinstance(place, tuple) else (self.index >= 0, place)
        values = value if isinstance(value, Column) else [value] * len(self.rows)
        for row, holds, one in zip(self.rows, rows, values, strict=True):
            if holds:
                row[name] = one

    def groupby(self, _names: Sequence[str], *, as_index: bool) -> Table:
        """The groups of a table of one row: itself."""
        if len(self.rows) != 1 or as_index:
            raise NotImplementedError("WhisperX cut a text that is one sentence")
        return self

    def agg(self, _how: dict[str, Any]) -> Table:
        """What a group of one row adds up to: itself."""
        return self

    def to_dict(self, _kind: str) -> list[dict[str, Any]]:
        """The rows."""
        return self.rows
