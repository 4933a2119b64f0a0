"""The cast of a job: who speaks in it, and what each speaker's voice is chosen by.

A speaker has one voice throughout. Its name is the one that its turns give it, else that of its
voice; the job's own voice without a name is `default`, as tags call it, others are numbered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from worker.api.request import SpeechRequest
from worker.api.turns import Turn
from worker.errors import RequestError, WorkerError
from worker.text.markup import OWN_VOICE, VoiceTag

MAX_SPEAKERS = 32


@dataclass(frozen=True)
class Role:
    """What a speaker's voice is chosen by: the fields of a request, and where they came from."""

    request: SpeechRequest
    turn: int | None = None  # where a turn gave them
    tag: VoiceTag | None = None  # where a tag did, of the text of that turn if there is one

    @property
    def voice(self) -> tuple[object, ...]:
        """The same for two roles that choose the same voice."""
        one = self.request
        return one.prompt_speech_url, one.prompt_text, one.voice, one.style

    @property
    def place(self) -> str:
        """Where the fields stand; empty for the job's own."""
        turn = "" if self.turn is None else f"turns[{self.turn}]"
        if self.tag is None:
            return turn
        return f"{turn}.text" if turn else "text"

    def blamed(self, error: WorkerError) -> WorkerError:
        """The error about this voice, so that its message says which one it is."""
        if not self.place:
            return error
        reason = error.message.removeprefix(f"{error.field}: ")
        if self.tag is not None:
            return type(error)(f"{self.place} has {self.tag.shown}: {reason}", field=self.place)
        field = f"{self.place}.{error.field}" if error.field is not None else self.place
        return type(error)(f"{field}: {reason}", field=field)


class Cast:
    """Collects the speakers of a job, in the order in which they first speak."""

    def __init__(self, request: SpeechRequest) -> None:
        self._own = request
        self._roles: dict[str | None, Role] = {}
        self._unnamed: dict[tuple[object, ...], str] = {}  # those that were given a number

    @property
    def roles(self) -> Mapping[str | None, Role]:
        """What the voice of each speaker is chosen by."""
        return MappingProxyType(self._roles)

    def alone(self) -> None:
        """Have the job's own voice speak, without a name."""
        self._roles[None] = Role(self._own)

    def own(self) -> str:
        """The name of the job's own voice."""
        return self._add(self._own.voice or OWN_VOICE, Role(self._own))

    def of_tag(self, tag: VoiceTag, turn: int | None) -> str:
        """The name of the speaker that a tag names."""
        return self._add(tag.name, Role(self._own.with_voice(tag.name), turn, tag))

    def of_turn(self, number: int, turn: Turn, request: SpeechRequest) -> str:
        """The name of who speaks in a turn; `request` is as it holds for that."""
        role = Role(request, number)
        if turn.speaker is not None:
            known = turn.speaker in self._roles and not turn.chooses_voice
            return turn.speaker if known else self._add(turn.speaker, role)
        if not turn.chooses_voice:
            return self.own()
        if request.voice is not None:
            return self._add(request.voice, role)
        if role.voice not in self._unnamed:
            count = len(self._roles) + 1
            while f"Speaker {count}" in self._roles:
                count += 1
            self._unnamed[role.voice] = self._add(f"Speaker {count}", role)
        return self._unnamed[role.voice]

    def _add(self, name: str, role: Role) -> str:
        """Take a speaker in. Raises RequestError where another has the name."""
        before = self._roles.setdefault(name, role)
        place = role.place or "voice"
        if before.voice != role.voice:
            shown = f"{role.tag.shown}: " if role.tag is not None else ""
            raise RequestError(
                f"{place}: {shown}the speaker {name!r} has another voice in "
                f"{before.place or 'the job itself'}; give each speaker one voice, or turns a "
                "`speaker` of another name",
                field=place,
            )
        if len(self._roles) > MAX_SPEAKERS:
            raise RequestError(
                f"{place}: the job has more than {MAX_SPEAKERS} speakers; divide it", field=place
            )
        return name
