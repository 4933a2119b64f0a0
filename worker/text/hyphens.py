"""Words that a line break parts at a hyphen: 'gentle-' and 'man', 'well-' and 'known'.

Whether the hyphen is the word's own or the typesetter's cannot be known without a dictionary, which
no start should load. Most are the typesetter's, so the hyphen goes, unless the first half is one
that English compounds begin with. Either fault is mild: 'wellknown' and 'gentle-man' are both
spoken as meant, and the one is heard no more than the other.
"""

from __future__ import annotations

import regex

HYPHENS = "-‐\u2011\u00ad"
_SOFT = "\u00ad"  # never the word's own

_PARTED = regex.compile(
    rf"(?P<first>[\p{{L}}\p{{N}}][^\s{HYPHENS}]{{0,39}}(?:-[^\s{HYPHENS}]{{1,39}})*)[{HYPHENS}]$"
)
LONGEST_HALF = 40  # letters
_SECOND = regex.compile(rf"\p{{L}}{{1,{LONGEST_HALF}}}")
# "pre- and post-war": the hyphen stands for what follows later.
_SUSPENDED = regex.compile("and|or|to|nor|und|oder|bis")

_TENS = "twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety"
_COMPOUNDS = regex.compile(
    f"{_TENS}|one|two|three|four|five|six|seven|eight|nine|ten|first|second|third|half|quarter|"
    "well|ill|better|best|self|all|high|low|long|short|old|new|full|part|open|free|hard|soft|"
    "left|right|far|near|fast|slow|deep|wide|ever|never|so|much|good|bad|great|cross|double|single|"
    "father|mother|brother|sister|son|daughter|state|world|user|time|real|large|small|middle",
    regex.IGNORECASE,
)
# What makes one word of such a half: "wellness", "selfish", "newly", "highway".
_ENDINGS = regex.compile(
    # endings
    "ness|ish|ly|er|ers|est|ing|ings|ed|en|ened|ening|dom|ship|ships|ward|wards|hood|fold|some|ful|"
    "less|ment|ments|tion|tions|sion|sions|ally|ality|istic|ist|ists|ism|ity|ities|ial|cial|cially|"
    "ary|ant|ants|eous|itude|age|ages|ous|tory|tive|tative|i[sz]e|i[sz]ed|i[sz]ing|iance|een|teen|"
    "teenth|ty|tieth|ies|ied|th|y|s|n|m|t|d|ge|ger|gers|ner|ners|ther|tle|ter|ters|mer|mers|ming|"
    "ow|ows|owed|owing|owance|lid|lar|il|der|ders|dered|ten|nis|"
    # second halves of words without a hyphen
    "self|selves|how|what|where|body|thing|place|way|ways|land|lands|light|lights|lighted|"
    "house|room|cast|stone|horn|time|times|table|line|lines|out|over|night|like|life|hand|works?|"
    "wise|ware|spread|green|lasting|yone|ybody|ything|theless|sman|smen|spaper|spapers|road|roads|"
    "walk|name|names|wide|bye|will|by|most|ever|man|men|lord|noon|ship|tenant|minton|ergy|ergies|"
    "ocate|ocated|ustrate|ustrated|ustration|usion|usions|egal|egally|egitimate|ington|cieties|ciety"
)


def parts_word(end: str) -> bool:
    """Whether a line that ends like this may end within a word."""
    return bool(end) and end[-1] in HYPHENS and _PARTED.search(end) is not None


def is_suspended(second: str) -> bool:
    """Whether the hyphen before this word stands for a word that comes later."""
    return _SUSPENDED.fullmatch(_half(second)) is not None


def keeps_hyphen(end: str, second: str) -> bool:
    """Whether the hyphen that a line ends with belongs to the word that goes on with `second`."""
    parted = _PARTED.search(end)
    if parted is None or end[-1] == _SOFT:
        return False
    first, half = str(parted["first"]), _half(second)
    if not half.islower() or not first.isalpha() or len(first) == 1 or first.isupper():
        return True  # Anglo-Saxon, 3-day, mother-in-law, e-mail, TV-set, some/path-to
    if second[len(half) : len(half) + 1] == "-":
        return True  # state-of-the-art
    return bool(_COMPOUNDS.fullmatch(first)) and not _ENDINGS.fullmatch(half)


def may_grow(second: str) -> bool:
    """Whether a line of which this is the beginning may begin with another word."""
    return len(_half(second)) == len(second) < LONGEST_HALF


def _half(second: str) -> str:
    half = _SECOND.match(second)
    return str(half[0]) if half else ""
