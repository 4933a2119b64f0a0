"""The command line without RunPod: options are the API's fields, results lie where asked."""

from __future__ import annotations

import errno
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import av
import numpy as np
import pytest
import soundfile

from tests.support.small_components import HEARD, TEXT, EvenAligner, SmallParts, small_components
from tests.support.sounds import tone
from worker import speak
from worker.api.field_types import names
from worker.api.request import SpeechRequest
from worker.audio import files
from worker.audio.formats import Format
from worker.audio.waveform import Audio
from worker.components import Components
from worker.errors import DeviceError
from worker.logs import log
from worker.settings import Settings


@pytest.fixture
def small(tmp_path: Path) -> SmallParts:
    return small_components(tmp_path, EvenAligner())


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    return tmp_path / "scratch"


@pytest.fixture(autouse=True)
def _loaded(small: SmallParts, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr(Components, "load", lambda _settings: small.components)
    handlers, level, propagate = log.handlers[:], log.level, log.propagate
    interval = sys.getswitchinterval()
    yield
    sys.setswitchinterval(interval)
    log.handlers[:], log.propagate = handlers, propagate
    log.setLevel(level)


def call(*options: object) -> int:
    return speak.main([TEXT, *map(str, options)])


def test_threads_give_way_soon_as_in_a_worker(small: SmallParts, tmp_path: Path) -> None:
    assert call("--out", tmp_path / "a.wav") == 0
    assert sys.getswitchinterval() == pytest.approx(0.0003)


def test_the_speech_is_put_where_asked_and_nothing_else_is_left(
    small: SmallParts, scratch: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "deep" / "hello.flac"
    assert call("--out", out, "--seed", 7) == 0
    assert soundfile.info(out).format == "FLAC"
    assert [path.name for path in out.parent.iterdir()] == ["hello.flac"]
    assert not list(scratch.iterdir())
    # Nor does anything go where the worker's results go.
    assert not small.storage.put_keys
    said = capsys.readouterr().out
    assert re.fullmatch(
        rf"{re.escape(str(out))}: 1\.80 s of speech in \d+\.\d\d s "
        r"\(\d+\.\d times real time, \d+ tokens/s\), seed 7\n",
        said,
    )


def test_an_ending_in_capitals_is_kept(tmp_path: Path) -> None:
    assert call("--out", tmp_path / "hello.WAV") == 0
    assert soundfile.info(tmp_path / "hello.WAV").format == "WAV"


def test_a_file_that_is_there_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"old")
    assert call("--out", tmp_path / "a.wav") == 0
    assert soundfile.info(tmp_path / "a.wav").frames == 1.8 * 16000


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["--enable-subtitles"], {"a.wav", "a.ass"}),
        (["--enable-subtitles", "--subtitle-format", "srt"], {"a.wav", "a.srt"}),
        (["--enable-whisperx"], {"a.wav"}),
    ],
)
def test_subtitles_lie_beside_the_audio(
    tmp_path: Path, options: list[str], names: set[str]
) -> None:
    out = tmp_path / "out" / "a.wav"
    assert call("--out", out, *options) == 0
    assert {path.name for path in out.parent.iterdir()} == names


def test_a_recording_is_cloned(small: SmallParts, tmp_path: Path) -> None:
    voice = tmp_path / "ann.wav"
    files.write_samples(Audio(tone(300.0, 1.2), 16_000), voice)
    options = ("--voice-from", voice, "--prompt-text", "So it was.", "--save-voice", "ann")
    assert call("--out", tmp_path / "a.wav", *options) == 0
    assert small.engine.asked[0].voice == replace(HEARD, transcript="So it was.")
    # Kept where the worker's voices are, and found there again.
    assert call("--out", tmp_path / "a.wav", "--voice", "ann") == 0
    assert small.engine.asked[1].voice == small.engine.asked[0].voice


def test_what_the_caller_should_know_of_a_recording_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other, wait = tone(300, 1.0), tone(200, 1.0), np.zeros(16_000, np.float32)
    left, right = np.concatenate([one, wait, one]), np.concatenate([wait, other, wait])
    soundfile.write(tmp_path / "two.wav", np.stack([left, right], axis=1), 16_000)
    assert call("--voice-from", tmp_path / "two.wav", "--out", tmp_path / "a.wav") == 0
    assert "note: the recording's channels hold different sounds" in capsys.readouterr().err


def test_options_have_the_types_of_the_fields(small: SmallParts, tmp_path: Path) -> None:
    options = ["--temperature", "0.5", "--top-k", "3", "--seed", "5", "--max-length", "64"]
    assert call("--out", tmp_path / "a.wav", *options, "--speed-shift", "2") == 0
    sampling = small.engine.asked[0].sampling
    assert (sampling.temperature, sampling.top_k, sampling.seed) == (0.5, 3, 5)
    assert soundfile.info(tmp_path / "a.wav").frames == (1.2 / 2 + 0.6) * 16000


@pytest.mark.parametrize("ending", get_args(Format))
def test_the_ending_says_the_format(tmp_path: Path, ending: str) -> None:
    out = tmp_path / f"a.{ending}"
    if ending == "aac":  # in MP4, whose files end in m4a
        assert call("--out", out) == 1
        return
    assert call("--out", out) == 0
    if ending == "pcm":
        assert out.stat().st_size == 2 * 1.8 * 16000
        return
    with av.open(str(out)) as container:
        assert container.streams.audio[0].codec_context.name.startswith(
            {"wav": "pcm_s16le", "ogg": "vorbis", "m4a": "aac"}.get(ending, ending)
        )


def test_the_audio_has_what_the_options_ask_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a.mp3"
    options = ("--sample-rate", 24_000, "--bit-rate", 64, "--loudness=-40")
    assert call("--out", out, *options) == 1
    assert "loudness: -40.0 is not allowed" in capsys.readouterr().err
    tags = ("--tags", '{"title": "A fox", "track": 2}')
    assert call("--out", out, *options[:4], "--loudness=-8", "--true-peak=-9", *tags) == 0
    assert capsys.readouterr().err.startswith("note: loudness: the speech has -")
    with av.open(str(out)) as container:
        assert (container.metadata["title"], container.metadata["track"]) == ("A fox", "2")
        (stream,) = container.streams
        assert (stream.rate, stream.bit_rate) == (24_000, 64_000)


def test_turns_and_pronunciations_come_from_files(
    small: SmallParts, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    turns, words = tmp_path / "turns.json", tmp_path / "words.json"
    turns.write_text('[{"text": "One.", "voice": "onyx"}, {"text": "SQL."}]')
    words.write_text('{"SQL": "sequel"}')
    options = ["--turns", turns, "--pronunciations", words, "--out", tmp_path / "a.wav"]
    assert speak.main([*map(str, options)]) == 0
    assert small.engine.asked[0].sentences == ("One.", "sequel.")
    assert call(*options) == 1
    assert "text and turns both say" in capsys.readouterr().err
    words.write_text("{")
    assert speak.main([*map(str, options)]) == 1
    assert "words.json cannot be read: it is no JSON" in capsys.readouterr().err
    assert speak.main(["--out", str(tmp_path / "a.wav")]) == 1
    assert "text is required" in capsys.readouterr().err


def test_subtitles_may_have_a_look_by_name_or_as_json(tmp_path: Path) -> None:
    for look, shown in (("karaoke", r"{\k"), ('{"font": "Inter"}', "Inter")):
        options = ("--enable-subtitles", "--subtitle-style", look)
        assert call("--out", tmp_path / "a.wav", *options) == 0
        assert shown in (tmp_path / "a.ass").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--out", "a.txt"], "--out: a.txt must end in .wav, .flac, .mp3, .ogg"),
        (["--out", "a"], "--out: a must end in"),
        (["--voice-from", "nobody.wav"], "--voice-from: there is no file nobody.wav"),
        (["--voice-from", "/"], "--voice-from: there is no file /"),
        (["--temperature", "hot"], "temperature: 'hot'"),
        (["--top-k", "1.5"], "top_k: '1.5'"),
        (["--subtitle-style", "{bad"], "subtitle_style: "),
        (["--gap", "1"], None),
    ],
)
def test_a_wrong_option_is_refused_before_anything_is_loaded(
    options: list[str],
    said: str | None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Components, "load", lambda _settings: pytest.fail("it is loaded"))
    if said is None:
        with pytest.raises(SystemExit):
            call(*options)
        return
    assert call(*options) == 1
    written = capsys.readouterr()
    assert written.err.startswith("error: ")
    assert said.replace("'", "") in written.err.replace("'", "").replace('"', "")
    assert not written.out


@pytest.mark.parametrize("place", ["file/a.wav", "/proc/x/a.wav"])
def test_a_place_that_cannot_be_written_is_told_before_all_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setattr(Components, "load", lambda _settings: pytest.fail("it is loaded"))
    assert call("--out", tmp_path / place) == 1
    assert re.match(r"error: .*a\.wav cannot be written: [A-Z]", capsys.readouterr().err)


def test_a_disk_that_is_full_in_the_end_is_told_and_leaves_no_half_file(
    small: SmallParts, scratch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def full(_source: object, into: Path) -> None:
        into.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(speak.shutil, "move", full)
    assert call("--out", tmp_path / "a.wav") == 1
    assert "a.wav cannot be written: No space left on device" in capsys.readouterr().err
    assert not (tmp_path / "a.wav").exists()


def test_a_failure_is_told_and_leaves_nothing(
    small: SmallParts, scratch: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_sentence: str) -> None:
        raise DeviceError("the GPU failed")

    small.engine.before = fail
    assert call("--out", tmp_path / "a.wav") == 1
    assert capsys.readouterr().err == "error: the GPU failed\n"
    assert not (tmp_path / "a.wav").exists()
    assert not list(scratch.iterdir())


def test_a_wrong_variable_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("S3_URL_EXPIRY", "soon")
    assert call() == 1
    assert "S3_URL_EXPIRY" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "level"), [(None, "WARNING"), ("DEBUG", "DEBUG"), ("ERROR", "ERROR")]
)
def test_the_log_is_quiet_unless_asked(
    given: str | None, level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if given is not None:
        monkeypatch.setenv("LOG_LEVEL", given)
    call("--out", tmp_path / "a.wav")
    assert log.level == getattr(__import__("logging"), level)


def test_every_field_is_an_option_but_those_that_are_given_otherwise() -> None:
    (parser,) = [speak._parser()]
    options: dict[str, Any] = {action.dest: action for action in parser._actions}
    elsewhere = {"text", "prompt_speech_url", "output_name", "output_format", "url_expiry"}
    # Nobody waits for sentences here.
    assert set(SpeechRequest.model_fields) - set(options) == (elsewhere | {"stream"}) - {"text"}
    assert options["multi_sentence_gap"].option_strings == ["--multi-sentence-gap"]
    for field in set(SpeechRequest.model_fields) & set(options) - {"text"}:
        called = [
            f"--{n.replace('_', '-')}" for n in names(field, SpeechRequest.model_fields[field])
        ]
        assert options[field].option_strings == called
    assert "--gender" in options["speaker_gender"].option_strings
    assert options["out"].default == Path("speech.wav")
