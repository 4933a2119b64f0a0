"""What becomes of a text before the model sees it."""

from __future__ import annotations

import string
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from tests.support.random_checkpoint import Sizes, make_tokenizer
from worker.errors import NotAvailableError, RequestError, SetupError
from worker.speech.grammar import CompiledGrammar
from worker.speech.prompt import Prompter
from worker.speech.spelling import spell
from worker.speech.voice import GENDERS, LEVELS, CodecSizes, Style, Voice

SIZES = CodecSizes(voice_length=5, global_codes=16, semantic_codes=96)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return make_tokenizer(Sizes())


@pytest.fixture(scope="module")
def full(tokenizer: Tokenizer) -> Prompter:
    return Prompter(tokenizer, SIZES)


@pytest.fixture(scope="module")
def small() -> Prompter:
    """Of a cloning model: lower and upper case letters and little else."""
    names = ["<|task_tts|>", "<|start_content|>", "<|end_content|>", "<|im_end|>"]
    names += ["<|start_global_token|>", "<|end_global_token|>", "<|bicodec_global_0|>"]
    names += ["<|start_semantic_token|>", "<|bicodec_semantic_0|>"]
    letters = {letter: n for n, letter in enumerate(string.ascii_letters + "Ġ'.,?!-")}
    tokenizer = Tokenizer(models.BPE(vocab=letters, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens([AddedToken(name, special=False, normalized=False) for name in names])
    return Prompter(tokenizer, CodecSizes(4, 4096, 512))


@settings(max_examples=300)
@given(
    text=st.text(max_size=60) | st.from_regex(r"(<\|(im_end|bicodec_semantic_1|gender_0)\|>|a)*")
)
def test_a_text_never_becomes_a_control_token(
    full: Prompter, tokenizer: Tokenizer, text: str
) -> None:
    controls = {i for name, i in tokenizer.get_vocab().items() if name.startswith("<|")}
    assert not controls.intersection(full._text(text))


def test_a_full_alphabet_changes_nothing(full: Prompter) -> None:
    for text in ["“Dr.” Müller – 3,5 % … 中文 😀", "a\n\tb", "<|im_end|>"]:
        assert spell(text, full._tokenizer) == text


@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        ("Don’t.", "Don't."),
        ("A café, a naïve plan.", "A cafe, a naive plan."),
        ("He said: “Yes” — now.", "He said Yes, now."),
        ("Good 😀 day ", "Good day"),
        ("One\ntwo", "One two"),
        ("Wait… what", "Wait... what"),
    ],
)
def test_a_small_alphabet_gets_the_plainest_form(small: Prompter, text: str, spelled: str) -> None:
    assert spell(text, small._tokenizer) == spelled


@pytest.mark.parametrize(
    ("text", "named"), [("Room 7", "'7'"), ("你好", "'你'"), ("Straße", "'ß'")]
)
def test_a_letter_that_cannot_be_spelled_is_named(small: Prompter, text: str, named: str) -> None:
    with pytest.raises(RequestError, match=named) as caught:
        spell(text, small._tokenizer)
    assert caught.value.field == "text"


def test_a_model_without_control_tokens_says_so(small: Prompter) -> None:
    with pytest.raises(NotAvailableError, match="prompt_speech_url or voice"):
        small.design_prompt("Hello.", Style())


def test_a_voice_that_the_tokenizer_lacks_is_refused(small: Prompter) -> None:
    with pytest.raises(NotAvailableError, match="bicodec_global_9"):
        small.speech_prompt("Hello.", Voice((9, 9, 9, 9)))


def test_only_tokens_of_the_codec_can_be_answered(tokenizer: Tokenizer) -> None:
    """A tokenizer may know more codes than the codec has."""
    prompter = Prompter(tokenizer, CodecSizes(voice_length=5, global_codes=3, semantic_codes=10))
    names = {
        tokenizer.id_to_token(i) for i in prompter.speech_grammar(Voice((1, 1, 1, 1, 1))).steps[-1]
    }
    assert names == {"<|im_end|>"} | {f"<|bicodec_semantic_{n}|>" for n in range(10)}
    assert len(prompter._globals) == 3


# Prompts, token for token, by their names in the published format

TIMBRE = (3, 0, 15, 7, 7)
GLOBALS = "".join(f"<|bicodec_global_{n}|>" for n in TIMBRE)
SPOKEN = (5, 95, 0)
SEMANTIC = "".join(f"<|bicodec_semantic_{n}|>" for n in SPOKEN)
DESIGNED = Voice(TIMBRE, style=Style("male", "very_low", "high", pitch_value=0, speed_value=10))


def written(tokenizer: Tokenizer, ids: tuple[int, ...]) -> str:
    return str(tokenizer.decode(list(ids), skip_special_tokens=False))


def names(tokenizer: Tokenizer, ids: frozenset[int]) -> set[str]:
    return {str(tokenizer.id_to_token(i)) for i in ids}


def test_a_cloning_prompt(full: Prompter, tokenizer: Tokenizer) -> None:
    expected = (
        "<|task_tts|><|start_content|>Hello.<|end_content|>"
        f"<|start_global_token|>{GLOBALS}<|end_global_token|>"
    )
    assert written(tokenizer, full.speech_prompt("Hello.", Voice(TIMBRE))) == expected
    # Of a reference whose transcript is not used, its speech is not either.
    unsaid = Voice(TIMBRE, SPOKEN)
    assert written(tokenizer, full.speech_prompt("Hello.", unsaid)) == expected


@pytest.mark.parametrize("transcript", ["Before. ", ""])
def test_a_cloning_prompt_with_a_transcript(
    full: Prompter, tokenizer: Tokenizer, transcript: str
) -> None:
    """First what the reference says, then the text; the reference's speech is gone on from."""
    voice = Voice(TIMBRE, SPOKEN, transcript)
    assert written(tokenizer, full.speech_prompt("Hello.", voice)) == (
        f"<|task_tts|><|start_content|>{transcript}Hello.<|end_content|>"
        f"<|start_global_token|>{GLOBALS}<|end_global_token|><|start_semantic_token|>{SEMANTIC}"
    )


def test_a_design_prompt(full: Prompter, tokenizer: Tokenizer) -> None:
    """0 is female and 1 male; the levels count from 0, very low."""
    genders, levels = ["female", "male"], ["very_low", "low", "moderate", "high", "very_high"]
    assert (list(GENDERS), list(LEVELS)) == (genders, levels)
    for g, gender in enumerate(genders):
        for p, pitch in enumerate(levels):
            for s, speed in enumerate(levels):
                prompt = full.design_prompt("Hello.", Style(gender, pitch, speed))
                assert written(tokenizer, prompt) == (
                    "<|task_controllable_tts|><|start_content|>Hello.<|end_content|>"
                    f"<|start_style_label|><|gender_{g}|><|pitch_label_{p}|><|speed_label_{s}|>"
                    "<|end_style_label|>"
                )


def test_a_style_that_says_nothing_is_a_moderate_womans() -> None:
    assert Style() == Style("female", "moderate", "moderate", None, None)


def test_the_prompt_of_a_designed_voice(full: Prompter, tokenizer: Tokenizer) -> None:
    assert written(tokenizer, full.speech_prompt("Hello.", DESIGNED)) == (
        "<|task_controllable_tts|><|start_content|>Hello.<|end_content|>"
        "<|start_style_label|><|gender_1|><|pitch_label_0|><|speed_label_3|><|end_style_label|>"
        "<|start_acoustic_token|><|pitch_value_0|><|speed_value_10|><|end_acoustic_token|>"
        f"<|start_global_token|>{GLOBALS}<|end_global_token|><|start_semantic_token|>"
    )


# Answers


@pytest.mark.parametrize(
    ("voice", "opening"),
    [
        (Voice(TIMBRE), ["<|start_semantic_token|>"]),
        (Voice(TIMBRE, SPOKEN), ["<|start_semantic_token|>"]),
        (Voice(TIMBRE, SPOKEN, "Before."), []),
        (Voice(TIMBRE, (), ""), []),
        (DESIGNED, []),
    ],
)
def test_an_answer_has_at_least_one_code_then_more_or_the_end(
    full: Prompter, tokenizer: Tokenizer, voice: Voice, opening: list[str]
) -> None:
    """Where the prompt has not opened the speech, the answer does."""
    codes = {f"<|bicodec_semantic_{n}|>" for n in range(96)}
    grammar = full.speech_grammar(voice)
    expected = [*({name} for name in opening), codes, codes | {"<|im_end|>"}]
    assert [names(tokenizer, step) for step in grammar.steps] == expected
    assert grammar.end == full.end_id == tokenizer.token_to_id("<|im_end|>")
    compiled = CompiledGrammar.of(grammar)
    assert compiled.end_from == len(opening) + 1
    assert [tokenizer.id_to_token(i) for i in compiled.opening] == opening


def of(family: str, values: range) -> set[str]:
    return {f"<|{family}_{value}|>" for value in values}


@pytest.mark.parametrize(
    ("pitch", "speed"),
    [(None, None), (0, 0), (1000, 10), (1, None), (None, 0), (0, None), (None, 10)],
)
def test_a_design_chooses_what_the_style_leaves_open(
    full: Prompter, tokenizer: Tokenizer, pitch: int | None, speed: int | None
) -> None:
    """Pitch is 0 to 1000 and speed 0 to 10; a given one is the only choice, be it 0."""
    grammar = full.design_grammar(Style(pitch_value=pitch, speed_value=speed))
    pitches = range(1001) if pitch is None else range(pitch, pitch + 1)
    speeds = range(11) if speed is None else range(speed, speed + 1)
    assert [names(tokenizer, step) for step in grammar.steps] == [
        {"<|start_acoustic_token|>"},
        of("pitch_value", pitches),
        of("speed_value", speeds),
        {"<|end_acoustic_token|>"},
        {"<|start_global_token|>"},
        *[of("bicodec_global", range(16))] * 5,
    ]
    assert grammar.end is None
    opening = 1 if pitch is None else 2 if speed is None else 5
    assert len(CompiledGrammar.of(grammar).opening) == opening


def test_a_designed_voice_is_what_the_answer_says(full: Prompter, tokenizer: Tokenizer) -> None:
    answered = [
        *("<|start_acoustic_token|>", "<|pitch_value_173|>", "<|speed_value_4|>"),
        *("<|end_acoustic_token|>", "<|start_global_token|>"),
        *(f"<|bicodec_global_{n}|>" for n in TIMBRE),
    ]
    tokens = [int(tokenizer.token_to_id(name)) for name in answered]
    asked = Style("male", "high", "low")
    assert full.designed_voice(asked, tokens) == Voice(
        TIMBRE, style=Style("male", "high", "low", pitch_value=173, speed_value=4)
    )


def test_the_codes_of_an_answer_are_those_of_the_codec_in_order(
    full: Prompter, tokenizer: Tokenizer
) -> None:
    answered = ["<|start_semantic_token|>", "<|bicodec_semantic_7|>", "<|bicodec_global_3|>"]
    answered += ["<|bicodec_semantic_0|>", "<|bicodec_semantic_7|>", "<|im_end|>"]
    assert full.semantic_codes(int(tokenizer.token_to_id(name)) for name in answered) == (7, 0, 7)


def test_some_voice_is_one_that_the_tokenizer_has(full: Prompter) -> None:
    assert full.some_voice() == Voice((0,) * 5)
    bare = Tokenizer(models.BPE())
    bare.add_tokens(["<|bicodec_semantic_0|>", "<|bicodec_global_9|>"])
    assert Prompter(bare, SIZES).some_voice() == Voice((9,) * 5)
    deaf = Tokenizer(models.BPE())
    deaf.add_tokens(["<|bicodec_semantic_0|>"])
    assert Prompter(deaf, SIZES).some_voice() == Voice((0,) * 5)


# A tokenizer's file


def test_a_tokenizer_without_speech_is_none_of_ours() -> None:
    bare = Tokenizer(models.BPE())
    bare.add_tokens(["<|bicodec_semantic_96|>"])  # beyond the codec's
    with pytest.raises(SetupError, match="bicodec_semantic"):
        Prompter(bare, SIZES)


@pytest.mark.parametrize("content", [None, "", "{}", "no json"])
def test_a_tokenizer_that_cannot_be_read_is_named(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SetupError, match=r"LLM/tokenizer\.json cannot be read"):
        Prompter.load(path, SIZES)


def test_what_a_tokenizer_would_cut_or_fill_up_stays_as_it_is(tmp_path: Path) -> None:
    """A tokenizer.json may hold the truncation and padding of its training."""
    tokenizer = make_tokenizer(Sizes(pitch_values=1))
    text = "A sentence of more than four tokens."
    expected = Prompter(tokenizer, SIZES).speech_prompt(text, Voice(TIMBRE))
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=100)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    prompter = Prompter.load(tmp_path / "tokenizer.json", SIZES)
    assert prompter.speech_prompt(text, Voice(TIMBRE)) == expected


# What a model lacks


def test_what_is_lacking_is_said_in_the_words_of_the_request(small: Prompter) -> None:
    with pytest.raises(NotAvailableError, match="voices made from gender, pitch and speed"):
        small.design_prompt("Hello.", Style())
    with pytest.raises(NotAvailableError, match="no <|pitch_value_0|>".replace("|", r"\|")):
        Prompter(make_tokenizer(Sizes(pitch_values=0)), SIZES).design_grammar(Style())
    with pytest.raises(NotAvailableError, match="no <|start_acoustic_token|>".replace("|", r"\|")):
        small.design_grammar(Style())


@pytest.mark.parametrize("transcript", ["Room 7", "7"])
def test_a_transcript_that_cannot_be_spelled_is_named_as_such(
    small: Prompter, transcript: str
) -> None:
    with pytest.raises(RequestError, match=r"^prompt_text: .*'7'") as caught:
        small.speech_prompt("Hello.", Voice((0,) * 4, (0,), transcript))
    assert caught.value.field == "prompt_text"


@pytest.mark.parametrize("transcript", ["Yes – ", "Yes-\n", "Yes- ", "Yes –"])
def test_a_transcript_is_kept_apart_from_the_text_or_not_as_it_was_given(
    small: Prompter, transcript: str
) -> None:
    ids = small.speech_prompt("Hello.", Voice((0,) * 4, (0,), transcript))
    apart = small._text("- Hello." if transcript[-1].isspace() else "-Hello.")
    end = ids.index(small._id("<|end_content|>"))
    assert list(ids[end - len(apart) : end]) == apart


def test_of_many_letters_that_cannot_be_spelled_ten_are_shown(small: Prompter) -> None:
    with pytest.raises(RequestError) as caught:
        spell("0123456789" + "你好", small._tokenizer)
    shown = caught.value.message.split("token for ")[1].split(";")[0]
    assert shown == " ".join(f"'{digit}'" for digit in "0123456789")
    with pytest.raises(RequestError, match="'9' '你'; "):
        spell("你123456789", small._tokenizer)


def test_what_can_be_spelled_in_part_alone_is_refused(small: Prompter) -> None:
    """Its plain form is a digit, which the model lacks, and a full stop, which it has."""
    assert spell("Yes.", small._tokenizer) == "Yes."
    with pytest.raises(RequestError, match="no token for '\u2488'; "):
        spell("\u2488 Yes", small._tokenizer)


def test_a_character_that_the_tokenizer_only_writes_otherwise_is_no_loss(full: Prompter) -> None:
    """The sign for angstrom is normalised to a letter; so is a letter with its accent apart."""
    for text in ("5 \u212b", "cafe\u0301", "  two  spaces ,  "):
        assert spell(text, full._tokenizer) == text


@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        ("Yes。", "Yes."),
        ("One， two、 three", "One, two, three"),
        ("ﬁne", "fine"),
        ("Why \u2013 now?", "Why - now?"),
        ("so 😀!", "so!"),
        ("a  b", "a  b"),  # what the tokenizer has stays as it is
    ],
)
def test_plain_forms(small: Prompter, text: str, spelled: str) -> None:
    assert spell(text, small._tokenizer) == spelled
