"""The voices of one worker: built-in, saved under a name, or made from reference audio."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from worker.api.field_types import TranscriptMismatch
from worker.api.new_voice import parse_name, parse_new_voice
from worker.audio import files, waveform
from worker.audio.recordings import reading
from worker.cancellation import Cancellation
from worker.errors import RequestError, VoiceError
from worker.speech.engine import Engine
from worker.speech.voice import Voice
from worker.storage.base import Storage
from worker.storage.keys import Keys
from worker.temp_folders import temp_prefix
from worker.timing.aligner import Aligner
from worker.voices.builtin import BUILTIN, Alias, BuiltinNames, Design
from worker.voices.cache import DESIGNED, WHOLE_DIGITS, VoiceCache, sha256_of
from worker.voices.designed import DesignedVoices
from worker.voices.listed import ListedVoice
from worker.voices.reference import FIELD
from worker.voices.saved import SavedVoice
from worker.voices.saved_voices import SavedVoices
from worker.voices.transcripts import Transcripts, dropped_transcript, refused_transcript

Warn = Callable[[str], None]
TRANSCRIPT_FIELD = "prompt_text"


def _nobody_asks(_warning: str) -> None:
    """Drop a warning."""


class Voices:
    """Makes voices with one engine; keeps them in one storage and one cache folder."""

    def __init__(
        self,
        engine: Engine,
        storage: Storage,
        keys: Keys,
        cache: Path,
        names: BuiltinNames = BUILTIN,
        aligner: Aligner | None = None,
    ) -> None:
        self._engine = engine
        self._model = cache.name
        self._cache = VoiceCache(cache, engine, self._model)
        self._names = names
        designed = VoiceCache(cache / DESIGNED, engine, self._model, WHOLE_DIGITS)
        designs = (voice for voice in names.values() if isinstance(voice, Design))
        self._designed = DesignedVoices(engine, designed, designs)
        self._saved = SavedVoices(storage, keys)
        self._transcripts = Transcripts(aligner, cache)

    @property
    def model(self) -> str:
        """The name of the model that speaks, without the revision."""
        return self._model.partition("@")[0]

    # Made from a recording

    def listen(
        self,
        path: Path,
        transcript: str | None,
        cancellation: Cancellation | None = None,
        *,
        field: str = FIELD,
        warn: Warn = _nobody_asks,
        mismatch: TranscriptMismatch = "ignore",
        transcript_field: str = TRANSCRIPT_FIELD,
    ) -> Voice:
        """The voice in a reference audio file; from the cache if the model has listened to it.

        `warn` is told what the sender should know of a file that is right, cached or not. A
        transcript that is not the recording's is refused, left out or taken as it is, as `mismatch`
        says. Raises VoiceError, which blames `field`, when the file is no recording that can be
        read, too short or long, or silent.
        """
        read = reading.read(path, field=field, cancellation=cancellation)
        checked = read.audio
        reading.check_reference(checked, field=field)
        for warning in read.warnings:
            warn(warning)
        recording = sha256_of(checked)
        voice = self._cache.recall(recording)
        if voice is None:
            voice = self._hear(checked, cancellation)
            self._cache.keep(recording, voice)
        if transcript is not None and mismatch != "ignore":
            misfit = self._transcripts.misfit(checked, recording, transcript)
            if misfit is not None and mismatch == "refuse":
                raise refused_transcript(transcript_field, misfit)
            if misfit is not None:
                transcript = None
                warn(dropped_transcript(transcript_field, misfit))
        return Voice(voice.global_tokens, voice.semantic_tokens, transcript)

    def _hear(self, checked: waveform.Audio, cancellation: Cancellation | None) -> Voice:
        """The voice in audio that was checked.

        Upstream reads a file, and would decode a stranger's once more, all at once and in its own
        way: a damaged one could fail there, or grow. So it gets the samples that were checked.
        """
        with TemporaryDirectory(prefix=temp_prefix(), ignore_cleanup_errors=True) as folder:
            file = Path(folder) / "reference.wav"
            files.write_samples(checked, file)
            return self._engine.listen(file, cancellation=cancellation)

    # Under a name

    @property
    def count_in_memory(self) -> int:
        """How many named voices are in memory: saved ones and designed ones."""
        return len(self._saved) + len(self._designed)

    def make_builtin(self) -> None:
        """Make the designed built-in voices now, so that no job waits for the first use of one.

        They come from the cache where a worker made them before. Raises what the engine raises.
        """
        self._designed.make_all()

    def is_builtin(self, name: str) -> bool:
        """Whether the name is that of a built-in voice."""
        return name in self._names

    def saved(self, name: str, cancellation: Cancellation | None = None) -> Voice:
        """The built-in voice of this name, or the one that was saved under it.

        Raises VoiceError when there is none, or it does not fit this model; NotAvailableError for
        a built-in one that this model cannot design.
        """
        meant = self._names.get(name)
        if isinstance(meant, Design):
            return self._designed.voice(name, meant, cancellation)
        found = self._read(name, meant, cancellation)
        reason = found.why_unusable(self._engine)
        if reason is not None:
            raise VoiceError(
                f"voice: {name!r} was saved by {found.model} and does not fit {self._model}: "
                f"{reason}; save it again with this model",
                field="voice",
            )
        return found.voice

    def save(self, name: str, voice: Voice, cancellation: Cancellation | None = None) -> None:
        """Save the voice under this name; an older one of the name is replaced.

        Raises RequestError for the name of a built-in voice.
        """
        self.check_free(name, "save_voice")
        self._saved.write(name, SavedVoice.of(voice, self._model), cancellation, "save_voice")

    def check_free(self, name: str, field: str) -> None:
        """Raise RequestError, which blames `field`, where no voice can be saved under the name."""
        if name in self._names:
            raise RequestError(
                f"{field}: {name!r} is a built-in voice; choose another name, or have the "
                "operator take it out with VOICE_NAMES",
                field=field,
            )

    def add(
        self,
        name: str,
        recording: Path,
        transcript: str | None,
        consent: str,
        cancellation: Cancellation | None = None,
        warn: Warn = _nobody_asks,
        *,
        mismatch: str | None = None,
    ) -> ListedVoice:
        """Save the voice of a recording under a name, with its speaker's statement of consent.

        A blank `transcript` counts as none; `mismatch` says what becomes of one that is not the
        recording's. An older voice of the name is replaced. `warn` is told what the sender should
        know of the recording. Raises RequestError and VoiceError, which blame name, audio,
        transcript, transcript_mismatch or consent.
        """
        asked = parse_new_voice(name, transcript, consent, mismatch)
        self.check_free(asked.name, "name")
        voice = self.listen(
            recording,
            asked.transcript,
            cancellation,
            field="audio",
            warn=warn,
            mismatch=asked.transcript_mismatch,
            transcript_field="transcript",
        )
        saved = SavedVoice.of(voice, self._model, asked.consent, int(time.time()))
        self._saved.write(asked.name, saved, cancellation, "name")
        return ListedVoice.of(asked.name, "saved", saved)

    def remove(self, name: str, cancellation: Cancellation | None = None) -> None:
        """Remove the saved voice of this name.

        Raises VoiceError where there is none, RequestError for a built-in one.
        """
        name = parse_name(name, "name")
        if name in self._names:
            raise RequestError(
                f"name: {name!r} is a built-in voice, which is not removed; the operator can take "
                "it out with VOICE_NAMES",
                field="name",
            )
        self._saved.remove(name, cancellation, "name")

    # Looked at

    def listed(self, cancellation: Cancellation | None = None) -> list[ListedVoice]:
        """The voices that a request may name: the built-in ones, then the saved ones, by name.

        A saved one that has a built-in one's name cannot be spoken with, and is left out. Raises
        StorageError where the storage cannot be listed.
        """
        saved = {voice.name: voice for voice in self._saved.listed(cancellation)}
        builtin: list[ListedVoice] = []
        for name, meant in sorted(self._names.items()):
            if isinstance(meant, Alias):
                if (target := saved.get(meant.saved)) is not None:
                    builtin.append(target.under(name))
            elif self._designed.available:
                builtin.append(ListedVoice(name, name, "builtin", style=meant.style))
        others = (saved[name] for name in sorted(saved.keys() - self._names.keys()))
        return [*builtin, *others]

    def about(self, name: str, cancellation: Cancellation | None = None) -> ListedVoice:
        """The voice of this name as a list has it. Raises VoiceError where there is none."""
        name = parse_name(name, "name")
        meant = self._names.get(name)
        if isinstance(meant, Design):
            if not self._designed.available:
                raise VoiceError(f"name: this model cannot design the voice {name!r}", field="name")
            return ListedVoice(name, name, "builtin", style=meant.style)
        found = self._read(name, meant, cancellation, "name")
        return ListedVoice.of(name, "saved" if meant is None else "builtin", found)

    def _read(
        self,
        name: str,
        alias: Alias | None,
        cancellation: Cancellation | None,
        field: str = "voice",
    ) -> SavedVoice:
        """The saved voice of this name, or of the one that it stands for."""
        if alias is None:
            return self._saved.read(name, cancellation, field)
        try:
            return self._saved.read(alias.saved, cancellation, field)
        except VoiceError as error:
            raise VoiceError(
                f"{field}: {name!r} stands for a saved voice (VOICE_NAMES) that cannot be used: "
                f"{error.message.removeprefix(f'{field}: ')}",
                field=field,
            ) from None
