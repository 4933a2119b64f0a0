"""Texts of every kind that a job may hold."""

from __future__ import annotations

from hypothesis import strategies as st

_ENGLISH = st.sampled_from(
    ["The", "quick", "fox,", "it's", "over.", "A", "3-day", "stop!", "naïve", "(so)", "“well”"]
)
_CHINESE = st.sampled_from(["今天天气很好，", "我们去", "图书馆。", "你好", "（一九九九年）", "〇"])
_NUMBERS = st.sampled_from(["$43,000", "1999", "3.5%", "7:30", "€5", "21st", "007", "2024-05-06"])
_MARKS = st.sampled_from(
    ["🙂", "👩‍👩‍👧", "—", "...", "！", "{\\b1}", "\\N", "<b>", "&", "-->", "{", "}"]
)
_ANY = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)
_GLUE = st.sampled_from([" ", " ", "", "\n"])

TEXTS = st.lists(
    st.tuples(st.one_of(_ENGLISH, _CHINESE, _NUMBERS, _MARKS, _ANY), _GLUE), max_size=40
).map(lambda parts: "".join(part + glue for part, glue in parts))
