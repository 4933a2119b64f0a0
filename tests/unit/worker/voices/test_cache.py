"""The cache of reference voices: heard once, in bounded places, and never another's."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.events import Events
from tests.support.heard_voices import Heard, sound
from worker.audio.recordings.reading import read
from worker.speech.voice import Voice
from worker.voices import cache
from worker.voices.cache import ENTRY_BYTES_MAX, sha256_of
from worker.voices.saved import LONGEST


@pytest.fixture
def heard(tmp_path: Path) -> Heard:
    return Heard(tmp_path)


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    return sound(tmp_path / "reference.wav", 1.5)


def change(entry: Path, **fields: Any) -> None:
    entry.write_text(json.dumps(json.loads(entry.read_text()) | fields))


def test_an_entry_is_the_saved_voices_json_with_the_recordings_sha256(
    heard: Heard, reference: Path
) -> None:
    heard.voices.listen(reference, "Its words.")
    (entry,) = heard.cached()
    sha256 = sha256_of(read(reference).audio)
    assert entry == heard.cache / f"{sha256[:4]}.json"
    assert json.loads(entry.read_text()) == {
        "format": 1,
        "model": "tiny@1",
        "global_tokens": [1, 2],
        "semantic_tokens": [5, 6, 7],
        "transcript": None,
        "style": None,
        "sha256": sha256,
    }


def test_a_reference_is_heard_once_whatever_its_name(
    heard: Heard, reference: Path, tmp_path: Path
) -> None:
    heard.voices.listen(reference, None)
    (entry,) = heard.cached()
    change(entry, global_tokens=[8, 9])
    copy = Path(shutil.copy(reference, tmp_path / "another name.wav"))
    assert heard.voices.listen(copy, None) == Voice((8, 9), (5, 6, 7))
    assert len(heard.ear.heard) == 1


@pytest.mark.parametrize("content", [b"", b"not JSON", b"{}", b"[1]", b"\xff\xfe", b'{"format": 1'])
def test_a_spoilt_entry_is_heard_again_and_replaced(
    heard: Heard, reference: Path, content: bytes
) -> None:
    heard.voices.listen(reference, None)
    (entry,) = heard.cached()
    entry.write_bytes(content)
    assert heard.voices.listen(reference, None).global_tokens == (2, 2)
    assert json.loads(entry.read_text())["global_tokens"] == [2, 2]


@pytest.mark.parametrize(
    "fields",
    [
        {"semantic_tokens": [1] * (LONGEST + 1)},
        {"semantic_tokens": [1] * ENTRY_BYTES_MAX},
        {"semantic_tokens": [[1, 2], [3, 4]]},
        {"semantic_tokens": 1},
        {"semantic_tokens": None},
        {"semantic_tokens": [1.0, 2.0]},
        {"semantic_tokens": ["1"]},
        {"global_tokens": [True]},
        {"global_tokens": {"0": 1}},
        {"format": 2},
        {"more": 1},
        {"sha256": 64 * "0"},
        {"sha256": None},
    ],
    ids=lambda fields: str(fields)[:40],
)
def test_an_entry_that_nobody_cached_so_is_heard_again(
    heard: Heard, reference: Path, fields: dict[str, object]
) -> None:
    heard.voices.listen(reference, None)
    (entry,) = heard.cached()
    change(entry, **fields)
    assert heard.voices.listen(reference, None).global_tokens == (2, 2)  # the second hearing
    assert heard.voices.listen(reference, None).global_tokens == (2, 2)
    assert len(heard.ear.heard) == 2


def test_an_entry_of_a_former_version_is_heard_again_and_goes(
    heard: Heard, reference: Path
) -> None:
    former = heard.cache / f"{sha256_of(read(reference).audio)[:4]}.safetensors"
    other = heard.cache / "another.safetensors"
    heard.cache.mkdir(parents=True)
    former.write_bytes(b"tokens")
    other.write_bytes(b"tokens")
    assert heard.voices.listen(reference, None).global_tokens == (1, 2)
    assert heard.voices.listen(reference, None).global_tokens == (1, 2)
    assert set(heard.cached()) == {former.with_suffix(".json"), other}


def test_a_cache_that_cannot_be_written_costs_nothing(
    heard: Heard, reference: Path, tmp_path: Path, events: Events
) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert heard.voices.listen(reference, None).global_tokens == (1, 2)
    assert events.warnings() == ["voice not cached"]


def test_a_folder_at_an_entrys_place_costs_nothing(
    heard: Heard, reference: Path, events: Events
) -> None:
    (heard.cache / f"{sha256_of(read(reference).audio)[:4]}.json").mkdir(parents=True)
    assert heard.voices.listen(reference, None).global_tokens == (1, 2)
    assert heard.cached() == []
    assert events.warnings() == ["voice not cached"]


def test_a_full_volume_costs_the_entry_and_leaves_no_half_one(
    heard: Heard, reference: Path, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard.voices.listen(reference, None)
    (entry,) = heard.cached()
    entry.write_text("another's")
    write = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        write(path, content[:9])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert heard.voices.listen(reference, None).global_tokens == (2, 2)
    assert events.warnings() == ["voice not cached"]
    assert list(heard.cache.iterdir()) == [entry]
    assert entry.read_text() == "another's"


def test_an_entry_appears_whole_by_a_rename(
    heard: Heard, reference: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replaced: list[tuple[Path, Path]] = []
    replace = Path.replace

    def look(part: Path, final: Path) -> Path:
        assert json.loads(part.read_text())["global_tokens"] == [1, 2]
        assert not final.exists()
        assert heard.cache in part.parents  # the same disk
        replaced.append((part, final))
        return replace(part, final)

    monkeypatch.setattr(Path, "replace", look)
    heard.voices.listen(reference, None)
    ((_, final),) = replaced
    assert list(heard.cache.iterdir()) == [final]


def test_a_rename_that_fails_leaves_nothing(
    heard: Heard, reference: Path, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_part: Path, _final: Path) -> Path:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "replace", refuse)
    assert heard.voices.listen(reference, None).global_tokens == (1, 2)
    assert list(heard.cache.iterdir()) == []
    assert events.warnings() == ["voice not cached"]


def test_a_known_voice_is_nothing_to_warn_of(heard: Heard, reference: Path, events: Events) -> None:
    heard.voices.listen(reference, None)
    heard.voices.listen(reference, None)
    assert events.warnings() == []


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


def test_a_place_in_the_cache_is_the_last_voices_and_places_are_bounded(
    heard: Heard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a million references, 65,536 take room on the volume."""
    monkeypatch.setattr(cache, "PLACE_DIGITS", 1)
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
