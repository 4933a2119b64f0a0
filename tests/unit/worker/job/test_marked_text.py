"""Tags and turns through a job's stages: who says what, and silence to the sample."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.small_components import RATE, EvenAligner, ToneEngine, small_components
from tests.support.sounds import tone
from worker.api.request import SpeechRequest, parse_request
from worker.api.response import SpeechResponse, SpokenSegment
from worker.audio import files
from worker.audio.waveform import Audio
from worker.cancellation import Cancellation
from worker.errors import RequestError, VoiceError
from worker.job import pipeline
from worker.job.context import Job
from worker.job.live import LiveAudio, LiveEnd, speak_live
from worker.job.live_sentences import LiveSentence
from worker.job.script import script_of
from worker.speech.batch.sampling import Sampling
from worker.speech.engine import DesignedVoice
from worker.speech.voice import Style, Voice
from worker.text.markup import holds_tag
from worker.voices.builtin import DESIGN_TEXT

WORD = round(0.2 * RATE)  # samples that the small engine's words take
GAP = round(0.3 * RATE)


@dataclass
class Designer(ToneEngine):
    """Designs another voice for each style and seed, and hears one in each file."""

    heard: int = 0

    def design(
        self, style: Style, text: str, sampling: Sampling, cancellation: Cancellation | None = None
    ) -> DesignedVoice:
        self.designed.append((style, text, sampling, cancellation))
        number = ("female", "male").index(style.gender)
        return DesignedVoice(Voice((number, sampling.seed % 10_000), style=style), 5)

    def listen(
        self, path: Path, transcript: str | None = None, cancellation: Cancellation | None = None
    ) -> Voice:
        self.heard += 1
        return Voice((9, 9), (1,), transcript)


class Runner:
    """Speaks requests with small components."""

    def __init__(self, folder: Path, aligner: EvenAligner | None = None) -> None:
        small = small_components(folder, aligner)
        self.engine = Designer()
        self.fetched: list[str] = []
        small.voices._engine = small.voices._designed._engine = self.engine
        self.voices = small.voices
        self.components = replace(small.components, engine=self.engine, fetch_reference=self._fetch)
        self.folder, self.numbers = folder, count()
        self.told: list[SpokenSegment] = []

    def _fetch(self, url: str, folder: Path, _cancellation: Cancellation) -> Path:
        self.fetched.append(url)
        return self.folder / url

    def job(self, *, streamed: bool = False) -> Job:
        folder = self.folder / f"job-{next(self.numbers)}"
        folder.mkdir()
        announce = self.told.append if streamed else None
        return Job(folder.name, self.components, folder, announce=announce)

    def speak(self, *, streamed: bool = False, **asked: Any) -> SpeechResponse:
        return pipeline.speak(parse_request(asked), self.job(streamed=streamed))

    def listen(self, **asked: Any) -> tuple[np.ndarray, list[LiveSentence], LiveEnd]:
        events = list(speak_live(parse_request(asked), self.job()))
        audio = [event.samples for event in events if isinstance(event, LiveAudio)]
        told = [event for event in events if isinstance(event, LiveSentence)]
        (end,) = (event for event in events if isinstance(event, LiveEnd))
        return np.concatenate(audio), told, end


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(tmp_path)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    return Runner(tmp_path_factory.mktemp("shared"), EvenAligner())


def samples_of(answer: SpeechResponse) -> np.ndarray:
    return soundfile.read(Path(unquote(urlsplit(answer.audio_url).path)))[0]


def places(answer: SpeechResponse | LiveEnd) -> list[tuple[str, int, int]]:
    return [(s.text, round(s.start * RATE), round(s.end * RATE)) for s in answer.segments]


# Pauses


def test_a_pause_stands_in_place_of_the_gap_to_the_sample(runner: Runner) -> None:
    answer = runner.speak(text="One. [pause:1.5s] Two three[pause:10ms]four.\nFive.", markup=True)
    one = (0, WORD)
    two = (one[1] + 24_000, one[1] + 24_000 + 2 * WORD)
    four = (two[1] + 160, two[1] + 160 + WORD)
    five = (four[1] + GAP, four[1] + GAP + WORD)
    said = zip(("One.", "Two three", "four.", "Five."), (one, two, four, five), strict=True)
    assert places(answer) == [(text, *span) for text, span in said]
    samples = samples_of(answer)
    assert len(samples) == five[1]
    assert not samples[one[1] : two[0]].any()
    assert all(segment.speaker is None for segment in answer.segments)
    assert answer.speakers is None


@pytest.mark.parametrize("streamed", [False, True])
def test_silence_at_both_ends(runner: Runner, streamed: bool) -> None:
    text = "[pause:250ms][pause:250ms] One. [pause:1s]"
    answer = runner.speak(streamed=streamed, text=text, markup=True)
    assert places(answer) == [("One.", 8_000, 8_000 + WORD)]
    assert answer.duration == pytest.approx(0.5 + 0.2 + 1)
    samples = samples_of(answer)
    assert len(samples) == 8_000 + WORD + 16_000
    assert not samples[:8_000].any()
    assert not samples[-16_000:].any()
    assert [(s.start, s.end) for s in runner.told] == ([(0.5, 0.7)] if streamed else [])


def test_without_markup_a_tag_is_text(runner: Runner) -> None:
    text = "One [pause:1s] two [voice:nobody] three."
    (segment,) = runner.speak(text=text, normalize="off").segments
    assert segment.text == text
    assert runner.engine.asked[0].sentences == (text,)


def test_words_and_subtitles_move_with_the_pause(shared: Runner) -> None:
    text = "One. [pause:2s] Two. [pause:1s]"
    answer = shared.speak(
        text=text, markup=True, enable_subtitles=True, subtitle_format="srt", speed_shift=2
    )
    assert answer.word_timings is not None
    assert [(w.word, w.start, w.end) for w in answer.word_timings] == [
        ("One.", 0.0, 0.1),
        ("Two.", 2.1, 2.2),
    ]
    file = Path(unquote(urlsplit(str(answer.subtitles_url)).path)).read_text()
    assert "00:00:02,100 --> " in file
    assert "pause" not in file


WORDS = st.lists(st.sampled_from(["one", "two", "three.", "Four!"]), min_size=1, max_size=4)
PAUSES = st.integers(0, 3_000)


@given(
    parts=st.lists(st.tuples(st.lists(PAUSES, max_size=2), WORDS), min_size=1, max_size=5),
    end=st.lists(PAUSES, max_size=2),
    gap=st.integers(0, 500),
    live=st.booleans(),
)
@settings(max_examples=40)
def test_clips_pauses_and_gaps_are_the_whole(
    shared: Runner, parts: list[tuple[list[int], list[str]]], end: list[int], gap: int, live: bool
) -> None:
    """Whatever the pauses: they, the gaps and the words are the audio, and each is in its place."""
    tags = ["".join(f"[pause:{n}ms]" for n in pauses) for pauses, _ in parts]
    text = "\n".join(
        f"{tag} {' '.join(words)}" for tag, (_, words) in zip(tags, parts, strict=True)
    )
    text += "".join(f"[pause:{n}ms]" for n in end)
    asked = {"text": text, "markup": True, "multi_sentence_gap": gap / 1000, "seed": 1}
    script = script_of(parse_request(asked))
    assert " ".join(line.text for line in script.lines) == " ".join(
        word for _, words in parts for word in words
    )
    if live:
        samples, _, whole = shared.listen(**asked)
        answer: SpeechResponse | LiveEnd = whole
    else:
        answer = shared.speak(**asked)
        samples = samples_of(answer)
    position = 0
    for index, (line, place) in enumerate(zip(script.lines, places(answer), strict=True)):
        silence = gap / 1000 if index else 0.0
        position += round((silence if line.pause is None else line.pause) * RATE)
        length = WORD * len(line.text.split())
        assert place == (line.text, position, position + length)
        assert samples[position : position + length].any()
        position += length
    assert len(samples) == position + round(sum(end) / 1000 * RATE)
    asked_for = sum(n for pauses, _ in parts for n in pauses) + sum(end)
    assert sum(line.pause or 0 for line in script.lines) + script.pause == pytest.approx(
        asked_for / 1000
    )


ANY = st.lists(
    st.one_of(
        st.sampled_from(
            ["[pause:1s]", "[voice:alloy]", "[voice:default]", "[pause:x]", "[", "]", "\n", "-\n"]
        ),
        st.sampled_from(["word", "pause:1s", "字", " ", ". ", "voice", "pau", "se:1s"]),
        st.text(max_size=3),
    ),
    max_size=12,
).map("".join)


SAID = st.dictionaries(
    st.sampled_from(["word", "pau", "pause", "1s", "voice", "]", "[", "alloy", "字"]),
    st.sampled_from(["pause", "voice:a", "se", "[pause:1s]", "said", "["]),
    max_size=2,
)


@given(text=ANY, more=st.none() | ANY, said=SAID)
def test_no_tag_is_ever_said(text: str, more: str | None, said: dict[str, str]) -> None:
    """Whatever is written, in a text or in turns, and whatever words are said as."""
    written = {"text": text} if more is None else {"turns": [{"text": text}, {"text": more}]}
    try:
        script = script_of(parse_request({**written, "markup": True, "pronunciations": said}))
    except RequestError:
        return
    assert script.lines
    assert not any(holds_tag(line.said) for line in script.lines)


# Voices by tags


def voice_of(runner: Runner, name: str) -> Voice:
    return runner.voices.saved(name)


def test_each_line_has_the_voice_of_its_tag(runner: Runner) -> None:
    runner.engine.word = 0.4
    text = "Once. [voice:alloy] Hi. [voice:onyx] Ho. [voice:default] End."
    answer = runner.speak(text=text, markup=True, seed=3)
    (asked,) = runner.engine.asked
    own = Voice((0, 3), style=Style())
    alloy, onyx = voice_of(runner, "alloy"), voice_of(runner, "onyx")
    assert asked.sentences == ("Once.", "Hi.", "Ho.", "End.")
    assert asked.voice == (own, alloy, onyx, own)
    assert [s.speaker for s in answer.segments] == ["default", "alloy", "onyx", "default"]
    assert answer.speakers is not None
    assert [(s.speaker, s.source, s.name) for s in answer.speakers] == [
        ("default", "style", None),
        ("alloy", "builtin", "alloy"),
        ("onyx", "builtin", "onyx"),
    ]
    assert answer.voice.source == "style"
    texts = sorted(text for _, text, _, _ in runner.engine.designed)
    assert texts == [DESIGN_TEXT, DESIGN_TEXT, "Once."]  # two names, and the own voice


def test_a_voice_that_nobody_hears_is_not_designed(runner: Runner) -> None:
    answer = runner.speak(text="[voice:alloy] Hi.", markup=True)
    assert len(runner.engine.designed) == 1
    assert answer.voice.name == "alloy"
    assert [s.speaker for s in answer.segments] == ["alloy"]


@pytest.mark.parametrize("text", ["Hi. [voice:nobody] Ho.", "Hi. [voice:nobody][voice:alloy] Ho."])
def test_a_voice_that_is_not_there_is_named_with_its_place(runner: Runner, text: str) -> None:
    with pytest.raises(VoiceError, match=r"text has '\[voice:nobody\]' at position 4: there is no"):
        runner.speak(text=text, markup=True)
    assert not runner.engine.asked


def test_words_have_their_speaker(shared: Runner) -> None:
    answer = shared.speak(text="Hi. [voice:onyx] Ho ho.", markup=True, enable_whisperx=True)
    assert answer.word_timings is not None
    assert [w.speaker for w in answer.word_timings] == ["default", "onyx", "onyx"]


def test_a_listener_hears_what_is_stored(runner: Runner) -> None:
    asked = {"text": "[pause:1s]Hi. [voice:onyx] Ho.[pause:2s]", "markup": True, "seed": 5}
    samples, told, end = runner.listen(**asked)
    answer = runner.speak(**asked)
    assert runner.engine.asked[0].voice == runner.engine.asked[1].voice
    assert len(samples) == len(samples_of(answer)) == end.duration * RATE
    assert places(end) == places(answer)
    assert end.speakers == answer.speakers
    assert [sentence.segment.speaker for sentence in told] == ["default", "onyx"]


# Turns


def turns(*given: dict[str, Any], **asked: Any) -> dict[str, Any]:
    return {"turns": list(given), "seed": 8, **asked}


def test_each_turn_has_any_of_the_three_ways_to_a_voice(runner: Runner) -> None:
    runner.engine.word = 0.4
    files.write(Audio(tone(400.0, 2.0, RATE), RATE), runner.folder / "anna.wav", "wav")
    answer = runner.speak(
        **turns(
            {"text": "One.\nTwo.", "voice": "onyx"},
            {"text": "Three.", "prompt_speech_url": "anna.wav", "prompt_text": "Hello."},
            {"text": "Four.", "speaker_gender": "male", "speaker": "Bob"},
            {"text": "Five.", "voice": "onyx"},
            {"text": "Six.", "prompt_speech_url": "anna.wav", "prompt_text": "Hello."},
            {"text": "Seven.", "speaker": "Bob"},
            {"text": "Eight."},
        )
    )
    (asked,) = runner.engine.asked  # all in one batch
    onyx, anna = voice_of(runner, "onyx"), Voice((9, 9), (1,), "Hello.")
    bob, own = Voice((1, 8), style=Style("male")), Voice((0, 8), style=Style())
    assert asked.voice == (onyx, onyx, anna, bob, onyx, anna, bob, own)
    assert runner.fetched == ["anna.wav"]
    assert runner.engine.heard == 1
    assert [s.speaker for s in answer.segments] == [
        "onyx", "onyx", "Speaker 2", "Bob", "onyx", "Speaker 2", "Bob", "default",
    ]  # fmt: skip
    texts = sorted(text for _, text, _, _ in runner.engine.designed)
    assert texts == ["Eight.", "Four.", DESIGN_TEXT]


def test_what_is_told_of_a_recording_says_whose_it_is(runner: Runner) -> None:
    sides = np.stack([tone(300.0, 2.0, RATE), tone(500.0, 2.0, RATE)[::-1]], axis=1)
    sides[:RATE, 0] = sides[RATE:, 1] = 0
    soundfile.write(runner.folder / "two.wav", sides, RATE)
    told = runner.speak(**turns({"text": "Hi."}, {"text": "Ho.", "prompt_speech_url": "two.wav"}))
    assert told.warnings
    assert all(warning.startswith("turns[1]: ") for warning in told.warnings)


def test_voices_are_chosen_beside_each_other_and_the_first_fault_is_told(runner: Runner) -> None:
    together = threading.Barrier(2)
    fetch = runner.components.fetch_reference

    def wait(url: str, folder: Path, cancellation: Cancellation) -> Path:
        together.wait(20)
        return fetch(url, folder, cancellation)

    runner.components = replace(runner.components, fetch_reference=wait)
    given = [{"text": "A.", "prompt_speech_url": name} for name in ("no.wav", "none.wav")]
    for turn in given:
        (runner.folder / turn["prompt_speech_url"]).write_bytes(b"no audio")
    with pytest.raises(VoiceError, match=r"^turns\[0\]"):
        runner.speak(**turns(*given))


def test_two_speakers_of_one_style_have_two_voices(runner: Runner) -> None:
    runner.engine.word = 0.4
    runner.speak(
        **turns(
            {"text": "One.", "speaker": "Ann"},
            {"text": "Two.", "speaker": "Eve"},
            {"text": "Three.", "speaker": "Ann"},
        )
    )
    (asked,) = runner.engine.asked
    ann, eve = Voice((0, 8), style=Style()), Voice((0, 9), style=Style())
    assert asked.voice == (ann, eve, ann)


def test_a_turn_has_its_own_pause_pitch_and_tempo(runner: Runner) -> None:
    answer = runner.speak(
        **turns(
            {"text": "One.", "pause": 0.5},
            {"text": "Two.\nThree.", "speed_shift": 2.0, "pause": 1.0},
            {"text": "[pause:250ms]Four.[pause:1s]", "pause": 0.25, "pitch_shift": 2.0},
            {"text": "Five."},
            markup=True,
            speed_shift=0.5,
        )
    )
    start = 8_000
    expected = [("One.", start, start := start + 2 * WORD)]
    expected += [("Two.", start + 16_000, start := start + 16_000 + WORD // 2)]
    expected += [("Three.", start + GAP, start := start + GAP + WORD // 2)]
    expected += [("Four.", start + 8_000, start := start + 8_000 + 2 * WORD)]
    expected += [("Five.", start + 16_000, start + 16_000 + 2 * WORD)]
    assert places(answer) == expected


def test_a_turn_is_marked_where_the_job_is(runner: Runner) -> None:
    answer = runner.speak(
        **turns(
            {"text": "Hi. [voice:alloy] Psst. [voice:default] Ho.", "voice": "onyx"}, markup=True
        )
    )
    assert [s.speaker for s in answer.segments] == ["onyx", "alloy", "onyx"]
    with pytest.raises(VoiceError, match=r"turns\[1\].text has '\[voice:x\]' at position 0: there"):
        runner.speak(**turns({"text": "Hi."}, {"text": "[voice:x] Ho."}, markup=True))


def test_the_voice_of_a_turn_is_blamed_for_its_faults(runner: Runner) -> None:
    with pytest.raises(VoiceError, match=r"turns\[1\]\.voice: there is no saved voice 'x'") as one:
        runner.speak(**turns({"text": "Hi."}, {"text": "Ho.", "voice": "x"}))
    assert one.value.field == "turns[1].voice"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            [
                {"text": "a", "speaker": "A", "voice": "onyx"},
                {"text": "b", "speaker": "A", "voice": "ash"},
            ],
            r"turns\[1\]: the speaker 'A' has another voice in turns\[0\]",
        ),
        (
            [{"text": "a", "speaker": "ash", "voice": "onyx"}, {"text": "b", "voice": "ash"}],
            r"turns\[1\]: the speaker 'ash' has another voice in turns\[0\]",
        ),
        (
            [{"text": "a", "speaker": "ash", "voice": "onyx"}, {"text": "[voice:ash] b"}],
            r"turns\[1\].text: '\[voice:ash\]' at position 0: the speaker 'ash' has another",
        ),
        ([{"text": "a", "speaker": f"S{n}"} for n in range(33)], "more than 32 speakers"),
    ],
)  # fmt: skip
def test_speakers_that_contradict_each_other(given: list[dict[str, str]], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        script_of(parse_request(turns(*given, markup=True)))


def test_a_bad_sentence_is_spoken_again_with_its_own_voice(tmp_path: Path) -> None:
    aligner = EvenAligner(weak=lambda text, time: text == "Two." and time == 0)
    runner = Runner(tmp_path, aligner)
    runner.engine.word = 0.4  # as long as it takes to say it
    runner.speak(
        **turns(
            {"text": "One.", "voice": "onyx"},
            {"text": "Two.", "voice": "ash"},
            enable_whisperx=True,
        )
    )
    again = runner.engine.asked[1]
    assert (again.sentences, again.voice) == (("Two.",), voice_of(runner, "ash"))


def test_a_number_of_a_speaker_is_free(runner: Runner) -> None:
    answer = runner.speak(
        **turns(
            {"text": "a", "speaker": "Speaker 2", "voice": "onyx"},
            {"text": "b", "speaker_gender": "male"},
        )
    )
    assert [s.speaker for s in answer.segments] == ["Speaker 2", "Speaker 3"]


def request(**asked: Any) -> SpeechRequest:
    return parse_request(asked)


def test_all_that_is_said_is_known_without_tags() -> None:
    assert request(text="One [pause:1s] two", markup=True).whole_text.split() == ["One", "two"]
    assert request(text="One [pause:1s]").whole_text == "One [pause:1s]"
    both = request(turns=[{"text": "A [voice:x]b"}, {"text": "C"}], markup=True).whole_text
    assert both.split() == ["A", "b", "C"]


# Pronunciations


def test_the_written_word_stays_and_the_said_one_is_said(shared: Runner) -> None:
    asked = {
        "turns": [{"text": "Nguyen's GIF. [voice:onyx] SQL!"}],
        "markup": True,
        "pronunciations": {"Nguyen": "win", "gif": "jif", "SQL": "sequel"},
        "enable_subtitles": True,
        "subtitle_format": "vtt",
    }
    answer = shared.speak(**asked)
    assert shared.engine.asked[-1].sentences == ("win's jif.", "sequel!")
    assert [s.text for s in answer.segments] == ["Nguyen's GIF.", "SQL!"]
    assert answer.word_timings is not None
    assert [w.word for w in answer.word_timings] == ["Nguyen's", "GIF.", "SQL!"]
    assert "SQL!" in Path(unquote(urlsplit(str(answer.subtitles_url)).path)).read_text()
    lines = script_of(parse_request(asked)).lines
    assert [(one.start, one.end, one.said) for one in lines[0].replacements] == [
        (0, 6, "win"),
        (9, 12, "jif"),
    ]


def test_a_pronunciation_goes_before_what_a_number_is_in_words() -> None:
    asked = {"text": "In 1999, 12 men ate $5 pies.", "pronunciations": {"12": "a dozen", "$": "x"}}
    (line,) = script_of(parse_request(asked)).lines
    assert line.said == "In nineteen ninety nine, a dozen men ate x5 pies."
    assert [line.text[one.start : one.end] for one in line.replacements] == ["1999", "12", "$"]


@pytest.mark.parametrize(
    ("text", "pronunciations", "markup", "said"),
    [
        ("<|a b|> c", {"a b": "end"}, False, r"said as '<\|end\|> c', which has a token"),
        ("[x:1s] c", {"x": "pause"}, True, r"'\[pause:1s\] c' would be said with a tag in it"),
    ],
)
def test_what_comes_to_be_said_is_looked_at_again(
    text: str, pronunciations: dict[str, str], markup: bool, said: str
) -> None:
    asked = {"text": text, "pronunciations": pronunciations, "markup": markup, "normalize": "off"}
    with pytest.raises(RequestError, match=said):
        script_of(parse_request(asked))


def test_a_sentence_that_is_said_in_many_more_letters_is_cut() -> None:
    asked = {"text": "a " * 99, "pronunciations": {"a": "b" * 100}}
    lines = script_of(parse_request(asked)).lines
    assert max(len(line.said) for line in lines) < 400
    assert " ".join(line.text for line in lines) == ("a " * 99).strip()


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"text": "Hi. [pause:1s] Ho."}, True),
        ({"turns": [{"text": "Hi."}, {"text": "[voice:onyx] Ho."}]}, True),
        ({"text": "Hi. [pause:1s] Ho.", "markup": True}, False),
        ({"text": "Hi. [sic] Ho[1], array[pause]."}, False),
    ],
)
def test_tags_that_count_for_nothing_are_told_of(
    runner: Runner, asked: dict[str, Any], told: bool
) -> None:
    assert [("markup is not true" in one) for one in runner.speak(**asked).warnings] == [
        True
    ] * told


def test_colours_of_who_does_not_speak_are_told_of(runner: Runner) -> None:
    asked = {"text": "Hi. [voice:onyx] Ho.", "markup": True}
    style = {"speaker_colours": {"onyx": "#FF0000", "Anna": "#00FF00"}}
    assert runner.speak(**asked, subtitle_style=style).warnings == (
        "subtitle_style: speaker_colours has 'Anna', who does not speak",
    )
