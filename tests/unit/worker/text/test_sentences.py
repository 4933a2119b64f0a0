"""Text to sentences: hard cases, the bound, and that nothing is lost."""

from __future__ import annotations

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.text.sentences import HEAVY, MAX_MARKS, MAX_WEIGHT, split

# "|" stands where a text is cut. Pieces are long enough not to be joined to their neighbours.
SENTENCES = """
The weather is nice.| How are you today?| I am very well!
Dr. Smith met Mrs. Jones at St. Mary's Church.| They talked for hours.
He works at Acme Inc. in Boston.| She works at Pitt & Co. and likes it.
The U.S. Army and the U.S. economy grew.| So did Europe's.
He has lived in the U.S. for years.| She lives in the U.K.| They never met.
We met at 5 p.m. on Friday.| We left at 9 a.m.| Nobody saw us go.
See e.g. The Times, i.e. The newspaper.| It is not long.
Fruits, nuts, etc. are healthy.| We sell them all.
The train is No. 5 today.| I said no.| You did not listen.
See Fig. 3, Sec. 4.2 and p. 55 for details.| They are clear.
J. R. R. Tolkien wrote it.| George W. Bush read it.
Founded in Jan. 1999 by J. P. Morgan, it failed.| Nobody knows why.
It costs $3.50 today.| Tomorrow it costs 4.25 euros.
Version 2.6.0 of torch is out.| Python 3.11 is required.
Visit https://example.com/a.b?c=d!e for more.| Then come back.
Write to john.doe@example.com about README.md.| He answers.
He said "Stop!" and left the room.| Nobody moved.
"Where are you going?" she asked.| "To the market."
She said, "It is over now."| Then she left him.
He whispered “I know it.”| She only nodded.
(This is a note on that.)| And this is not one.
He taught (he was a teacher.) at the school.| He liked it.
She works at Yahoo! in the office.| He works at home.
Wait... what did you say?| I thought... maybe not.
And then it was over…| Silence fell on them.
What do you mean?!| I never said that!!!| Believe me.
I love it so much! 😀👍🏽| You do too, I think.
Great 👨‍👩‍👧‍👦 family time!| We were all there.
The first paragraph has no stop\\n\\n|The second paragraph.
A title on a line\\n|The text begins here.
apples and pears\\n|bananas and grapes
This line was wrapped by somebody at a width of fifty\\nand so it goes on here.| And it ends.
1. Buy milk and bread.| 2. Buy eggs and butter.
* 9. The ninth item\\n|* 10. The tenth item
今天天气真的很好。|我们去公园玩吧！|你们来不来呢？
他对我说：“你好啊。”|然后他就走了。
“你们在哪里呢？”她问。|“我们在这里呢。”
价格是3.5元一个。|真的不算贵。
我用Python 3.11写代码。|It works very well.|真的很好用。
他来自U.S.的一家公司。|公司真的很大。
真的是这样吗？！|太好太好了！！
等等……我先想想。|好的好的好的。
《你好！李焕英》很好看。|你看过没有？
请访问https://example.com/index.html。|谢谢你们。
王先生（他是老师！）来了。|大家都欢迎他。
你好啊，我是Alice。|How are you today？|我很好。
人工智能很厉害.|是的是的是的.
你说“什么？！”是什么意思？|我没听懂。
今天气温是-3.5℃。|Dr. Wang说会下雪。|记得穿外套。
""".strip().splitlines()


@pytest.mark.parametrize("marked", SENTENCES)
def test_sentences(marked: str) -> None:
    pieces = marked.replace("\\n", "\n").split("|")
    expected = [" ".join(piece.split()) for piece in pieces]
    assert split("".join(pieces)) == expected


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("No. I will not go there.", ["No. I will not go there."]),
        ("Is it you? Yes. I was waiting.", ["Is it you?", "Yes. I was waiting."]),
        ("I will not go there. No.", ["I will not go there. No."]),
        ("好！我们一起去公园吧。", ["好！我们一起去公园吧。"]),
        ("Come in, my friend.\n***\nSit down here.", ["Come in, my friend. ***", "Sit down here."]),
        ("---\nCome in, my friend.", ["--- Come in, my friend."]),
        ("Intro\nCome in, my friend.", ["Intro", "Come in, my friend."]),
    ],
)
def test_what_is_too_short_goes_to_its_neighbour(text: str, pieces: list[str]) -> None:
    assert split(text) == pieces


def test_a_short_piece_does_not_make_its_neighbour_too_long() -> None:
    long = f"{'X' * (MAX_WEIGHT - 2)}."  # and the space after it
    assert split(f"Go on. {long} Go on.") == ["Go on.", long, "Go on."]
    assert split(f"He did it again. No. {long}") == ["He did it again. No.", long]


@pytest.mark.parametrize(
    "text",
    [
        "a" * 200,
        f"{'a' * 99} {'b' * 100}",
        f"{'a' * 98}, {'b' * 100}",
        "word " * 39 + "words",
        "中" * 66 + "ab",
        "7" * 66 + "ab",
        "가" * 66 + "ab",
        "か" * 66 + "ab",
        f"a{chr(0x301) * 10}" * 20,  # ten marks weigh more than their letter
        f"a{chr(0x301)}" * 200,  # one mark does not
    ],
)
def test_what_weighs_just_the_limit_is_one_piece(text: str) -> None:
    assert split(text) == [text]
    assert len(split(f"{text}.")) == 2


def test_a_bound_of_one_s_own_is_kept_to_the_letter() -> None:
    assert split("a" * 70, max_weight=70) == ["a" * 70]
    assert len(split("a" * 71, max_weight=70)) == 2


def test_pieces_that_are_short_by_one_go_to_the_next() -> None:
    """Ten is enough, the space after the sentence included."""
    assert split("Go now... He did so.") == ["Go now...", "He did so."]
    assert split("Go now.. He did so.") == ["Go now.. He did so."]
    assert split("好的吗。我们都走吧。") == ["好的吗。", "我们都走吧。"]
    assert split("好吗。我们都走吧。") == ["好吗。我们都走吧。"]


def test_a_last_piece_that_is_short_by_one_goes_to_the_one_before() -> None:
    assert split("He did it again. Go there!!") == ["He did it again.", "Go there!!"]
    assert split("He did it again. Go there!") == ["He did it again. Go there!"]


def test_a_short_piece_is_joined_where_the_whole_just_fits() -> None:
    fits = f"{'X' * 192}."
    assert split(f"Go on. {fits}") == [f"Go on. {fits}"]
    assert split(f"Go on. X{fits}") == ["Go on.", f"X{fits}"]
    assert split(f"{fits} Go on.") == [f"{fits} Go on."]
    assert split(f"X{fits} Go on.") == [f"X{fits}", "Go on."]


def test_a_short_piece_in_the_middle_goes_to_the_next_before_the_one_before() -> None:
    assert split("Is it you there? Yes. I was waiting.") == [
        "Is it you there?",
        "Yes. I was waiting.",
    ]


def test_a_short_piece_that_does_not_fit_the_next_just_fits_the_one_before() -> None:
    before, after = f"{'X' * 194}.", f"{'Y' * 198}."  # 194 + ". " + "No. " is 200
    assert split(f"{before} No. {after}") == [f"{before} No.", after]
    assert split(f"X{before} No. {after}") == [f"X{before}", "No.", after]


def test_of_two_short_pieces_the_second_goes_with_the_first() -> None:
    assert split("Yes. Yes. We are here now.") == ["Yes. Yes.", "We are here now."]


FORTY = "this line of a list has forty characters"


def test_a_line_was_wrapped_where_it_is_longer_than_forty() -> None:
    assert len(FORTY) == 40
    assert split(f"{FORTY}\nand goes on here") == [FORTY, "and goes on here"]
    assert split(f"{FORTY},\nand goes on here") == [f"{FORTY}, and goes on here"]


def test_a_wrapped_line_goes_on_in_lower_case() -> None:
    for line in ("And goes on here", "4 of them are here", "我们都走吧我们"):
        assert split(f"{FORTY},\n{line}") == [f"{FORTY},", line]


def test_a_wrapped_line_goes_on_line_by_line() -> None:
    assert split(f"{FORTY},\n{FORTY},\nand ends") == [f"{FORTY}, {FORTY}, and ends"]
    assert split(f"{FORTY},\nand so\nthey end here") == [f"{FORTY}, and so", "they end here"]


@pytest.mark.parametrize("blank", ["\n\n", "\r\n\r\n", "\n \t\n", "\n\u3000\n"])
def test_a_blank_line_is_a_break_whatever_follows(blank: str) -> None:
    assert split(f"{FORTY},{blank}and goes on here") == [f"{FORTY},", "and goes on here"]


def test_lines_without_a_word_wait_for_one() -> None:
    text = "---\n***\nCome in, my friend.\n...\nSit down here."
    assert split(text) == ["--- *** Come in, my friend. ...", "Sit down here."]
    assert split("---\n***") == ["--- ***"]


@pytest.mark.parametrize("mark", "，；：、…—–")
def test_long_chinese_is_cut_after_a_clause(mark: str) -> None:
    first, second = "中" * 30 + mark, "国" * 45
    assert split(first + second) == [first, second]
    assert split(f"{first}” {second}") == [f"{first}”", second]


@pytest.mark.parametrize("mark", [",", ";", ":", "..", ",”", ';"', "，", "—"])
def test_long_english_is_cut_after_a_clause(mark: str) -> None:
    first, second = "word " * 17 + f"end{mark}", ("more " * 30).strip()
    assert split(f"{first} {second}") == [first, second]


@pytest.mark.parametrize("mark", [".", "-", "'", "/", ")"])
def test_other_marks_are_no_clauses(mark: str) -> None:
    first, second = "word " * 17 + f"end{mark}", ("more " * 30).strip()
    pieces = split(f"{first} {second}")
    assert len(pieces) == 2
    assert pieces[0] != first


def test_a_chinese_mark_before_another_mark_ends_no_clause() -> None:
    first, second = "中" * 30 + "，", "（" + "国" * 45
    assert split(first + second)[0] != first


def test_a_clause_is_no_place_to_cut_before_two_fifths_of_the_limit() -> None:
    """80 of 200, the space included."""
    rest = ("more " * 36).strip()
    for length, there in [(80, True), (79, False)]:
        first = "a" * (length - 2) + ","
        assert (split(f"{first} {rest}")[0] == first) is there


def test_of_several_clauses_the_one_nearest_to_the_middle_is_taken() -> None:
    clauses = ["a" * 88 + ",", "b" * 58 + ",", "c" * 38 + ",", "d" * 110]
    assert split(" ".join(clauses)) == [" ".join(clauses[:2]), " ".join(clauses[2:])]


def test_what_is_a_word_too_long_is_not_cut_before_its_last_word() -> None:
    pieces = split("word " * 41 + "ends")
    assert [len(piece) for piece in pieces] == [104, 104]


def test_a_sentence_that_is_cut_leaves_the_ones_beside_it_whole() -> None:
    long = ("Word " * 50).strip()
    pieces = split(f"The first one. {long}. The last one.")
    assert (pieces[0], pieces[-1], len(pieces)) == ("The first one.", "The last one.", 4)


TITLES = (
    "Mr Mrs Ms Mx Dr Prof Rev Hon St Mt Ft Gen Col Lt Sgt Capt Cmdr Maj Sen Rep Gov Pres Messrs "
    "Mme Mlle Jr Sr Inc Ltd Co co Corp Bros al Ave Blvd Rd Dept dept est approx ca Jan Feb Mar Apr "
    "Jun Jul Aug Sep Sept Oct Nov Dec J Ph.D U.S a.m e.g i.e vs cf viz"
)


@pytest.mark.parametrize("short", TITLES.split())
def test_a_full_stop_of_an_abbreviation_ends_no_sentence(short: str) -> None:
    for following in ("Xavier", "42 of them", "A. Smith"):
        text = f"We have seen {short}. {following} in the garden."
        assert split(text) == [text]


@pytest.mark.parametrize("short", ["Inc", "Jr", "Co", "al", "U.S", "p.m", "Dec", "Dr"])
def test_an_abbreviation_before_a_first_word_ends_the_sentence(short: str) -> None:
    first = f"We have seen {short}."
    for word in ("The", "He", "Yesterday", "A", "“There"):
        assert split(f"{first} {word} man was there.") == [first, f"{word} man was there."]


@pytest.mark.parametrize("short", ["e.g", "i.e", "vs", "cf", "viz"])
def test_what_never_ends_a_sentence_does_not_before_a_first_word(short: str) -> None:
    text = f"We have seen {short}. The man was there."
    assert split(text) == [text]


FIRST_WORDS = (
    "A After All Although An And Are As At Because Before But By Can Could Did Do Does Don Each "
    "Even Every Everybody Everyone For From Had Has Have He Her Here His How However I If In Is It "
    "Its Let Many Maybe Most My Nobody No Not Nothing Now Of On Once One Only Or Other Others Our "
    "Perhaps Please See She Should Since So Some Somebody Someone Soon Still Such That The Their "
    "Then There These They This Those Though Thus To Today Tomorrow Until Was We Well Were What "
    "When Where Which While Who Why Will With Would Yes Yesterday Yet You Your"
)


def test_words_that_mostly_begin_a_sentence() -> None:
    for word in FIRST_WORDS.split():
        rest = f"{word} and so on it went."
        assert split(f"He works at Acme Inc. {rest}") == ["He works at Acme Inc.", rest]


@pytest.mark.parametrize(
    "short",
    [
        "No",
        "no",
        "Nos",
        "Nr",
        "p",
        "pp",
        "Vol",
        "vol",
        "Fig",
        "fig",
        "Figs",
        "Eq",
        "eqs",
        "Sec",
        "Ch",
        "ch",
        "Art",
        "N°",
    ],
)
def test_what_stands_before_numbers_ends_a_sentence_before_words(short: str) -> None:
    text = f"We have seen {short}. 5 of them."
    assert split(text) == [text]
    assert split(f"We have seen {short}. Xavier was there.") == [
        f"We have seen {short}.",
        "Xavier was there.",
    ]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("He met J. A. Smith in May. It rained.", 2),
        ("We lived there in 1999. Nobody knows why.", 2),
        ("The train leaves from platform B. Xavier told us.", 1),
        ("a. Buy milk and bread.", 1),
        ("12. Buy milk and bread.", 1),
        ("ab. Buy milk and bread.", 1),
        ("(1. Buy milk and bread.", 1),
        ("Buy milk today. 2. Buy some eggs.", 2),
        ("We went home. (B. Xavier stayed.)", 2),
        ("Hello there!你们都好吗朋友", 2),
        ("Hello there?你们都好吗朋友", 2),
        ("Wait for it…你们都好吗朋友", 1),
        ("You all there.你们都好吗朋友", 2),
        ("Visit example.com.It is ours.", 1),
        ("It was so strange!so we left them.", 1),
        ("They shouted it. . . . Nobody came here.", 2),
        ("“我什么都知道了。”他就走了不回来。", 2),
        ("『我什么都知道了。』他就走了不回来。", 2),
        ("“我什么都知道了！”他就走了不回来。", 1),
        ("（我什么都知道了。）他就走了不回来。", 1),
        ("我什么都知道了。”，他就走了不回来。", 1),
        ("我什么都知道了。——他就走了不回来。", 1),
        ("我什么都知道了。（他就走了不回来。", 2),
        ("我什么都知道了｡他就走了不回来。", 2),
        ("他看了《好！不好。》这本书的全部。", 1),
        ("他看了《好！》。不好的书我都不看。", 2),
        ("他看了《" + "好！" * 30 + "》这本书。", 1),
    ],
)
def test_how_many_sentences_there_are(text: str, pieces: int) -> None:
    assert len(split(text)) == pieces


@pytest.mark.parametrize("closing", "\"'”’»」』›)]}】〉》〕）］｝*_~")
def test_closing_marks_stay_with_the_sentence_before(closing: str) -> None:
    pieces = [f"We have seen it.{closing}", "Nobody else was there."]
    assert split(" ".join(pieces)) == pieces
    pieces = [f"我们都已经看到了？{closing}", f"没有别人在那里。{closing}{closing}"]
    assert split(" ".join(pieces)) == pieces


@pytest.mark.parametrize("opening", "\"'“‘«‹([{「『【〈《〔（［｛¿¡*_#~–—-")
def test_a_sentence_may_begin_with_an_opening_mark(opening: str) -> None:
    pieces = ["We have seen it.", f"{opening}Nobody else was there."]
    assert split(" ".join(pieces)) == pieces
    text = f"We have seen it. {opening}nobody else was there."
    assert split(text) == [text]


def weight(piece: str) -> int:
    """The least that a piece can weigh: 1 or 3 for what a reader sees as one character."""
    heavy = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Bopomofo}\p{Nd}]"
    clusters = regex.findall(r"\X", piece)
    return sum(HEAVY if regex.match(heavy, cluster) else 1 for cluster in clusters)


def test_a_long_sentence_is_cut_at_its_clauses() -> None:
    clause = "it was the season of Light"
    pieces = split(", ".join([clause] * 40) + ".")
    assert all(piece.endswith((f"{clause},", f"{clause}.")) for piece in pieces)
    assert all(MAX_WEIGHT / 2 < weight(piece) <= MAX_WEIGHT for piece in pieces)
    assert all(
        piece.endswith(("，", "。")) for piece in split("我们今天去公园，" * 40 + "好的好的。")
    )


def test_numbers_and_times_are_not_clauses() -> None:
    pieces = split("3,000,000 10:30 " * 60)
    assert {word for piece in pieces for word in piece.split()} == {"3,000,000", "10:30"}


def test_without_clauses_words_stay_whole_and_pieces_are_of_like_length() -> None:
    pieces = split("word " * 50)
    assert [len(piece) for piece in pieces] == [124, 124]


@pytest.mark.parametrize(
    "character", ["a", "中", "e\u0301", "👨‍👩‍👧‍👦", "🇩🇪", "가", "각", "1️⃣", "👍🏽"]
)
def test_a_run_without_a_space_is_cut_between_characters(character: str) -> None:
    pieces = split(character * 2_000)
    assert len(pieces) > 1
    assert "".join(pieces) == character * 2_000
    assert all(len(piece) % len(character) == 0 for piece in pieces)


def test_white_space_becomes_single_spaces() -> None:
    assert split("\u3000 a\t b\u00a0\u2003c \n\r\n\x0b ") == ["a b c"]
    assert split(" \n\u2028\x85 ") == []


def test_a_smaller_bound_holds_and_a_senseless_one_is_refused() -> None:
    assert max(map(len, split("word " * 100, max_weight=60))) <= 60
    with pytest.raises(ValueError, match="max_weight is 59"):
        split("x", max_weight=2 * MAX_MARKS - 1)


HOSTILE = {
    "dots": "." * 20_000,
    "spaced dots": ". " * 10_000,
    "quotes": '"' * 20_000,
    "quotes after stops": ".\"'" * 6_666,
    "marks": "a" + "\u0301" * 19_999,
    "emoji": "😀" * 20_000,
    "flags": "🇩🇪" * 10_000,
    "families": "👨‍👩‍👧" * 4_000,
    "letters": "a" * 20_000,
    "spaces": "a" + " " * 19_998 + "b",
    "lines": "a\n" * 10_000,
    "wordless lines": "-\n" * 10_000,
    "brackets": "(" * 10_000 + ")" * 10_000,
    "titles": "《" * 20_000,
    "abbreviations": "Dr. " * 5_000,
    "initials": "A." * 10_000,
    "numbers": "1." * 10_000,
    "Han": "中" * 20_000,
    "full stops": "。" * 20_000,
    "ellipses": "…" * 20_000,
    "commas": "," * 20_000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_texts_are_split_like_any_other(text: str) -> None:
    holds(text)


def kept(text: str) -> str:
    """What no line break takes away: a hyphen within a word, the marks of a quotation."""
    return "".join(text.translate(DROPPED).split())


def holds(text: str) -> None:
    pieces = split(text)
    assert pieces == split(text)
    assert kept("".join(pieces)) == kept(text)
    for piece in pieces:
        assert piece
        assert piece == " ".join(piece.split())
        assert weight(piece) <= MAX_WEIGHT
    words = [piece for piece in pieces if any(map(str.isalnum, piece))]
    assert words or not any(map(str.isalnum, text))


DROPPED = str.maketrans("", "", "-‐\u2011\u00ad>")
HARD_PARTS = (
    *".!?…。！？,;:，；：、\"'“”‘’()（）《》「」 \n\t-—",
    *("...", "……", ". ", "? ", "\n\n", "\u00a0", "\u3000", "\x85", "\u2028"),
    *("Dr", "No", "e.g", "U.S", "3.14", "I", "The", "word", "中文", "好", "x" * 90, "中" * 70),
    *("😀", "👨‍👩‍👧", "🇩🇪", "👍🏽", "\u0301", "\u200d", "\ufe0f"),
)
PARTS = st.sampled_from(HARD_PARTS)


@settings(max_examples=700, deadline=None)
@given(st.text(max_size=600))
def test_no_character_of_any_text_is_lost(text: str) -> None:
    holds(text)


@settings(max_examples=1_300, deadline=None)
@given(st.lists(PARTS, max_size=120).map("".join))
def test_no_character_of_text_made_of_hard_parts_is_lost(text: str) -> None:
    holds(text)


@settings(max_examples=300, deadline=None)
@given(st.lists(PARTS.filter(lambda part: not part.isspace()), max_size=120).map("".join))
def test_no_cut_parts_a_character(text: str) -> None:
    """Unless somebody put more than 30 marks on it."""
    text = " ".join(text.split())
    bounds = {match.start() for match in regex.finditer(r"\X", text)}
    place = 0
    for piece in split(text):
        place = text.index(piece, place)
        assert place in bounds or _marks_before(text, place) >= MAX_MARKS
        place += len(piece)


def _marks_before(text: str, place: int) -> int:
    match = regex.search(r"[\p{M}\u200d]*$", text[:place])
    return len(match[0])
