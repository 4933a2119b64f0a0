"""Voices by name: built-in ones, made once; saved ones, listed, added, removed, in memory."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest

from tests.support.heard_voices import KEYS, sound
from tests.support.small_components import ToneEngine
from worker.cancellation import Cancellation
from worker.errors import (
    JobCancelledError,
    NotAvailableError,
    RequestError,
    StorageError,
    VoiceError,
)
from worker.speech.batch.sampling import Sampling
from worker.speech.engine import DesignedVoice
from worker.speech.voice import Style, Voice
from worker.storage.base import READ_BYTES_MAX, StoredFile
from worker.storage.local import LocalStorage
from worker.voices import saved_voices
from worker.voices.builtin import BUILTIN, DESIGN_TEXT, Alias, BuiltinNames, Design
from worker.voices.library import Voices
from worker.voices.listed import ListedVoice
from worker.voices.memory import Memory

ANNA = Voice((1, 2), (3, 4), "Her words.")
CONSENT = "I am the speaker, and agree."


class Designer(ToneEngine):
    """Designs a voice that tells what it was designed from; before it does, `wait` is called."""

    def __init__(self) -> None:
        super().__init__()
        self.wait: Callable[[], object] = lambda: None

    def design(
        self, style: Style, text: str, sampling: Sampling, cancellation: Cancellation | None = None
    ) -> DesignedVoice:
        self.designed.append((style, text, sampling, cancellation))
        self.wait()
        value = replace(style, pitch_value=7, speed_value=3)
        return DesignedVoice(Voice((sampling.seed % 1000, 5), style=value), 37)


class CountedStorage(LocalStorage):
    """A folder that notes what is read, and refuses to list where told."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.read: list[str] = []
        self.before_read: Callable[[str], object] = lambda _key: None
        self.unlisted = False

    def read_bytes(self, key: str, *, cancellation: Cancellation | None = None) -> bytes:
        content = super().read_bytes(key, cancellation=cancellation)
        self.before_read(key)
        self.read.append(key)
        return content

    def children(
        self, prefix: str, *, cancellation: Cancellation | None = None
    ) -> tuple[StoredFile, ...]:
        if self.unlisted:
            raise StorageError("access is denied; the key needs s3:ListBucket")
        return super().children(prefix, cancellation=cancellation)


class World:
    """A bucket, a volume, and workers on them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.engine = Designer()
        self.storage = CountedStorage(folder / "storage")
        self.voices = self.worker()

    def worker(self, names: BuiltinNames = BUILTIN, engine: Designer | None = None) -> Voices:
        cache = self.folder / "cache" / "tiny@1"
        return Voices(engine or self.engine, self.storage, KEYS, cache, names)

    def recording(self) -> Path:
        return sound(self.folder / "anna.wav", 2.0)

    def names(self) -> list[str]:
        return [voice.id for voice in self.voices.listed()]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


class TestBuiltIn:
    def test_it_is_designed_from_its_style_and_seed_and_that_text(self, world: World) -> None:
        cancellation = Cancellation()
        voice = world.voices.saved("nova", cancellation)
        ((style, text, sampling, given),) = world.engine.designed
        nova = BUILTIN["nova"]
        assert isinstance(nova, Design)
        assert (style, sampling.seed) == (nova.style, nova.seed)
        assert text == DESIGN_TEXT
        assert given is cancellation
        assert voice.style == replace(nova.style, pitch_value=7, speed_value=3)

    def test_it_is_made_once_and_then_in_memory(self, world: World) -> None:
        assert world.voices.count_in_memory == 0
        first = world.voices.saved("nova")
        assert [world.voices.saved("nova") for _ in range(3)] == [first] * 3
        assert len(world.engine.designed) == 1
        assert world.voices.count_in_memory == 1

    def test_another_worker_has_it_from_the_volume(self, world: World) -> None:
        first = world.voices.saved("nova")
        other = Designer()
        assert world.worker(engine=other).saved("nova") == first
        assert other.designed == []

    def test_of_another_style_or_seed_it_is_another(self, world: World) -> None:
        style = Style("male")
        for design in (Design(style, 1), Design(style, 2), Design(replace(style, pitch="low"), 1)):
            world.worker({"nova": design}).saved("nova")
        assert len(world.engine.designed) == 3

    def test_who_asks_at_the_same_time_waits_for_the_one_that_makes_it(self, world: World) -> None:
        asked = threading.Event()

        def wait() -> None:
            asked.set()
            time.sleep(0.3)  # in which the others come to ask

        world.engine.wait = wait
        with ThreadPoolExecutor(4) as threads:
            found = [threads.submit(world.voices.saved, "nova")]
            assert asked.wait(10)
            found += [threads.submit(world.voices.saved, "nova") for _ in range(3)]
            assert len({future.result(10) for future in found}) == 1
        assert len(world.engine.designed) == 1

    def test_voices_of_different_names_are_made_side_by_side(self, world: World) -> None:
        together = threading.Barrier(2)
        world.engine.wait = lambda: together.wait(10)
        with ThreadPoolExecutor(2) as threads:
            list(threads.map(world.voices.saved, ["nova", "onyx"]))

    def test_who_is_cancelled_does_not_wait_for_another(self, world: World) -> None:
        asked, go_on = threading.Event(), threading.Event()
        world.engine.wait = lambda: (asked.set(), go_on.wait(20))
        cancellation = Cancellation()
        with ThreadPoolExecutor(2) as threads:
            making = threads.submit(world.voices.saved, "nova")
            assert asked.wait(10)
            waiting = threads.submit(world.voices.saved, "nova", cancellation)
            cancellation.cancel()
            with pytest.raises(JobCancelledError):
                waiting.result(10)
            go_on.set()
            making.result(10)

    def test_a_failure_is_not_kept(self, world: World) -> None:
        def fail() -> None:
            raise JobCancelledError("the job was cancelled")

        world.engine.wait = fail
        with pytest.raises(JobCancelledError):
            world.voices.saved("nova")
        world.engine.wait = lambda: None
        assert world.voices.saved("nova").style is not None

    def test_all_can_be_made_at_once(self, world: World) -> None:
        world.voices.make_builtin()
        assert world.voices.count_in_memory == len(world.engine.designed) == len(BUILTIN)
        world.worker().make_builtin()  # from the volume
        assert len(world.engine.designed) == len(BUILTIN)

    def test_a_model_that_cannot_design_has_none(self, world: World) -> None:
        world.engine.designs = False
        world.voices.make_builtin()
        with pytest.raises(NotAvailableError, match=r"cannot design any.*VOICE_NAMES") as caught:
            world.voices.saved("nova")
        assert caught.value.field == "voice"
        assert world.names() == []
        with pytest.raises(VoiceError):
            world.voices.about("nova")
        assert world.engine.designed == []

    def test_its_name_is_not_saved_added_or_removed(self, world: World) -> None:
        for use, field in (
            (lambda: world.voices.save("nova", ANNA), "save_voice"),
            (lambda: world.voices.add("nova", world.recording(), None, CONSENT), "name"),
            (lambda: world.voices.remove("nova"), "name"),
        ):
            with pytest.raises(RequestError, match="built-in voice") as caught:
                use()
            assert caught.value.field == field
        assert world.storage.children("voices/") == ()

    def test_it_hides_a_saved_voice_of_its_name(self, world: World) -> None:
        world.worker({}).save("nova", ANNA)
        assert world.voices.saved("nova") != ANNA
        assert world.names().count("nova") == 1
        assert world.voices.about("nova").kind == "builtin"


class TestAlias:
    NAMES: BuiltinNames = MappingProxyType({"alloy": Alias("anna")})

    def test_it_is_the_saved_voice(self, world: World) -> None:
        voices = world.worker(self.NAMES)
        voices.save("anna", ANNA)
        assert voices.saved("alloy") == ANNA
        anna = ListedVoice("anna", "anna", "saved", "tiny@1", has_transcript=True)
        assert voices.listed() == [anna.under("alloy"), anna]
        assert voices.about("alloy") == anna.under("alloy")
        assert voices.about("alloy").kind == "builtin"

    def test_where_that_is_missing_it_says_so(self, world: World) -> None:
        voices = world.worker(self.NAMES)
        assert voices.listed() == []
        with pytest.raises(VoiceError, match=r"^voice: 'alloy' stands for .*VOICE_NAMES.*'anna'"):
            voices.saved("alloy")
        with pytest.raises(VoiceError, match=r"^name: 'alloy' stands for .*'anna'") as caught:
            voices.about("alloy")
        assert caught.value.field == "name"


class TestMemory:
    def test_what_was_saved_here_is_not_read(self, world: World) -> None:
        world.voices.save("anna", ANNA)
        assert world.voices.saved("anna") == ANNA
        assert world.storage.read == []
        assert world.voices.count_in_memory == 1

    def test_what_was_read_is_not_read_again_until_it_may_be_another(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now = [0.0]
        timed = lambda most, *rest: Memory(most, *rest, clock=lambda: now[0])  # noqa: E731
        monkeypatch.setattr(saved_voices, "Memory", timed)
        world.worker().save("anna", ANNA)
        voices = world.worker()
        assert [voices.saved("anna") for _ in range(3)] == [ANNA] * 3
        assert world.storage.read == ["voices/anna.json"]
        world.worker().save("anna", Voice((8, 9)))
        now[0] += 59
        assert voices.saved("anna") == ANNA
        now[0] += 1
        assert voices.saved("anna") == Voice((8, 9))
        assert saved_voices.FRESH_SECONDS == 60

    def test_what_was_replaced_or_removed_here_is_so_at_once(self, world: World) -> None:
        world.voices.save("anna", ANNA)
        world.voices.save("anna", Voice((8, 9)))
        assert world.voices.saved("anna") == Voice((8, 9))
        world.voices.remove("anna")
        with pytest.raises(VoiceError, match="no saved voice 'anna'"):
            world.voices.saved("anna")
        assert world.voices.count_in_memory == 0

    def test_a_slow_read_brings_nothing_old_back(self, world: World) -> None:
        world.worker().save("anna", ANNA)
        world.storage.before_read = lambda _key: world.voices.save("anna", Voice((8, 9)))
        assert world.voices.saved("anna") == ANNA
        assert world.voices.saved("anna") == Voice((8, 9))

    def test_a_refusal_is_not_kept(self, world: World) -> None:
        with pytest.raises(VoiceError):
            world.voices.saved("anna")
        world.worker().save("anna", ANNA)
        assert world.voices.saved("anna") == ANNA


class TestAdd:
    def test_it_is_heard_saved_and_listed_with_its_consent(self, world: World) -> None:
        before = int(time.time())
        added = world.voices.add("anna", world.recording(), " Her words. ", f" {CONSENT} ")
        assert (added.id, added.name, added.kind) == ("anna", "anna", "saved")
        assert (added.model, added.has_transcript, added.consent) == ("tiny@1", True, CONSENT)
        assert added.created_at is not None
        assert before <= added.created_at <= time.time()
        assert world.voices.about("anna") == world.worker().about("anna") == added
        assert world.worker().listed()[-1] == added
        assert world.worker().saved("anna") == Voice((1, 2), (3, 4), "Her words.")
        kept = json.loads(world.storage.read_bytes("voices/anna.json"))
        assert (kept["consent"], kept["created_at"]) == (CONSENT, added.created_at)

    def test_without_a_transcript_it_is_a_timbre(self, world: World) -> None:
        assert not world.voices.add("anna", world.recording(), "", CONSENT).has_transcript
        assert world.voices.saved("anna") == Voice((1, 2))

    def test_a_transcript_that_is_not_the_recordings_is_left_out_and_told(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(world.voices._transcripts, "misfit", lambda *_: "it is another text")
        told: list[str] = []
        file = world.recording()
        added = world.voices.add("anna", file, "Others.", CONSENT, warn=told.append, mismatch="")
        assert not added.has_transcript
        (warning,) = told
        assert warning.startswith("transcript was left out")
        assert world.voices.saved("anna") == Voice((1, 2))
        assert world.voices.listen(file, "Others.", mismatch="drop").transcript is None
        for taken in (
            world.voices.add("bob", file, "Others.", CONSENT, mismatch="ignore").has_transcript,
            world.voices.listen(file, "Others.").transcript,
        ):
            assert taken

    def test_or_refused_where_that_is_wanted(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(world.voices._transcripts, "misfit", lambda *_: "it is another text")
        with pytest.raises(VoiceError, match="it is another text") as caught:
            world.voices.add("anna", world.recording(), "Others.", CONSENT, mismatch="refuse")
        assert caught.value.field == "transcript"
        with pytest.raises(VoiceError, match="transcript_mismatch 'ignore'") as heard:
            world.voices.listen(world.recording(), "Others.", mismatch="refuse")
        assert heard.value.field == "prompt_text"
        with pytest.raises(RequestError) as refused:
            world.voices.add("anna", world.recording(), None, CONSENT, mismatch="maybe")
        assert refused.value.field == "transcript_mismatch"
        assert world.storage.children("voices/") == ()

    def test_what_a_job_saves_has_no_new_field(self, world: World) -> None:
        world.voices.save("anna", ANNA)
        assert world.storage.read_bytes("voices/anna.json") == (
            b'{"format":1,"model":"tiny@1","global_tokens":[1,2],"semantic_tokens":[3,4],'
            b'"transcript":"Her words.","style":null}'
        )

    @pytest.mark.parametrize(
        ("changed", "field"),
        [
            ({"name": "../anna"}, "name"),
            ({"transcript": "\x00"}, "transcript"),
            ({"consent": "false"}, "consent"),
        ],
    )
    def test_what_is_wrong_is_refused_before_the_model_listens(
        self, world: World, monkeypatch: pytest.MonkeyPatch, changed: dict[str, str], field: str
    ) -> None:
        monkeypatch.setattr(world.engine, "listen", lambda *_, **__: pytest.fail("it listens"))
        given = {"name": "anna", "transcript": "Her words.", "consent": CONSENT} | changed
        with pytest.raises(RequestError) as caught:
            world.voices.add(recording=world.recording(), **given)
        assert caught.value.field == field
        assert world.storage.children("voices/") == ()

    def test_a_recording_that_is_none_is_the_fault_of_audio(
        self, world: World, tmp_path: Path
    ) -> None:
        (tmp_path / "bad").write_bytes(b"no audio")
        for file in (tmp_path / "bad", sound(tmp_path / "short.wav", 0.5)):
            with pytest.raises(VoiceError) as caught:
                world.voices.add("anna", file, None, CONSENT)
            assert caught.value.field == "audio"
        assert world.storage.children("voices/") == ()


class TestLists:
    def test_built_in_ones_come_first_and_each_kind_by_name(self, world: World) -> None:
        for name in ("zoe", "anna", "Bob"):
            world.voices.save(name, Voice((1, 2)))
        assert world.names() == [*sorted(BUILTIN), "Bob", "anna", "zoe"]
        nova = world.voices.about("nova")
        assert nova in world.voices.listed()
        assert nova == ListedVoice(
            "nova", "nova", "builtin", style=Style("female", "moderate", "high")
        )
        assert world.engine.designed == []  # nobody spoke

    def test_what_is_no_saved_voice_is_left_out(self, world: World) -> None:
        world.voices.save("anna", ANNA)
        for key, content in {
            "voices/anna.wav": b"RIFF",
            "voices/.json": b"{}",
            "voices/a..b.json": b"{}",
            "voices/_hidden.json": world.storage.read_bytes("voices/anna.json"),
            "voices/not a name.json": world.storage.read_bytes("voices/anna.json"),
            "voices/bad.json": b"{}",
            "voices/huge.json": b" " * (READ_BYTES_MAX + 1),
            "voices/below/other.json": world.storage.read_bytes("voices/anna.json"),
            "other.json": world.storage.read_bytes("voices/anna.json"),
        }.items():
            world.storage.write_bytes(key, content, "application/json")
        assert world.names() == [*sorted(BUILTIN), "anna"]

    def test_a_file_is_read_once_after_each_change(self, world: World) -> None:
        for name in ("anna", "bob"):
            world.voices.save(name, ANNA)
        for _ in range(2):
            world.voices.listed()
        assert sorted(world.storage.read) == ["voices/anna.json", "voices/bob.json"]
        world.worker().save("bob", Voice((1, 2)))  # another worker
        assert not world.voices.listed()[-1].has_transcript
        assert world.storage.read.count("voices/anna.json") == 1

    def test_one_that_is_removed_meanwhile_is_left_out(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("anna", "bob"):
            world.voices.save(name, ANNA)
        children = world.storage.children

        def remove_then(prefix: str, **given: Cancellation | None) -> tuple[StoredFile, ...]:
            found = children(prefix, **given)
            world.storage.delete("voices/anna.json")
            return found

        monkeypatch.setattr(world.storage, "children", remove_then)
        assert world.names() == [*sorted(BUILTIN), "bob"]

    def test_where_the_storage_fails_the_list_does_and_speaking_goes_on(self, world: World) -> None:
        world.storage.unlisted = True
        world.voices.save("anna", ANNA)
        with pytest.raises(StorageError, match="s3:ListBucket"):
            world.voices.listed()
        assert world.voices.saved("anna") == ANNA
        assert world.voices.saved("nova").style is not None
        assert world.voices.about("anna").has_transcript

    def test_one_that_cannot_be_read_is_no_short_list(self, world: World) -> None:
        world.voices.save("anna", ANNA)

        def refuse(_key: str) -> None:
            raise StorageError("the storage is unavailable")

        world.storage.before_read = refuse
        with pytest.raises(StorageError, match="unavailable"):
            world.voices.listed()

    def test_a_removed_one_is_gone_and_others_stay(self, world: World) -> None:
        for name in ("anna", "bob"):
            world.voices.save(name, ANNA)
        world.voices.remove("anna")
        assert world.names() == [*sorted(BUILTIN), "bob"]
        for use in (world.voices.remove, world.voices.about):
            with pytest.raises(VoiceError, match="no saved voice 'anna'") as caught:
                use("anna")
            assert caught.value.field == "name"

    def test_one_that_another_worker_removed_is_missing_and_forgotten(self, world: World) -> None:
        world.voices.save("anna", ANNA)
        world.worker().remove("anna")
        with pytest.raises(VoiceError, match="no saved voice 'anna'"):
            world.voices.remove("anna")
        with pytest.raises(VoiceError):
            world.voices.saved("anna")

    @pytest.mark.parametrize("name", ["../secret", "a/b", "", "ä", "x" * 65, "a\0b"])
    def test_hostile_names_reach_no_storage(self, world: World, name: str) -> None:
        for use in (world.voices.about, world.voices.remove):
            with pytest.raises(RequestError) as caught:
                use(name)
            assert caught.value.field == "name"
        assert world.storage.read == []
