"""A voice as a list of voices has it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from worker.speech.voice import Style
from worker.voices.saved import SavedVoice

Kind = Literal["builtin", "saved"]


@dataclass(frozen=True)
class ListedVoice:
    """A voice that a request may name, and what is known of it without speaking."""

    id: str  # what a request names
    name: str  # what people read
    kind: Kind
    model: str | None = None  # that made a saved voice
    has_transcript: bool = False
    created_at: int | None = None  # seconds since 1970, where known
    consent: str | None = None  # as stated when the voice was added
    style: Style | None = None  # of a designed voice

    def under(self, name: str) -> ListedVoice:
        """The same voice under the built-in name that stands for it."""
        return replace(self, id=name, name=name, kind="builtin")

    @classmethod
    def of(cls, name: str, kind: Kind, saved: SavedVoice) -> ListedVoice:
        """A saved voice, under its own name or a built-in one that stands for it."""
        return cls(
            id=name,
            name=name,
            kind=kind,
            model=saved.model,
            has_transcript=saved.transcript is not None,
            created_at=saved.created_at,
            consent=saved.consent,
            style=saved.style,
        )
