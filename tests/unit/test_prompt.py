"""What becomes of a text before the model sees it."""

from __future__ import annotations

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from tests.support.checkpoints import Sizes, make_tokenizer
from worker.errors import NotAvailableError, RequestError
from worker.speech.prompt import CodecSizes, Prompter, Voice
from worker.style import Style

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
        assert full.spell(text) == text


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
    assert small.spell(text) == spelled


@pytest.mark.parametrize(
    ("text", "named"), [("Room 7", "'7'"), ("你好", "'你'"), ("Straße", "'ß'")]
)
def test_a_letter_that_cannot_be_spelled_is_named(small: Prompter, text: str, named: str) -> None:
    with pytest.raises(RequestError, match=named) as caught:
        small.spell(text)
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
        tokenizer.id_to_token(i) for i in prompter.speech_plan(Voice((1, 1, 1, 1, 1))).steps[-1]
    }
    assert names == {"<|im_end|>"} | {f"<|bicodec_semantic_{n}|>" for n in range(10)}
    assert len(prompter._globals) == 3
