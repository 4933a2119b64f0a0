"""All rules of English, in their order: what is longer and surer before what is shorter."""

from __future__ import annotations

from worker.text.spoken.addresses import ENGLISH_ADDRESSES
from worker.text.spoken.english_amounts import AMOUNTS
from worker.text.spoken.english_counts import CODES, NUMBERS, PARTS
from worker.text.spoken.english_dates import DATES, YEARS
from worker.text.spoken.english_labels import LABELS
from worker.text.spoken.english_symbols import ODD_DIGITS, POWERS, POWERS_OF_NUMBERS, SYMBOLS
from worker.text.spoken.roman import ROMAN

RULES = (
    *ENGLISH_ADDRESSES,
    *DATES,
    *CODES,
    *POWERS_OF_NUMBERS,
    *PARTS,
    *AMOUNTS,
    *YEARS,
    *ROMAN,
    *LABELS,
    *POWERS,
    *NUMBERS,
    *SYMBOLS,
    *ODD_DIGITS,
)
