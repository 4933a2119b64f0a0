"""Tags in a text: which brackets are tags, what they say, and that no tag is text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.text.markup import MarkedText, Stretch, TagError, VoiceTag, holds_tag, read_tags


def stretches(text: str) -> list[tuple[str, str | None, float | None]]:
    return [
        (one.text.strip(), one.voice and one.voice.name, one.pause)
        for one in read_tags(text).stretches
    ]


def test_a_text_without_tags_is_one_stretch() -> None:
    assert read_tags("Hello there.") == MarkedText((Stretch("Hello there."),))


@pytest.mark.parametrize(
    "text",
    [
        "She said so [sic].",
        "[1] A note.",
        "array[pause] is an item",
        "[pause] and [voice]",
        "[pauses: 3] [voices:anna] [voiced: b]",
        "a [break:1s] b",
        "(pause:1s) {voice:anna} <pause:1s>",
        "pause:1s] voice:anna",
        "[the voice: anna]",
        "x[i:j] and y[voice_id:3]",
    ],
)
def test_a_bracket_that_is_no_tag_stays_text(text: str) -> None:
    assert read_tags(text) == MarkedText((Stretch(text),))


@pytest.mark.parametrize(
    ("tag", "seconds"),
    [
        ("[pause:1.5s]", 1.5),
        ("[pause:500ms]", 0.5),
        ("[pause:0.5 s]", 0.5),
        ("[pause: 2s ]", 2.0),
        ("[ PAUSE : 2S ]", 2.0),
        ("[pause:.25s]", 0.25),
        ("[pause:0s]", 0.0),
        ("[pause:10s]", 10.0),
        ("[pause:10000ms]", 10.0),
        ("［pause：1s］", 1.0),
        ("【pause:1s】", 1.0),
        ("[pause:\n1s]", 1.0),
        ("[pause:1s][pause:200ms]", 1.2),
        ("[pause:1s] \n [pause:200ms]", 1.2),
    ],
)
def test_a_pause(tag: str, seconds: float) -> None:
    assert stretches(f"One {tag} two") == [("One", None, None), ("two", None, seconds)]
    assert stretches(f"{tag} one") == [("one", None, seconds)]
    assert read_tags(f"One {tag}").pause == seconds


def test_voices() -> None:
    text = "Once. [voice:anna] Hi! [voice:bob] Ho. [voice:default] He left."
    assert stretches(text) == [
        ("Once.", None, None),
        ("Hi!", "anna", None),
        ("Ho.", "bob", None),
        ("He left.", None, None),
    ]
    assert read_tags(text).tags == (VoiceTag("anna", 6), VoiceTag("bob", 23))


def test_a_voice_that_says_nothing_is_noted_all_the_same() -> None:
    marked = read_tags("[voice:a][voice:b]Hello.[voice:c]")
    assert [tag.name for tag in marked.tags] == ["a", "b", "c"]
    assert [stretch.voice for stretch in marked.stretches] == [VoiceTag("b", 9)]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Wait[pause:1s], what?", ["Wait,", "what?"]),
        ("Wait [pause:1s], what?", ["Wait,", "what?"]),
        ('He said "stop[pause:1s]" and left.', ['He said "stop"', "and left."]),
        ('Hm.[pause:1s]"Stop!"', ["Hm.", '"Stop!"']),
        ("等等[pause:1s]，什么？", ["等等，", "什么？"]),
        ("About [pause:1s].5 percent", ["About", ".5 percent"]),
        ("One[pause:1s] ... [pause:1s]two", ["One ...", "two"]),
        ("“[pause:1s]One”", ["“One”"]),
        ("One [pause:1s] *** [pause:1s] --", ["One  ***  --"]),
    ],
)
def test_marks_stay_with_a_word(text: str, parts: list[str]) -> None:
    assert [part for part, _, _ in stretches(text)] == parts


def test_pauses_around_what_has_no_word_add_up() -> None:
    assert stretches("One [pause:1s] ... [pause:500ms] two")[1] == ("two", None, 1.5)
    assert read_tags("One [pause:1s] ... [pause:500ms]").pause == 1.5


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Hello [pause:abc] you", r"has '\[pause:abc\]' at position 6, which is no pause"),
        ("[pause:99s] Hello", r"'\[pause:99s\]' at position 0.*0 to 10 seconds"),
        ("a [pause:10.001s] b", "no pause"),
        ("a [pause:-1s] b", "no pause"),
        ("a [pause:1] b", "no pause"),
        ("a [pause:1,5s] b", "no pause"),
        ("a [pause:1e1s] b", "no pause"),
        ("a [pause:١s] b", "no pause"),
        ("a [pause:inf s] b", "no pause"),
        ("a [pause:] b", "no pause"),
        ("a [voice:] b", "names no voice"),
        ("a [pause:1s b", r"position 2 that is not closed: '\[pause:1s b'"),
        ("a [voice:[anna]] b", "not closed"),
        ("a [voice:anna] b [/voice] c", r"'\[/voice\]' at position 17, and no tag is closed"),
        ("[pause:1s]", "nothing to say"),
        ("[pause:1s] ... [voice:anna]!", "nothing to say"),
        ("[[pause:1s]voice:anna]", r"tag where one was taken out: '\[voice:anna\]'"),
    ],
)
def test_a_wrong_tag_is_named_with_its_place(text: str, said: str) -> None:
    with pytest.raises(TagError, match=said):
        read_tags(text)


TAGS = st.sampled_from(
    ["[pause:1s]", "[pause:0.25s]", "[voice:anna]", "[voice:default]", "[ Pause : 10ms ]"]
)
BITS = st.sampled_from(
    [*'[]：:/ps,.!" \n…“”，。［】', "pause", "voice", "[pause", "voice:", "1s", "word", "字", "[1]"]
)


@given(st.lists(st.one_of(TAGS, BITS, st.text(max_size=4)), max_size=14).map("".join))
def test_all_but_the_tags_is_kept_once_and_in_order_and_no_tag_is_left(text: str) -> None:
    try:
        marked = read_tags(text)
    except TagError:
        return
    assert not any(holds_tag(stretch.text) for stretch in marked.stretches)
    assert all(any(map(str.isalnum, stretch.text)) for stretch in marked.stretches)
    kept, rest = "".join("".join(s.text for s in marked.stretches).split()), text
    for char in kept:  # the text has them in this order, and tags between them
        assert char in rest
        rest = rest[rest.index(char) + 1 :]
    outside = "".join(text.split())
    for tag in ("[pause:1s]", "[pause:0.25s]", "[voice:anna]", "[voice:default]", "[Pause:10ms]"):
        outside = outside.replace(tag, "")
    if not holds_tag(outside):
        assert kept == outside


@pytest.mark.parametrize("text", ["[" * 20_000, "[ " * 10_000, "[" + " " * 19_999])
def test_20_000_brackets_are_read(text: str) -> None:
    assert read_tags(text + "a").stretches[0].text == text + "a"
