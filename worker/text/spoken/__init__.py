"""How what is written is said: numbers, dates, amounts, addresses and symbols."""
