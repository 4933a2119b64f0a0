"""Voices: heard once, kept, saved, and told apart."""

from __future__ import annotations

import errno
import json
import logging
import shutil
import tempfile
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.support.s3 import ACCESS_KEY, SECRET_KEY, s3_server
from worker.api.field_types import MAX_PROMPT_TEXT
from worker.cancellation import Cancellation
from worker.errors import (
    JobCancelledError,
    NotFoundError,
    RequestError,
    StorageError,
    VoiceError,
)
from worker.logs import log
from worker.settings import Settings
from worker.speech.engine import Engine
from worker.speech.voice import Style, Voice
from worker.storage.keys import Keys
from worker.storage.local import LocalStorage
from worker.storage.s3 import S3Storage
from worker.storage.s3_client import S3Limits
from worker.temp_folders import temp_prefix
from worker.voices import saved as module
from worker.voices.saved import Voices

KEYS = Keys(voices="voices/", output="output/", bucket=None)
Make = Callable[[Engine], Voices]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def voices(engine: Engine) -> Voices:
        storage = LocalStorage(tmp_path / "storage")
        return Voices(engine, storage, KEYS, tmp_path / "cache" / "tiny@1")

    return voices


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    path = tmp_path / "reference.wav"
    t = np.arange(24000) / 16000
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * 150 * t * (1 + 0.1 * t)), 16000)
    return path


def test_a_reference_is_heard_as_the_engine_hears_it(
    make: Make, tiny_engine: Engine, reference: Path
) -> None:
    voice = make(tiny_engine).listen(reference, "Its words.")
    heard = tiny_engine.listen(reference)
    assert voice == Voice(heard.global_tokens, heard.semantic_tokens, "Its words.")


def test_the_engine_gets_the_samples_that_were_checked_and_not_the_strangers_file(
    make: Make, tiny_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "reference.flac"
    noise = np.random.default_rng(3).uniform(-0.5, 0.5, (30_000, 2))
    soundfile.write(path, noise, 22_050, subtype="PCM_24")
    heard: list[tuple[np.ndarray, int]] = []
    listen = tiny_engine.listen

    def look(file: Path, *rest: object, **named: object) -> Voice:
        assert file != path
        heard.append(soundfile.read(file))
        return listen(file, *rest, **named)

    monkeypatch.setattr(tiny_engine, "listen", look)
    make(tiny_engine).listen(path, None)
    ((samples, rate),) = heard
    assert rate == 22_050
    np.testing.assert_array_equal(samples, soundfile.read(path)[0][:, 0])


def metadata_of(cached: Path) -> dict[str, str]:
    with safe_open(cached, "pt") as file:
        return dict(file.metadata())


def test_a_reference_is_heard_once(
    make: Make, tiny_engine: Engine, reference: Path, tmp_path: Path
) -> None:
    voices = make(tiny_engine)
    voices.listen(reference, None)
    (cached,) = (tmp_path / "cache" / "tiny@1").iterdir()
    tokens = load_file(cached)
    tokens["global_tokens"] = torch.tensor([1, 2, 3, 4, 5], dtype=torch.int32)
    save_file(tokens, cached, metadata_of(cached))
    copy = Path(shutil.copy(reference, tmp_path / "another name.wav"))
    assert voices.listen(copy, None).global_tokens == (1, 2, 3, 4, 5)


@pytest.mark.parametrize("content", [b"", b"not safetensors", None])
def test_a_spoilt_cache_is_heard_again(
    make: Make, tiny_engine: Engine, reference: Path, tmp_path: Path, content: bytes | None
) -> None:
    voices = make(tiny_engine)
    voice = voices.listen(reference, None)
    (cached,) = (tmp_path / "cache" / "tiny@1").iterdir()
    if content is None:  # whole, but of another model
        tokens = {"global_tokens": torch.ones(9), "semantic_tokens": torch.ones(2)}
        save_file(tokens, cached, metadata_of(cached))
    else:
        cached.write_bytes(content)
    assert voices.listen(reference, None) == voice
    assert load_file(cached)["global_tokens"].tolist() == list(voice.global_tokens)


def test_a_cache_that_cannot_be_written_costs_nothing(
    make: Make, tiny_engine: Engine, reference: Path, tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert make(tiny_engine).listen(reference, None).global_tokens


@pytest.mark.parametrize(
    "voice",
    [
        Voice((3, 0, 15, 7, 7)),
        Voice((3, 0, 15, 7, 7), (1, 95, 0), "Words, 中文 and “quotes”."),
        Voice((3, 0, 15, 7, 7), style=Style("male", "low", "very_high", 412, 9)),
    ],
)
def test_a_saved_voice_comes_back_as_it_was(make: Make, tiny_engine: Engine, voice: Voice) -> None:
    voices = make(tiny_engine)
    voices.save("Anna-2", voice)
    assert voices.saved("Anna-2") == voice


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
    voices = make(tiny_engine)
    voices.save("old", Voice((3, 0, 15, 7, 7)))
    file = tmp_path / "storage" / "voices" / "old.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(VoiceError, match="save it again"):
        voices.saved("old")


def test_half_a_saved_voice_is_refused(make: Make, tiny_engine: Engine, tmp_path: Path) -> None:
    voices = make(tiny_engine)
    voices.save("cut", Voice((3, 0, 15, 7, 7)))
    file = tmp_path / "storage" / "voices" / "cut.json"
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(VoiceError, match="save it again"):
        voices.saved("cut")


class Ear:
    """In an engine's place: hears the same voice in everything, and says what it was asked."""

    def __init__(self) -> None:
        self.heard: list[tuple[Path, Cancellation | None]] = []
        self.folders: list[Path] = []
        self.unfit: str | None = None
        self.failure: Exception | None = None

    def listen(self, path: Path, *, cancellation: Cancellation | None = None) -> Voice:
        assert path.is_file()
        self.heard.append((path, cancellation))
        if self.failure is not None:
            raise self.failure
        return Voice((len(self.heard), 2), (5, 6, 7))

    def check(self, _voice: Voice) -> str | None:
        return self.unfit


class Heard:
    """Voices of such an engine, with a bucket and a cache of their own."""

    def __init__(self, folder: Path) -> None:
        self.ear = Ear()
        self.storage = LocalStorage(folder / "storage")
        self.cache = folder / "cache" / "tiny@1"
        self.voices = self.of(self.cache)

    def of(self, cache: Path) -> Voices:
        return Voices(self.ear, self.storage, KEYS, cache)

    def cached(self) -> list[Path]:
        return [path for path in self.cache.rglob("*") if path.is_file()]


@pytest.fixture
def heard(tmp_path: Path) -> Heard:
    return Heard(tmp_path)


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    """The events that an operator is warned with."""
    seen: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: seen.append(record.getMessage())
    log.addHandler(handler)
    yield seen
    log.removeHandler(handler)


def sound(path: Path, seconds: float, loudness: float = 0.3) -> Path:
    t = np.arange(int(seconds * 16000)) / 16000
    soundfile.write(path, loudness * np.sin(2 * np.pi * 150 * t), 16000)
    return path


@pytest.mark.parametrize(("seconds", "loudness"), [(0.5, 0.3), (2, 0), (61, 0.3)])
def test_what_is_no_reference_is_refused_and_not_listened_to(
    heard: Heard, tmp_path: Path, seconds: float, loudness: float
) -> None:
    with pytest.raises(VoiceError) as caught:
        heard.voices.listen(sound(tmp_path / "a.wav", seconds, loudness), None)
    assert caught.value.field == "prompt_speech_url"
    assert heard.ear.heard == []
    assert heard.cached() == []


def test_a_file_that_is_no_audio_is_refused_with_its_field(heard: Heard, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"no audio")
    with pytest.raises(VoiceError) as caught:
        heard.voices.listen(tmp_path / "a.wav", None)
    assert caught.value.field == "prompt_speech_url"


def test_each_recording_has_its_own_entry_and_each_job_its_transcript(
    heard: Heard, tmp_path: Path
) -> None:
    one, other = sound(tmp_path / "1.wav", 1.5), sound(tmp_path / "2.wav", 1.6)
    assert heard.voices.listen(one, "One.") == Voice((1, 2), (5, 6, 7), "One.")
    assert heard.voices.listen(other, None) == Voice((2, 2), (5, 6, 7))
    assert heard.voices.listen(one, "Other words.") == Voice((1, 2), (5, 6, 7), "Other words.")
    assert heard.voices.listen(other, "Two.") == Voice((2, 2), (5, 6, 7), "Two.")
    assert len(heard.ear.heard) == 2
    assert len(heard.cached()) == 2


def test_another_worker_of_the_model_uses_the_entry_and_another_model_does_not(
    heard: Heard, reference: Path
) -> None:
    heard.voices.listen(reference, None)
    assert heard.of(heard.cache).listen(reference, None).global_tokens == (1, 2)
    other = heard.of(heard.cache.with_name("tiny@2"))
    assert other.listen(reference, None).global_tokens == (2, 2)


def test_an_entry_that_does_not_fit_is_heard_again(heard: Heard, reference: Path) -> None:
    heard.voices.listen(reference, None)
    heard.ear.unfit = "it is of another size"
    assert heard.voices.listen(reference, None).global_tokens == (2, 2)


def test_the_engine_is_told_of_the_jobs_cancellation(heard: Heard, reference: Path) -> None:
    cancellation = Cancellation()
    heard.voices.listen(reference, None, cancellation)
    assert heard.ear.heard[0][1] is cancellation


@pytest.mark.parametrize("failure", [None, JobCancelledError("the job was cancelled")])
def test_the_samples_are_not_left_behind(
    heard: Heard,
    reference: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    failure: Exception | None,
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    heard.ear.failure = failure
    if failure is None:
        heard.voices.listen(reference, None)
    else:
        with pytest.raises(JobCancelledError):
            heard.voices.listen(reference, None)
        assert heard.cached() == []
    assert list(scratch.iterdir()) == []
    place = heard.ear.heard[0][0].parent
    assert place.parent == scratch
    assert place.name.startswith(temp_prefix())  # so that it is swept after a kill


def test_a_full_volume_costs_the_entry_and_leaves_no_half_one(
    heard: Heard, reference: Path, warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_tokens: object, path: Path, metadata: object) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "save_file", full)
    assert heard.voices.listen(reference, None).global_tokens == (1, 2)
    assert heard.cached() == []
    assert warnings == ["voice not cached"]


def test_an_entry_appears_whole_by_a_rename(
    heard: Heard, reference: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replaced: list[tuple[Path, Path]] = []
    replace = Path.replace

    def look(staged: Path, final: Path) -> Path:
        assert load_file(staged)["global_tokens"].tolist() == [1, 2]
        assert not final.exists()
        replaced.append((staged, final))
        return replace(staged, final)

    monkeypatch.setattr(Path, "replace", look)
    heard.voices.listen(reference, None)
    ((staged, final),) = [pair for pair in replaced if pair[1].suffix == ".safetensors"]
    assert staged.parent == final.parent  # the same disk
    assert heard.cached() == [final]


def test_a_place_in_the_cache_is_the_last_voices_and_places_are_bounded(
    heard: Heard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a million references, 65,536 take room on the volume."""
    monkeypatch.setattr(module, "PLACE_DIGITS", 1)
    files = [sound(tmp_path / f"{i}.wav", 1.5 + i / 100) for i in range(40)]
    first = [heard.voices.listen(file, None) for file in files]
    assert len(heard.cached()) <= 16
    assert heard.voices.listen(files[-1], None) == first[-1]
    assert len(heard.ear.heard) == 40
    again = [heard.voices.listen(file, None) for file in files]
    assert len(heard.ear.heard) > 40
    for before, now in zip(first, again, strict=True):  # its own or heard anew, never another's
        assert now == before or now.global_tokens[0] > 40
    assert len(heard.cached()) <= 16


def test_a_rename_that_fails_leaves_nothing(
    heard: Heard, reference: Path, warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = Path.replace

    def refuse(staged: Path, final: Path) -> Path:
        if final.suffix == ".safetensors":
            raise OSError(errno.EROFS, "Read-only file system")
        return replace(staged, final)

    monkeypatch.setattr(Path, "replace", refuse)
    assert heard.voices.listen(reference, None).global_tokens == (1, 2)
    assert heard.cached() == []
    assert warnings == ["voice not cached"]


def test_a_known_voice_is_nothing_to_warn_of(
    heard: Heard, reference: Path, warnings: list[str]
) -> None:
    heard.voices.listen(reference, None)
    heard.voices.listen(reference, None)
    assert warnings == []


def test_speech_without_its_words_is_not_saved(heard: Heard) -> None:
    heard.voices.save("anna", Voice((1, 2), (3, 4)))
    assert heard.voices.saved("anna") == Voice((1, 2))
    heard.voices.save("anna", Voice((1, 2), (3, 4), "Words."))
    assert heard.voices.saved("anna") == Voice((1, 2), (3, 4), "Words.")


def test_what_is_saved_says_its_format_and_model(heard: Heard) -> None:
    heard.voices.save("anna", Voice((1, 2)))
    kept = json.loads(heard.storage.read_bytes("voices/anna.json"))
    assert (kept["format"], kept["model"]) == (1, "tiny@1")


def test_a_saved_voice_may_be_as_long_as_a_reference_and_no_longer(heard: Heard) -> None:
    heard.voices.save("long", Voice((1,), (1,) * 4_096, "x" * 2_000))
    assert len(heard.voices.saved("long").semantic_tokens) == 4_096
    for longer, words in (
        (Voice((1,), (1,) * 4_097, "x"), "4097 tokens of speech, more than 4096"),
        (Voice((1,), (1,), "x" * 2_001), "transcript has more than 2000 characters"),
    ):
        heard.voices.save("long", longer)
        with pytest.raises(VoiceError, match=words) as caught:
            heard.voices.saved("long")
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


LONG = Voice(tuple(range(5)), (7,) * module.LONGEST, '"' * MAX_PROMPT_TEXT)


def test_the_longest_voice_that_can_be_saved_is_read_back(heard: Heard) -> None:
    heard.voices.save("long", LONG)
    assert heard.voices.saved("long") == LONG


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


@pytest.mark.parametrize(
    "tensors",
    [
        {"semantic_tokens": torch.ones(300_000, dtype=torch.int32)},  # more than CACHED_BYTES_MAX
        {"semantic_tokens": torch.ones(module.LONGEST + 1, dtype=torch.int32)},
        {"semantic_tokens": torch.ones(2, 2, dtype=torch.int32)},
        {"semantic_tokens": torch.tensor(1, dtype=torch.int32)},
        {"semantic_tokens": torch.ones(3)},
        {"semantic_tokens": torch.ones(3, dtype=torch.complex64)},
        {"global_tokens": torch.tensor([True])},
        {"global_tokens": torch.ones(0, 2, dtype=torch.int32)},
    ],
)
def test_an_entry_that_nobody_cached_so_is_heard_again(
    heard: Heard, reference: Path, tensors: dict[str, torch.Tensor]
) -> None:
    heard.voices.listen(reference, None)
    (cached,) = heard.cached()
    good = {name: torch.ones(2, dtype=torch.int32) for name in ("global_tokens", "semantic_tokens")}
    save_file(good | tensors, cached, metadata_of(cached))
    assert heard.voices.listen(reference, None).global_tokens == (2, 2)  # the second hearing
    assert heard.voices.listen(reference, None).global_tokens == (2, 2)
    assert len(heard.ear.heard) == 2


@pytest.fixture(params=["folder", "bucket"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Voices]]:
    """Makes Voices of one storage, as each worker has its own."""
    if request.param == "folder":
        yield lambda: Voices(Ear(), LocalStorage(tmp_path / "storage"), KEYS, tmp_path / "tiny@1")
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
        yield lambda: Voices(
            Ear(), S3Storage.from_settings(settings, limits), KEYS, tmp_path / "tiny@1"
        )


def test_of_a_name_that_many_save_at_once_each_reader_gets_one_whole_voice(
    shared: Callable[[], Voices],
) -> None:
    """Of some length, so that a half-written one would be seen."""

    def voice(writer: int) -> Voice:
        return Voice((writer,) * 5, (writer,) * (1000 + 500 * writer), f"voice {writer}")

    shared().save("one", voice(0))
    begin = threading.Barrier(6)
    over = threading.Event()

    def write(writer: int) -> None:
        voices = shared()
        begin.wait()
        for _ in range(25):
            voices.save("one", voice(writer))

    def read() -> set[str]:
        voices, seen = shared(), set()
        begin.wait()
        while not over.is_set():
            found = voices.saved("one")
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
    assert shared().saved("one") in [voice(writer) for writer in (1, 2, 3)]
