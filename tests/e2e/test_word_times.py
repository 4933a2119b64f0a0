"""Word times against the truth: words pasted at known places, and the demo voice's own tokens."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from scripts.demo_voice.codes import SILENT
from tests.conftest import DEMO_VOICE
from tests.support.spoken_words import SAMPLE_RATE, Pasted, paste
from tests.support.truth import edge_errors
from tests.support.word_aligner import CHINESE, ENGLISH, train
from worker.job.speech_check import judge
from worker.speech.batch.sampling import Sampling
from worker.speech.engine import Engine, Utterance
from worker.text.line import Replacement
from worker.timing.aligner import Aligner
from worker.timing.word_timing import SentenceSpan, WordTiming

SENTENCES = (
    "The boy walked to the river.",
    "She opened the window and looked at the garden.",
    "I would like to read this book.",
    "There are seven horses on the road.",
    "We will meet at the station at seven in the morning.",
    "The children were playing in the street after school.",
    "They bought a new car last year.",
)
WELL_SAID = 3  # of them: nothing is wrong with it


@pytest.fixture(scope="session")
def aligner(tmp_path_factory: pytest.TempPathFactory) -> Aligner:
    """English and Chinese in espeak-ng's voices."""
    folders = {}
    for language, lesson in (("en", ENGLISH), ("zh", CHINESE)):
        folders[language] = tmp_path_factory.mktemp(f"aligner-{language}")
        train(folders[language], lesson)
    return Aligner.load(folders, "cpu")


@pytest.fixture(scope="session")
def demo_aligner(demo_checkpoint: Path) -> Aligner:
    return Aligner.load({"en": demo_checkpoint / "aligner"}, "cpu")


@pytest.fixture(scope="session")
def utterances(demo_engine: Engine) -> list[Utterance]:
    voice = demo_engine.listen(DEMO_VOICE)
    return list(demo_engine.speak(SENTENCES, voice, Sampling(temperature=0)))


def align(aligner: Aligner, pasted: Pasted, text: str | None = None) -> list[WordTiming]:
    span = SentenceSpan(text or pasted.text, 0.0, pasted.seconds)
    return aligner.align(pasted.samples, SAMPLE_RATE, [span])


def errors(times: list[tuple[float, float]], truth: list[tuple[float, float]]) -> np.ndarray:
    """Milliseconds [words, start and end], without sign."""
    return np.abs(np.array(times) - np.array(truth)) * 1000


def report(name: str, wrong: np.ndarray) -> tuple[float, float]:
    """Median and 95th percentile, printed (pytest -rP shows them) and given."""
    median, most = np.percentile(wrong, [50, 95])
    print(f"{name}: median {median:.1f} ms, 95th percentile {most:.1f} ms, {wrong.size} edges")
    return float(median), float(most)


def test_words_at_known_places_are_found_there(aligner: Aligner) -> None:
    rng = np.random.default_rng(7)
    wrong = []
    for _ in range(12):
        pasted = paste(rng.choice(ENGLISH.words, 7), rng.uniform(0.05, 0.6, 8))
        timed = align(aligner, pasted)
        assert [word.word for word in timed] == [word for word, _, _ in pasted.words]
        wrong.append(
            errors([(w.start, w.end) for w in timed], [(a, b) for _, a, b in pasted.words])
        )
    median, most = report("English words", np.concatenate(wrong))
    assert median <= 15
    assert most <= 40


def test_chinese_characters_are_found_where_they_are(aligner: Aligner) -> None:
    rng = np.random.default_rng(7)
    wrong = []
    for text in ("我们今天去看书", "今天我们看书", "一九九九年我们去看书"):
        pasted = paste(tuple(text), rng.uniform(0.12, 0.3, len(text) + 1), "cmn")
        timed = align(aligner, pasted, text)
        assert "".join(word.word for word in timed) == text
        firsts = np.cumsum([0, *(len(word.word) for word in timed)])
        truth = [(pasted.words[a][1], pasted.words[b - 1][2]) for a, b in pairwise(firsts)]
        wrong.append(errors([(w.start, w.end) for w in timed], truth))
    median, most = report("Chinese words", np.concatenate(wrong))
    assert median <= 30
    assert most <= 90


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("She opened 1999 dollars", "she opened|nineteen ninety nine|dollars"),
        ("$43,000 dog", "forty three thousand dollars|dog"),
        ("the 3.5% boy", "the|three point five percent|boy"),
        ("boy 7:30 river", "boy|seven thirty|river"),
        ("— the dog 🙂 walked", "the dog|walked"),
    ],
)
def test_a_written_number_has_the_time_of_its_spoken_words(
    aligner: Aligner, written: str, spoken: str
) -> None:
    words = spoken.replace("|", " ").split()
    pasted = paste(words, [0.1] * (len(words) + 1))
    timed = align(aligner, pasted, written)
    assert [word.word for word in timed] == written.split()
    number = next((w for w in timed if any(map(str.isdigit, w.word))), None)
    if number is None:
        assert [w.estimated for w in timed] == [w.word in "—🙂" for w in timed]
        return
    before, *_ = groups = spoken.split("|")
    at = len(before.split()) if before in written.lower() else 0
    count = len(max(groups, key=len).split())
    truth = [(pasted.words[at][1], pasted.words[at + count - 1][2])]
    assert not number.estimated
    assert errors([(number.start, number.end)], truth).max() <= 60


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        # The sign of "$43.5 thousand" is said behind the scale word.
        ("the $43.5 thousand dog", "the|forty three point five|thousand dollars|dog"),
        ("boy 7:30 percent - nine", "boy|seven thirty|percent||nine"),
        ("the 3.5 % boy", "the|three point five|percent|boy"),
    ],
)
def test_words_that_are_said_together_have_each_their_own_time(
    aligner: Aligner, written: str, spoken: str
) -> None:
    parts = spoken.split("|")
    words = spoken.replace("|", " ").split()
    pasted = paste(words, [0.1] * (len(words) + 1))
    timed = align(aligner, pasted, written)
    assert [word.word for word in timed] == written.split()
    first = 0
    for word, part in zip(timed, parts, strict=True):
        count = len(part.split())
        if count:
            truth = [(pasted.words[first][1], pasted.words[first + count - 1][2])]
            wrong = errors([(word.start, word.end)], truth)
            report(f"{word.word} in {written}", wrong)
            assert wrong.max() <= 60
            assert word.said
            assert part.startswith(word.said)
        first += count


def test_what_was_replaced_is_looked_for_as_it_was_said(aligner: Aligner) -> None:
    pasted = paste(["the", "river", "walked", "to", "the", "dog"], [0.1] * 7)
    text = "the 4x4 to the dog"
    span = SentenceSpan(text, 0.0, pasted.seconds, (Replacement(4, 7, "river walked"),))
    timed = aligner.align(pasted.samples, SAMPLE_RATE, [span])
    assert [word.word for word in timed] == text.split()
    truth = [(pasted.words[1][1], pasted.words[2][2])]
    assert errors([(timed[1].start, timed[1].end)], truth).max() <= 60
    # Two written words for what is one: each has a part of it.
    span = SentenceSpan(
        "the a b to the dog", 0.0, pasted.seconds, (Replacement(4, 7, "river walked"),)
    )
    timed = aligner.align(pasted.samples, SAMPLE_RATE, [span])
    assert [word.said for word in timed[1:3]] == ["river", "walked"]


def test_chinese_numbers_have_the_time_of_their_characters(aligner: Aligner) -> None:
    spoken = "百分之三点五一九九九年"
    pasted = paste(tuple(spoken), [0.13] * (len(spoken) + 1), "cmn")
    timed = align(aligner, pasted, "3.5%，1999年")
    assert [word.word for word in timed] == ["3.5%，", "1999", "年"]
    truth = [(pasted.words[a][1], pasted.words[b][2]) for a, b in ((0, 5), (6, 9), (10, 10))]
    assert errors([(w.start, w.end) for w in timed], truth).max() <= 120


def test_words_of_two_languages_are_each_found_with_their_model(aligner: Aligner) -> None:
    chinese, english = tuple("今天我们"), ("walked", "to", "the", "river")
    first = paste(chinese, [0.12] * 5, "cmn")
    second = paste(english, [0.12] * 5)
    both = Pasted(
        np.concatenate([first.samples, second.samples]),
        (*first.words, *((w, a + first.seconds, b + first.seconds) for w, a, b in second.words)),
    )
    timed = align(aligner, both, "今天我们 walked to the river")
    assert [word.word for word in timed] == ["今天", "我们", *english]
    assert not any(word.estimated for word in timed)
    found = [(w.start, w.end) for w in timed[2:]]
    assert errors(found, [(a, b) for _, a, b in both.words[4:]]).max() <= 100


def test_without_a_model_of_its_language_a_word_is_marked(demo_aligner: Aligner) -> None:
    pasted = paste(("the", "boy"), (0.1, 0.1, 0.1))
    timed = align(demo_aligner, pasted, "你好 the boy")
    assert [word.estimated for word in timed] == [True, False, False]
    assert timed[0].score is None


def test_the_demo_voice_is_where_its_tokens_are(
    demo_aligner: Aligner, utterances: list[Utterance]
) -> None:
    wrong = edge_errors(demo_aligner, utterances, SAMPLE_RATE, SILENT)
    assert len(wrong) >= 4
    median, most = report("Demo voice", np.abs(np.concatenate(wrong)))
    assert median <= 35
    assert most <= 80


def test_a_word_left_out_and_a_long_silence_are_noticed(
    demo_aligner: Aligner, utterances: list[Utterance]
) -> None:
    def faults(text: str, samples: np.ndarray) -> tuple[str, ...]:
        span = SentenceSpan(text, 0.0, samples.size / SAMPLE_RATE)
        return judge(demo_aligner.align(samples, SAMPLE_RATE, [span]), span).faults

    said = utterances[WELL_SAID]
    half, less = said.samples.size // 2, said.samples.size // 4  # half is noticed by the gate
    silence = np.zeros(3 * SAMPLE_RATE, np.float32)
    assert faults(said.text, said.samples) == ()
    assert faults(said.text, said.samples[:less])
    first, _, rest = said.text.partition(" ")
    assert faults(f"{first} yesterday morning after breakfast {rest}", said.samples)
    assert faults(said.text, np.concatenate([said.samples[:half], silence, said.samples[half:]]))
    assert faults(said.text, np.concatenate([said.samples] * 3))


def memory(what: str) -> int:
    """Resident memory in KiB: VmRSS now, VmHWM at most since `clear_refs` was written to."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(what))


def test_ten_minutes_take_no_more_memory_than_the_longest_sentence(
    demo_aligner: Aligner, utterances: list[Utterance]
) -> None:
    length = 0.0
    spans, parts = [], []
    while length < 600:
        for utterance in utterances:
            seconds = utterance.samples.size / SAMPLE_RATE
            spans.append(SentenceSpan(utterance.text, length, length + seconds))
            parts.append(utterance.samples)
            length += seconds
    samples = np.concatenate(parts)
    demo_aligner.align(samples, SAMPLE_RATE, spans[: len(utterances)])
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak of the tests before
    before = memory("VmRSS")
    timed = demo_aligner.align(samples, SAMPLE_RATE, spans)
    grown = memory("VmHWM") - before
    print(f"{length:.0f} s of audio: {grown} KiB more at the peak")
    assert [w.sentence for w in timed] == sorted(w.sentence for w in timed)
    assert {w.sentence for w in timed} == set(range(len(spans)))
    assert grown < 64 * 1024
