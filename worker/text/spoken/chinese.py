"""All rules of Chinese, in their order: what is longer and surer before what is shorter."""

from __future__ import annotations

from worker.text.spoken.addresses import CHINESE_ADDRESSES
from worker.text.spoken.chinese_amounts import AMOUNTS
from worker.text.spoken.chinese_counts import CODES, DIGITS_LEFT, NUMBERS, PARTS, RATIOS
from worker.text.spoken.chinese_dates import DATES
from worker.text.spoken.chinese_symbols import ODD_DIGITS, SYMBOLS_SAID

RULES = (
    *CHINESE_ADDRESSES,
    *DATES,
    *RATIOS,
    *CODES,
    *PARTS,
    *AMOUNTS,
    *NUMBERS,
    *SYMBOLS_SAID,
    *DIGITS_LEFT,
    *ODD_DIGITS,
)
