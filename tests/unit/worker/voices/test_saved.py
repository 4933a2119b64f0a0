"""Saved voices: as they were, whole, bounded, and refused in words where they do not fit."""

from __future__ import annotations

import json
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.heard_voices import KEYS, Ear, Heard
from tests.support.s3 import ACCESS_KEY, SECRET_KEY, s3_server
from worker.api.field_types import MAX_PROMPT_TEXT
from worker.errors import NotFoundError, RequestError, StorageError, VoiceError
from worker.settings import Settings
from worker.speech.engine import Engine
from worker.speech.voice import Style, Voice
from worker.storage.base import Storage
from worker.storage.local import LocalStorage
from worker.storage.s3 import S3Storage
from worker.storage.s3_client import S3Limits
from worker.voices.library import Voices
from worker.voices.saved import LONGEST

Make = Callable[[Engine], Voices]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def voices(engine: Engine) -> Voices:
        storage = LocalStorage(tmp_path / "storage")
        return Voices(engine, storage, KEYS, tmp_path / "cache" / "tiny@1")

    return voices


@pytest.fixture
def heard(tmp_path: Path) -> Heard:
    return Heard(tmp_path)


@pytest.mark.parametrize(
    "voice",
    [
        Voice((3, 0, 15, 7, 7)),
        Voice((3, 0, 15, 7, 7), (1, 95, 0), "Words, 中文 and “quotes”."),
        Voice((3, 0, 15, 7, 7), style=Style("male", "low", "very_high", 412, 9)),
    ],
)
def test_a_saved_voice_comes_back_as_it_was(make: Make, tiny_engine: Engine, voice: Voice) -> None:
    make(tiny_engine).save("Anna-2", voice)
    assert make(tiny_engine).saved("Anna-2") == voice


def test_a_voice_that_was_never_saved_is_named(make: Make, tiny_engine: Engine) -> None:
    with pytest.raises(VoiceError, match="no saved voice 'nobody'") as caught:
        make(tiny_engine).saved("nobody")
    assert caught.value.field == "voice"


@pytest.mark.parametrize(
    "change",
    [
        {"global_tokens": [1, 2, 3, 4]},
        {"global_tokens": [1, 2, 3, 4, 99]},
        {"global_tokens": "all"},
        {"semantic_tokens": [96]},
        {"format": 2},
        {"more": 1},
    ],
)
def test_a_voice_of_another_make_is_refused(
    make: Make, tiny_engine: Engine, tmp_path: Path, change: dict[str, object]
) -> None:
    make(tiny_engine).save("old", Voice((3, 0, 15, 7, 7)))
    file = tmp_path / "storage" / "voices" / "old.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(VoiceError, match="save it again"):
        make(tiny_engine).saved("old")


def test_half_a_saved_voice_is_refused(make: Make, tiny_engine: Engine, tmp_path: Path) -> None:
    make(tiny_engine).save("cut", Voice((3, 0, 15, 7, 7)))
    file = tmp_path / "storage" / "voices" / "cut.json"
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(VoiceError, match="save it again"):
        make(tiny_engine).saved("cut")


def test_speech_without_its_words_is_not_saved(heard: Heard) -> None:
    heard.voices.save("anna", Voice((1, 2), (3, 4)))
    for worker in (heard.voices, heard.another()):
        assert worker.saved("anna") == Voice((1, 2))
    heard.voices.save("anna", Voice((1, 2), (3, 4), "Words."))
    for worker in (heard.voices, heard.another()):
        assert worker.saved("anna") == Voice((1, 2), (3, 4), "Words.")


def test_what_is_saved_says_its_format_and_model(heard: Heard) -> None:
    heard.voices.save("anna", Voice((1, 2)))
    kept = json.loads(heard.storage.read_bytes("voices/anna.json"))
    assert (kept["format"], kept["model"]) == (1, "tiny@1")


def test_a_saved_voice_may_be_as_long_as_a_reference_and_no_longer(heard: Heard) -> None:
    heard.voices.save("long", Voice((1,), (1,) * 4_096, "x" * 2_000))
    assert len(heard.another().saved("long").semantic_tokens) == 4_096
    for longer, words in (
        (Voice((1,), (1,) * 4_097, "x"), "4097 tokens of speech, more than 4096"),
        (Voice((1,), (1,), "x" * 2_001), "transcript has more than 2000 characters"),
    ):
        heard.voices.save("long", longer)
        for worker in (heard.voices, heard.another()):
            with pytest.raises(VoiceError, match=words) as caught:
                worker.saved("long")
            assert caught.value.field == "voice"


def test_a_voice_that_does_not_fit_says_which_model_it_is_of_and_why(heard: Heard) -> None:
    heard.of(heard.cache.with_name("large@7")).save("anna", Voice((1, 2)))
    assert heard.voices.saved("anna") == Voice((1, 2))  # sizes count, not names
    heard.ear.unfit = "it has 2 global tokens, not 32"
    with pytest.raises(VoiceError) as caught:
        heard.voices.saved("anna")
    assert caught.value.message == (
        "voice: 'anna' was saved by large@7 and does not fit tiny@1: "
        "it has 2 global tokens, not 32; save it again with this model"
    )


def test_a_name_that_is_none_is_told_of_under_its_own_field(heard: Heard) -> None:
    with pytest.raises(RequestError) as caught:
        heard.voices.save("../anna", Voice((1, 2)))
    assert caught.value.field == "save_voice"
    with pytest.raises(RequestError) as caught:
        heard.voices.saved("../anna")
    assert caught.value.field == "voice"


def test_a_storage_that_fails_is_not_a_voice_that_was_never_saved(
    heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_key: str, **_: object) -> bytes:
        raise StorageError("access is denied")

    monkeypatch.setattr(heard.storage, "read_bytes", refuse)
    with pytest.raises(StorageError, match="access is denied") as caught:
        heard.voices.saved("anna")
    assert not isinstance(caught.value, NotFoundError)


LONG = Voice(tuple(range(5)), (7,) * LONGEST, '"' * MAX_PROMPT_TEXT)


def test_the_longest_voice_that_can_be_saved_is_read_back(heard: Heard) -> None:
    heard.voices.save("long", LONG)
    assert heard.another().saved("long") == LONG


@pytest.mark.parametrize(
    "content",
    [
        b"[" * (1 << 20),
        b'{"a":' * (1 << 17),
        b'{"format":1,"model":"m","global_tokens":[' + b"{}," * 300_000 + b"{}]}",
        b'{"format":1,"model":"m","global_tokens":[' + b"0," * 500_000 + b"0]}",
        b'{"format":1,"model":"m","global_tokens":["' + b'","' * 300_000 + b'"]}',
        b'{"format":1,"model":"m","global_tokens":[' + b"9" * 1_000_000 + b"]}",
    ],
)
def test_a_saved_voice_that_nobody_saved_so_is_refused_before_it_is_parsed(
    heard: Heard, content: bytes
) -> None:
    heard.storage.write_bytes("voices/bad.json", content, "application/json")
    tracemalloc.start()
    with pytest.raises(VoiceError, match=r"bad\.json is not a voice that this worker saved"):
        heard.voices.saved("bad")
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()


@pytest.fixture(params=["folder", "bucket"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Storage]]:
    """Opens one storage, as each worker does for itself."""
    if request.param == "folder":
        yield lambda: LocalStorage(tmp_path / "storage")
        return
    with s3_server("voices-test") as endpoint:
        settings = Settings(
            s3_bucket_name="voices-test",
            aws_endpoint_url=endpoint,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            aws_region="us-east-1",
        )
        limits = S3Limits(attempts=2)
        yield lambda: S3Storage.from_settings(settings, limits)


def test_of_a_name_that_many_save_at_once_each_reader_gets_one_whole_voice(
    shared: Callable[[], Storage], tmp_path: Path
) -> None:
    """Of some length, so that a half-written one would be seen."""

    def voice(writer: int) -> Voice:
        return Voice((writer,) * 5, (writer,) * (1000 + 500 * writer), f"voice {writer}")

    def worker(storage: Storage) -> Voices:
        return Voices(Ear(), storage, KEYS, tmp_path / "tiny@1")

    worker(shared()).save("one", voice(0))
    begin = threading.Barrier(6)
    over = threading.Event()

    def write(writer: int) -> None:
        voices = worker(shared())
        begin.wait()
        for _ in range(25):
            voices.save("one", voice(writer))

    def read() -> set[str]:
        storage, seen = shared(), set()
        begin.wait()
        while not over.is_set():
            found = worker(storage).saved("one")  # a new one has nothing in memory
            assert found == voice(found.global_tokens[0])
            seen.add(str(found.transcript))
        return seen

    with ThreadPoolExecutor(6) as threads:
        readers = [threads.submit(read) for _ in range(3)]
        writers = [threads.submit(write, writer) for writer in (1, 2, 3)]
        try:
            for writer in writers:
                writer.result(60)
        finally:
            over.set()
        seen = set.union(*(reader.result(60) for reader in readers))
    assert len(seen) > 1  # they met
    assert worker(shared()).saved("one") in [voice(writer) for writer in (1, 2, 3)]
