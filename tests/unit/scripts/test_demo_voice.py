"""How the demo voice is made: its tokens, its reading of numbers, its training sequences."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from num2words import num2words

from scripts.demo_voice import codes, styles, vocabulary
from scripts.demo_voice.codec import LETTER_IDS
from scripts.demo_voice.data import Planned
from scripts.demo_voice.examples import SEMANTIC, Examples, _units
from scripts.demo_voice.export import tokenizer
from scripts.demo_voice.normalizer import normalizer
from scripts.demo_voice.plan import Plan
from scripts.demo_voice.sentences import sections
from scripts.demo_voice.train_aligner import distance
from scripts.demo_voice.train_decoder import PHASED, WINDOWS
from scripts.demo_voice.train_front_end import letter_frames
from tests.conftest import DEMO, REPOSITORY
from worker.errors import RequestError
from worker.speech.prompt import Prompter
from worker.speech.spelling import spell
from worker.speech.voice import LEVELS, CodecSizes, Style, Voice

READ = normalizer()


@pytest.fixture(scope="module")
def prompter() -> Prompter:
    return Prompter(tokenizer(), CodecSizes(4, 4096, codes.CODES))


@given(number=st.integers(0, 10**12 - 1).filter(lambda n: not 1100 <= n < 2100))
def test_whole_numbers_are_read_as_num2words_reads_them(number: int) -> None:
    words = num2words(number).replace("-", " ").replace(",", "").replace(" and ", " ")
    assert READ.normalize_str(f"Take {number}.") == f"take {words}."
    assert READ.normalize_str(f"Take {number:,}.") == f"take {words}."


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (
            "It cost $3.50 in 1984.",
            "it cost three dollars and fifty cents in nineteen eighty four.",
        ),
        ("$2.5 billion, £20 or $1", "two point five billion dollars, twenty pounds or one dollar"),
        (
            "At 7:30 am on May 21st, 2005",
            "at seven thirty a m on may twenty first, two thousand five",
        ),
        ("the 1990s, 9:00, 10:05", "the nineteen nineties, nine o'clock, ten oh five"),
        ("Dr. Lee vs. Mr. O'Neil", "doctor lee versus mister o'neil"),
        ("50% of 12 kg & -5", "fifty percent of twelve kilograms and minus five"),
        ("agent 007, 3.14, 10-20", "agent zero zero seven, three point one four, ten to twenty"),
        ("The USA has 'café' TV.", "the u s a has cafe t v."),
    ],
)
def test_numbers_money_dates_and_abbreviations_become_words(written: str, read: str) -> None:
    assert READ.normalize_str(written) == read


@given(text=st.text(max_size=80))
def test_what_was_read_stays_as_it_is(text: str) -> None:
    assert not any("0" <= c <= "9" for c in READ.normalize_str(text))


@given(st.lists(st.one_of(st.just(0.0), st.floats(60, 600)), min_size=1, max_size=80))
def test_half_periods_come_in_pairs_and_pitch_is_near(f0: list[float]) -> None:
    pitches = codes.quantise(np.array(f0))
    assert ((pitches > 0) == (np.array(f0) > 0)).all()
    halves = [codes.PITCHES[p] for p in pitches]
    for at, (steps, second) in enumerate(halves):
        if steps % 2 and not second:
            assert halves[at + 1] == (steps, 1)
        if second:
            assert halves[at - 1] == (steps, 0)


@pytest.mark.slow("trains")
def test_a_codes_parts_give_the_code_again() -> None:
    every = np.arange(codes.CODES)
    assert (codes.code(*codes.parts(every)) == every).all()
    book = codes.codebook()
    assert book.shape == (codes.CODES, codes.DIMENSIONS)
    nearest = (book @ book.T).fill_diagonal_(0).max()
    assert nearest < 0.999  # no two codes are one


def _sentence(text: str = "a small house.") -> Planned:
    symbols = np.repeat(codes.symbols_of([16, 83, 16, 61, 55, 76, 54, 16, 50, 39, 61, 4]), 4)
    f0 = np.where(np.isin(symbols, codes.symbols_of([83, 76, 54, 39])), 210.0, 0.0)
    return Planned(text, symbols, f0, speed=styles.MODERATE)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("Room 7 costs $12.50.", "room seven costs twelve dollars and fifty cents."),
        ("Dr. Müller, 1984 — “Yes”", "doctor muller, nineteen eighty four, yes"),
        ("50% of ½ 😀", "fifty percent of one over two"),
    ],
)
def test_the_prompter_keeps_what_the_tokenizer_reads(
    prompter: Prompter, text: str, read: str
) -> None:
    ids = prompter._text(spell(text, prompter._tokenizer))
    assert prompter._tokenizer.decode(ids, skip_special_tokens=False) == read


def test_what_cannot_be_read_is_named(prompter: Prompter) -> None:
    with pytest.raises(RequestError, match="'你'"):
        spell("Hello 你好", prompter._tokenizer)


def test_training_sequences_are_the_prompts_of_the_api(prompter: Prompter, tmp_path: Path) -> None:
    """What the model learns to continue is what it will be asked to continue."""
    made = Examples(tmp_path, seed=3)
    plain = prompter._tokenizer
    seen = set()
    for _ in range(200):
        example = made._example([_sentence(), _sentence("it is.")])
        names = [plain.id_to_token(int(i)) for i in example.ids]
        asked = int(np.argmax(example.given))
        prompt = tuple(example.ids[:asked].tolist())
        controlled = names[0] == "<|task_controllable_tts|>"
        seen.add((controlled, asked))
        if controlled:
            at = names.index("<|start_style_label|>")
            gender, pitch, speed = (
                int(name.removesuffix("|>").rsplit("_", 1)[1]) for name in names[at + 1 : at + 4]
            )
            style = Style(styles.GENDERS[gender], LEVELS[pitch], LEVELS[speed])
            text = "A small house." if "ouse" in _text(plain, prompt) else "It is."
            assert prompt[: at + 5] == prompter.design_prompt(text, style)
        else:
            text = _text(plain, prompt)
            voice = names[asked - 5 : asked - 1]
            gender = next(
                g
                for g, v in styles.GLOBALS.items()
                if voice == [f"<|bicodec_global_{n}|>" for n in v]
            )
            assert prompt == prompter.speech_prompt(text, Voice(styles.GLOBALS[gender]))
        assert SEMANTIC in example.ids[asked:]
        assert example.ids[-1] == prompter.end_id
    assert len({controlled for controlled, _ in seen}) == 2


def _text(tokenizer: object, prompt: tuple[int, ...]) -> str:
    letters = [i for i in prompt if vocabulary.FIRST_CHARACTER <= i < vocabulary.FIRST_CODE]
    return str(tokenizer.decode(letters))  # type: ignore[attr-defined]


def test_levels_rise_in_the_training_data() -> None:
    rng = random.Random(1)
    for gender, levels in styles.PITCH_LEVELS.items():
        hertz = [_units(_sentence(), level)[1] for level in levels]
        assert hertz == sorted(hertz), gender
        assert len(set(hertz)) == 5, gender
        level, drawn = styles.draw_pitch(rng, gender)
        assert abs(np.log(drawn / levels[level])) < 0.2


def test_speed_values_rise_and_name_their_levels() -> None:
    assert list(styles.PACES) == sorted(styles.PACES)
    paces = [styles.PACES[value] for value in styles.SPEED_LEVELS]
    assert min(np.divide(paces[1:], paces[:-1])) > 1.15
    assert [styles.speed_level(value) for value in styles.SPEED_LEVELS] == list(range(5))
    rng = random.Random(1)
    drawn = {styles.draw_speed(rng) for _ in range(2000)}
    assert drawn == set(range(len(styles.PACES))) == set(range(vocabulary.SPEED_VALUES))


@given(
    durations=st.lists(st.integers(1, 12), min_size=1, max_size=60),
    factor=st.floats(1.0, 2.0),
)
@example(durations=[1, 2, 2], factor=2.0)
def test_a_faster_plan_leaves_units_out_evenly(durations: list[int], factor: float) -> None:
    counts = np.array(durations)
    sounds = np.arange(len(durations))
    plan = Plan(sounds, counts, np.arange(float(counts.sum())))
    fast = plan.faster(factor)
    assert (fast.durations >= 1).all()
    assert (fast.durations <= counts).all()
    assert len(fast.f0) == fast.durations.sum()
    # Each unit that is left belongs to its own sound, and they are still in order.
    assert (
        np.repeat(sounds, counts)[fast.f0.astype(int)] == np.repeat(sounds, fast.durations)
    ).all()
    assert (np.diff(fast.f0) > 0).all()
    left = counts.sum() / factor
    most = np.ceil(left) + (counts < factor).sum()  # a sound is never left out
    assert np.floor(left) <= fast.durations.sum() <= most


def test_letters_begin_where_their_words_do() -> None:
    sentence = _sentence()
    units = codes.code(sentence.symbols, codes.quantise(sentence.f0))
    frames = letter_frames(sentence.text, units)
    assert frames is not None
    names = {number: letter for letter, number in LETTER_IDS.items()}
    assert [(int(at), names[int(frames[at])]) for at in np.flatnonzero(frames)][:4] == [
        (4, "a"), (8, "|"), (12, "s"), (15, "m")
    ]  # fmt: skip
    assert letter_frames("a small", units) is None


def test_the_judges_sentences_are_many_and_no_templates() -> None:
    lines = [line for section in sections().values() for line in section]
    assert len(lines) == len(set(lines)) >= 200


@pytest.mark.parametrize(
    ("late", "near"), [(-2, False), (-1, True), (0, True), (1, True), (2, False)]
)
def test_the_aligner_may_place_a_letter_a_frame_off_and_no_further(late: int, near: bool) -> None:
    letters = torch.zeros(1, 12, dtype=torch.int64)
    letters[0, [3, 7]] = torch.tensor([5, 6])
    logits = torch.zeros(1, 12, len(LETTER_IDS))
    logits[..., 0] = 20.0
    for frame, letter in ((3, 5), (7, 6)):
        logits[0, frame + late, letter] = 40.0
    assert (float(distance(logits, letters)) < 0.1) is near


def test_the_recipe_has_the_numbers_of_the_code_and_of_the_checkpoint() -> None:
    page = " ".join((REPOSITORY / "docs" / "DEMO_VOICE.md").read_text().split())

    def config(part: str) -> dict[str, Any]:
        return dict(json.loads((DEMO / part / "config.json").read_text()))

    lm, front, aligner = map(config, ("LLM", "wav2vec2-large-xlsr-53", "aligner"))
    decoder = yaml.safe_load((DEMO / "BiCodec" / "config.yaml").read_text())["audio_tokenizer"]
    tokenizer = json.loads((DEMO / "LLM" / "tokenizer.json").read_text())
    rules = len(tokenizer["normalizer"]["normalizers"])
    size = sum(file.stat().st_size for file in DEMO.rglob("*") if file.is_file())
    assert styles.GLOBALS["male"] == styles.GLOBALS["female"][::-1]
    for said in (
        f"one of {len(codes.SYMBOLS)} phoneme symbols and one of {len(codes.PITCHES)} pitches",
        f"{decoder['quantizer']['codebook_size']} codes",
        f"voice: {', '.join(map(str, styles.GLOBALS['female']))} the female one",
        f"{lm['num_hidden_layers']} layers of width {lm['hidden_size']}",
        f"{decoder['decoder']['channels']} channels",
        f"{front['num_hidden_layers']} layers of width {front['hidden_size']}",
        f"aligner | {aligner['num_hidden_layers']} layers",
        f"phase up to {PHASED / 1000:g} kHz",
        f"some {rules // 10 * 10} regular expressions",
        f"{size / 1e6:.0f} MB that speak English",
    ):
        assert said in page, said
    assert (len(codes.STEPS), len(WINDOWS)) == (9, 3)
    assert "in nine steps" in page
    assert "magnitudes at three resolutions" in page


def test_rows_without_letters_teach_the_aligner_nothing() -> None:
    letters = torch.full((1, 12), -1)
    logits = torch.randn(1, 12, len(LETTER_IDS), requires_grad=True)
    loss = distance(logits, letters)
    loss.backward()
    assert float(loss.detach()) == 0
    assert not logits.grad.any()
