"""The format of a saved voice: what voices/NAME.json holds in the bucket or the local folder.

A voice's tokens and, where known, its transcript or style; no audio is needed to use it again.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field

from worker.api.field_types import MAX_PROMPT_TEXT
from worker.bounded_json import check_json
from worker.speech.engine import Engine
from worker.speech.voice import Style, Voice

FORMAT = 1
LONGEST = 4_096  # tokens: the 60 s that a reference may have, and some
VALUES_MAX = 2 * LONGEST  # JSON values of a saved voice: both kinds of tokens, and some
OBJECTS_MAX = 4
Tokens = Annotated[tuple[int, ...], Field(fail_fast=True)]


class SavedVoice(BaseModel):
    """A voice as JSON, with the model that made it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int
    model: str  # that made it, for the reader; only the sizes are checked
    global_tokens: Tokens
    semantic_tokens: Tokens = ()
    transcript: str | None = None
    style: Style | None = None
    # Of a voice that was added with a statement of consent; not written where not set.
    consent: str | None = None
    created_at: int | None = Field(default=None, ge=0)  # seconds since 1970

    @classmethod
    def of(
        cls, voice: Voice, model: str, consent: str | None = None, created_at: int | None = None
    ) -> Self:
        """The saved form of a voice; without a transcript its speech is left out.

        A sentence continues from speech only where the words of that are known.
        """
        return cls(
            format=FORMAT,
            model=model,
            global_tokens=voice.global_tokens,
            semantic_tokens=() if voice.transcript is None else voice.semantic_tokens,
            transcript=voice.transcript,
            style=voice.style,
            consent=consent,
            created_at=created_at,
        )

    @classmethod
    def read(cls, content: bytes) -> Self:
        """Read JSON that may be anybody's. Raises ValueError where it is no saved voice."""
        checked = check_json(content, objects=OBJECTS_MAX, values=VALUES_MAX)
        return cls.model_validate_json(checked)

    def to_json(self) -> bytes:
        """The content of its file."""
        unset = {name for name in ("consent", "created_at") if getattr(self, name) is None}
        return self.model_dump_json(exclude=unset).encode()

    @property
    def voice(self) -> Voice:
        """The voice in the model's terms."""
        return Voice(self.global_tokens, self.semantic_tokens, self.transcript, self.style)

    def why_unusable(self, engine: Engine) -> str | None:
        """Why the engine's model cannot speak with this voice, or None when it can."""
        if self.format != FORMAT:
            return f"its format is {self.format}, not {FORMAT}"
        if (reason := engine.why_unusable(self.voice)) is not None:
            return reason
        if len(self.semantic_tokens) > LONGEST:
            return f"it has {len(self.semantic_tokens)} tokens of speech, more than {LONGEST}"
        if len(self.transcript or "") > MAX_PROMPT_TEXT:
            return f"its transcript has more than {MAX_PROMPT_TEXT} characters"
        return None
