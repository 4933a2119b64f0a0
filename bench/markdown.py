"""Numbers and tables as the reports have them."""

from __future__ import annotations

from collections.abc import Sequence


def plain(figure: float) -> str:
    """Three digits, without an exponent where that is read more easily."""
    return f"{figure:.0f}" if figure >= 100 else f"{figure:.3g}"


def markdown(lines: Sequence[tuple[str, ...]]) -> str:
    """A table; the first line is its head."""
    head, *rest = lines
    rows = [head, tuple("---" for _ in head), *rest]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
