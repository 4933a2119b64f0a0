"""A fault that somebody might make, as text to find and text to put in its place."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
AREAS = Path(__file__).parent / "areas"
OURS = ("worker", "volume", "scripts", "docs", "tests")  # the project's packages
ORIGINS = {
    "review": "survived before there was this tool",
    "authors": "chosen before the tests that see it were written",
    "strangers": "by someone who had not seen those tests",
    "later": "chosen when the tests that see it were there",
}


class MutantError(Exception):
    """A mutant that cannot be made; the message names it."""


@dataclass(frozen=True)
class Mutant:
    """One fault. `find` stands exactly once in `file`, which is relative to the repository.

    One with `equivalent` changes nothing that anybody could see, for the reason given, and does
    not count; one with `stays` is not worth a test, for the reason given, and counts as missed.
    """

    area: str
    name: str
    file: str
    find: str
    put: str
    harm: str  # what a user or operator suffers
    origin: str  # one of ORIGINS
    equivalent: str = ""
    stays: str = ""

    @property
    def title(self) -> str:
        """Its area and name."""
        return f"{self.area}/{self.name}"

    def applied(self, root: Path = REPOSITORY) -> str:
        """The text of its file with the fault in it; raises MutantError where there is no place."""
        try:
            text = (root / self.file).read_text(encoding="utf-8")
        except OSError as error:
            raise MutantError(f"{self.title}: {self.file}: {error.strerror}") from None
        if (times := text.count(self.find)) != 1:
            raise MutantError(f"{self.title}: `find` stands {times} times in {self.file}, not once")
        return text.replace(self.find, self.put)


def load(folder: Path = AREAS) -> list[Mutant]:
    """All mutants, area by area; raises MutantError where one lacks something or is there twice."""
    found: list[Mutant] = []
    for path in sorted(folder.glob("*.toml")):
        try:
            entries = tomllib.loads(path.read_text(encoding="utf-8")).get("mutant", [])
        except tomllib.TOMLDecodeError as error:
            raise MutantError(f"{path.name}: {error}") from error
        for entry in entries:
            try:
                mutant = Mutant(area=path.stem, **entry)
            except TypeError as error:
                raise MutantError(f"{path.name}, {entry.get('name')}: {error}") from error
            if mutant.origin not in ORIGINS:
                raise MutantError(f"{mutant.title}: origin is none of {', '.join(ORIGINS)}")
            found.append(mutant)
    titles = [mutant.title for mutant in found]
    if twice := {title for title in titles if titles.count(title) > 1}:
        raise MutantError(f"twice: {', '.join(sorted(twice))}")
    return found


def chosen(mutants: Sequence[Mutant], words: Sequence[str]) -> list[Mutant]:
    """Those that a word names, as AREA or AREA/NAME; all where there is no word.

    Raises MutantError for a word that names none.
    """
    words = [word.rstrip("/") for word in words]
    known = {name for one in mutants for name in (one.area, one.title)}
    if unknown := [word for word in words if word not in known]:
        areas = ", ".join(sorted({one.area for one in mutants}))
        raise MutantError(f"no mutant is named {' or '.join(unknown)}; the areas: {areas}")
    return [one for one in mutants if not words or one.area in words or one.title in words]
